// SPDX-License-Identifier: Apache-2.0
// rows.hpp: floats of a vector to s16 and int8 on ARMv6-M, taken apart by integers, because each call of the library's
// floats costs more than a hundred instructions. No branch depends on data but for special numbers.
#pragma once
#include "platform/portable/rows.hpp"

namespace heed::thumb1 {

// s16 of n floats (SPEC.md 2.2), n not 0: the mantissa's upper bits, rounded to even by what is shifted out.
__attribute__((noinline)) inline void convert(std::int16_t* dst, const float* src, std::uint32_t n, const BlockFloat& b) {
  if (b.exponent > 40) {  // what is 2^40 or more saturates
    for (std::uint32_t i = 0; i < n; ++i) dst[i] = static_cast<std::int16_t>(to_s16(src[i], b.to_s16_scale));
    return;
  }
  register const float* x __asm__("r0") = src;
  register std::int16_t* to __asm__("r1") = dst;
  register std::uint32_t one __asm__("r2") = 0x80000000u;
  register std::int32_t shift __asm__("r8") = b.exponent + 143;
  register std::uint32_t half __asm__("r9") = 0x80000001u;
  register const float* end __asm__("r12") = src + n;
  __asm__ volatile(
      ".syntax unified\n\t"
      "1:\n\t"
      "ldmia r0!, {r3}\n\t"
      "lsls r4, r3, #1\n\t"
      "lsrs r4, r4, #24\n\t"
      "lsls r5, r3, #8\n\t"
      "orrs r5, r2\n\t"
      "mov r6, r8\n\t"
      "subs r4, r6, r4\n\t"  // 17 at least; more than 32 and, of a NaN, more than 128 leave nothing
      "movs r6, #32\n\t"
      "subs r6, r6, r4\n\t"
      "movs r7, r5\n\t"
      "lsrs r7, r4\n\t"
      "lsls r5, r6\n\t"
      "movs r6, #1\n\t"
      "ands r6, r7\n\t"
      "adds r5, r5, r6\n\t"
      "cmp r5, r9\n\t"
      "movs r6, #0\n\t"
      "adcs r7, r6\n\t"
      "lsrs r6, r7, #15\n\t"
      "subs r7, r7, r6\n\t"
      "asrs r3, r3, #31\n\t"
      "eors r7, r3\n\t"
      "subs r7, r7, r3\n\t"
      "strh r7, [r1]\n\t"
      "adds r1, #2\n\t"
      "cmp r0, r12\n\t"
      "bne 1b"
      : "+r"(x), "+r"(to)
      : "r"(one), "r"(shift), "r"(half), "r"(end)
      : "r3", "r4", "r5", "r6", "r7", "cc", "memory");
}

// int8 values of n s16 values (SPEC.md 2.3); returns the sum of the squares.
__attribute__((noinline, optimize("O2"))) inline std::int32_t finish(std::int8_t* dst, const std::int16_t* src,
                                                                     std::uint32_t n, std::int32_t reciprocal,
                                                                     int shift) {
  std::int32_t squares = 0;
  const std::int32_t half = 1 << (shift - 1);
  for (const std::int16_t* const end = src + n; src != end; ++src, ++dst) {
    const std::int32_t q = (*src * reciprocal + half) >> shift;
    *dst = static_cast<std::int8_t>(q);
    squares += q * q;
  }
  return squares;
}

// The magnitude bits of the largest |x|; NaN counts as 0.
__attribute__((noinline, optimize("O2"))) inline std::uint32_t max_bits(const float* x, std::uint32_t n) {
  std::uint32_t max = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t u = bits_of(x[i]) << 1;
    max = u > max ? u : max;
  }
  if (max <= 0xFF000000u) return max >> 1;
  return portable::max_magnitude_bits(x, n);
}

}  // namespace heed::thumb1
