// SPDX-License-Identifier: Apache-2.0
// words_neon.hpp: 8-, 16- and 32-bit integer lanes of NEON that xsimd lacks, on 64-bit and 32-bit Arm.
#pragma once
#include <arm_neon.h>

#include "platform/simd/lanes.hpp"
#if !defined(__aarch64__)
#include "platform/simd/neon32.hpp"
#endif

namespace heed::simd {

#if defined(__aarch64__)
using NeonArch = xsimd::neon64;
#else
using NeonArch = xsimd::neon;
#endif

template <>
struct Words<NeonArch> {
  using F32 = float32x4_t;
  using S32 = int32x4_t;
  using S16 = int16x8_t;
  static constexpr std::uint32_t kLanes = 4;  // of 32 bits

  static constexpr bool kHasCrc = false;  // an option of ARMv8.0
  static constexpr bool kSelects = false;  // otherwise than xsimd does

  HEED_INLINE static F32 load_first(const float* p, std::uint32_t n) {
    float x[4] = {};
    for (std::uint32_t i = 0; i < n && i < 4; ++i) x[i] = p[i];
    return vld1q_f32(x);
  }
  HEED_INLINE static void store_first(float* p, F32 x, std::uint32_t n) {
    float y[4];
    vst1q_f32(y, x);
    for (std::uint32_t i = 0; i < n && i < 4; ++i) p[i] = y[i];
  }
  HEED_INLINE static void store_first(std::uint32_t* p, S32 x, std::uint32_t n) {
    std::int32_t y[4];
    vst1q_s32(y, x);
    for (std::uint32_t i = 0; i < n && i < 4; ++i) p[i] = static_cast<std::uint32_t>(y[i]);
  }
  HEED_INLINE static void store(std::int32_t* p, S32 x) { vst1q_s32(p, x); }
  HEED_INLINE static S32 load(const std::int32_t* p) { return vld1q_s32(p); }

