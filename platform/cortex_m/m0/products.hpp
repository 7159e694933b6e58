// SPDX-License-Identifier: Apache-2.0
// products.hpp: dot products of four rows that share each activation on ARMv6-M (Cortex-M0), which computes in eight
// registers only. GCC still has the assembler's old syntax for this core, hence the first line of each loop.
#pragma once
#include "runtime/kernels.hpp"

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

}  // namespace heed::thumb1
