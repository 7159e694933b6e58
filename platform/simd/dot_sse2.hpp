// SPDX-License-Identifier: Apache-2.0
// dot_sse2.hpp: pmaddwd on widened int8, all that every x86-64 has; a policy of dot.hpp.
#pragma once
#include "platform/simd/words_sse2.hpp"

namespace heed::simd {

// The even and the odd columns apart: a 16-bit lane holds two of them, and shifts widen either.
struct DotSse2 {
  struct Pair {
    __m128i even, odd;
  };
  using Acc = __m128i;
  using Operand = Pair;
  using Activation = Pair;
  static constexpr std::uint32_t kColumns = 16, kPieceColumns = 4, kTokens = 1;
  static constexpr std::uint32_t kMaxTokens = 4;
  static constexpr bool kNeedsSums = false;
  static constexpr bool kCorrects = false;
  static constexpr bool kPrefetches = false;
  static constexpr bool kArranges = false;
  static constexpr std::uint32_t kUnits = 1;
  static constexpr std::uint32_t kQueries = 2;
  static constexpr std::uint32_t key_panels(std::uint32_t) { return 1; }
  static constexpr std::uint32_t kGroupedTokens = 0;
  static constexpr std::uint32_t units(std::uint32_t tokens) { return tokens == 1 ? 4 : 2; }
  static constexpr std::uint32_t units_of_short_rows() { return units(1); }
  template <std::uint32_t T>
  using Tile = DotSse2;

  HEED_INLINE static Pair widen(const std::int8_t* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm_srai_epi16(_mm_slli_epi16(x, 8), 8), _mm_srai_epi16(x, 8)};
  }
  HEED_INLINE static __m128i multiply(const Pair& a, const Pair& b) {
    return _mm_add_epi32(_mm_madd_epi16(a.even, b.even), _mm_madd_epi16(a.odd, b.odd));
  }
  HEED_INLINE static Acc start(std::int32_t) { return _mm_setzero_si128(); }
  HEED_INLINE static __m128i result(Acc a, std::uint32_t) { return a; }
  template <Source>
  HEED_INLINE static Operand load(const std::int8_t* p, bool) {
    return widen(p);
  }
  HEED_INLINE static Activation activation(const std::int8_t* x, std::size_t) { return widen(x); }
  template <std::uint32_t kPiece>
  HEED_INLINE static void multiply(Acc& acc, const Operand& w, const Activation& x) {
    constexpr int kLane = kPiece * 0x55;
    acc = _mm_add_epi32(acc, multiply(w, {_mm_shuffle_epi32(x.even, kLane), _mm_shuffle_epi32(x.odd, kLane)}));
  }
  static constexpr std::uint32_t key_bytes(std::uint32_t four) { return four; }

  // Values: four keys side by side.
  static constexpr std::uint32_t kValueKeys = 4;
  static constexpr std::uint32_t kStripDims = 4;
  static constexpr std::uint32_t kStripWords = 1;
  static constexpr std::uint32_t kMaxStrips = 8;
  using Folded = FoldedWords;
  using Strip = __m128i;
  using Weight = Pair;
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, __m128i words) {
    _mm_store_si128(reinterpret_cast<__m128i*>(f.words + first), words);
  }
  HEED_INLINE static Strip zero_strip() { return _mm_setzero_si128(); }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) {
    const __m128i w = _mm_shufflelo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(f.words + key)), 0xD8);
    return {_mm_shuffle_epi32(w, 0x00), _mm_shuffle_epi32(w, 0x55)};
  }
  HEED_INLINE static void weigh(Strip& s, const Weight& w, const std::int8_t* values) {
    s = _mm_add_epi32(s, multiply(widen(values), w));
  }
  HEED_INLINE static __m128i strip_words(Strip s, std::uint32_t) { return s; }
};

}  // namespace heed::simd
