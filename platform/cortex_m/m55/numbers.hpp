// SPDX-License-Identifier: Apache-2.0
// numbers.hpp: floats to s16 and int8 on Helium, with the bits of portable/rows.hpp, eight elements at a time. Rows
// whose length is no multiple of eight end in a copy behind which there are zeros.
#pragma once
#include <arm_mve.h>

#include "platform/portable/rows.hpp"

// Eight floats from `src` on, times `scale`, as s16 in q2; q0 and q1 are used.
#define HEED_EIGHT_S16               \
  "vld20.32 {q0, q1}, [%[src]]\n\t" \
  "vld21.32 {q0, q1}, [%[src]]!\n\t" \
  "vmul.f32 q0, q0, %[scale]\n\t" \
  "vmul.f32 q1, q1, %[scale]\n\t" \
  "vcvtn.s32.f32 q0, q0\n\t" \
  "vcvtn.s32.f32 q1, q1\n\t" \
  "vqmovnb.s32 q2, q0\n\t" \
  "vqmovnt.s32 q2, q1\n\t"

namespace heed::helium {

using portable::PlainActivations;

inline std::int32_t nearest(float x) {
  float result;
  __asm__("vcvtn.s32.f32 %0, %1" : "=t"(result) : "t"(x));
  return static_cast<std::int32_t>(bits_of(result));
}

// heed::bit_length; CLZ of 0 is 32.
inline int bit_length(std::uint32_t v) {
  int zeros;
  __asm__("clz %0, %1" : "=r"(zeros) : "r"(v));
  return 32 - zeros;
}

// heed::block_float by bits, in parts: whether the vector is zero, its exponent with a bias of 126, the factor to s16, and
// the largest |s16|.
inline bool is_zero(std::uint32_t max_bits) { return max_bits < (127u - 40) << 23; }
__attribute__((always_inline)) inline std::uint32_t biased_exponent(std::uint32_t max_bits) {
  constexpr std::uint32_t kLargestBits = (127 + 40) << 23;
  return (max_bits > kLargestBits ? kLargestBits : max_bits) >> 23;
}
inline float to_s16_scale(std::uint32_t biased) { return float_of((268 - biased) << 23); }
inline std::int32_t largest_s16(std::uint32_t max_bits, float scale) {
  const std::int32_t max = nearest(float_of(max_bits) * scale);
  return max > kMaxS16 ? kMaxS16 : max;
}
__attribute__((always_inline)) inline BlockFloat block_float(std::uint32_t max_bits) {
  const std::uint32_t biased = biased_exponent(max_bits);
  const float scale = to_s16_scale(biased);
  if (is_zero(max_bits)) return {true, -39, 0.0f, 0};
  return {false, static_cast<int>(biased) - 126, scale, largest_s16(max_bits, scale)};
}

// The magnitude bits of the largest |x| or |x * gain|; NaN counts as 0.
__attribute__((noinline)) inline std::uint32_t max_bits(const float* x, const float* gain, std::uint32_t n) {
  // VMAXNMA leaves out quiet NaN. A signalling one, or a product that is none, raises the flag of invalid operations.
  std::uint32_t max = 0, flags;
  const float* at = x;
  if (!gain) {
    __asm__ volatile(
        "vmrs %[flags], fpscr\n\t"
        "bic %[flags], #1\n\t"
        "vmsr fpscr, %[flags]\n\t"
        "vmov.i32 q0, #0\n\t"
        "lsr lr, %[n], #4\n\t"
        "wls lr, lr, 2f\n\t"
        "1:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vldrw.u32 q2, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q2\n\t"
        "vldrw.u32 q2, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "vmaxnma.f32 q0, q2\n\t"
        "le lr, 1b\n\t"
        "2:\n\t"
        "and lr, %[n], #15\n\t"
        "wlstp.32 lr, lr, 4f\n\t"
        "3:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "letp lr, 3b\n\t"
        "4:\n\t"
        "vmaxnmav.f32 %[max], q0\n\t"
        "vmrs %[flags], fpscr"
        : [x] "+r"(at), [max] "+r"(max), [flags] "=&r"(flags)
        : [n] "r"(n)
        : "lr", "q0", "q1", "q2", "memory");
  } else {
    const float* g = gain;
    __asm__ volatile(
        "vmrs %[flags], fpscr\n\t"
        "bic %[flags], #1\n\t"
        "vmsr fpscr, %[flags]\n\t"
        "vmov.i32 q0, #0\n\t"
        "dlstp.32 lr, %[n]\n\t"
        "1:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vldrw.u32 q2, [%[g]], #16\n\t"
        "vmul.f32 q1, q1, q2\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "letp lr, 1b\n\t"
        "vmaxnmav.f32 %[max], q0\n\t"
        "vmrs %[flags], fpscr"
        : [x] "+r"(at), [g] "+r"(g), [max] "+r"(max), [flags] "=&r"(flags)
        : [n] "r"(n)
        : "lr", "q0", "q1", "q2", "memory");
  }
  if (!(flags & 1)) return max;
  max = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t m = magnitude_bits(gain ? x[i] * gain[i] : x[i]);
    max = m > max ? m : max;
  }
  return max;
}

