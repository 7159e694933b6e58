// SPDX-License-Identifier: Apache-2.0
// dot_avx2.hpp: vpmaddubsw and vpmaddwd; a policy of dot.hpp.
#pragma once
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
  static constexpr std::uint32_t kColumns = 4, kPieceColumns = 4, kTokens = 1;
  static constexpr std::uint32_t kMaxTokens = 8;
  static constexpr bool kNeedsSums = false;
  static constexpr bool kCorrects = false;
  static constexpr bool kPrefetches = false;
  static constexpr bool kArranges = false;
  static constexpr std::uint32_t kUnits = 1;
  static constexpr std::uint32_t kQueries = 4;
  static constexpr std::uint32_t key_panels(std::uint32_t queries) { return queries == 1 ? 2 : 1; }
  static constexpr std::uint32_t kGroupedTokens = 0;
  static constexpr std::uint32_t units(std::uint32_t tokens) { return tokens == 8 ? 1 : 2; }
  static constexpr std::uint32_t units_of_short_rows() { return units(1); }
  template <std::uint32_t T>
  using Tile = std::conditional_t<T == 8, DotAvx2Corrected, DotAvx2>;

  HEED_INLINE static Acc start(std::int32_t) { return _mm256_setzero_si256(); }
  HEED_INLINE static __m256i result(Acc a, std::uint32_t) { return a; }
  template <Source>
  HEED_INLINE static Operand load(const std::int8_t* p, bool) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {w, _mm256_abs_epi8(w)};
  }
  HEED_INLINE static Activation activation(const std::int8_t* x, std::size_t) {
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
  template <Source>
  HEED_INLINE static Operand load(const std::int8_t* p, bool) {
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
