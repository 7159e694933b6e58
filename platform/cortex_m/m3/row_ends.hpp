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

// The product in `high` and `low` brought to 24 bits above, and the carry that rounds them, to the nearest, at a half to even.
#define HEED_ROUND_UPPER                   \
  "lsrs %[t], %[high], #24\n\t"            \
  "itt ne\n\t"                             \
  "lsrsne.w %[high], %[high], #1\n\t"      \
  "rrxne %[low], %[low]\n\t"               \
  "add %[exponent], %[exponent], %[t]\n\t" \
  "lsrs %[t], %[high], #1\n\t"             \
  "adcs %[low], %[low], %[half]\n\t"
// float(sum) * (row_scale * x_scale) for |sum| < 2^24, which is exact as a float. No branch. From the sum, the row
// scale's mantissa with 32 bits in `low`, the vector's in `x`, and the exponents' sum to the result in `high`. A product
// of 32 and 25 bits has 24 or 25 bits in its upper word, and at a half the carry decides.
#define HEED_SCALED_SUM(x)                 \
  "umull %[low], %[high], %[low], %[" x "]\n\t" \
  HEED_ROUND_UPPER                         \
  "adc %[high], %[high], #0\n\t"           \
  "lsl %[high], %[high], #1\n\t"           \
  "eor %[m], %[sum], %[sum], asr #31\n\t"  \
  "sub %[m], %[m], %[sum], asr #31\n\t"    \
  "clz %[t], %[m]\n\t"                     \
  "sub %[exponent], %[exponent], %[t]\n\t" \
  "lsl %[m], %[m], %[t]\n\t"               \
  "umull %[low], %[high], %[m], %[high]\n\t" \
  HEED_ROUND_UPPER                         \
  "adc %[high], %[high], %[exponent], lsl #23\n\t" \
  "cmp %[sum], #0\n\t"                     \
  "it mi\n\t"                              \
  "orrmi %[high], %[high], #0x80000000\n\t" \
  "it eq\n\t"                              \
  "moveq %[high], #0\n\t"
// Four rows of one vector.
__attribute__((noinline)) inline void store_rows(float* out, const std::int32_t* sums, const float* row_scales,
                                                 const TokenScale& x) {
  std::uint32_t m, low, high, t, exponent, sum;
  const std::int32_t* const end = sums + 4;
  __asm__ volatile(
      "1:\n\t"
      "ldr %[low], [%[scales]], #4\n\t"
      "ldr %[sum], [%[sums]], #4\n\t"
      "add %[exponent], %[xe], %[low], lsr #23\n\t"
      "lsl %[low], %[low], #8\n\t"
      "orr %[low], %[low], #0x80000000\n\t"
      HEED_SCALED_SUM("x")
      "str %[high], [%[out]], #4\n\t"
      "cmp %[sums], %[end]\n\t"
      "bne 1b"
      : [out] "+&r"(out), [sums] "+&r"(sums), [scales] "+&r"(row_scales), [m] "=&r"(m), [low] "=&r"(low), [high] "=&r"(high),
        [t] "=&r"(t), [exponent] "=&r"(exponent), [sum] "=&r"(sum)
      : [x] "r"(x.mantissa), [xe] "r"(x.exponent), [half] "r"(0x7FFFFFFFu), [end] "r"(end)
      : "cc", "memory");
}

// Four vectors and one row; elements are `step` bytes apart.
__attribute__((noinline)) inline void store_tokens(float* out, std::uint32_t step, const std::int32_t* sums,
                                                   float row_scale, const TokenScale* x) {
  std::uint32_t m, low, high, t, exponent, sum;
  const std::int32_t* const end = sums + 4;
  __asm__ volatile(
      "1:\n\t"
      "ldrd %[m], %[exponent], [%[scales]], #8\n\t"
      "ldr %[sum], [%[sums]], #4\n\t"
      "mov %[low], %[mantissa]\n\t"
      "add %[exponent], %[exponent], %[row]\n\t"
      HEED_SCALED_SUM("m")
      "str %[high], [%[out]]\n\t"
      "add %[out], %[out], %[by]\n\t"
      "cmp %[sums], %[end]\n\t"
      "bne 1b"
      : [out] "+&r"(out), [sums] "+&r"(sums), [scales] "+&r"(x), [m] "=&r"(m), [low] "=&r"(low), [high] "=&r"(high),
        [t] "=&r"(t), [exponent] "=&r"(exponent), [sum] "=&r"(sum)
      : [row] "r"(bits_of(row_scale) >> 23), [mantissa] "r"(bits_of(row_scale) << 8 | 0x80000000u), [half] "r"(0x7FFFFFFFu), [by] "r"(step), [end] "r"(end)
      : "cc", "memory");
}

// a + b, by integers where both and the sum are normal numbers.
__attribute__((noinline, optimize("O2"))) inline float sum_of(float a, float b) {
  std::uint32_t x = bits_of(a), y = bits_of(b);
  if ((x << 1) < (y << 1)) {
    const std::uint32_t t = x;
    x = y, y = t;
  }
  const std::uint32_t x_exponent = x << 1 >> 24, y_exponent = y << 1 >> 24;
  // Zero loses as what lies far behind x does: its count is that of other numbers.
  if (x_exponent > 254 || x_exponent < 26 || (y_exponent < 26 && y << 1 != 0)) return a + b;
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

// Four elements y[i] with bias[i * bias_step], if there is one, to out[i * step], or added to it.
__attribute__((noinline)) inline void store_more(float* out, std::uint32_t step, const float* y, const float* bias,
                                                 std::uint32_t bias_step, bool accumulate) {
  for (std::uint32_t i = 0; i < 4; ++i, out += step) {
    const float with_bias = bias ? y[i] + bias[i * bias_step] : y[i];
    *out = accumulate ? sum_of(*out, with_bias) : with_bias;
  }
}

}  // namespace heed::cortex_m
