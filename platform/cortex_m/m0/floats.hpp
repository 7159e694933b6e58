// SPDX-License-Identifier: Apache-2.0
// floats.hpp: floats taken apart by integers on ARMv6-M, because each call of the library's floats costs more than
// a hundred instructions. No branch depends on data but for special numbers.
#pragma once
#include "platform/portable/rows.hpp"

namespace heed::thumb1 {

// The upper 24 bits of the product of two mantissas of 24 bits, rounded to even, and its exponent, as a float. Operands
// are magnitudes of normal numbers whose product is normal.
__attribute__((noinline, optimize("O2"))) inline std::uint32_t multiply_magnitudes(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t exponent = (a >> 23) + (b >> 23) - 127;
  a = (a & 0x7FFFFFu) | 0x800000u;
  b = (b & 0x7FFFFFu) | 0x800000u;
  const std::uint32_t ah = a >> 12, al = a & 0xFFFu, bh = b >> 12, bl = b & 0xFFFu;
  const std::uint32_t middle = ah * bl + al * bh;
  const std::uint32_t low = al * bl + (middle << 20 >> 8);
  std::uint32_t high = ah * bh + (middle >> 12) + (low >> 24);  // in 2^22 .. 2^24
  std::uint32_t behind = low << 8;
  // At 2^23 and above the product has one bit more in front.
  const std::uint32_t small = (high >> 23) ^ 1u;
  const std::uint32_t more = behind >> 31 & small;
  high = (high << small) + more;
  behind <<= small;
  high += behind + (high & 1u) > 0x80000000u;
  return high + ((exponent - small) << 23);
}

// float(sum) * (row_scale * x_scale) for row_scale > 0 and x_scale >= 0.
__attribute__((noinline, optimize("O2"))) inline float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
  const std::uint32_t sign = static_cast<std::uint32_t>(sum) & 0x80000000u;
  if (sum == 0 || bits_of(x_scale) == 0) return float_of(sign);
  const std::uint32_t scale = multiply_magnitudes(bits_of(row_scale), bits_of(x_scale));
  std::uint32_t m = static_cast<std::uint32_t>(magnitude(sum)), exponent = 158;
  if (!(m >> 16)) m <<= 16, exponent -= 16;
  if (!(m >> 24)) m <<= 8, exponent -= 8;
  if (!(m >> 28)) m <<= 4, exponent -= 4;
  if (!(m >> 30)) m <<= 2, exponent -= 2;
  if (!(m >> 31)) m <<= 1, exponent -= 1;
  const std::uint32_t behind = (m << 24) + (m >> 8 & 1u);
  const std::uint32_t x = (m >> 8) + (behind > 0x80000000u) + ((exponent - 1) << 23);
  return float_of(multiply_magnitudes(x, scale) | sign);
}

// The upper 24 bits of the product of two mantissas of 24 bits, rounded to even: of a1:a0 in r2, r1 and b1:b0 in r4, r5 by
// 12 bits each, to r3. r7 becomes less by one where the product has one bit less in front.
#define HEED_MANTISSAS \
  "movs r3, r2\n\tmuls r3, r4\n\tmuls r2, r5\n\tmuls r4, r1\n\tmuls r1, r5\n\tadds r2, r2, r4\n\t" \
  "lsrs r4, r2, #12\n\tadds r3, r3, r4\n\tlsls r2, r2, #20\n\tlsrs r2, r2, #8\n\tadds r1, r1, r2\n\t" \
  "lsrs r2, r1, #24\n\tadds r3, r3, r2\n\tlsls r1, r1, #8\n\t" \
  "lsrs r2, r3, #23\n\tmovs r4, #1\n\teors r2, r4\n\tlsrs r5, r1, #31\n\tands r5, r2\n\t" \
  "lsls r3, r2\n\tadds r3, r3, r5\n\tlsls r1, r2\n\tsubs r7, r7, r2\n\t" \
  "movs r4, #0\n\tmvns r4, r4\n\tlsrs r4, r4, #1\n\tlsrs r2, r3, #1\n\tadcs r1, r4\n\tmovs r2, #0\n\tadcs r3, r2\n\t"
