// SPDX-License-Identifier: Apache-2.0
// soft_float.hpp: IEEE products for ARMv7-M cores without an FPU where SPEC.md bounds the operands, so that zero is the
// only special case: neither infinities and NaN nor denormal numbers come in or out. Loops that know no zero say so.
#pragma once
#include "runtime/numerics.hpp"

namespace heed::cortex_m {

// a * b of magnitudes: 24 and 25 bits of a 57-bit product are in the upper word, and at a half the carry decides.
__attribute__((always_inline)) inline float multiply_magnitudes(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t exponent = (a >> 23) + (b >> 23) - 128;
  std::uint32_t low = a << 8 | 0x80000000u, high = b << 9 >> 8 | 0x01000000u, t;
  __asm__(
      "umull %[low], %[high], %[low], %[high]\n\t"
      "lsrs %[t], %[high], #24\n\t"
      "itt ne\n\t"
      "lsrsne.w %[high], %[high], #1\n\t"
      "rrxne %[low], %[low]\n\t"
      "add %[high], %[high], %[t], lsl #23\n\t"
      "and %[t], %[high], #1\n\t"
      "add %[low], %[low], %[t]\n\t"
      "cmp %[low], #0x80000000\n\t"
      "it hi\n\t"
      "addhi %[high], #1"
      : [low] "+r"(low), [high] "+r"(high), [t] "=&r"(t)
      :
      : "cc");
  return float_of(high + (exponent << 23));
}

// float(sum) * (row_scale * x_scale) for row_scale > 0 and x_scale >= 0.
__attribute__((noinline)) inline float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
  const std::uint32_t sign = static_cast<std::uint32_t>(sum) & 0x80000000u;
  if (sum == 0 || bits_of(x_scale) == 0) return float_of(sign);
  const float scale = multiply_magnitudes(bits_of(row_scale), bits_of(x_scale));
  const auto m = static_cast<std::uint32_t>(magnitude(sum));
  const int zeros = __builtin_clz(m);
  const std::uint32_t normal = m << zeros, behind = (normal << 24) + (normal >> 8 & 1);
  const std::uint32_t x = (normal >> 8) + (behind > 0x80000000u) + (static_cast<std::uint32_t>(157 - zeros) << 23);
  return float_of(bits_of(multiply_magnitudes(x, bits_of(scale))) | sign);
}

// x * factor for a power of two or zero.
inline float times_power(float x, float factor) {
  const std::uint32_t u = bits_of(x), f = bits_of(factor);
  return u << 1 == 0 || f == 0 ? 0.0f : float_of(u + f - 0x3F800000u);
}

}  // namespace heed::cortex_m
