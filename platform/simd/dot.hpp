// SPDX-License-Identifier: Apache-2.0
// dot.hpp: the multiplication of int8 by int8 on each instruction set, as policies for the templates beside this file.
//
// A policy multiplies kLanes rows (or keys) by kColumns columns at a time:
//   Acc        sums of kLanes rows; start(what the policy's sum() says of the activations), result() in row order
//   Operand    kColumns columns of kLanes rows, from the packed layout: load_weights, load_keys, load_last_keys
//   Activation kColumns activations, the same for all rows: broadcast
//   Tile<T>    the policy for T tokens at once, where a larger tile has a better one
//   units(T)   how many kLanes rows are multiplied by T tokens at once, as the registers allow
// and decides what the cache looks like: key_bytes() of four dimensions of a key, kValueKeys keys side by side in the
// values [key / kValueKeys][head_dim][kValueKeys], and multiply-adds of 15-bit weights with a strip of kStripDims of them.
#pragma once
#include <cstring>
#include <type_traits>

#include "platform/simd/lanes.hpp"

namespace heed::simd {

// Weights of up to 64 keys, and a value's dot product with them; the form is the policy's.
struct alignas(64) FoldedWords {
  std::int16_t words[kBlockKeys];
};

}  // namespace heed::simd

#if defined(__AVX2__)
#include "platform/simd/words_avx2.hpp"

namespace heed::simd {

struct DotAvx2Corrected;

// |w| unsigned times x with the sign of w: pairs stay below 2 * 127 * 127 and cannot saturate.
struct DotAvx2 {
  using Acc = __m256i;
  using Activation = __m256i;
  struct Operand {
    __m256i signs, magnitudes;
  };
  static constexpr std::uint32_t kColumns = 4;
  static constexpr std::uint32_t kMaxTokens = 8;
  static constexpr bool kNeedsSums = false;
  static constexpr bool kCorrects = false;
  static constexpr std::uint32_t kQueries = 4;
  static constexpr std::uint32_t key_panels(std::uint32_t queries) { return queries == 1 ? 2 : 1; }
  static constexpr std::uint32_t units(std::uint32_t tokens) { return tokens == 1 ? 4 : tokens == 8 ? 1 : 2; }
  template <std::uint32_t T>
  using Tile = std::conditional_t<T == 8, DotAvx2Corrected, DotAvx2>;

  HEED_INLINE static Acc start(std::int32_t) { return _mm256_setzero_si256(); }
  HEED_INLINE static __m256i result(Acc a) { return a; }
  HEED_INLINE static Operand load_weights(const std::int8_t* p) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {w, _mm256_abs_epi8(w)};
  }
  HEED_INLINE static Operand load_keys(const std::int8_t* p) { return load_weights(p); }
  HEED_INLINE static Operand load_last_keys(const std::int8_t* p) { return load_weights(p); }
  HEED_INLINE static Activation broadcast(const std::int8_t* x) {
    int word;
    std::memcpy(&word, x, sizeof word);
    return _mm256_set1_epi32(word);
  }
  HEED_INLINE static void multiply(Acc& acc, const Operand& w, Activation x) {
    const __m256i pairs = _mm256_maddubs_epi16(w.magnitudes, _mm256_sign_epi8(x, w.signs));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static constexpr std::uint32_t key_bytes(std::uint32_t four) { return four; }

  // Values: two keys side by side, widened to 16 bits.
  static constexpr std::uint32_t kValueKeys = 2;
  static constexpr std::uint32_t kStripDims = 8;
  static constexpr std::uint32_t kStripWords = 1;  // vectors of sums per strip
  static constexpr std::uint32_t kMaxStrips = 8;
  using Folded = FoldedWords;
  using Strip = __m256i;
  using Weight = __m256i;
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, __m256i words) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(f.words + first), words);
  }
  HEED_INLINE static Strip zero_strip() { return _mm256_setzero_si256(); }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) {
    int word;
    std::memcpy(&word, f.words + key, sizeof word);
    return _mm256_set1_epi32(word);
  }
  HEED_INLINE static void weigh(Strip& s, Weight w, const std::int8_t* values) {
    const __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
    s = _mm256_add_epi32(s, _mm256_madd_epi16(v, w));
  }
  HEED_INLINE static __m256i strip_words(const Strip& s, std::uint32_t) { return s; }
};

