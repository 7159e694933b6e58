// SPDX-License-Identifier: Apache-2.0
// queries.hpp: attention of four queries together on ARMv6-M. Two queries share a word, x = xa + (xb << 16): of two
// products p = k0 x0 + k1 x1 the upper half is that of query b once the carry of the shift, bit 15, is added, and the
// sum of all p gives that of a. What belongs to one key lies together: score, then weight, of each query.
#pragma once
#include "runtime/kernels.hpp"

namespace heed::thumb1 {

// Columns that are packed together.
inline constexpr std::uint32_t kPackedColumns = 32;

// Per two columns the words of both columns for vectors 0 and 1, then for 2 and 3; zeros up to a multiple of eight.
__attribute__((noinline, optimize("O2"))) inline void pack_four(std::int32_t* to, const std::int8_t* x,
                                                                std::uint32_t stride, std::uint32_t columns) {
  const std::int8_t *a = x, *b = a + stride, *c = b + stride, *d = c + stride;
  std::int32_t* const end = to + 2 * columns;
  for (; to != end; to += 4, a += 2, b += 2, c += 2, d += 2) {
    to[0] = a[0] + b[0] * 65536;
    to[1] = a[1] + b[1] * 65536;
    to[2] = c[0] + d[0] * 65536;
    to[3] = c[1] + d[1] * 65536;
  }
  if (columns % 8)
    for (std::uint32_t i = 0; i < 8; ++i) end[i] = 0;
}

// sums[k][i] = dot of row k with vector i, for n rows `stride` apart, or is added to; `columns` is a multiple of four.
// What is read behind the columns meets zeros.
template <bool kAdd>
__attribute__((noinline)) void score_four(std::int32_t* scores, const std::int8_t* keys, std::uint32_t stride,
                                          const std::int32_t* x, std::uint32_t n, std::uint32_t columns) {
  columns = round_up(columns, 8);
  const std::uint32_t skip = stride - columns;
  register const std::int8_t* k __asm__("r5") = keys;
  register const std::int32_t* end __asm__("r10") = x + 2 * columns;
  register const std::int32_t* last __asm__("r11") = scores + 4 * n;
  register std::int32_t* to __asm__("r12") = scores;
  register const std::int32_t* start __asm__("lr") = x;
#define HEED_PAIR(sum) \
  "ldmia r0!, {r1, r2}\n\tmuls r1, r3\n\tmuls r2, r4\n\tadds r1, r1, r2\n\tadd " sum ", r1\n\tasrs r1, r1, #16\n\t"
#define HEED_TWO_COLUMNS(a, b)                                                                      \
  "ldrb r3, [r5, #" a "]\n\tsxtb r3, r3\n\tldrb r4, [r5, #" b "]\n\tsxtb r4, r4\n\t"                 \
  HEED_PAIR("r8") "adcs r6, r1\n\t" HEED_PAIR("r9") "adcs r7, r1\n\t"
  __asm__ volatile(
      ".syntax unified\n\t"
      "1:\n\t"
      "mov r0, lr\n\t"
      "movs r6, #0\n\tmovs r7, #0\n\tmov r8, r6\n\tmov r9, r6\n\t"
      "2:\n\t" HEED_TWO_COLUMNS("0", "1") HEED_TWO_COLUMNS("2", "3") HEED_TWO_COLUMNS("4", "5") HEED_TWO_COLUMNS("6", "7")
      "adds r5, #8\n\t"
      "cmp r0, r10\n\t"
      "bne 2b\n\t"
      "mov r1, r8\n\tlsls r2, r6, #16\n\tsubs r1, r1, r2\n\t"
      "mov r3, r9\n\tlsls r2, r7, #16\n\tsubs r3, r3, r2\n\t"
      "movs r2, r6\n\t"
      "mov r0, r12\n\t"
      ".if %c[add]\n\t"
      "ldr r4, [r0]\n\tadds r1, r1, r4\n\tldr r4, [r0, #4]\n\tadds r2, r2, r4\n\t"
      "ldr r4, [r0, #8]\n\tadds r3, r3, r4\n\tldr r4, [r0, #12]\n\tadds r7, r7, r4\n\t"
      ".endif\n\t"
      "stmia r0!, {r1, r2, r3, r7}\n\t"
      "mov r12, r0\n\t"
      "ldr r4, %[skip]\n\tadds r5, r5, r4\n\t"
      "cmp r0, r11\n\t"
      "bne 1b"
      : "+r"(k), "+r"(to)
      : "r"(end), "r"(last), "r"(start), [add] "i"(kAdd), [skip] "m"(skip)
      : "r0", "r1", "r2", "r3", "r4", "r6", "r7", "r8", "r9", "cc", "memory");
#undef HEED_TWO_COLUMNS
#undef HEED_PAIR
}

// The same for rows of any length: `packed` takes 2 * kPackedColumns words.
inline void dot_four(std::int32_t* sums, const std::int8_t* rows, std::uint32_t stride, const std::int8_t* x,
                     std::uint32_t x_stride, std::uint32_t n, std::uint32_t columns, std::int32_t* packed) {
  for (std::uint32_t c = 0, m; c < columns; c += m) {
    m = columns - c < kPackedColumns ? columns - c : kPackedColumns;
    pack_four(packed, x + c, x_stride, m);
    if (c == 0)
      score_four<false>(sums, rows, stride, packed, n, m);
    else
      score_four<true>(sums, rows + c, stride, packed, n, m);
  }
}

// sums[d][i] = weights of query i times row d of the values, n of each and a multiple of four, for `dims` rows.
__attribute__((noinline)) inline void weigh_four(std::int32_t* sums, const std::int32_t* weights,
                                                 const std::int8_t* values, std::uint32_t capacity, std::uint32_t n,
                                                 std::uint32_t dims) {
  const std::int32_t* const start = weights;
  const std::int32_t* const last = sums + 4 * dims;
  const std::uint32_t minus = 0u - n;
  register const std::int8_t* row_end __asm__("r6") = values + n;
  register std::uint32_t step __asm__("r12") = capacity;
  register std::int32_t* to __asm__("lr") = sums;
#define HEED_KEY                                                                            \
  "ldmia r0!, {r1-r4}\n\tldrsb r5, [r6, r7]\n\t"                                            \
  "muls r1, r5\n\tadd r8, r1\n\tmuls r2, r5\n\tadd r9, r2\n\t"                              \
  "muls r3, r5\n\tadd r10, r3\n\tmuls r4, r5\n\tadd r11, r4\n\tadds r7, #1\n\t"
  __asm__ volatile(
      ".syntax unified\n\t"
      "1:\n\t"
      "ldr r0, %[start]\n\t"
      "ldr r7, %[minus]\n\t"
      "movs r1, #0\n\tmov r8, r1\n\tmov r9, r1\n\tmov r10, r1\n\tmov r11, r1\n\t"
      "2:\n\t" HEED_KEY HEED_KEY HEED_KEY HEED_KEY
      "bne 2b\n\t"
      "mov r1, r8\n\tmov r2, r9\n\tmov r3, r10\n\tmov r4, r11\n\t"
      "mov r0, lr\n\tstmia r0!, {r1-r4}\n\tmov lr, r0\n\t"
      "add r6, r12\n\t"
      "ldr r1, %[last]\n\t"
      "cmp r0, r1\n\t"
      "bne 1b"
      : "+r"(row_end), "+r"(to)
      : "r"(step), [start] "m"(start), [last] "m"(last), [minus] "m"(minus)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r7", "r8", "r9", "r10", "r11", "cc", "memory");
#undef HEED_KEY
}

}  // namespace heed::thumb1