// Shifts r6 by n to the left and takes n from r7 if it is below 2^bits; four instructions in either case.
#define HEED_NORMALIZE(bits, n, to, over) \
  "lsrs r0, r6, #" bits "\n\tbeq " to "f\n\tnop\n\tb " over "f\n\t" to ":\n\tlsls r6, r6, #" n "\n\tsubs r7, #" n "\n\t" over ":\n\t"

// out[i] = float(sums[i]) * (row_scales[i] * x_scale) for |sums[i]| < 2^24, which are exact as floats; n sums, `step`
// bytes apart.
__attribute__((noinline)) inline void store_rows(float* to, const std::int32_t* from, std::uint32_t step,
                                                 const float* row_scales, float x_scale, std::uint32_t n) {
  const float* const end = row_scales + n;
  const std::uint32_t bits = bits_of(x_scale);  // a call between two registers of the assembly would lose the first
  register float* out __asm__("r8") = to;
  register const std::int32_t* sums __asm__("r9") = from;
  register const float* scales __asm__("r10") = row_scales;
  register std::uint32_t upper __asm__("r11") = (bits << 9 >> 21) + 0x800u;
  register std::uint32_t lower __asm__("r12") = bits << 20 >> 20;
  register std::uint32_t exponent __asm__("lr") = (bits >> 23) - 103u;
  __asm__ volatile(
      ".syntax unified\n\t"
      "1:\n\t"
      "mov r0, r10\n\tldmia r0!, {r1}\n\tmov r10, r0\n\t"
      "lsrs r7, r1, #23\n\tadd r7, lr\n\t"
      "lsls r1, r1, #9\n\tlsrs r2, r1, #21\n\tmovs r3, #8\n\tlsls r3, r3, #8\n\tadds r2, r2, r3\n\t"
      "lsls r1, r1, #11\n\tlsrs r1, r1, #20\n\t"
      "mov r4, r11\n\tmov r5, r12\n\t" HEED_MANTISSAS
      "mov r0, r9\n\tldr r6, [r0]\n\tldr r5, %[step]\n\tadd r9, r5\n\t"
      "asrs r5, r6, #31\n\teors r6, r5\n\tsubs r6, r6, r5\n\t"
      "lsrs r5, r5, #31\n\tlsls r5, r5, #8\n\tadds r7, r7, r5\n\t"  // the sign above the exponent
      HEED_NORMALIZE("8", "16", "2", "3") HEED_NORMALIZE("16", "8", "2", "3") HEED_NORMALIZE("20", "4", "2", "3")
      HEED_NORMALIZE("22", "2", "2", "3") HEED_NORMALIZE("23", "1", "2", "3")
      "lsrs r2, r6, #12\n\tlsls r1, r6, #20\n\tlsrs r1, r1, #20\n\t"
      "lsrs r4, r3, #12\n\tlsls r5, r3, #20\n\tlsrs r5, r5, #20\n\t" HEED_MANTISSAS
      "cmp r3, #0\n\tbeq 4f\n\t"
      "lsls r7, r7, #23\n\tadds r3, r3, r7\n\t"
      "4:\n\t"
      "mov r0, r8\n\tstmia r0!, {r3}\n\tmov r8, r0\n\t"
      "ldr r0, %[end]\n\tcmp r0, r10\n\t"
      "beq 5f\n\t"
      "b 1b\n\t"
      "5:"
      : "+r"(out), "+r"(sums), "+r"(scales)
      : "r"(upper), "r"(lower), "r"(exponent), [step] "m"(step), [end] "m"(end)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "cc", "memory");
}

