// SPDX-License-Identifier: Apache-2.0
// neon32.hpp: intrinsics that AArch64 has and 32-bit Arm has not, under their names, so that policies are written once.
#pragma once
#include <arm_neon.h>

#include "platform/simd/lanes.hpp"

namespace heed::simd {

HEED_INLINE int32x4_t vpaddq_s32(int32x4_t a, int32x4_t b) {
  return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
}
HEED_INLINE std::int32_t vaddvq_s32(int32x4_t x) {
  const int32x2_t pair = vadd_s32(vget_low_s32(x), vget_high_s32(x));
  return vget_lane_s32(vpadd_s32(pair, pair), 0);
}
HEED_INLINE std::int32_t vmaxvq_s32(int32x4_t x) {
  const int32x2_t pair = vmax_s32(vget_low_s32(x), vget_high_s32(x));
  return vget_lane_s32(vpmax_s32(pair, pair), 0);
}
HEED_INLINE std::int16_t vmaxvq_s16(int16x8_t x) {
  int16x4_t four = vmax_s16(vget_low_s16(x), vget_high_s16(x));
  four = vpmax_s16(four, four);
  return vget_lane_s16(vpmax_s16(four, four), 0);
}
HEED_INLINE int16x8_t vmull_high_s8(int8x16_t a, int8x16_t b) { return vmull_s8(vget_high_s8(a), vget_high_s8(b)); }
HEED_INLINE int16x8_t vmlal_high_s8(int16x8_t sum, int8x16_t a, int8x16_t b) {
  return vmlal_s8(sum, vget_high_s8(a), vget_high_s8(b));
}
HEED_INLINE int32x4_t vmull_high_s16(int16x8_t a, int16x8_t b) {
  return vmull_s16(vget_high_s16(a), vget_high_s16(b));
}
HEED_INLINE int16x8_t vmovl_high_s8(int8x16_t x) { return vmovl_s8(vget_high_s8(x)); }
HEED_INLINE int16x8_t vuzp1q_s16(int16x8_t a, int16x8_t b) { return vuzpq_s16(a, b).val[0]; }
HEED_INLINE int16x8_t vuzp2q_s16(int16x8_t a, int16x8_t b) { return vuzpq_s16(a, b).val[1]; }
HEED_INLINE uint8x16_t vqtbl2q_u8(uint8x16x2_t table, uint8x16_t index) {
  const uint8x8x4_t four = {{vget_low_u8(table.val[0]), vget_high_u8(table.val[0]), vget_low_u8(table.val[1]),
                             vget_high_u8(table.val[1])}};
  return vcombine_u8(vtbl4_u8(four, vget_low_u8(index)), vtbl4_u8(four, vget_high_u8(index)));
}

template <class Vector>
HEED_INLINE int32x4_t vdupq_laneq_s32(Vector x, int lane) {
  return lane < 2 ? vdupq_lane_s32(vget_low_s32(x), lane % 2) : vdupq_lane_s32(vget_high_s32(x), lane % 2);
}
HEED_INLINE int8x16x4_t vld1q_s8_x4(const std::int8_t* p) {
  return {{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
}

}  // namespace heed::simd
