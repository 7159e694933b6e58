// SPDX-License-Identifier: Apache-2.0
// products.hpp: the loops of ARMv6-M (Cortex-M0), which computes in eight registers only: dot products of four rows that
// share each activation, softmax, and floats taken apart by integers, because each call of the library's floats costs
// more than a hundred instructions. No branch depends on data but for special numbers. GCC still has the assembler's old
// syntax here, hence the first line of each loop.
#pragma once
#include "platform/portable/exp2.hpp"
#include "platform/portable/rows.hpp"

namespace heed::thumb1 {

// sums[i] = dot of row i, `stride` bytes apart, with x of int8 (kBytes 1) or s16 (kBytes 2); columns is a multiple of 4.
// All addresses are base plus one negative index, which reaches 0; where x has two bytes, its base moves as well.
template <int kBytes>
__attribute__((noinline)) void dot4(std::int32_t* sums, const std::int8_t* rows, std::uint32_t row_stride, const void* x,
                                    std::uint32_t columns) {
  register std::int32_t* to __asm__("r0") = sums;
  register const std::int8_t* w __asm__("r1") = rows;
  register std::uint32_t stride __asm__("r2") = row_stride;
  register const void* vector __asm__("r3") = x;
  register std::uint32_t n __asm__("r4") = columns;
#define HEED_ROW(w, a) "ldrsb r2, [" w ", r4]\n\tmuls r2, r0\n\tadd " a ", r2\n\t"
#define HEED_COLUMN                                                                                     \
  ".if %c[bytes] == 1\n\tldrsb r0, [r3, r4]\n\t.else\n\tldrsh r0, [r3, r4]\n\tadds r3, #1\n\t.endif\n\t" \
  HEED_ROW("r1", "r8") HEED_ROW("r5", "r9") HEED_ROW("r6", "r10") HEED_ROW("r7", "r11")                   \
  "adds r4, #1\n\t"
  __asm__ volatile(
      ".syntax unified\n\t"
      "mov r12, r0\n\t"
      "adds r3, r3, r4\n\t"
      "adds r1, r1, r4\n\t"
      "adds r5, r1, r2\n\t"
      "adds r6, r5, r2\n\t"
      "adds r7, r6, r2\n\t"
      "rsbs r4, r4, #0\n\t"
      "movs r0, #0\n\t"
      "mov r8, r0\n\tmov r9, r0\n\tmov r10, r0\n\tmov r11, r0\n\t"
      "1:\n\t" HEED_COLUMN HEED_COLUMN HEED_COLUMN HEED_COLUMN
      "bne 1b\n\t"
      "mov r0, r12\n\t"
      "mov r1, r8\n\tmov r2, r9\n\tmov r3, r10\n\tmov r4, r11\n\t"
      "stmia r0!, {r1-r4}"
      : "+r"(to), "+r"(w), "+r"(stride), "+r"(vector), "+r"(n)
      : [bytes] "i"(kBytes)
      : "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "cc", "memory");
}

// The same of int8 rows that follow each other without a gap, n of them in fours.
__attribute__((noinline)) inline void dot_rows(std::int32_t* sums, const std::int8_t* rows, std::uint32_t columns,
                                               const void* x, std::uint32_t n) {
  register std::int32_t* to __asm__("r0") = sums;
  register const std::int8_t* w __asm__("r1") = rows;
  register std::uint32_t stride __asm__("r2") = columns;
  register const void* vector __asm__("r3") = x;
  register const std::int32_t* end __asm__("r4") = sums + n;
  __asm__ volatile(
      ".syntax unified\n\t"
      "mov r12, r0\n\t"
      "mov lr, r4\n\t"
      "adds r3, r3, r2\n\t"
      "movs r7, r1\n\t"
      "movs r4, r2\n\t"
      "1:\n\t"  // r7 is the end of what is done
      "adds r1, r7, r4\n\t"
      "adds r5, r1, r4\n\t"
      "adds r6, r5, r4\n\t"
      "adds r7, r6, r4\n\t"
      "rsbs r4, r4, #0\n\t"
      "movs r0, #0\n\t"
      "mov r8, r0\n\tmov r9, r0\n\tmov r10, r0\n\tmov r11, r0\n\t"
      "2:\n\t" HEED_COLUMN HEED_COLUMN HEED_COLUMN HEED_COLUMN
      "bne 2b\n\t"
      "mov r0, r12\n\t"
      "mov r2, r8\n\tstmia r0!, {r2}\n\tmov r2, r9\n\tstmia r0!, {r2}\n\t"
      "mov r2, r10\n\tstmia r0!, {r2}\n\tmov r2, r11\n\tstmia r0!, {r2}\n\t"
      "mov r12, r0\n\t"
      "subs r4, r5, r1\n\t"
      "cmp r0, lr\n\t"
      "bne 1b"
      : "+r"(to), "+r"(w), "+r"(stride), "+r"(vector), "+r"(end)
      : [bytes] "i"(1)
      : "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
#undef HEED_COLUMN
#undef HEED_ROW
}

// Four keys a round, which the first round enters in the middle: addresses begin as many keys before the first one. Shifts take
// their count modulo 256, so that exponents need no sign.
struct Softmax {
  // Brings the dot products in `scores`, kStep apart, to the block's exponent; returns the largest.
  template <int kStep = 1>
  __attribute__((noinline)) static std::int32_t scale_scores(std::int32_t* scores, const KvBlock& block,
                                                             std::uint32_t visible) {
    const std::uint32_t skipped = (0u - visible) % 4;
    register std::int32_t* s __asm__("r0") = scores - skipped * kStep;
    register const std::uint8_t* mantissas __asm__("r1") = block.key_mantissas - skipped;
    register const std::int8_t* exponents __asm__("r2") = block.key_exponents - skipped;
    register std::int32_t exponent __asm__("r3") = block.key_exponent_maxima[visible - 1];
    register std::int32_t max __asm__("r4") = -(1 << 30);  // no score is smaller
    register const std::int32_t* end __asm__("r12") = scores + visible * kStep;
    register std::uint32_t entry __asm__("r7") = skipped * 22;
#define HEED_KEY(i) \
        "ldr r5, [r0, #" i " * %c[step]]\n\t" \
        "ldrb r6, [r1, #" i "]\n\t" \
        "muls r5, r6\n\t" \
        "ldrb r6, [r2, #" i "]\n\t" \
        "subs r6, r3, r6\n\t" \
        "asrs r5, r6\n\t" \
        "subs r6, r5, r4\n\t" \
        "asrs r7, r6, #31\n\t" \
        "bics r6, r7\n\t" \
        "adds r4, r4, r6\n\t" \
        "str r5, [r0, #" i " * %c[step]]\n\t"
    __asm__ volatile(
        ".syntax unified\n\t"
        "add pc, r7\n\t"
        "nop\n\t"
        "1:\n\t" HEED_KEY("0") HEED_KEY("1") HEED_KEY("2") HEED_KEY("3")
        "adds r0, #4 * %c[step]\n\tadds r1, #4\n\tadds r2, #4\n\t"
        "cmp r0, r12\n\t"
        "bne 1b"
        : "+r"(s), "+r"(mantissas), "+r"(exponents), "+r"(max), "+r"(entry)
        : "r"(exponent), "r"(end), [step] "i"(4 * kStep)
        : "r5", "r6", "cc", "memory");
#undef HEED_KEY
    return max;
  }

  // As Armv7Softmax::weigh_keys. A distance of more than 15 bits has the weight 0, since a mantissa is at least 2^14;
  // where it is 0, all scores are equal, and a shift by 32 makes all distances 0.
  template <int kStep = 0>
  __attribute__((noinline)) static std::uint32_t weigh_keys(std::int16_t* folded, std::int32_t* scores,
                                                            std::int32_t max, const portable::ScoreScale& scale,
                                                            const std::int8_t* value_exponents,
                                                            std::int32_t value_exponent, std::uint32_t visible) {
    const std::uint32_t skipped = (0u - visible) % 4;
    register std::int16_t* f __asm__("r0") = kStep ? nullptr : folded - skipped;  // or a zero
    register std::int32_t* u __asm__("r1") = scores - skipped * (kStep ? kStep : 1);
    register const std::int8_t* x __asm__("r2") = value_exponents - skipped;
    register std::int32_t mantissa __asm__("r3") = scale.mantissa;
    register const std::uint16_t* exp2 __asm__("r4") = portable::kExp2.values;
    register std::int32_t ve __asm__("r7") = value_exponent;
    register std::int32_t top __asm__("r8") = max;
    register std::int32_t shift __asm__("r9") = scale.mantissa ? scale.shift : 32;
    register std::int32_t start __asm__("r10") = (scale.start << 15) + (1 << 14);
    register std::uint32_t sum __asm__("r12") = 0;
    register const std::int8_t* end __asm__("lr") = value_exponents + visible;
    register std::uint32_t entry __asm__("r5") = skipped * (kStep ? 46 : 48);
#define HEED_KEY(i) \
        ".if %c[step]\n\tldr r5, [r1, #" i " * %c[step]]\n\t.else\n\tldr r5, [r1, #" i " * 4]\n\t.endif\n\t" \
        "mov r6, r8\n\t" \
        "subs r5, r6, r5\n\t" \
        "mov r6, r9\n\t" \
        "lsrs r5, r6\n\t" \
        "lsrs r6, r5, #15\n\t" \
        "rsbs r6, r6, #0\n\t" \
        "sbcs r6, r6\n\t" \
        "muls r5, r3\n\t" \
        "add r5, r10\n\t" \
        "orrs r5, r6\n\t" \
        "lsls r6, r5, #7\n\t" \
        "lsrs r6, r6, #24\n\t" \
        "lsls r6, r6, #1\n\t" \
        "ldrh r6, [r4, r6]\n\t" \
        "lsrs r5, r5, #25\n\t" \
        "lsrs r6, r5\n\t" \
        ".if %c[step]\n\tadcs r6, r0\n\t.else\n\tmovs r5, #0\n\tadcs r6, r5\n\t.endif\n\t" \
        "add r12, r6\n\t" \
        "ldrb r5, [r2, #" i "]\n\t" \
        "subs r5, r7, r5\n\t" \
        "lsrs r6, r5\n\t" \
        ".if %c[step]\n\tstr r6, [r1, #" i " * %c[step]]\n\t.else\n\tstrh r6, [r0, #" i " * 2]\n\t.endif\n\t"
    __asm__ volatile(
        ".syntax unified\n\t"
        "add pc, r5\n\t"
        "nop\n\t"
        "1:\n\t" HEED_KEY("0") HEED_KEY("1") HEED_KEY("2") HEED_KEY("3")
        ".if %c[step]\n\tadds r1, #4 * %c[step]\n\t.else\n\tadds r1, #16\n\tadds r0, #8\n\t.endif\n\t"
        "adds r2, #4\n\t"
        "cmp r2, lr\n\t"
        "bne 1b"
        : "+r"(f), "+r"(u), "+r"(x), "+r"(sum), "+r"(entry)
        : "r"(mantissa), "r"(exp2), "r"(top), "r"(shift), "r"(start), "r"(ve), "r"(end), [step] "i"(4 * kStep)
        : "r6", "cc", "memory");
#undef HEED_KEY
    return sum;
  }
};

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
