// SPDX-License-Identifier: Apache-2.0
// eight.hpp: heads of eight dimensions on Helium, which one vector holds.
#pragma once
#include "platform/cortex_m/m55/numbers.hpp"

namespace heed::helium {

// A head of eight rotated dimensions needs no loop and no memory.
inline bool is_eight(std::uint32_t n, const Rotation& rotation) {
  return n == 8 && rotation.cosine_sine && rotation.pairs == 4 && !rotation.halves;
}

// The numbers of such a head.
struct EightS16 {
  std::uint32_t bits;    // twice the magnitude bits of the largest float; NaN is larger than all
  std::uint32_t biased;  // its exponent
  std::uint32_t max;     // the largest |s16|
  // Whether the others are what they should be: no NaN, and neither so small nor so large that scales have limits.
  bool is_usual() const { return bits - (87u << 24) <= (80u << 24); }
};

// Of NaN and zeros too something comes out. The scale is negative, because negating a saturated s16 leaves none below -32767.
#define HEED_EIGHT_OF_ANY \
  "vld20.32 {q0, q1}, [%[src]]\n\t" \
  "vld21.32 {q0, q1}, [%[src]]\n\t" \
  "mov %[bits], #0\n\t" \
  "vshl.i32 q2, q0, #1\n\t" \
  "vshl.i32 q3, q1, #1\n\t" \
  "vmax.u32 q2, q2, q3\n\t" \
  "vmaxv.u32 %[bits], q2\n\t" \
  "lsr %[biased], %[bits], #24\n\t" \
  "rsb %[scale], %[biased], #524\n\t" \
  "lsl %[scale], %[scale], #23\n\t" \
  "vmul.f32 q0, q0, %[scale]\n\t" \
  "vmul.f32 q1, q1, %[scale]\n\t" \
  "vcvtn.s32.f32 q0, q0\n\t" \
  "vcvtn.s32.f32 q1, q1\n\t" \
  "vqmovnb.s32 %q[values], q0\n\t" \
  "mov %[max], #0\n\t" \
  "vqmovnt.s32 %q[values], q1\n\t" \
  "vqneg.s16 %q[values], %q[values]\n\t"

// The s16 values of such a head, rotated as in plain_head.
inline int16x8_t rotate_eight(const float* src, const std::int16_t* cosine_sine, EightS16& of) {
  int16x8_t values;
  std::uint32_t scale;
  __asm__(HEED_EIGHT_OF_ANY
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
      : [values] "=&w"(values), [bits] "=&r"(of.bits), [biased] "=&r"(of.biased), [max] "=&r"(of.max), [scale] "=&r"(scale)
      : [src] "r"(src), [cs] "r"(cosine_sine), "m"(*reinterpret_cast<const float(*)[8]>(src)),
        "m"(*reinterpret_cast<const std::int16_t(*)[8]>(cosine_sine))
      : "q0", "q1", "q2", "q3");
  return values;
}

// The s16 values of eight floats.
inline int16x8_t s16_of_eight(const float* src, EightS16& of) {
  int16x8_t values;
  std::uint32_t scale;
  __asm__(HEED_EIGHT_OF_ANY
      "vmaxav.s16 %[max], %q[values]"
      : [values] "=&w"(values), [bits] "=&r"(of.bits), [biased] "=&r"(of.biased), [max] "=&r"(of.max), [scale] "=&r"(scale)
      : [src] "r"(src), "m"(*reinterpret_cast<const float(*)[8]>(src))
      : "q0", "q1", "q2", "q3");
  return values;
}
#undef HEED_EIGHT_OF_ANY

// finish_head of such a head.
inline int16x8_t finish_eight(int16x8_t values, int left, std::int32_t reciprocal) {
  return vrshrq_n_s16(vmulhq_s16(vshlq_r_s16(values, left), vdupq_n_s16(static_cast<std::int16_t>(reciprocal))), 6);
}

}  // namespace heed::helium
