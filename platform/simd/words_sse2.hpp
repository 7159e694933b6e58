// SPDX-License-Identifier: Apache-2.0
// words_sse2.hpp: 8-, 16- and 32-bit integer lanes of SSE2 that xsimd lacks, or has beyond SSE2 only.
#pragma once
#include <emmintrin.h>

#include "platform/portable/exp2.hpp"
#include "platform/simd/lanes.hpp"

namespace heed::simd {

template <>
struct Words<xsimd::sse2> {
  using F32 = __m128;
  using S32 = __m128i;
  using S16 = __m128i;
  static constexpr std::uint32_t kLanes = 4;  // of 32 bits

  static constexpr bool kHasCrc = false;
  static constexpr bool kSelects = false;  // otherwise than xsimd does

  HEED_INLINE static F32 load_first(const float* p, std::uint32_t n) {
    float x[4] = {};
    for (std::uint32_t i = 0; i < n && i < 4; ++i) x[i] = p[i];
    return _mm_loadu_ps(x);
  }
  HEED_INLINE static void store_first(float* p, F32 x, std::uint32_t n) {
    float y[4];
    _mm_storeu_ps(y, x);
    for (std::uint32_t i = 0; i < n && i < 4; ++i) p[i] = y[i];
  }
  HEED_INLINE static void store_first(std::uint32_t* p, S32 x, std::uint32_t n) {
    std::uint32_t y[4];
    std::memcpy(y, &x, sizeof y);
    for (std::uint32_t i = 0; i < n && i < 4; ++i) p[i] = y[i];
  }
  HEED_INLINE static void store(std::int32_t* p, S32 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x); }
  HEED_INLINE static S32 load(const std::int32_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

  HEED_INLINE static __m128i select(__m128i mask, __m128i x, __m128i y) {
    return _mm_or_si128(_mm_and_si128(mask, x), _mm_andnot_si128(mask, y));
  }
  // y > high ? high : y, then y < low ? low : y; a NaN stays one.
  HEED_INLINE static F32 clamp(F32 y, F32 low, F32 high) { return _mm_max_ps(low, _mm_min_ps(high, y)); }
  HEED_INLINE static S32 max32(S32 a, S32 b) { return select(_mm_cmpgt_epi32(a, b), a, b); }
  HEED_INLINE static S32 multiply32(S32 a, S32 b) {
    const __m128i even = _mm_mul_epu32(a, b);
    const __m128i odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32));
    return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x08), _mm_shuffle_epi32(odd, 0x08));
  }
  HEED_INLINE static S32 magnitude32(S32 a) {
    const __m128i sign = _mm_srai_epi32(a, 31);
    return _mm_sub_epi32(_mm_xor_si128(a, sign), sign);
  }
  HEED_INLINE static S32 bits(F32 x) { return _mm_castps_si128(x); }
  HEED_INLINE static F32 floats(S32 x) { return _mm_castsi128_ps(x); }
  HEED_INLINE static F32 to_float(S32 x) { return _mm_cvtepi32_ps(x); }
  HEED_INLINE static __m128i four_bytes(const void* p) {
    std::int32_t word;
    std::memcpy(&word, p, sizeof word);
    return _mm_cvtsi32_si128(word);
  }
  HEED_INLINE static S32 widen_s8(const std::int8_t* p) {
    const __m128i x = _mm_unpacklo_epi8(_mm_setzero_si128(), four_bytes(p));
    return _mm_srai_epi32(_mm_unpacklo_epi16(_mm_setzero_si128(), x), 24);
  }
  HEED_INLINE static S32 widen_u8(const std::uint8_t* p) {
    return _mm_unpacklo_epi16(_mm_unpacklo_epi8(four_bytes(p), _mm_setzero_si128()), _mm_setzero_si128());
  }
  HEED_INLINE static S32 reverse32(S32 x) { return _mm_shuffle_epi32(x, 0x1B); }
  HEED_INLINE static S32 shift_left(S32 x, int n) { return _mm_sll_epi32(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S32 shift_right(S32 x, int n) { return _mm_sra_epi32(x, _mm_cvtsi32_si128(n)); }
  // SSE2 shifts all lanes alike: by each bit of the counts in turn.
  HEED_INLINE static S32 shift_right_each(S32 x, S32 n) {
    const __m128i most = _mm_set1_epi32(31);
    n = select(_mm_cmpgt_epi32(n, most), most, n);
    x = shift_by_bit<16>(x, n);
    x = shift_by_bit<8>(x, n);
    x = shift_by_bit<4>(x, n);
    x = shift_by_bit<2>(x, n);
    return shift_by_bit<1>(x, n);
  }
  template <int kBit>
  HEED_INLINE static S32 shift_by_bit(S32 x, S32 n) {
    const __m128i bit = _mm_set1_epi32(kBit);
    return select(_mm_cmpeq_epi32(_mm_and_si128(n, bit), bit), _mm_srai_epi32(x, kBit), x);
  }
  HEED_INLINE static std::int32_t sum(S32 x) {
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
  }
  HEED_INLINE static std::int32_t largest(S32 x) {
    x = max32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(max32(x, _mm_shuffle_epi32(x, 0xB1)));
  }

  HEED_INLINE static S16 set16(int x) { return _mm_set1_epi16(static_cast<short>(x)); }
  HEED_INLINE static S16 load16(const std::int16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  HEED_INLINE static S16 load16_first(const std::int16_t* p, std::uint32_t n) {
    if (n >= 8) return load16(p);
    std::int16_t x[8] = {};
    for (std::uint32_t i = 0; i < n; ++i) x[i] = p[i];
    return load16(x);
  }
  HEED_INLINE static void store16(std::int16_t* p, S16 x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x); }
  HEED_INLINE static S16 narrow(S32 a, S32 b) { return _mm_packs_epi32(a, b); }
  HEED_INLINE static void store_narrow(std::int16_t* p, S32 x) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(x, x));
  }
  // 8 bytes; at least 8 are readable.
  HEED_INLINE static S16 widen16_s8(const std::int8_t* p, std::uint32_t) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8);
  }
  HEED_INLINE static void store_s8(std::int8_t* p, S16 x) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(x, x));
  }
  HEED_INLINE static S32 as_words(S16 x) { return x; }
  HEED_INLINE static S16 as_halves(S32 x) { return x; }
  HEED_INLINE static S16 add16(S16 a, S16 b) { return _mm_add_epi16(a, b); }
  HEED_INLINE static S16 sub16(S16 a, S16 b) { return _mm_sub_epi16(a, b); }
  HEED_INLINE static S16 add_saturate16(S16 a, S16 b) { return _mm_adds_epi16(a, b); }
  HEED_INLINE static S16 and16(S16 a, S16 b) { return _mm_and_si128(a, b); }
  HEED_INLINE static S16 min16(S16 a, S16 b) { return _mm_min_epi16(a, b); }
  HEED_INLINE static S16 max16(S16 a, S16 b) { return _mm_max_epi16(a, b); }
  // |a|, and 32767 for -32768: it must stay the largest.
  HEED_INLINE static S16 magnitude16(S16 a) { return _mm_max_epi16(a, _mm_subs_epi16(_mm_setzero_si128(), a)); }
  HEED_INLINE static S16 shift_left16(S16 x, int n) { return _mm_sll_epi16(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S16 shift_right16(S16 x, int n) { return _mm_sra_epi16(x, _mm_cvtsi32_si128(n)); }
  // (a * b + 2^14) >> 15, which is twice the high half and the rounded two topmost bits of the low one.
  HEED_INLINE static S16 multiply_round16(S16 a, S16 b) {
    const __m128i low = _mm_srli_epi16(_mm_mullo_epi16(a, b), 14);
    return _mm_add_epi16(_mm_slli_epi16(_mm_mulhi_epi16(a, b), 1), _mm_avg_epu16(low, _mm_setzero_si128()));
  }
  // (x * r + 2^(shift - 1)) >> shift, 19 <= shift <= 22
  HEED_INLINE static S16 quantize(S16 x, std::int32_t r, int shift) {
    const S16 high = _mm_mulhi_epi16(x, set16(r));
    return shift_right16(_mm_add_epi16(high, set16(1 << (shift - 17))), shift - 16);
  }
  HEED_INLINE static void multiply_wide(S32& x, S32& y, S16 a, S16 b) {
    const __m128i low = _mm_mullo_epi16(a, b), high = _mm_mulhi_epi16(a, b);
    x = _mm_unpacklo_epi16(low, high);
    y = _mm_unpackhi_epi16(low, high);
  }
  HEED_INLINE static S16 narrow_wide(S32 x, S32 y) { return _mm_packs_epi32(x, y); }
  // f(index) of each 16-bit lane.
  template <class Function>
  HEED_INLINE static S16 each16(S16 i, Function f) {
    __m128i x = _mm_cvtsi32_si128(f(_mm_extract_epi16(i, 0)));
    x = _mm_insert_epi16(x, f(_mm_extract_epi16(i, 1)), 1);
    x = _mm_insert_epi16(x, f(_mm_extract_epi16(i, 2)), 2);
    x = _mm_insert_epi16(x, f(_mm_extract_epi16(i, 3)), 3);
    x = _mm_insert_epi16(x, f(_mm_extract_epi16(i, 4)), 4);
    x = _mm_insert_epi16(x, f(_mm_extract_epi16(i, 5)), 5);
    x = _mm_insert_epi16(x, f(_mm_extract_epi16(i, 6)), 6);
    return _mm_insert_epi16(x, f(_mm_extract_epi16(i, 7)), 7);
  }
  // The words factor[i] and factor[i + 1], 0 <= i <= 255.
  HEED_INLINE static void look_up_pair(S16& low, S16& high, const std::uint16_t* factor, S16 i) {
    low = each16(i, [=](int k) HEED_LAMBDA { return static_cast<int>(factor[k]); });
    high = each16(i, [=](int k) HEED_LAMBDA { return static_cast<int>(factor[k + 1]); });
  }
  HEED_INLINE static S16 shift_right_unsigned16(S16 x, int n) { return _mm_srl_epi16(x, _mm_cvtsi32_si128(n)); }
  // x where a > b (signed), y elsewhere
  HEED_INLINE static S16 select_greater16(S16 a, S16 b, S16 x, S16 y) { return select(_mm_cmpgt_epi16(a, b), x, y); }
  HEED_INLINE static S32 pair_sums(S16 x) { return _mm_madd_epi16(x, set16(1)); }
  HEED_INLINE static S32 pair_squares(S16 x) { return _mm_madd_epi16(x, x); }
  HEED_INLINE static std::int32_t largest16(S16 x) {  // of non-negative ones
    x = _mm_max_epi16(x, _mm_shuffle_epi32(x, 0x4E));
    x = _mm_max_epi16(x, _mm_shuffle_epi32(x, 0xB1));
    return _mm_extract_epi16(_mm_max_epi16(x, _mm_shufflelo_epi16(x, 0xB1)), 0);
  }
  // The first n lanes, then zeros.
  HEED_INLINE static S16 keep_first16(S16 x, int n) {
    return _mm_and_si128(x, _mm_cmpgt_epi16(set16(n), _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7)));
  }

  // 2^-((index & 255) / 256) in Q15. No shuffle takes its pattern from a register: the multiplied-out table.
  struct Exp2Tables {};
  HEED_INLINE static Exp2Tables exp2_tables() { return {}; }
  HEED_INLINE static S16 exp2(Exp2Tables, S16 index) {
    const auto value = [](int k) HEED_LAMBDA { return static_cast<int>(portable::kExp2.values[k]); };
    return _mm_srli_epi16(each16(_mm_and_si128(index, set16(255)), value), 1);
  }
  // 2^15 >> n, 0 <= n <= 31, by way of a float's exponent.
  HEED_INLINE static S16 power(S16 n) {
    n = and16(n, set16(31));
    const auto four = [](__m128i m) HEED_LAMBDA {
      const __m128i exponent = _mm_sub_epi32(_mm_set1_epi32(127 + 15), m);
      const __m128i p = _mm_cvttps_epi32(_mm_castsi128_ps(_mm_slli_epi32(exponent, 23)));
      return _mm_sub_epi32(p, _mm_set1_epi32(32768));  // packing saturates at 32767
    };
    const __m128i zero = _mm_setzero_si128();
    const __m128i packed = _mm_packs_epi32(four(_mm_unpacklo_epi16(n, zero)), four(_mm_unpackhi_epi16(n, zero)));
    return _mm_xor_si128(packed, set16(0x8000));
  }
  // x >> n for 0 <= x < 2^15, 0 <= n <= 31
  HEED_INLINE static S16 shift_right_each16(S16 x, S16 n) { return _mm_mulhi_epu16(_mm_add_epi16(x, x), power(n)); }
  // The same, rounded; -2^15 stands for 2^15 when n is 0, hence the magnitude.
  HEED_INLINE static S16 shift_right_round_each16(S16 x, S16 n) { return magnitude16(multiply_round16(x, power(n))); }
};

}  // namespace heed::simd
