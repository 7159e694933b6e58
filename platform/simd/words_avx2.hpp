// SPDX-License-Identifier: Apache-2.0
// words_avx2.hpp: 8-, 16- and 32-bit integer lanes of AVX2 that xsimd lacks.
#pragma once
#include <immintrin.h>

#include "platform/simd/lanes.hpp"

namespace heed::simd {

template <>
struct Words<xsimd::avx2> {
  using F32 = __m256;
  using S32 = __m256i;
  using S16 = __m256i;
  static constexpr std::uint32_t kLanes = 8;  // of 32 bits

  static constexpr bool kHasCrc = true;
  HEED_INLINE static std::uint32_t crc(std::uint32_t crc, std::uint64_t x) {
    return static_cast<std::uint32_t>(_mm_crc32_u64(crc, x));
  }

  // Masks for the first n of 8 lanes begin at kMask + 8 - n.
  static constexpr std::int32_t kMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  HEED_INLINE static S32 mask(std::uint32_t n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMask + 8 - n));
  }

  HEED_INLINE static F32 load_first(const float* p, std::uint32_t n) { return _mm256_maskload_ps(p, mask(n)); }
  HEED_INLINE static void store_first(float* p, F32 x, std::uint32_t n) { _mm256_maskstore_ps(p, mask(n), x); }
  HEED_INLINE static void store_first(std::uint32_t* p, S32 x, std::uint32_t n) {
    _mm256_maskstore_epi32(reinterpret_cast<int*>(p), mask(n < 8 ? n : 8), x);
  }
  HEED_INLINE static void store(std::int32_t* p, S32 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
  HEED_INLINE static S32 load(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

  // x where the mask is set, y elsewhere. Not _mm256_blendv_epi8, for which g++ 12 compares bytes of `char` with zero: with
  // -funsigned-char none is below.
  static constexpr bool kSelects = true;
  HEED_INLINE static S32 select(S32 mask, S32 x, S32 y) {
    using Words [[gnu::vector_size(32)]] = int;
    return reinterpret_cast<S32>(reinterpret_cast<Words>(mask) != Words{} ? reinterpret_cast<Words>(x)
                                                                          : reinterpret_cast<Words>(y));
  }

  // y > high ? high : y, then y < low ? low : y; a NaN stays one.
  HEED_INLINE static F32 clamp(F32 y, F32 low, F32 high) { return _mm256_max_ps(low, _mm256_min_ps(high, y)); }
  HEED_INLINE static S32 max32(S32 a, S32 b) { return _mm256_max_epi32(a, b); }
  HEED_INLINE static S32 multiply32(S32 a, S32 b) { return _mm256_mullo_epi32(a, b); }
  HEED_INLINE static S32 magnitude32(S32 a) { return _mm256_abs_epi32(a); }
  HEED_INLINE static S32 bits(F32 x) { return _mm256_castps_si256(x); }
  HEED_INLINE static F32 floats(S32 x) { return _mm256_castsi256_ps(x); }
  HEED_INLINE static F32 to_float(S32 x) { return _mm256_cvtepi32_ps(x); }
  HEED_INLINE static S32 widen_s8(const std::int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  HEED_INLINE static S32 widen_u8(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  HEED_INLINE static S32 reverse32(S32 x) {
    return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
  }
  HEED_INLINE static S32 shift_left(S32 x, int n) { return _mm256_sll_epi32(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S32 shift_right(S32 x, int n) { return _mm256_sra_epi32(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S32 shift_right_each(S32 x, S32 n) { return _mm256_srav_epi32(x, n); }
  HEED_INLINE static std::int32_t sum(S32 x) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
  }
  HEED_INLINE static std::int32_t largest(S32 x) {
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
  }

  HEED_INLINE static S16 set16(int x) { return _mm256_set1_epi16(static_cast<short>(x)); }
  HEED_INLINE static S16 load16(const std::int16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  HEED_INLINE static S16 load16_first(const std::int16_t* p, std::uint32_t n) {
    if (n >= 16) return load16(p);
    std::int16_t x[16] = {};
    for (std::uint32_t i = 0; i < n; ++i) x[i] = p[i];
    return load16(x);
  }
  HEED_INLINE static void store16(std::int16_t* p, S16 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
  HEED_INLINE static S16 narrow(S32 a, S32 b) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8); }
  HEED_INLINE static void store_narrow(std::int16_t* p, S32 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
  }
  // 16 bytes; at least 16 are readable.
  HEED_INLINE static S16 widen16_s8(const std::int8_t* p, std::uint32_t) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  HEED_INLINE static void store_s8(std::int8_t* p, S16 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
  }
  HEED_INLINE static S32 as_words(S16 x) { return x; }
  HEED_INLINE static S16 as_halves(S32 x) { return x; }
  HEED_INLINE static S16 add16(S16 a, S16 b) { return _mm256_add_epi16(a, b); }
  HEED_INLINE static S16 sub16(S16 a, S16 b) { return _mm256_sub_epi16(a, b); }
  HEED_INLINE static S16 add_saturate16(S16 a, S16 b) { return _mm256_adds_epi16(a, b); }
  HEED_INLINE static S16 and16(S16 a, S16 b) { return _mm256_and_si256(a, b); }
  HEED_INLINE static S16 min16(S16 a, S16 b) { return _mm256_min_epi16(a, b); }
  HEED_INLINE static S16 max16(S16 a, S16 b) { return _mm256_max_epi16(a, b); }
  // |a|, and 32767 for -32768: it must stay the largest.
  HEED_INLINE static S16 magnitude16(S16 a) {
    return _mm256_max_epi16(a, _mm256_subs_epi16(_mm256_setzero_si256(), a));
  }
  HEED_INLINE static S16 shift_left16(S16 x, int n) { return _mm256_sll_epi16(x, _mm_cvtsi32_si128(n)); }
  HEED_INLINE static S16 shift_right16(S16 x, int n) { return _mm256_sra_epi16(x, _mm_cvtsi32_si128(n)); }
  // (a * b + 2^14) >> 15
  HEED_INLINE static S16 multiply_round16(S16 a, S16 b) { return _mm256_mulhrs_epi16(a, b); }
  // (x * r + 2^(shift - 1)) >> shift, 19 <= shift <= 22
  HEED_INLINE static S16 quantize(S16 x, std::int32_t r, int shift) {
    const S16 high = _mm256_mulhi_epi16(x, set16(r));
    return shift_right16(_mm256_add_epi16(high, set16(1 << (shift - 17))), shift - 16);
  }
  // Products in an order of their own, which narrow_wide undoes.
  HEED_INLINE static void multiply_wide(S32& x, S32& y, S16 a, S16 b) {
    const __m256i low = _mm256_mullo_epi16(a, b), high = _mm256_mulhi_epi16(a, b);
    x = _mm256_unpacklo_epi16(low, high);
    y = _mm256_unpackhi_epi16(low, high);
  }
  HEED_INLINE static S16 narrow_wide(S32 x, S32 y) { return _mm256_packs_epi32(x, y); }
  // The words factor[i] and factor[i + 1], 0 <= i <= 255.
  HEED_INLINE static void look_up_pair(S16& low, S16& high, const std::uint16_t* factor, S16 i) {
    const __m256i zero = _mm256_setzero_si256(), mask = _mm256_set1_epi32(0xFFFF);
    const auto* p = reinterpret_cast<const int*>(factor);
    const __m256i a = _mm256_i32gather_epi32(p, _mm256_unpacklo_epi16(i, zero), 2);
    const __m256i b = _mm256_i32gather_epi32(p, _mm256_unpackhi_epi16(i, zero), 2);
    low = _mm256_packus_epi32(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask));
    high = _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
  }
  HEED_INLINE static S16 shift_right_unsigned16(S16 x, int n) { return _mm256_srl_epi16(x, _mm_cvtsi32_si128(n)); }
  // x where a > b (signed), y elsewhere
  HEED_INLINE static S16 select_greater16(S16 a, S16 b, S16 x, S16 y) {
    using Halves [[gnu::vector_size(32)]] = short;
    return reinterpret_cast<S16>(reinterpret_cast<Halves>(a) > reinterpret_cast<Halves>(b)
                                     ? reinterpret_cast<Halves>(x)
                                     : reinterpret_cast<Halves>(y));
  }
  HEED_INLINE static S32 pair_sums(S16 x) { return _mm256_madd_epi16(x, set16(1)); }
  HEED_INLINE static S32 pair_squares(S16 x) { return _mm256_madd_epi16(x, x); }
  HEED_INLINE static std::int32_t largest16(S16 x) {  // of non-negative ones
    const __m128i m = _mm_max_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return 65535 - _mm_extract_epi16(_mm_minpos_epu16(_mm_xor_si128(m, _mm_set1_epi16(-1))), 0);
  }
  // The first n lanes, then zeros.
  HEED_INLINE static S16 keep_first16(S16 x, int n) {
    const S16 lane = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm256_and_si256(x, _mm256_cmpgt_epi16(set16(n), lane));
  }

  // A table of 16 words, as its low and its high bytes.
  struct Table {
    __m256i low, high;
  };
  HEED_INLINE static Table table(const std::int16_t (&values)[16]) {
    const __m256i v = load16(values);
    const __m256i low = _mm256_permute4x64_epi64(
        _mm256_packus_epi16(_mm256_and_si256(v, set16(255)), _mm256_and_si256(v, set16(255))), 0x88);
    const __m256i high = _mm256_permute4x64_epi64(
        _mm256_packus_epi16(_mm256_srli_epi16(v, 8), _mm256_srli_epi16(v, 8)), 0x88);
    return {low, high};
  }
  // Lanes of `index` are 0..15; a byte with the top bit gives zero.
  HEED_INLINE static S16 look_up(const Table& t, S16 index) {
    const __m256i low = _mm256_shuffle_epi8(t.low, _mm256_or_si256(index, set16(0x8000)));
    const __m256i high = _mm256_shuffle_epi8(t.high, _mm256_or_si256(_mm256_slli_epi16(index, 8), set16(0x80)));
    return _mm256_or_si256(low, high);
  }
  // 2^-((index & 255) / 256) in Q15, from numerics.hpp's factors.
  struct Exp2Tables {
    Table high, low;
  };
  HEED_INLINE static Exp2Tables exp2_tables() { return {table(kExp2High), table(kExp2Low)}; }
  HEED_INLINE static S16 exp2(const Exp2Tables& t, S16 index) {
    const S16 nibble = set16(15);
    return multiply_round16(look_up(t.high, and16(shift_right16(index, 4), nibble)), look_up(t.low, and16(index, nibble)));
  }
  // 2^15 >> n, 0 <= n <= 31: AVX2 has no shift of 16-bit lanes by lanes, so that shifts are multiplications.
  HEED_INLINE static S16 power(S16 n) {
    const __m256i bit = _mm256_setr_epi8(-128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, -128, 64, 32, 16, 8, 4,
                                         2, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i both = _mm256_or_si256(n, _mm256_slli_epi16(n, 8));
    return _mm256_shuffle_epi8(bit, _mm256_add_epi16(both, set16(0x7068)));
  }
  // x >> n for 0 <= x < 2^15, 0 <= n <= 31
  HEED_INLINE static S16 shift_right_each16(S16 x, S16 n) {
    return _mm256_mulhi_epu16(_mm256_add_epi16(x, x), power(n));
  }
  // The same, rounded; -2^15 stands for 2^15 when n is 0, hence the magnitude.
  HEED_INLINE static S16 shift_right_round_each16(S16 x, S16 n) {
    return _mm256_abs_epi16(_mm256_mulhrs_epi16(x, power(n)));
  }
};

}  // namespace heed::simd
