// SPDX-License-Identifier: Apache-2.0
// helium_eight.hpp: heads of eight dimensions on Helium, which one vector holds.
#pragma once
#include "platform/cortex_m/helium_numbers.hpp"

namespace heed::helium {

// A head of eight rotated dimensions needs no loop and no memory.
inline bool is_eight(std::uint32_t n, const Rotation& rotation) {
  return n == 8 && rotation.cosine_sine && rotation.pairs == 4 && !rotation.halves;
}

inline std::uint32_t max_bits_of_eight(const float* x) {
  std::uint32_t max = 0;
  __asm__(
      "vldrw.u32 q0, [%[x]]\n\t"
      "vldrw.u32 q1, [%[x], #16]\n\t"
      "vshl.i32 q0, q0, #1\n\t"
      "vshl.i32 q1, q1, #1\n\t"
      "vmax.u32 q0, q0, q1\n\t"
      "vmaxv.u32 %[max], q0"
      : [max] "+r"(max)
      : [x] "r"(x), "m"(*reinterpret_cast<const float(*)[8]>(x))
      : "q0", "q1");
  max >>= 1;
  return __builtin_expect(max > 0x7F800000u, 0) ? max_bits(x, nullptr, 8) : max;
}

// plain_head of such a head; `max` is the largest |s16|.
inline int16x8_t rotate_eight(const float* src, const std::int16_t* cosine_sine, float scale, std::uint32_t& max) {
  int16x8_t values;
  max = 0;
  __asm__ volatile(
      "vld20.32 {q0, q1}, [%[src]]\n\t"
      "vld21.32 {q0, q1}, [%[src]]\n\t"
      "vmul.f32 q0, q0, %[scale]\n\t"
      "vmul.f32 q1, q1, %[scale]\n\t"
      "vcvtn.s32.f32 q0, q0\n\t"
      "vcvtn.s32.f32 q1, q1\n\t"
      "vqmovnb.s32 %q[values], q0\n\t"
      "vdup.16 q3, %[min]\n\t"
      "vqmovnt.s32 %q[values], q1\n\t"
      "vmax.s16 %q[values], %q[values], q3\n\t"
      "vldrh.u16 q3, [%[cs]]\n\t"
      "vmullb.s16 q0, %q[values], q3\n\t"
      "vmullt.s16 q1, %q[values], q3\n\t"
      "vrev32.16 q3, q3\n\t"
      "vsub.i32 q0, q0, q1\n\t"
      "vmullb.s16 q1, %q[values], q3\n\t"
      "vmullt.s16 q3, %q[values], q3\n\t"
      "vadd.i32 q1, q1, q3\n\t"
      "vrshrnb.i32 %q[values], q0, #16\n\t"
      "vrshrnt.i32 %q[values], q1, #16\n\t"
      "vmaxav.s16 %[max], %q[values]"
      : [values] "=&w"(values), [max] "+r"(max)
      : [src] "r"(src), [cs] "r"(cosine_sine), [scale] "r"(bits_of(scale)), [min] "r"(-kMaxS16)
      : "q0", "q1", "q3", "memory");
  return values;
}

// finish_head of such a head.
inline int16x8_t finish_eight(int16x8_t values, int left, std::int32_t reciprocal) {
  return vrshrq_n_s16(vmulhq_s16(vshlq_r_s16(values, left), vdupq_n_s16(static_cast<std::int16_t>(reciprocal))), 6);
}

}  // namespace heed::helium
