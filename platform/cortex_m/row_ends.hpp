// SPDX-License-Identifier: Apache-2.0
// row_ends.hpp: what stands behind the integers of a matrix product on ARMv7-M without an FPU: four elements of a token
// scaled and stored, by integers. SPEC.md bounds the operands: neither infinities and NaN nor denormal numbers come in
// or out.
#pragma once
#include "platform/cortex_m/soft_float.hpp"

namespace heed::cortex_m {

// An activation vector's scale: a mantissa of 25 bits, the lowest 0, and what the exponent fields of scales, sum and
// result need beside each other.
struct TokenScale {
  std::uint32_t mantissa, exponent;
};
inline TokenScale token_scale(float scale) {
  const std::uint32_t u = bits_of(scale);
  return {u << 9 >> 8 | 0x01000000u, (u >> 23) - 97};
}

// float(sum) * (row_scale * x_scale) for |sum| < 2^24, which is exact as a float. No branch.
__attribute__((always_inline)) inline float scaled_short_sum(std::int32_t sum, float row_scale, const TokenScale& x) {
  std::uint32_t m, low = bits_of(row_scale) << 8 | 0x80000000u, high, t,
                exponent = x.exponent + (bits_of(row_scale) >> 23);
  // A product of 32 and 25 bits has 24 or 25 bits in its upper word, and at a half the carry decides.
  __asm__(
      "umull %[low], %[high], %[low], %[x]\n\t"
      "lsrs %[t], %[high], #24\n\t"
      "itt ne\n\t"
      "lsrsne.w %[high], %[high], #1\n\t"
      "rrxne %[low], %[low]\n\t"
      "add %[exponent], %[exponent], %[t]\n\t"
      "lsrs %[t], %[high], #1\n\t"
      "adcs %[low], %[low], %[half]\n\t"
      "adc %[high], %[high], #0\n\t"
      "lsl %[high], %[high], #1\n\t"
      "eor %[m], %[sum], %[sum], asr #31\n\t"
      "sub %[m], %[m], %[sum], asr #31\n\t"
      "clz %[t], %[m]\n\t"
      "sub %[exponent], %[exponent], %[t]\n\t"
      "lsl %[m], %[m], %[t]\n\t"
      "umull %[low], %[high], %[m], %[high]\n\t"
      "lsrs %[t], %[high], #24\n\t"
      "itt ne\n\t"
      "lsrsne.w %[high], %[high], #1\n\t"
      "rrxne %[low], %[low]\n\t"
      "add %[exponent], %[exponent], %[t]\n\t"
      "lsrs %[t], %[high], #1\n\t"
      "adcs %[low], %[low], %[half]\n\t"
      "adc %[high], %[high], %[exponent], lsl #23\n\t"
      "cmp %[sum], #0\n\t"
      "it mi\n\t"
      "orrmi %[high], %[high], #0x80000000\n\t"
      "it eq\n\t"
      "moveq %[high], #0"
      : [m] "=&r"(m), [low] "+&r"(low), [high] "=&r"(high), [t] "=&r"(t), [exponent] "+&r"(exponent)
      : [x] "r"(x.mantissa), [sum] "r"(sum), [half] "r"(0x7FFFFFFFu)
      : "cc");
  return float_of(high);
}

// a + b, by integers where both and the sum are normal numbers.
__attribute__((noinline, optimize("O2"))) inline float sum_of(float a, float b) {
  std::uint32_t x = bits_of(a), y = bits_of(b);
  if ((x << 1) < (y << 1)) {
    const std::uint32_t t = x;
    x = y, y = t;
  }
  const std::uint32_t x_exponent = x << 1 >> 24, y_exponent = y << 1 >> 24;
  if (y << 1 == 0) return float_of(x << 1 == 0 ? x & y : x);
  if (x_exponent > 254 || y_exponent < 26) return a + b;
  const std::uint32_t shift = x_exponent - y_exponent;
  // 24 bits with 6 behind them; what is lost behind those stays as a bit.
  std::uint32_t m = (x & 0x7FFFFFu) << 6 | 0x20000000u;
  const std::uint32_t n = (y & 0x7FFFFFu) << 6 | 0x20000000u;
  const std::uint32_t small = shift > 31 ? 1u : n >> shift | ((n & ((1u << shift) - 1)) != 0);
  m = static_cast<std::int32_t>(x ^ y) < 0 ? m - small : m + small;
  if (m == 0) return 0.0f;
  const int zeros = __builtin_clz(m);
  m <<= zeros;  // 8 bits behind the mantissa
  const std::uint32_t behind = (m << 24) + (m >> 8 & 1u);
  const std::uint32_t r = (m >> 8) + ((x_exponent + 1 - static_cast<std::uint32_t>(zeros)) << 23) + (behind > 0x80000000u);
  return float_of(r | (x & 0x80000000u));
}

// What a bias or accumulation makes of an element; either pointer may be null.
__attribute__((noinline)) inline float with_more(float y, const float* bias, const float* old) {
  if (bias) y += *bias;
  return old ? sum_of(*old, y) : y;
}

}  // namespace heed::cortex_m
