// SPDX-License-Identifier: Apache-2.0
// floats.hpp: floats of attention's sums by integers on ARMv7-M without an FPU (SPEC.md 2.8). No branch depends on
// data. Neither infinities and NaN nor denormal numbers come in or out; zero may.
#pragma once
#include "runtime/numerics.hpp"

namespace heed::cortex_m {

// x = m * 2^e rounded to a float without its sign, from m with the highest bit set (or 0 and an exponent that makes the
// result small): 24 bits stay, and the carry rounds, at a half to even. `e` is the exponent field less one.
#define HEED_FLOAT_OF(m, e)               \
  "lsl %[low], " m ", #24\n\t"            \
  "lsr " m ", " m ", #8\n\t"              \
  "lsrs %[t], " m ", #1\n\t"              \
  "sbcs %[low], %[low], #0x80000000\n\t"  \
  "adc " m ", " m ", " e ", lsl #23\n\t"
// Magnitudes below 2^-40 become +0, others get the sign of `s`.
#define HEED_SNAP(m, s)                   \
  "and " s ", " s ", #0x80000000\n\t"     \
  "cmp " m ", #0x2B800000\n\t"            \
  "ite lo\n\t"                            \
  "movlo " m ", #0\n\t"                   \
  "orrhs " m ", " m ", " s "\n\t"

// to[i] = snap(float(sums[i]) * 2^power); the sums are kStep apart. Two a round; an odd first one enters in the middle.
template <int kStep>
__attribute__((noinline)) void first_sums(float* to, const std::int32_t* sums, std::uint32_t n, std::int32_t power) {
  const float* const end = to + n;
  std::int32_t sum, m = static_cast<std::int32_t>(n), e, t, low;
#define HEED_SUM \
      "ldr %[sum], [%[sums]], %[step]\n\t" \
      "eor %[m], %[sum], %[sum], asr #31\n\t" \
      "sub %[m], %[m], %[sum], asr #31\n\t" \
      "clz %[t], %[m]\n\t" \
      "sub %[e], %[base], %[t]\n\t" \
      "lsls %[m], %[m], %[t]\n\t" \
      "it eq\n\t" \
      "moveq %[e], #0\n\t" HEED_FLOAT_OF("%[m]", "%[e]") HEED_SNAP("%[m]", "%[sum]") \
      "str %[m], [%[to]], #4\n\t"
  __asm__ volatile(
      "tst %[m], #1\n\tbne 2f\n\t"
      "1:\n\t" HEED_SUM "2:\n\t" HEED_SUM
      "cmp %[to], %[end]\n\t"
      "bne 1b"
      : [to] "+&r"(to), [sums] "+&r"(sums), [sum] "=&r"(sum), [m] "+&r"(m), [e] "=&r"(e), [t] "=&r"(t), [low] "=&r"(low)
      : [base] "r"(157 + power), [end] "r"(end), [step] "i"(4 * kStep)
      : "cc", "memory");
#undef HEED_SUM
}

// to[i] = snap(to[i] * 2^keep + float(sums[i]) * 2^power). `keep` and `power` may be kNothing. Both summands become integers of 24 bits with 5 bits behind them under
// the larger exponent; what the smaller one loses stays as its last bit.
template <int kStep>
__attribute__((noinline)) void more_sums(float* to, const std::int32_t* sums, std::uint32_t n, std::int32_t keep,
                                         std::int32_t power) {
  const float* const end = to + n;
  std::int32_t sum, x, m, xe, ye, t, low;
  __asm__ volatile(
      "1:\n\t"
      "ldr %[sum], [%[sums]], %[step]\n\t"
      "ldr %[x], [%[to]]\n\t"
      "eor %[m], %[sum], %[sum], asr #31\n\t"
      "sub %[m], %[m], %[sum], asr #31\n\t"
      "clz %[t], %[m]\n\t"
      "sub %[ye], %[base], %[t]\n\t"
      "lsls %[m], %[m], %[t]\n\t"
      "it eq\n\t"
      "moveq %[ye], #-256\n\t"
      "lsl %[low], %[m], #24\n\t"
      "lsr %[m], %[m], #8\n\t"
      "lsrs %[t], %[m], #1\n\t"
      "sbcs %[low], %[low], #0x80000000\n\t"
      "adc %[m], %[m], #0\n\t"
      "asr %[sum], %[sum], #31\n\t"
      "eor %[m], %[sum], %[m], lsl #5\n\t"
      "sub %[m], %[m], %[sum]\n\t"
      "ubfx %[xe], %[x], #23, #8\n\t"
      "add %[xe], %[xe], %[keep]\n\t"
      "lsl %[t], %[x], #8\n\t"
      "orr %[t], %[t], #0x80000000\n\t"
      "asr %[x], %[x], #31\n\t"
      "eor %[t], %[x], %[t], lsr #3\n\t"
      "sub %[x], %[t], %[x]\n\t"
      "subs %[t], %[xe], %[ye]\n\t"
      "itttt mi\n\t"
      "movmi %[sum], %[x]\n\t"
      "movmi %[x], %[m]\n\t"
      "movmi %[m], %[sum]\n\t"
      "movmi %[xe], %[ye]\n\t"
      "it mi\n\t"
      "rsbmi %[t], %[t], #0\n\t"
      "usat %[t], #7, %[t]\n\t"
      "rsb %[low], %[t], #32\n\t"  // a shift by 32 and more leaves nothing
      "lsls %[low], %[m], %[low]\n\t"
      "asr %[m], %[m], %[t]\n\t"
      "it ne\n\t"
      "orrne %[m], %[m], #1\n\t"
      "add %[x], %[x], %[m]\n\t"
      "eor %[m], %[x], %[x], asr #31\n\t"
      "sub %[m], %[m], %[x], asr #31\n\t"
      "clz %[t], %[m]\n\t"
      "sub %[xe], %[xe], %[t]\n\t"
      "lsls %[m], %[m], %[t]\n\t"
      "it eq\n\t"
      "moveq %[xe], #0\n\t"
      "usat %[xe], #8, %[xe]\n\t" HEED_FLOAT_OF("%[m]", "%[xe]") HEED_SNAP("%[m]", "%[x]")
      "str %[m], [%[to]], #4\n\t"
      "cmp %[to], %[end]\n\t"
      "bne 1b"
      : [to] "+&r"(to), [sums] "+&r"(sums), [sum] "=&r"(sum), [x] "=&r"(x), [m] "=&r"(m), [xe] "=&r"(xe),
        [ye] "=&r"(ye), [t] "=&r"(t), [low] "=&r"(low)
      : [base] "r"(158 + 2 + power), [keep] "r"(2 + keep), [end] "r"(end), [step] "i"(4 * kStep)
      : "cc", "memory");
}
#undef HEED_SNAP
#undef HEED_FLOAT_OF

// to[i] = x[i] * factor for factor > 0. The sign of x travels above its exponent. Two a round, like first_sums.
__attribute__((noinline)) inline void multiply_sums(float* to, const float* x, float factor, std::uint32_t n) {
  const float* const end = to + n;
  const std::uint32_t f = bits_of(factor);
  std::uint32_t u = n, e, low, high, t;
#define HEED_PRODUCT \
      "ldr %[u], [%[x]], #4\n\t" \
      "lsl %[low], %[u], #8\n\t" \
      "orr %[low], %[low], #0x80000000\n\t" \
      "add %[e], %[fe], %[u], lsr #23\n\t" \
      "umull %[low], %[high], %[low], %[f]\n\t" \
      "lsrs %[t], %[high], #24\n\t" \
      "itt ne\n\t" \
      "lsrsne.w %[high], %[high], #1\n\t" \
      "rrxne %[low], %[low]\n\t" \
      "add %[e], %[e], %[t]\n\t" \
      "lsrs %[t], %[high], #1\n\t" \
      "sbcs %[low], %[low], #0x80000000\n\t" \
      "adc %[high], %[high], %[e], lsl #23\n\t" \
      "cmp %[u], #0\n\t" \
      "it eq\n\t" \
      "moveq %[high], #0\n\t" \
      "str %[high], [%[to]], #4\n\t"
  __asm__ volatile(
      "tst %[u], #1\n\tbne 2f\n\t"
      "1:\n\t" HEED_PRODUCT "2:\n\t" HEED_PRODUCT
      "cmp %[to], %[end]\n\t"
      "bne 1b"
      : [to] "+&r"(to), [x] "+&r"(x), [u] "+&r"(u), [e] "=&r"(e), [low] "=&r"(low), [high] "=&r"(high), [t] "=&r"(t)
      : [f] "r"(f << 9 >> 8 | 0x01000000u), [fe] "r"((f >> 23) - 128u), [end] "r"(end)
      : "cc", "memory");
#undef HEED_PRODUCT
}

// 1 / x for x > 0: 2^47 / mantissa, eight bits a step; no quotient lies halfway between two floats.
inline float inverse_of(float x) {
  const std::uint32_t u = bits_of(x), m = (u & 0x7FFFFFu) | 0x800000u;
  std::uint32_t rest = 0x800000u, q = 0;
  for (int step = 0; step < 3; ++step) {
    const std::uint32_t digit = (rest << 8) / m;
    rest = (rest << 8) - digit * m;
    q = q << 8 | digit;
  }
  q += 2 * rest > m;
  return float_of(q + ((252u - (u >> 23)) << 23));
}

}  // namespace heed::cortex_m