// For many tokens: x or its complement -x - 1, which any port can do, and the |w| too many subtracted once per tile.
struct DotAvx2Corrected : DotAvx2 {
  static constexpr bool kCorrects = true;
  HEED_INLINE static Operand load_weights(const std::int8_t* p) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_cmpgt_epi8(_mm256_setzero_si256(), w), _mm256_abs_epi8(w)};
  }
  HEED_INLINE static void add_pairs(Acc& acc, __m256i pairs) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  HEED_INLINE static void multiply(Acc& acc, const Operand& w, Activation x) {
    // Assembly, because g++ 12 schedules the products of all tokens first and spills accumulators for them.
    __m256i pairs;
    __asm__(
        "vpxor %[x], %[signs], %[pairs]\n\t"
        "vpmaddubsw %[pairs], %[magnitudes], %[pairs]\n\t"
        "vpmaddwd %[pairs], %[ones], %[pairs]\n\t"
        "vpaddd %[pairs], %[acc], %[acc]"
        : [acc] "+x"(acc), [pairs] "=&x"(pairs)
        : [x] "x"(x), [signs] "x"(w.signs), [magnitudes] "x"(w.magnitudes), [ones] "x"(_mm256_set1_epi16(1)));
  }
  HEED_INLINE static void correct(Acc& acc, const Operand& w) {
    add_pairs(acc, _mm256_maddubs_epi16(w.magnitudes, w.signs));
  }
};

}  // namespace heed::simd
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "platform/simd/words_avx512.hpp"

namespace heed::simd {

// vpdpbusd multiplies unsigned by signed: weights and keys get 128 added, sums start at -128 * sum of the activations.
struct DotAvx512Vnni {
  using Acc = __m512i;
  using Operand = __m512i;
  using Activation = __m512i;
  static constexpr std::uint32_t kColumns = 4;
  static constexpr std::uint32_t kMaxTokens = 8;
  static constexpr bool kNeedsSums = true;
  static constexpr bool kCorrects = false;
  static constexpr std::uint32_t kQueries = 4;
  static constexpr std::uint32_t key_panels(std::uint32_t) { return 4; }
  static constexpr std::uint32_t units(std::uint32_t tokens) { return tokens == 8 ? 3 : 4; }
  template <std::uint32_t T>
  using Tile = DotAvx512Vnni;

  // Assembly, because g++ 12 spills the accumulators of a large tile around the intrinsic.
  HEED_INLINE static void dpbusd(__m512i& acc, __m512i u8, __m512i s8) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u8), "v"(s8));
  }
  HEED_INLINE static Acc start(std::int32_t sum) { return _mm512_set1_epi32(sum); }
  HEED_INLINE static __m512i result(Acc a) { return a; }
  HEED_INLINE static Operand load_weights(const std::int8_t* p) {
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128));
  }
  HEED_INLINE static Operand load_keys(const std::int8_t* p) { return _mm512_loadu_si512(p); }
  HEED_INLINE static Operand load_last_keys(const std::int8_t* p) { return load_keys(p); }
  HEED_INLINE static Activation broadcast(const std::int8_t* x) {
    int word;
    std::memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
  }
  HEED_INLINE static void multiply(Acc& acc, Operand w, Activation x) { dpbusd(acc, w, x); }
  static constexpr std::uint32_t key_bytes(std::uint32_t four) { return four ^ 0x80808080u; }

  // What start() wants to know of a group of a vector: -128 * sum. Behind the last column are zeros.
  HEED_INLINE static std::int32_t sum(const std::int8_t* q, std::uint32_t n) {
    const auto load = [=](std::uint32_t i) HEED_LAMBDA {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + i));
    };
    const __m256i one = _mm256_set1_epi8(1);
    __m256i a = _mm256_setzero_si256(), b = a;
    std::uint32_t i = 0;
    for (; i + 32 < n; i += 64) {
      a = _mm256_dpbusd_epi32(a, one, load(i));
      b = _mm256_dpbusd_epi32(b, one, load(i + 32));
    }
    if (i < n) a = _mm256_dpbusd_epi32(a, one, load(i));
    return -128 * Words<xsimd::avx2>::sum(_mm256_add_epi32(a, b));
  }

  // Values: four keys side by side. A weight is 256 * high + low, two unsigned bytes.
  static constexpr std::uint32_t kValueKeys = 4;
  static constexpr std::uint32_t kStripDims = 16;
  static constexpr std::uint32_t kStripWords = 1;
  static constexpr std::uint32_t kMaxStrips = 4;
  struct alignas(64) Folded {
    std::uint8_t low[kBlockKeys], high[kBlockKeys];
  };
  struct Strip {
    __m512i low, high;
  };
  struct Weight {
    __m512i low, high;
  };
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, __m512i words) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(f.low + first), _mm512_cvtepi16_epi8(words));
    _mm256_store_si256(reinterpret_cast<__m256i*>(f.high + first), _mm512_cvtepi16_epi8(_mm512_srli_epi16(words, 8)));
  }
  HEED_INLINE static Strip zero_strip() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) {
    int low, high;
    std::memcpy(&low, f.low + key, sizeof low);
    std::memcpy(&high, f.high + key, sizeof high);
    return {_mm512_set1_epi32(low), _mm512_set1_epi32(high)};
  }
  HEED_INLINE static void weigh(Strip& s, const Weight& w, const std::int8_t* values) {
    const __m512i v = _mm512_loadu_si512(values);
    dpbusd(s.low, w.low, v);
    dpbusd(s.high, w.high, v);
  }
  HEED_INLINE static __m512i strip_words(const Strip& s, std::uint32_t) {
    return _mm512_add_epi32(_mm512_slli_epi32(s.high, 8), s.low);
  }
};

}  // namespace heed::simd
#endif

