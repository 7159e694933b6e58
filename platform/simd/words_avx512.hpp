// SPDX-License-Identifier: Apache-2.0
// words_avx512.hpp: 8-, 16- and 32-bit integer lanes of AVX-512 (F, BW, DQ, VL) that xsimd lacks.
#pragma once
#include <immintrin.h>

#include "platform/simd/lanes.hpp"

namespace heed::simd {

template <>
struct Words<xsimd::avx512f> {
  using F32 = __m512;
  using S32 = __m512i;
  using S16 = __m512i;
  static constexpr std::uint32_t kLanes = 16;  // of 32 bits

  static constexpr bool kHasCrc = true;
  static constexpr bool kSelects = false;  // otherwise than xsimd does
  HEED_INLINE static std::uint32_t crc(std::uint32_t crc, std::uint64_t x) {
    return static_cast<std::uint32_t>(_mm_crc32_u64(crc, x));
  }

  HEED_INLINE static __mmask16 mask(std::uint32_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
  HEED_INLINE static __mmask32 mask32(std::uint32_t n) { return n >= 32 ? ~__mmask32{0} : (1u << n) - 1u; }

  HEED_INLINE static F32 load_first(const float* p, std::uint32_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  HEED_INLINE static void store_first(float* p, F32 x, std::uint32_t n) { _mm512_mask_storeu_ps(p, mask(n), x); }
  HEED_INLINE static void store_first(std::uint32_t* p, S32 x, std::uint32_t n) {
    _mm512_mask_storeu_epi32(p, mask(n < 16 ? n : 16), x);
  }
  HEED_INLINE static void store(std::int32_t* p, S32 x) { _mm512_storeu_si512(p, x); }
  HEED_INLINE static S32 load(const std::int32_t* p) { return _mm512_loadu_si512(p); }

  // y > high ? high : y, then y < low ? low : y; a NaN stays one.
  HEED_INLINE static F32 clamp(F32 y, F32 low, F32 high) { return _mm512_max_ps(low, _mm512_min_ps(high, y)); }
  HEED_INLINE static S32 max32(S32 a, S32 b) { return _mm512_max_epi32(a, b); }
  HEED_INLINE static S32 multiply32(S32 a, S32 b) { return _mm512_mullo_epi32(a, b); }
  HEED_INLINE static S32 magnitude32(S32 a) { return _mm512_abs_epi32(a); }
  HEED_INLINE static S32 bits(F32 x) { return _mm512_castps_si512(x); }
  HEED_INLINE static F32 floats(S32 x) { return _mm512_castsi512_ps(x); }
  HEED_INLINE static F32 to_float(S32 x) { return _mm512_cvtepi32_ps(x); }
  HEED_INLINE static S32 widen_s8(const std::int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  HEED_INLINE static S32 widen_u8(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  HEED_INLINE static S32 reverse32(S32 x) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), x);
  }
  HEED_INLINE static S32 shift_left(S32 x, int n) { return _mm512_sll_epi32(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S32 shift_right(S32 x, int n) { return _mm512_sra_epi32(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S32 shift_right_each(S32 x, S32 n) { return _mm512_srav_epi32(x, n); }
  HEED_INLINE static std::int32_t sum(S32 x) { return _mm512_reduce_add_epi32(x); }
  HEED_INLINE static std::int32_t largest(S32 x) { return _mm512_reduce_max_epi32(x); }

  HEED_INLINE static S16 set16(int x) { return _mm512_set1_epi16(static_cast<short>(x)); }
  HEED_INLINE static S16 load16(const std::int16_t* p) { return _mm512_loadu_si512(p); }
  HEED_INLINE static S16 load16_first(const std::int16_t* p, std::uint32_t n) {
    return _mm512_maskz_loadu_epi16(mask32(n), p);
  }
  HEED_INLINE static void store16(std::int16_t* p, S16 x) { _mm512_storeu_si512(p, x); }
  HEED_INLINE static S16 narrow(S32 a, S32 b) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b));
  }
  HEED_INLINE static void store_narrow(std::int16_t* p, S32 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
  }
  // 32 bytes, of which `readable` are read.
  HEED_INLINE static S16 widen16_s8(const std::int8_t* p, std::uint32_t readable) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask32(readable), p));
  }
  HEED_INLINE static void store_s8(std::int8_t* p, S16 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi16_epi8(x));
  }
  HEED_INLINE static S32 as_words(S16 x) { return x; }
  HEED_INLINE static S16 as_halves(S32 x) { return x; }
  HEED_INLINE static S16 add16(S16 a, S16 b) { return _mm512_add_epi16(a, b); }
  HEED_INLINE static S16 sub16(S16 a, S16 b) { return _mm512_sub_epi16(a, b); }
  HEED_INLINE static S16 add_saturate16(S16 a, S16 b) { return _mm512_adds_epi16(a, b); }
  HEED_INLINE static S16 and16(S16 a, S16 b) { return _mm512_and_si512(a, b); }
  HEED_INLINE static S16 min16(S16 a, S16 b) { return _mm512_min_epi16(a, b); }
  HEED_INLINE static S16 max16(S16 a, S16 b) { return _mm512_max_epi16(a, b); }
  // |a|, and 32767 for -32768: it must stay the largest.
  HEED_INLINE static S16 magnitude16(S16 a) {
    return _mm512_max_epi16(a, _mm512_subs_epi16(_mm512_setzero_si512(), a));
  }
  HEED_INLINE static S16 shift_left16(S16 x, int n) { return _mm512_sll_epi16(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S16 shift_right16(S16 x, int n) { return _mm512_sra_epi16(x, _mm_cvtsi32_si128(n)); }
  // (a * b + 2^14) >> 15
  HEED_INLINE static S16 multiply_round16(S16 a, S16 b) { return _mm512_mulhrs_epi16(a, b); }
  // (x * r + 2^(shift - 1)) >> shift, 19 <= shift <= 22
  HEED_INLINE static S16 quantize(S16 x, std::int32_t r, int shift) {
    const S16 high = _mm512_mulhi_epi16(x, set16(r));
    return shift_right16(_mm512_add_epi16(high, set16(1 << (shift - 17))), shift - 16);
  }
  // Products in an order of their own, which narrow_wide undoes.
  HEED_INLINE static void multiply_wide(S32& x, S32& y, S16 a, S16 b) {
    const __m512i low = _mm512_mullo_epi16(a, b), high = _mm512_mulhi_epi16(a, b);
    x = _mm512_unpacklo_epi16(low, high);
    y = _mm512_unpackhi_epi16(low, high);
  }
  HEED_INLINE static S16 narrow_wide(S32 x, S32 y) { return _mm512_packs_epi32(x, y); }
  // 256 words, 64 to a permutation.
  HEED_INLINE static S16 look_up_256(const std::uint16_t* p, S16 i) {
    const auto part = [=](int k) HEED_LAMBDA {
      return _mm512_permutex2var_epi16(_mm512_loadu_si512(p + 64 * k), i, _mm512_loadu_si512(p + 64 * k + 32));
    };
    const __mmask32 odd = _mm512_test_epi16_mask(i, set16(64));
    return _mm512_mask_blend_epi16(_mm512_test_epi16_mask(i, set16(128)), _mm512_mask_blend_epi16(odd, part(0), part(1)),
                                   _mm512_mask_blend_epi16(odd, part(2), part(3)));
  }
  // The words factor[i] and factor[i + 1], 0 <= i <= 255.
  HEED_INLINE static void look_up_pair(S16& low, S16& high, const std::uint16_t* factor, S16 i) {
    low = look_up_256(factor, i);
    high = look_up_256(factor + 1, i);
  }
  HEED_INLINE static S16 shift_right_unsigned16(S16 x, int n) { return _mm512_srl_epi16(x, _mm_cvtsi32_si128(n)); }
  // x where a > b (signed), y elsewhere
  HEED_INLINE static S16 select_greater16(S16 a, S16 b, S16 x, S16 y) {
    return _mm512_mask_blend_epi16(_mm512_cmpgt_epi16_mask(a, b), y, x);
  }
  HEED_INLINE static S32 pair_sums(S16 x) { return _mm512_madd_epi16(x, set16(1)); }
  HEED_INLINE static S32 pair_squares(S16 x) { return _mm512_madd_epi16(x, x); }
  HEED_INLINE static std::int32_t largest16(S16 x) {  // of non-negative ones
    const __m256i m = _mm256_max_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    const __m128i n = _mm_max_epi16(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    return 65535 - _mm_extract_epi16(_mm_minpos_epu16(_mm_xor_si128(n, _mm_set1_epi16(-1))), 0);
  }
  // The first n lanes, then zeros.
  HEED_INLINE static S16 keep_first16(S16 x, int n) {
    return _mm512_maskz_mov_epi16(mask32(static_cast<std::uint32_t>(n < 0 ? 0 : n)), x);
  }

  // A table of 16 words, twice.
  struct Table {
    __m512i values;
  };
  HEED_INLINE static Table table(const std::int16_t (&values)[16]) {
    return {_mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)))};
  }
  HEED_INLINE static S16 look_up(const Table& t, S16 index) { return _mm512_permutexvar_epi16(index, t.values); }
  // 2^-((index & 255) / 256) in Q15, from numerics.hpp's factors.
  struct Exp2Tables {
    Table high, low;
  };
  HEED_INLINE static Exp2Tables exp2_tables() { return {table(kExp2High), table(kExp2Low)}; }
  HEED_INLINE static S16 exp2(const Exp2Tables& t, S16 index) {
    const S16 nibble = set16(15);
    return multiply_round16(look_up(t.high, and16(shift_right16(index, 4), nibble)), look_up(t.low, and16(index, nibble)));
  }
  // x >> n for 0 <= x < 2^15, 0 <= n <= 31
  HEED_INLINE static S16 shift_right_each16(S16 x, S16 n) { return _mm512_srlv_epi16(x, n); }
  // The same, rounded.
  HEED_INLINE static S16 shift_right_round_each16(S16 x, S16 n) {
    return _mm512_avg_epu16(_mm512_srlv_epi16(_mm512_add_epi16(x, x), n), _mm512_setzero_si512());
  }
};

}  // namespace heed::simd
