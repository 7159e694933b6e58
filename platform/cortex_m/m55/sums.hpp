// SPDX-License-Identifier: Apache-2.0
// sums.hpp: integer dot products for Helium (Cortex-M55). VMLADAVA multiplies sixteen pairs of int8 and adds them
// into one even-numbered register; weights lie in Layout::block64, so that a column block of x stays in Q0-Q3 while the rows
// stream by.
#pragma once
#include "platform/cortex_m/matmul.hpp"
#include "runtime/numerics.hpp"

namespace heed::helium {

// sums[r] = (or with kFirst false +=) dot of x[16 * kSteps] with row r of 4 * quads rows, which lie behind each other,
// `gap` bytes between them if kGaps. Two instructions per sixteen products.
template <int kSteps, bool kFirst, bool kGaps>
__attribute__((noinline)) void sum_rows(std::int32_t* sums, const std::int8_t* rows, const std::int8_t* x,
                                        std::uint32_t quads, std::uint32_t gap) {
  register std::int32_t* to __asm__("r1") = sums;
  register const std::int8_t* w __asm__("r3") = rows;
  register const std::int8_t* vector __asm__("r5") = x;
  register std::uint32_t n __asm__("lr") = quads;
  register std::uint32_t skip __asm__("r7") = gap;
#define HEED_ROW(a)                              \
  "vldrb.u8 q4, [r3], #16\n\t"                   \
  ".if %c[steps] > 1\n\tvldrb.u8 q5, [r3], #16\n\t.endif\n\t" \
  ".if %c[first]\n\tvmladav.s8 " a ", q0, q4\n\t.else\n\tvmladava.s8 " a ", q0, q4\n\t.endif\n\t" \
  ".if %c[steps] > 2\n\tvldrb.u8 q4, [r3], #16\n\t.endif\n\t" \
  ".if %c[steps] > 1\n\tvmladava.s8 " a ", q1, q5\n\t.endif\n\t" \
  ".if %c[steps] > 3\n\tvldrb.u8 q5, [r3], #16\n\t.endif\n\t" \
  ".if %c[steps] > 2\n\tvmladava.s8 " a ", q2, q4\n\t.endif\n\t" \
  ".if %c[steps] > 3\n\tvmladava.s8 " a ", q3, q5\n\t.endif\n\t" \
  ".if %c[gaps]\n\tadd r3, r7\n\t.endif\n\t"
#define HEED_QUAD                                                              \
  ".if %c[first] == 0\n\tldm r1, {r0, r2, r4, r6}\n\t.endif\n\t"             \
  HEED_ROW("r0") HEED_ROW("r2") HEED_ROW("r4") HEED_ROW("r6")                  \
  "stm r1!, {r0, r2, r4, r6}\n\t"
  // Two quads of rows a round; of an odd number the first round does the second half alone.
  __asm__ volatile(
      "vldrb.u8 q0, [r5], #16\n\t"
      ".if %c[steps] > 1\n\tvldrb.u8 q1, [r5], #16\n\t.endif\n\t"
      ".if %c[steps] > 2\n\tvldrb.u8 q2, [r5], #16\n\t.endif\n\t"
      ".if %c[steps] > 3\n\tvldrb.u8 q3, [r5], #16\n\t.endif\n\t"
      "add r0, lr, #1\n\t"
      "ands lr, #1\n\t"
      "lsr r0, r0, #1\n\t"
      "dls lr, r0\n\t"
      "bne 2f\n\t"
      "1:\n\t" HEED_QUAD
      "2:\n\t" HEED_QUAD
      "le lr, 1b"
      : "+r"(to), "+r"(w), "+r"(vector), "+r"(n)
      : "r"(skip), [steps] "i"(kSteps), [first] "i"(kFirst ? 1 : 0), [gaps] "i"(kGaps ? 1 : 0)
      : "r0", "r2", "r4", "r6", "q0", "q1", "q2", "q3", "q4", "q5", "cc", "memory");
#undef HEED_QUAD
#undef HEED_ROW
}

// The same for 16, 32, 48 or 64 columns of rows that lie `stride` bytes apart; the first columns of a sum.
inline void begin_sums(std::int32_t* sums, const std::int8_t* rows, const std::int8_t* x, std::uint32_t columns,
                       std::uint32_t stride, std::uint32_t quads) {
  using Sum = void (*)(std::int32_t*, const std::int8_t*, const std::int8_t*, std::uint32_t, std::uint32_t);
  static constexpr Sum kSums[2][4] = {
      {sum_rows<1, true, false>, sum_rows<2, true, false>, sum_rows<3, true, false>, sum_rows<4, true, false>},
      {sum_rows<1, true, true>, sum_rows<2, true, true>, sum_rows<3, true, true>, sum_rows<4, true, true>}};
  kSums[stride != columns][columns / 16 - 1](sums, rows, x, quads, stride - columns);
}

// All columns of 4 * quads rows of a matrix with `padded` rows; weights of row 0 at column 0.
inline void sum_matrix(std::int32_t* sums, const std::int8_t* weights, std::uint32_t padded, std::uint32_t row,
                       const std::int8_t* x, std::uint32_t columns, std::uint32_t quads) {
  const std::uint32_t last = (columns - 1) & ~63u, width = columns - last;
  begin_sums(sums, weights + std::size_t{last} * padded + row * width, x + last, width, width, quads);
  for (std::uint32_t c = 0; c < last; c += 64)
    sum_rows<4, false, false>(sums, weights + std::size_t{c} * padded + row * 64, x + c, quads, 0);
}

}  // namespace heed::helium