  // y > high ? high : y, then y < low ? low : y; a NaN stays one.
  HEED_INLINE static F32 clamp(F32 y, F32 low, F32 high) { return vmaxq_f32(low, vminq_f32(high, y)); }
  HEED_INLINE static S32 max32(S32 a, S32 b) { return vmaxq_s32(a, b); }
  HEED_INLINE static S32 multiply32(S32 a, S32 b) { return vmulq_s32(a, b); }
  HEED_INLINE static S32 magnitude32(S32 a) { return vabsq_s32(a); }
  HEED_INLINE static S32 bits(F32 x) { return vreinterpretq_s32_f32(x); }
  HEED_INLINE static F32 floats(S32 x) { return vreinterpretq_f32_s32(x); }
  HEED_INLINE static F32 to_float(S32 x) { return vcvtq_f32_s32(x); }
  HEED_INLINE static std::uint32_t word(const void* p) {
    std::uint32_t x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  HEED_INLINE static S32 widen_s8(const std::int8_t* p) {
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(word(p))))));
  }
  HEED_INLINE static S32 widen_u8(const std::uint8_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(word(p)))))));
  }
  HEED_INLINE static S32 reverse32(S32 x) {
    const S32 pairs = vrev64q_s32(x);
    return vextq_s32(pairs, pairs, 2);
  }
  HEED_INLINE static S32 shift_left(S32 x, int n) { return vshlq_s32(x, vdupq_n_s32(n)); }
  HEED_INLINE static S32 shift_right(S32 x, int n) { return vshlq_s32(x, vdupq_n_s32(-n)); }
  HEED_INLINE static S32 shift_right_each(S32 x, S32 n) { return vshlq_s32(x, vnegq_s32(vminq_s32(n, vdupq_n_s32(31)))); }
  HEED_INLINE static std::int32_t sum(S32 x) { return vaddvq_s32(x); }
  HEED_INLINE static std::int32_t largest(S32 x) { return vmaxvq_s32(x); }

  HEED_INLINE static S16 set16(int x) { return vdupq_n_s16(static_cast<std::int16_t>(x)); }
  HEED_INLINE static S16 load16(const std::int16_t* p) { return vld1q_s16(p); }
  HEED_INLINE static S16 load16_first(const std::int16_t* p, std::uint32_t n) {
    if (n >= 8) return vld1q_s16(p);
    std::int16_t x[8] = {};
    for (std::uint32_t i = 0; i < n; ++i) x[i] = p[i];
    return vld1q_s16(x);
  }
  HEED_INLINE static void store16(std::int16_t* p, S16 x) { vst1q_s16(p, x); }
  HEED_INLINE static S16 narrow(S32 a, S32 b) { return vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)); }
  HEED_INLINE static void store_narrow(std::int16_t* p, S32 x) { vst1_s16(p, vmovn_s32(x)); }
  // 8 bytes; at least 8 are readable.
  HEED_INLINE static S16 widen16_s8(const std::int8_t* p, std::uint32_t) { return vmovl_s8(vld1_s8(p)); }
  HEED_INLINE static void store_s8(std::int8_t* p, S16 x) { vst1_s8(p, vmovn_s16(x)); }
  HEED_INLINE static S32 as_words(S16 x) { return vreinterpretq_s32_s16(x); }
  HEED_INLINE static S16 as_halves(S32 x) { return vreinterpretq_s16_s32(x); }
  HEED_INLINE static S16 add16(S16 a, S16 b) { return vaddq_s16(a, b); }
  HEED_INLINE static S16 sub16(S16 a, S16 b) { return vsubq_s16(a, b); }
  HEED_INLINE static S16 add_saturate16(S16 a, S16 b) { return vqaddq_s16(a, b); }
  HEED_INLINE static S16 and16(S16 a, S16 b) { return vandq_s16(a, b); }
  HEED_INLINE static S16 min16(S16 a, S16 b) { return vminq_s16(a, b); }
  HEED_INLINE static S16 max16(S16 a, S16 b) { return vmaxq_s16(a, b); }
  // |a|, and 32767 for -32768: it must stay the largest.
  HEED_INLINE static S16 magnitude16(S16 a) { return vqabsq_s16(a); }
  HEED_INLINE static S16 shift_left16(S16 x, int n) { return vshlq_s16(x, set16(n)); }
  HEED_INLINE static S16 shift_right16(S16 x, int n) { return vshlq_s16(x, set16(-n)); }
  // (a * b + 2^14) >> 15
  HEED_INLINE static S16 multiply_round16(S16 a, S16 b) { return vqrdmulhq_s16(a, b); }
  // (x * r + 2^(shift - 1)) >> shift, 19 <= shift <= 22; the doubling product has dropped 15 bits.
  HEED_INLINE static S16 quantize(S16 x, std::int32_t r, int shift) {
    return vrshlq_s16(vqdmulhq_s16(x, set16(r)), set16(15 - shift));
  }
  HEED_INLINE static void multiply_wide(S32& x, S32& y, S16 a, S16 b) {
    x = vmull_s16(vget_low_s16(a), vget_low_s16(b));
    y = vmull_high_s16(a, b);
  }
  HEED_INLINE static S16 narrow_wide(S32 x, S32 y) { return narrow(x, y); }
  // The words factor[i] and factor[i + 1], 0 <= i <= 255.
  HEED_INLINE static void look_up_pair(S16& low, S16& high, const std::uint16_t* factor, S16 i) {
    const auto pair = [=](int k) HEED_LAMBDA { return word(factor + k); };
    uint32x4_t a = vdupq_n_u32(pair(vgetq_lane_s16(i, 0))), b = vdupq_n_u32(pair(vgetq_lane_s16(i, 4)));
    a = vsetq_lane_u32(pair(vgetq_lane_s16(i, 1)), a, 1);
    a = vsetq_lane_u32(pair(vgetq_lane_s16(i, 2)), a, 2);
    a = vsetq_lane_u32(pair(vgetq_lane_s16(i, 3)), a, 3);
    b = vsetq_lane_u32(pair(vgetq_lane_s16(i, 5)), b, 1);
    b = vsetq_lane_u32(pair(vgetq_lane_s16(i, 6)), b, 2);
    b = vsetq_lane_u32(pair(vgetq_lane_s16(i, 7)), b, 3);
    low = vuzp1q_s16(vreinterpretq_s16_u32(a), vreinterpretq_s16_u32(b));
    high = vuzp2q_s16(vreinterpretq_s16_u32(a), vreinterpretq_s16_u32(b));
  }
  HEED_INLINE static S16 shift_right_unsigned16(S16 x, int n) {
    return vreinterpretq_s16_u16(vshlq_u16(vreinterpretq_u16_s16(x), set16(-n)));
  }
  // x where a > b (signed), y elsewhere
  HEED_INLINE static S16 select_greater16(S16 a, S16 b, S16 x, S16 y) { return vbslq_s16(vcgtq_s16(a, b), x, y); }
  HEED_INLINE static S32 pair_sums(S16 x) { return vpaddlq_s16(x); }
  HEED_INLINE static S32 pair_squares(S16 x) {
    return vmlal_s16(vmull_s16(vget_low_s16(x), vget_low_s16(x)), vget_high_s16(x), vget_high_s16(x));
  }
  HEED_INLINE static std::int32_t largest16(S16 x) { return vmaxvq_s16(x); }
  // The first n lanes, then zeros.
  HEED_INLINE static S16 keep_first16(S16 x, int n) {
    static constexpr std::int16_t kLane[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    return vandq_s16(x, vreinterpretq_s16_u16(vcgtq_s16(set16(n), vld1q_s16(kLane))));
  }

  // A table of 16 words.
  using Table = uint8x16x2_t;
  HEED_INLINE static Table table(const std::int16_t (&values)[16]) {
    return {vreinterpretq_u8_s16(vld1q_s16(values)), vreinterpretq_u8_s16(vld1q_s16(values + 8))};
  }
  HEED_INLINE static S16 look_up(const Table& t, S16 index) {
    const S16 bytes = vmlaq_s16(set16(0x0100), index, set16(0x0202));
    return vreinterpretq_s16_u8(vqtbl2q_u8(t, vreinterpretq_u8_s16(bytes)));
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
  // x >> n for 0 <= x < 2^15, 0 <= n <= 31
  HEED_INLINE static S16 shift_right_each16(S16 x, S16 n) { return vshlq_s16(x, vnegq_s16(n)); }
  // The same, rounded.
  HEED_INLINE static S16 shift_right_round_each16(S16 x, S16 n) { return vrshlq_s16(x, vnegq_s16(n)); }
};

}  // namespace heed::simd