// s16 of eight floats times a power of two, rounded to even and saturated, NaN as 0; -32768 can occur.
inline int16x8_t s16_of(const float* x, const float* gain, float scale) {
  float32x4x2_t v = vld2q_f32(x);
  if (gain) {
    const float32x4x2_t g = vld2q_f32(gain);
    v.val[0] = vmulq_f32(v.val[0], g.val[0]);
    v.val[1] = vmulq_f32(v.val[1], g.val[1]);
  }
  const int32x4_t even = vcvtnq_s32_f32(vmulq_n_f32(v.val[0], scale));
  const int32x4_t odd = vcvtnq_s32_f32(vmulq_n_f32(v.val[1], scale));
  return vqmovntq_s32(vqmovnbq_s32(vuninitializedq_s16(), even), odd);
}

// The same between -32767 and 32767.
inline int16x8_t clamped_s16_of(const float* x, float scale) {
  return vmaxq_s16(s16_of(x, nullptr, scale), vdupq_n_s16(-kMaxS16));
}

// body(source of eight floats, first index) for each eight of n; of the last ones in a copy.
template <class Body>
inline void in_eights(const float* x, std::uint32_t n, Body body) {
  std::uint32_t i = 0;
  for (; i + 8 <= n; i += 8) body(x + i, i);
  if (i == n) return;
  float rest[8] = {};
  for (std::uint32_t k = 0; i + k < n; ++k) rest[k] = x[i + k];
  body(static_cast<const float*>(rest), i);
}

// s16 values, up to the next multiple of eight.
__attribute__((noinline)) inline void convert(std::int16_t* to, const float* src, const float* gain, std::uint32_t n,
                                              float scale) {
  if (gain) {
    std::uint32_t i = 0;
    for (; i + 8 <= n; i += 8) vst1q_s16(to + i, s16_of(src + i, gain + i, scale));
    for (; i < n; ++i) to[i] = static_cast<std::int16_t>(to_s16(src[i] * gain[i], scale));
    return;
  }
  in_eights(src, n, [&](const float* x, std::uint32_t i) { vst1q_s16(to + i, clamped_s16_of(x, scale)); });
}

// int8 values q = (s * reciprocal + 2^(shift - 1)) >> shift of n s16 values, 16 < shift <= 22, a multiple of eight of
// them: the upper half of a product, rounded. Returns the sum of the squares.
__attribute__((noinline)) inline std::int32_t finish(std::int8_t* to, const std::int16_t* src, std::uint32_t n,
                                                     std::int32_t reciprocal, int shift) {
  register std::int32_t squares __asm__("r0") = 0;
  __asm__ volatile(
      "vdup.16 q1, %[reciprocal]\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrh.u16 q0, [%[src]], #16\n\t"
      "vmulh.s16 q0, q0, q1\n\t"
      "vrshl.s16 q0, %[shift]\n\t"
      "vmladava.s16 %[squares], q0, q0\n\t"
      "vstrb.16 q0, [%[to]], #8\n\t"
      "le lr, 1b"
      : [squares] "+r"(squares), [to] "+l"(to), [src] "+r"(src)
      : [n] "r"((n + 7) / 8), [reciprocal] "r"(reciprocal), [shift] "r"(16 - shift)
      : "lr", "q0", "q1", "memory");
  return squares;
}

// Zeros from the last multiple of sixteen on, before the values in front of them are written.
inline void zero_last(std::int8_t* q, std::uint32_t n) {
  if (n % 16) vst1q_s8(q + (n & ~15u), vdupq_n_s8(0));
}

}  // namespace heed::helium
