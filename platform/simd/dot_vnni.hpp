// SPDX-License-Identifier: Apache-2.0
// dot_vnni.hpp: vpdpbusd on 512 bits (AVX-512) and on 256 bits (AVX-VNNI, or AVX-512 VL); policies of dot.hpp.
#pragma once
#include "platform/simd/words_avx2.hpp"
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include "platform/simd/words_avx512.hpp"
#endif

namespace heed::simd {

// How an instruction set encodes vpdpbusd on 256 bits. Assembly, because g++ 12 spills the accumulators of a large tile
// around the intrinsic.
struct Vex {
  HEED_INLINE static void dpbusd(__m256i& acc, __m256i u8, __m256i s8) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(u8), "x"(s8));
  }
};
struct Evex {
  HEED_INLINE static void dpbusd(__m256i& acc, __m256i u8, __m256i s8) {
    __asm__("vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(u8), "x"(s8));
  }
};

// Registers of 256 bits.
template <class Encoding>
struct Ymm {
  using Vector = __m256i;
  using Narrow = Encoding;
  static constexpr std::uint32_t kLanes = 8;
  static constexpr std::uint32_t kMaxTokens = 4;
  static constexpr std::uint32_t kGroupedTokens = 0;
  static constexpr std::uint32_t units(std::uint32_t tokens) { return tokens == 4 ? 2 : 4; }
  static constexpr std::uint32_t units_of_short_rows() { return units(1); }
  static constexpr std::uint32_t key_panels(std::uint32_t queries) { return queries == 1 ? 2 : 1; }
  HEED_INLINE static void dpbusd(__m256i& acc, __m256i u8, __m256i s8) { Encoding::dpbusd(acc, u8, s8); }
  HEED_INLINE static __m256i set1(int x) { return _mm256_set1_epi32(x); }
  HEED_INLINE static __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  HEED_INLINE static __m256i flip(__m256i x) { return _mm256_xor_si256(x, _mm256_set1_epi8(-128)); }
  HEED_INLINE static __m256i join(__m256i low, __m256i high) {
    return _mm256_add_epi32(_mm256_slli_epi32(high, 8), low);
  }
  HEED_INLINE static void store_bytes(std::uint8_t* p, __m256i words) {  // words of 0..255
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_store_si128(reinterpret_cast<__m128i*>(p), bytes);
  }
  HEED_INLINE static __m256i low_bytes(__m256i words) { return _mm256_and_si256(words, _mm256_set1_epi16(255)); }
  HEED_INLINE static __m256i high_bytes(__m256i words) { return _mm256_srli_epi16(words, 8); }
};

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
// Registers of 512 bits.
struct Zmm {
  using Vector = __m512i;
  using Narrow = Evex;
  static constexpr std::uint32_t kLanes = 16;
  static constexpr std::uint32_t kMaxTokens = 8;
  static constexpr std::uint32_t kGroupedTokens = 4;
  static constexpr std::uint32_t units(std::uint32_t tokens) { return tokens == 8 ? 3 : tokens == 1 ? 8 : 4; }
  static constexpr std::uint32_t units_of_short_rows() { return 1; }
  static constexpr std::uint32_t key_panels(std::uint32_t) { return 4; }
  HEED_INLINE static void dpbusd(__m512i& acc, __m512i u8, __m512i s8) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u8), "v"(s8));
  }
  HEED_INLINE static __m512i set1(int x) { return _mm512_set1_epi32(x); }
  HEED_INLINE static __m512i load(const void* p) { return _mm512_loadu_si512(p); }
  HEED_INLINE static __m512i flip(__m512i x) { return _mm512_xor_si512(x, _mm512_set1_epi8(-128)); }
  HEED_INLINE static __m512i join(__m512i low, __m512i high) {
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
  }
  HEED_INLINE static void store_bytes(std::uint8_t* p, __m512i words) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi16_epi8(words));
  }
  HEED_INLINE static __m512i low_bytes(__m512i words) { return words; }
  HEED_INLINE static __m512i high_bytes(__m512i words) { return _mm512_srli_epi16(words, 8); }
};
#endif

