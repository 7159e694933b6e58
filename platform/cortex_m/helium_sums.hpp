// SPDX-License-Identifier: Apache-2.0
// helium_sums.hpp: integer dot products for Helium (Cortex-M55). VMLADAVA multiplies sixteen pairs of int8 and adds them
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

// Two tokens at once: eight sums in the eight even registers, so that each load of weights is used twice.
struct PairJob {
  const std::int8_t* last_w;     //  0 the last, possibly narrow column block; both pointers to weights stand at 120
  const std::int8_t* w;          //  4 column block 0
  const std::int8_t* last_x[2];  //  8 of both tokens
  const std::int8_t* x[2];       // 16
  const std::int8_t* end;        // 24 of the whole blocks of the first token
  std::uint32_t step;            // 28 bytes from column block to column block
  std::int32_t* sums;            // 32 of the first token
  std::int32_t* sums_end;        // 36
  std::uint32_t behind;          // 40 bytes from the first token's sums to the second's, less 16
  const void* entry;             // 44 where the whole blocks begin: none, an even or an odd number of them
};
constexpr std::uint32_t kRowsTogether = 128;

template <int kSteps>
__attribute__((noinline)) void sum_pairs(PairJob& job) {
  register PairJob* r7 __asm__("r7") = &job;
#define HEED_ROW(base, a, b, k, row, bytes, acc)                            \
  "vldrb.u8 q2, [" base ", #" #row " * " bytes " + " #k " * 16 - 120]\n\t"       \
  "vmladav" acc ".s8 " a ", q0, q2\n\tvmladav" acc ".s8 " b ", q1, q2\n\t"
#define HEED_STEP(base, k, bytes, acc)                                          \
  "vldrb.u8 q0, [r3], #16\n\tvldrb.u8 q1, [r5], #16\n\t"                   \
  HEED_ROW(base, "r0", "r8", k, 0, bytes, acc) HEED_ROW(base, "r2", "r10", k, 1, bytes, acc) \
  HEED_ROW(base, "r4", "r12", k, 2, bytes, acc) HEED_ROW(base, "r6", "lr", k, 3, bytes, acc)
#define HEED_BLOCK                                                          \
  HEED_STEP("r9", 0, "64", "a") HEED_STEP("r9", 1, "64", "a") HEED_STEP("r9", 2, "64", "a") HEED_STEP("r9", 3, "64", "a")
  __asm__ volatile(
      "ldr r3, [r7, #16]\n\t"
      "ldr r9, [r7, #24]\n\t"
      "subs r9, r3\n\t"
      "adr.w r1, 3f\n\t"
      "beq 4f\n\t"
      "adr.w r1, 2f\n\t"
      "tst r9, #64\n\t"
      "beq 4f\n\t"
      "adr.w r1, 5f\n\t"
      "4:\n\t"
      "orr r1, #1\n\t"
      "str r1, [r7, #44]\n\t"
      "1:\n\t"  // four rows
      "ldrd r1, r9, [r7]\n\t"
      "ldrd r3, r5, [r7, #8]\n\t"
      HEED_STEP("r1", 0, "(%c[steps] * 16)", "")
      ".if %c[steps] > 1\n\t" HEED_STEP("r1", 1, "(%c[steps] * 16)", "a") ".endif\n\t"
      ".if %c[steps] > 2\n\t" HEED_STEP("r1", 2, "(%c[steps] * 16)", "a") ".endif\n\t"
      ".if %c[steps] > 3\n\t" HEED_STEP("r1", 3, "(%c[steps] * 16)", "a") ".endif\n\t"
      "add r3, r1, %c[steps] * 64\n\t"
      "add r5, r9, #256\n\t"
      "strd r3, r5, [r7]\n\t"
      "ldrd r3, r5, [r7, #16]\n\t"
      "ldrd r1, r11, [r7, #24]\n\t"
      "ldr pc, [r7, #44]\n\t"
      ".balign 4\n\t"
      "2:\n\t" HEED_BLOCK
      "add.w r9, r9, r11\n\t"
      "5:\n\t" HEED_BLOCK
      "add.w r9, r9, r11\n\t"
      "cmp.w r3, r1\n\t"
      "bne.w 2b\n\t"
      "3:\n\t"
      "ldrd r1, r9, [r7, #32]\n\t"
      "ldr r5, [r7, #40]\n\t"
      "stm r1!, {r0, r2, r4, r6}\n\t"
      "add r3, r1, r5\n\t"
      "stm r3, {r8, r10, r12, lr}\n\t"
      "str r1, [r7, #32]\n\t"
      "cmp r1, r9\n\t"
      "bne.w 1b"
      : "+r"(r7)
      : [steps] "i"(kSteps)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "q0", "q1", "q2", "cc", "memory");
#undef HEED_BLOCK
#undef HEED_STEP
#undef HEED_ROW
}

// Sums of 4 * quads rows for two tokens whose activations lie `x_stride` bytes apart, and their sums `stride` numbers.
inline void sum_matrix_pairs(std::int32_t* sums, std::uint32_t stride, const std::int8_t* weights, std::uint32_t padded,
                             std::uint32_t row, const std::int8_t* x, std::uint32_t x_stride, std::uint32_t columns,
                             std::uint32_t quads) {
  const std::uint32_t last = (columns - 1) & ~63u, width = columns - last;
  PairJob job{weights + std::size_t{last} * padded + row * width + 120,
              weights + std::size_t{row} * 64 + 120,
              {x + last, x + last + x_stride},
              {x, x + x_stride},
              x + last,
              64 * padded,
              sums,
              sums + 4 * quads,
              4 * stride - 16,
              nullptr};
  static constexpr void (*kSums[])(PairJob&) = {sum_pairs<1>, sum_pairs<2>, sum_pairs<3>, sum_pairs<4>};
  kSums[width / 16 - 1](job);
}

}  // namespace heed::helium