#if defined(__aarch64__)
#include "platform/simd/words_neon.hpp"

namespace heed::simd {

// smull and smlal: two products of int8 fit int16, so that eight columns cost one widening addition.
struct DotNeon {
  struct Acc {
    int32x4_t first, second;  // rows {0, 0, 1, 1} and {2, 2, 3, 3}
  };
  struct Operand {
    int8x16_t a, b;  // columns 0..3 and 4..7 of four rows
  };
  struct Activation {
    int8x16_t a, b;
  };
  static constexpr std::uint32_t kColumns = 8;
  static constexpr std::uint32_t kMaxTokens = 2;
  static constexpr bool kNeedsSums = false;
  static constexpr std::uint32_t kQueries = 2;
  static constexpr std::uint32_t key_panels(std::uint32_t) { return 1; }
  static constexpr bool kCorrects = false;
  static constexpr std::uint32_t units(std::uint32_t) { return 4; }
  template <std::uint32_t T>
  using Tile = DotNeon;

  HEED_INLINE static Acc start(std::int32_t) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  HEED_INLINE static int32x4_t result(const Acc& a) { return vpaddq_s32(a.first, a.second); }
  HEED_INLINE static Operand load_weights(const std::int8_t* p) { return {vld1q_s8(p), vld1q_s8(p + 64)}; }
  HEED_INLINE static Operand load_keys(const std::int8_t* p) { return load_weights(p); }
  // The last four columns of an odd number of fours.
  HEED_INLINE static Operand load_last_keys(const std::int8_t* p) { return {vld1q_s8(p), vdupq_n_s8(0)}; }
  HEED_INLINE static int8x16_t broadcast_four(const std::int8_t* x) {
    return vreinterpretq_s8_u32(vdupq_n_u32(Words<xsimd::neon64>::word(x)));
  }
  HEED_INLINE static Activation broadcast(const std::int8_t* x) { return {broadcast_four(x), broadcast_four(x + 4)}; }
  HEED_INLINE static void multiply(Acc& acc, const Operand& w, const Activation& x) {
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(w.a), vget_low_s8(x.a)), vget_low_s8(w.b), vget_low_s8(x.b));
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(w.a, x.a), w.b, x.b);
    acc.first = vpadalq_s16(acc.first, low);
    acc.second = vpadalq_s16(acc.second, high);
  }
  static constexpr std::uint32_t key_bytes(std::uint32_t four) { return four; }

  // Values: key by key, widened to 16 bits.
  static constexpr std::uint32_t kValueKeys = 1;
  static constexpr std::uint32_t kStripDims = 16;
  static constexpr std::uint32_t kStripWords = 4;
  static constexpr std::uint32_t kMaxStrips = 4;
  using Folded = FoldedWords;
  struct Strip {
    int32x4_t sums[4];
  };
  using Weight = std::int16_t;
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, int16x8_t words) {
    vst1q_s16(f.words + first, words);
  }
  HEED_INLINE static Strip zero_strip() { return {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}}; }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) { return f.words[key]; }
  HEED_INLINE static void weigh(Strip& s, Weight w, const std::int8_t* values) {
    const int8x16_t v = vld1q_s8(values);
    const int16x8_t low = vmovl_s8(vget_low_s8(v)), high = vmovl_high_s8(v);
    s.sums[0] = vmlal_n_s16(s.sums[0], vget_low_s16(low), w);
    s.sums[1] = vmlal_n_s16(s.sums[1], vget_high_s16(low), w);
    s.sums[2] = vmlal_n_s16(s.sums[2], vget_low_s16(high), w);
    s.sums[3] = vmlal_n_s16(s.sums[3], vget_high_s16(high), w);
  }
  HEED_INLINE static int32x4_t strip_words(const Strip& s, std::uint32_t i) { return s.sums[i]; }
};

}  // namespace heed::simd
#endif