// vpdpbusd multiplies unsigned by signed: weights and keys get 128 added, sums start at -128 * sum of the activations.
template <class Registers>
struct DotVnni {
  using R = Registers;
  using Vector = typename R::Vector;
  using Acc = Vector;
  using Operand = Vector;
  using Activation = Vector;
  static constexpr std::uint32_t kColumns = 4, kPieceColumns = 4, kTokens = 1;
  static constexpr std::uint32_t kMaxTokens = R::kMaxTokens;
  static constexpr bool kNeedsSums = true;
  static constexpr bool kCorrects = false;
  static constexpr bool kPrefetches = true;
  static constexpr bool kArranges = false;
  static constexpr std::uint32_t kUnits = 1;
  static constexpr std::uint32_t kQueries = 4;
  static constexpr std::uint32_t key_panels(std::uint32_t queries) { return R::key_panels(queries); }
  static constexpr std::uint32_t kGroupedTokens = R::kGroupedTokens;
  static constexpr std::uint32_t units(std::uint32_t tokens) { return R::units(tokens); }
  static constexpr std::uint32_t units_of_short_rows() { return R::units_of_short_rows(); }
  template <std::uint32_t T>
  using Tile = DotVnni;

  HEED_INLINE static Vector repeat(const void* four) {
    int word;
    std::memcpy(&word, four, sizeof word);
    return R::set1(word);
  }
  HEED_INLINE static Acc start(std::int32_t sum) { return R::set1(sum); }
  HEED_INLINE static Vector result(Acc a, std::uint32_t) { return a; }
  template <Source kSource>
  HEED_INLINE static Operand load(const std::int8_t* p, bool) {
    return kSource == Source::keys ? R::load(p) : R::flip(R::load(p));
  }
  HEED_INLINE static Activation activation(const std::int8_t* x, std::size_t) { return repeat(x); }
  HEED_INLINE static void multiply(Acc& acc, Operand w, Activation x) { R::dpbusd(acc, w, x); }
  static constexpr std::uint32_t key_bytes(std::uint32_t four) { return four ^ 0x80808080u; }

  // What start() wants to know of a group of a vector: -128 * sum. Behind the last column are zeros up to a multiple of 16.
  HEED_INLINE static std::int32_t sum(const std::int8_t* q, std::uint32_t n) {
    const __m256i one = _mm256_set1_epi8(1);
    __m256i a = _mm256_setzero_si256(), b = a;
    std::uint32_t i = 0;
    for (; i + 48 < n; i += 64) {
      R::Narrow::dpbusd(a, one, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + i)));
      R::Narrow::dpbusd(b, one, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + i + 32)));
    }
    for (; i < n; i += 16)
      R::Narrow::dpbusd(a, one, _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i))));
    return -128 * Words<xsimd::avx2>::sum(_mm256_add_epi32(a, b));
  }

  // Values: four keys side by side. A weight is 256 * high + low, two unsigned bytes.
  static constexpr std::uint32_t kValueKeys = 4;
  static constexpr std::uint32_t kStripDims = R::kLanes;
  static constexpr std::uint32_t kStripWords = 1;
  static constexpr std::uint32_t kMaxStrips = 4;
  struct alignas(64) Folded {
    std::uint8_t low[kBlockKeys], high[kBlockKeys];
  };
  struct Strip {
    Vector low, high;
  };
  struct Weight {
    Vector low, high;
  };
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, Vector words) {
    R::store_bytes(f.low + first, R::low_bytes(words));
    R::store_bytes(f.high + first, R::high_bytes(words));
  }
  HEED_INLINE static Strip zero_strip() { return {R::set1(0), R::set1(0)}; }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) {
    return {repeat(f.low + key), repeat(f.high + key)};
  }
  HEED_INLINE static void weigh(Strip& s, const Weight& w, const std::int8_t* values) {
    const Vector v = R::load(values);
    R::dpbusd(s.low, w.low, v);
    R::dpbusd(s.high, w.high, v);
  }
  HEED_INLINE static Vector strip_words(const Strip& s, std::uint32_t) { return R::join(s.low, s.high); }
};

}  // namespace heed::simd