// to[i] = x[i] * factor for factor > 0. The sign of x travels above its exponent.
__attribute__((noinline)) inline void multiply_sums(float* to, const float* x, float factor, std::uint32_t n) {
  const std::uint32_t bits = bits_of(factor);
  register const float* from __asm__("r0") = x;
  register float* out __asm__("r6") = to;
  register std::uint32_t upper __asm__("r8") = (bits << 9 >> 21) + 0x800u;
  register std::uint32_t lower __asm__("r9") = bits << 20 >> 20;
  register std::uint32_t exponent __asm__("r10") = (bits >> 23) - 127u;
  register const float* end __asm__("r11") = to + n;
  register std::uint32_t one __asm__("r12") = 0x800u;
  __asm__ volatile(
      ".syntax unified\n\t"
      "1:\n\t"
      "ldmia r0!, {r1}\n\t"
      "mov lr, r1\n\t"
      "lsrs r7, r1, #23\n\tadd r7, r10\n\t"
      "lsls r1, r1, #9\n\tlsrs r2, r1, #21\n\tadd r2, r12\n\t"
      "lsls r1, r1, #11\n\tlsrs r1, r1, #20\n\t"
      "mov r4, r8\n\tmov r5, r9\n\t" HEED_MANTISSAS
      "lsls r7, r7, #23\n\tadds r3, r3, r7\n\t"
      "mov r1, lr\n\tsubs r1, r1, #1\n\tsbcs r1, r1\n\tbics r3, r1\n\t"  // of zero
      "stmia r6!, {r3}\n\t"
      "cmp r6, r11\n\t"
      "bne 1b"
      : "+r"(from), "+r"(out)
      : "r"(upper), "r"(lower), "r"(exponent), "r"(end), "r"(one)
      : "r1", "r2", "r3", "r4", "r5", "r7", "lr", "cc", "memory");
}

// to[i] = snap(float(sums[i]) * 2^power); the sums are kStep apart.
template <int kStep>
__attribute__((noinline)) void first_sums(float* to, const std::int32_t* sums, std::uint32_t n, std::int32_t power) {
  register const std::int32_t* from __asm__("r1") = sums;
  register float* out __asm__("r2") = to;
  register std::int32_t base __asm__("r8") = 157 + power;
  register const float* end __asm__("r9") = to + n;
  register std::uint32_t half __asm__("r10") = 0x7FFFFFFFu;
  register std::uint32_t smallest __asm__("r11") = 0x2B800000u;  // 2^-40
  __asm__ volatile(
      ".syntax unified\n\t"
      "1:\n\t"
      ".if %c[step] == 4\n\tldmia r1!, {r6}\n\t.else\n\tldr r6, [r1]\n\tadds r1, #%c[step]\n\t.endif\n\t"
      "asrs r5, r6, #31\n\teors r6, r5\n\tsubs r6, r6, r5\n\t"
      "mov r7, r8\n\t"
      "subs r3, r6, #1\n\tsbcs r3, r3\n\t"
      HEED_NORMALIZE("16", "16", "2", "3") HEED_NORMALIZE("24", "8", "2", "3") HEED_NORMALIZE("28", "4", "2", "3")
      HEED_NORMALIZE("30", "2", "2", "3") HEED_NORMALIZE("31", "1", "2", "3")
      "bics r7, r3\n\t"  // of zero
      "lsls r7, r7, #23\n\t"
      "lsls r4, r6, #24\n\tlsrs r6, r6, #8\n\tmov r3, r10\n\tlsrs r0, r6, #1\n\tadcs r4, r3\n\tadcs r6, r7\n\t"
      "lsls r5, r5, #31\n\t"
      "cmp r6, r11\n\tsbcs r3, r3\n\tbics r6, r3\n\tbics r5, r3\n\torrs r6, r5\n\t"
      "stmia r2!, {r6}\n\t"
      "cmp r2, r9\n\t"
      "bne 1b"
      : "+r"(from), "+r"(out)
      : "r"(base), "r"(end), "r"(half), "r"(smallest), [step] "i"(4 * kStep)
      : "r0", "r3", "r4", "r5", "r6", "r7", "cc", "memory");
}
#undef HEED_NORMALIZE
#undef HEED_MANTISSAS

}  // namespace heed::thumb1
