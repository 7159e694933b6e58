// SPDX-License-Identifier: Apache-2.0
// helium_products.hpp: integer dot products and matrix products for Helium (Cortex-M55). VMLADAVA multiplies sixteen
// pairs of int8 and adds them into one even-numbered register; weights lie in Layout::block64, so that a column block of
// x stays in Q0-Q3 while the rows stream by.
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

// The last column block of a product, to floats: no sum goes through memory again.
struct RowJob {
  const std::int8_t* w;             //  0
  const std::int8_t* x;             //  4
  std::int32_t* sums;               //  8 of the columns before
  const float* scales;              // 12
  float* dst;                       // 16
  std::uint32_t factor;             // 20 bits of the scale of x
  std::uint32_t quads;              // 24
  std::uint32_t power;              // 28 2^exponent of this group
  const std::uint8_t* multipliers;  // 32 of this group
  std::uint32_t step;               // 36 bytes from those of a quad of rows to those of the next
};

// Four rows of 16 * kSteps columns at a time. kGroup: dot products are multiplied first; kLoad: the sums of other columns are
// added; then sums come out (kStore) or floats, with kAdd added to dst.
template <int kSteps, bool kLoad, bool kGroup, bool kStore, bool kAdd>
__attribute__((noinline)) void multiply_rows(const RowJob& job) {
  register const RowJob* r7 __asm__("r7") = &job;
#define HEED_ROW(a)                              \
  "vldrb.u8 q4, [r3], #16\n\t"                   \
  ".if %c[steps] > 1\n\tvldrb.u8 q5, [r3], #16\n\t.endif\n\t" \
  ".if %c[sum]\n\tvmladava.s8 " a ", q0, q4\n\t.else\n\tvmladav.s8 " a ", q0, q4\n\t.endif\n\t" \
  ".if %c[steps] > 2\n\tvldrb.u8 q4, [r3], #16\n\t.endif\n\t" \
  ".if %c[steps] > 1\n\tvmladava.s8 " a ", q1, q5\n\t.endif\n\t" \
  ".if %c[steps] > 3\n\tvldrb.u8 q5, [r3], #16\n\t.endif\n\t" \
  ".if %c[steps] > 2\n\tvmladava.s8 " a ", q2, q4\n\t.endif\n\t" \
  ".if %c[steps] > 3\n\tvmladava.s8 " a ", q3, q5\n\t.endif\n\t"
#define HEED_QUAD \
  ".if %c[sum]\n\tldm r1!, {r0, r2, r4, r6}\n\t.endif\n\t" \
  HEED_ROW("r0") HEED_ROW("r2") HEED_ROW("r4") HEED_ROW("r6") \
  "vmov q4[2], q4[0], r0, r4\n\t" \
  ".if %c[group]\n\tvldrb.u32 q5, [r5]\n\t.endif\n\t" \
  "vmov q4[3], q4[1], r2, r6\n\t" \
  ".if %c[group]\n\t" \
  "vmul.i32 q5, q4, q5\n\t" \
  "add r5, r10\n\t" \
  ".if %c[load] == 0\n\tvmul.i32 q4, q5, r11\n\t" \
  ".else\n\t" \
  ".if %c[store]\n\tvldrw.u32 q4, [r1]\n\t.else\n\tvldrw.u32 q4, [r1], #16\n\t.endif\n\t" \
  "vmla.s32 q4, q5, r11\n\t.endif\n\t" \
  ".endif\n\t" \
  ".if %c[store]\n\tvstrw.32 q4, [r1], #16\n\t" \
  ".else\n\t" \
  "vldrw.u32 q6, [r7], #16\n\t" \
  "vcvt.f32.s32 q4, q4\n\t" \
  "vmul.f32 q6, q6, r9\n\t" \
  ".if %c[add]\n\tvldrw.u32 q5, [r8]\n\t.endif\n\t" \
  "vmul.f32 q4, q4, q6\n\t" \
  ".if %c[add]\n\tvadd.f32 q4, q5, q4\n\t.endif\n\t" \
  "vstrw.32 q4, [r8], #16\n\t" \
  ".endif\n\t"
  // Two quads of rows a round; of an odd number the first round does the second half alone.
  __asm__ volatile(
      "ldrd r3, r12, [r7]\n\t"
      "ldrd r8, r9, [r7, #16]\n\t"
      "ldrd lr, r11, [r7, #24]\n\t"
      ".if %c[group]\n\tldrd r5, r10, [r7, #32]\n\t.endif\n\t"
      "ldrd r1, r7, [r7, #8]\n\t"
      "vldrb.u8 q0, [r12], #16\n\t"
      ".if %c[steps] > 1\n\tvldrb.u8 q1, [r12], #16\n\t.endif\n\t"
      ".if %c[steps] > 2\n\tvldrb.u8 q2, [r12], #16\n\t.endif\n\t"
      ".if %c[steps] > 3\n\tvldrb.u8 q3, [r12], #16\n\t.endif\n\t"
      "add r12, lr, #1\n\t"
      "ands lr, #1\n\t"
      "lsr r12, r12, #1\n\t"
      "dls lr, r12\n\t"
      "bne 2f\n\t"
      "1:\n\t" HEED_QUAD
      "2:\n\t" HEED_QUAD
      "le lr, 1b"
      : "+r"(r7)
      : [steps] "i"(kSteps), [load] "i"(kLoad ? 1 : 0), [group] "i"(kGroup ? 1 : 0), [store] "i"(kStore ? 1 : 0),
        [add] "i"(kAdd ? 1 : 0), [sum] "i"(kLoad && !kGroup ? 1 : 0)
      : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "q0", "q1", "q2", "q3", "q4", "q5",
        "q6", "cc", "memory");
#undef HEED_QUAD
#undef HEED_ROW
}

// dst = (or +=) float(sum) * (row scale * x scale) of 4 * quads rows.
__attribute__((noinline)) inline void scale_sums(float* dst, const std::int32_t* sums, const float* scales,
                                                 const float* bias, float x_scale, std::uint32_t quads,
                                                 bool accumulate) {
  const std::uint32_t factor = bits_of(x_scale);
#define HEED_SCALE                  \
  "vldrw.u32 q0, [%[sums]], #16\n\t"   \
  "vldrw.u32 q1, [%[scales]], #16\n\t" \
  "vcvt.f32.s32 q0, q0\n\t"            \
  "vmul.f32 q1, q1, %[factor]\n\t"
  if (bias) {
    __asm__ volatile("dls lr, %[n]\n\t1:\n\t" HEED_SCALE
                     "vldrw.u32 q2, [%[bias]], #16\n\t"
                     "vmul.f32 q0, q0, q1\n\t"
                     "vmov.i32 q1, #0\n\t"
                     "vadd.f32 q0, q0, q2\n\t"
                     "cbz %[accumulate], 2f\n\t"
                     "vldrw.u32 q1, [%[dst]]\n\t"
                     "vadd.f32 q0, q1, q0\n\t"
                     "2:\n\t"
                     "vstrw.32 q0, [%[dst]], #16\n\t"
                     "le lr, 1b"
                     : [dst] "+r"(dst), [sums] "+r"(sums), [scales] "+r"(scales), [bias] "+r"(bias)
                     : [n] "r"(quads), [factor] "r"(factor), [accumulate] "l"(accumulate)
                     : "lr", "q0", "q1", "q2", "memory");
  } else if (accumulate) {
    __asm__ volatile("dls lr, %[n]\n\t1:\n\t" HEED_SCALE
                     "vldrw.u32 q2, [%[dst]]\n\t"
                     "vmul.f32 q0, q0, q1\n\t"
                     "vadd.f32 q0, q2, q0\n\t"
                     "vstrw.32 q0, [%[dst]], #16\n\t"
                     "le lr, 1b"
                     : [dst] "+r"(dst), [sums] "+r"(sums), [scales] "+r"(scales)
                     : [n] "r"(quads), [factor] "r"(factor)
                     : "lr", "q0", "q1", "q2", "memory");
  } else {
    __asm__ volatile("dls lr, %[n]\n\t1:\n\t" HEED_SCALE
                     "vmul.f32 q0, q0, q1\n\t"
                     "vstrw.32 q0, [%[dst]], #16\n\t"
                     "le lr, 1b"
                     : [dst] "+r"(dst), [sums] "+r"(sums), [scales] "+r"(scales)
                     : [n] "r"(quads), [factor] "r"(factor)
                     : "lr", "q0", "q1", "memory");
  }
#undef HEED_SCALE
}

// totals = (kFirst) or += sums * multiplier << exponent; the multipliers of a quad of rows lie `step` bytes apart.
template <bool kFirst>
__attribute__((noinline)) void add_group(std::int32_t* totals, const std::int32_t* sums,
                                                const std::uint8_t* multipliers, std::uint32_t step, int exponent,
                                                std::uint32_t quads) {
  __asm__ volatile(
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrb.u32 q1, [%[multipliers]]\n\t"
      "vldrw.u32 q0, [%[sums]], #16\n\t"
      "vshl.s32 q1, %[exponent]\n\t"
      ".if %c[first] == 0\n\tvldrw.u32 q2, [%[totals]]\n\t.endif\n\t"
      "vmul.i32 q0, q0, q1\n\t"
      "add %[multipliers], %[step]\n\t"
      ".if %c[first] == 0\n\tvadd.i32 q0, q0, q2\n\t.endif\n\t"
      "vstrw.32 q0, [%[totals]], #16\n\t"
      "le lr, 1b"
      : [totals] "+r"(totals), [sums] "+r"(sums), [multipliers] "+l"(multipliers)
      : [n] "r"(quads), [step] "r"(step), [exponent] "r"(exponent), [first] "i"(kFirst ? 1 : 0)
      : "lr", "q0", "q1", "q2", "memory");
}

// Sums of rows whose columns come in groups, up to kGroupedColsInS32 columns.
inline void sum_groups(std::int32_t* totals, const Activations& lhs, std::uint32_t token, const Tensor& rhs,
                       std::uint32_t row, const std::int8_t* x, std::uint32_t columns, std::uint32_t quads) {
  const std::uint32_t padded = padded_rows(Layout::block64, rhs.rows), groups = group_count(rhs.cols, rhs.group);
  const std::uint8_t* multipliers = rhs.multipliers + std::size_t{row} * groups;
  const std::uint8_t* exponents = lhs.exponents + std::size_t{token} * lhs.groups;
  std::int32_t sums[kRowsTogether];
  for (std::uint32_t first = 0; first < columns; first += rhs.group, multipliers += 4) {
    const std::uint32_t end = first + rhs.group < columns ? first + rhs.group : columns;
    for (std::uint32_t c = first; c < end; c += 64) {
      const std::uint32_t block = c & ~63u, width = columns - block < 64 ? columns - block : 64;
      const std::int8_t* const w = rhs.weights + std::size_t{block} * padded + std::size_t{row} * width + c % 64;
      if (c == first)
        begin_sums(sums, w, x + c, end - c < 64 ? end - c : 64, width, quads);
      else if (end - c >= 64)
        sum_rows<4, false, false>(sums, w, x + c, quads, 0);
      else  // the rest of a last, short group
        for (std::uint32_t at = c; at < end; at += 16)
          sum_rows<1, false, true>(sums, w + at - c, x + at, quads, width - 16);
    }
    (first == 0 ? add_group<true> : add_group<false>)(totals, sums, multipliers, 4 * groups, *exponents++, quads);
  }
}

// What cortex_m::matmul asks for when grouped sums need 64 bits.
struct WideCore {
  static constexpr std::uint32_t kSegment = kMaxCols, kElementBytes = 1;
  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return static_cast<float>(sum) * (row_scale * x_scale);
  }
  static void dot4(std::int32_t* sums, const Tensor& rhs, std::uint32_t row, std::uint32_t column, const std::int8_t* x,
                   std::uint32_t columns) {
    const std::uint32_t padded = padded_rows(Layout::block64, rhs.rows), all = padded_cols(Layout::block64, rhs.cols);
    for (int i = 0; i < 4; ++i) sums[i] = 0;
    for (std::uint32_t c = column; c < column + columns; c += 16) {
      const std::uint32_t block = c & ~63u, width = all - block < 64 ? all - block : 64;
      sum_rows<1, false, true>(sums, rhs.weights + std::size_t{block} * padded + std::size_t{row} * width + c % 64,
                               x + c - column, 1, width - 16);
    }
  }
};

using MultiplyRows = void (*)(const RowJob&);

// One token, groups of 64 columns of which there are several: each is one column block.
inline void multiply_groups(RowJob& job, const Activations& lhs, std::uint32_t token, const Tensor& rhs, std::uint32_t row,
                            std::uint32_t columns, bool accumulate) {
  const std::size_t padded = padded_rows(Layout::block64, rhs.rows);
  const std::int8_t* const x = lhs.values + std::size_t{token} * lhs.value_stride;
  const std::uint32_t last = lhs.groups - 1u, width = columns - 64 * last;
  const std::uint8_t* const exponents = lhs.exponents + std::size_t{token} * lhs.groups;
  const std::uint8_t* const multipliers = rhs.multipliers + std::size_t{row} * lhs.groups;
  static constexpr MultiplyRows kFirst[] = {
      multiply_rows<1, false, true, true, false>, multiply_rows<2, false, true, true, false>,
      multiply_rows<3, false, true, true, false>, multiply_rows<4, false, true, true, false>};
  job.step = 4 * lhs.groups;
  job.w = rhs.weights + 64 * last * padded + row * width;
  job.x = x + 64 * last;
  job.multipliers = multipliers + 4 * last;
  job.power = 1u << exponents[last];
  kFirst[width / 16 - 1](job);
  job.w = rhs.weights + 64 * row;
  job.x = x;
  job.multipliers = multipliers;
  job.power = 1u << exponents[0];
  for (std::uint32_t g = 1; g < last; ++g) {
    multiply_rows<4, true, true, true, false>(job);
    job.w += 64 * padded;
    job.x += 64;
    job.multipliers += 4;
    job.power = 1u << exponents[g];
  }
  (accumulate ? multiply_rows<4, true, true, false, true> : multiply_rows<4, true, true, false, false>)(job);
}

// Everything but one token with one scale per row and no bias.
__attribute__((noinline)) inline void matmul_general(float* dst, const Activations& lhs, const Tensor& rhs,
                                                     const MatmulRange& range) {
  const std::uint32_t columns = padded_cols(Layout::block64, rhs.cols), groups = group_count(rhs.cols, rhs.group);
  const std::uint32_t padded = padded_rows(Layout::block64, rhs.rows);
  if (kBuiltFeatures.groups && groups && columns > kGroupedColsInS32)
    return cortex_m::matmul<WideCore>(dst, lhs, rhs, range);
  std::int32_t sums[2 * kRowsTogether];
  for (std::uint32_t t = 0, tokens; t < range.n; t += tokens) {
    const std::int8_t* const x = lhs.values + std::size_t{t} * lhs.value_stride;
    tokens = groups == 0 && range.n - t >= 2 ? 2 : 1;
    const bool by_blocks = kBuiltFeatures.groups && rhs.group == 64 && groups > 1 && !rhs.bias;
    // Sums wait where their floats will stand, unless something is there.
    const bool in_place = !range.accumulate;
    const std::uint32_t together = in_place && (by_blocks || !groups) ? range.row_end : (3 - tokens) * kRowsTogether;
    for (std::uint32_t row = range.row_begin, n; row < range.row_end; row += n) {
      n = range.row_end - row < together ? range.row_end - row : together;
      float* const y = dst + std::size_t{t} * range.dst_stride + row;
      if (by_blocks) {
        RowJob job;
        job.sums = in_place ? reinterpret_cast<std::int32_t*>(y) : sums;
        job.scales = rhs.scales + row;
        job.dst = y;
        job.factor = bits_of(lhs.scales[t]);
        job.quads = n / 4;
        multiply_groups(job, lhs, t, rhs, row, columns, range.accumulate);
        continue;
      }
      std::int32_t* const at = in_place && !groups ? reinterpret_cast<std::int32_t*>(y) : sums;
      const std::uint32_t stride = in_place ? range.dst_stride : kRowsTogether;
      if (groups)
        sum_groups(sums, lhs, t, rhs, row, x, columns, n / 4);
      else if (tokens == 2)
        sum_matrix_pairs(at, stride, rhs.weights, padded, row, x, lhs.value_stride, columns, n / 4);
      else
        sum_matrix(at, rhs.weights, padded, row, x, columns, n / 4);
      for (std::uint32_t i = 0; i < tokens; ++i)
        scale_sums(y + std::size_t{i} * range.dst_stride, at + std::size_t{i} * stride, rhs.scales + row,
                   rhs.bias ? rhs.bias + row : nullptr, lhs.scales[t + i], n / 4, range.accumulate);
    }
  }
}

// One token, one scale per row, no bias, more than 64 columns.
__attribute__((noinline)) inline void multiply_wide(RowJob& job, const Activations& lhs, const Tensor& rhs, std::uint32_t row,
                                                    std::uint32_t columns, bool accumulate) {
  const std::size_t padded = padded_rows(Layout::block64, rhs.rows);
  const std::uint32_t last = (columns - 1) & ~63u, width = columns - last;
  // Sums wait where their floats will stand, unless something is there.
  std::int32_t waiting[2 * kRowsTogether];
  const std::uint32_t all = job.quads, together = accumulate ? kRowsTogether / 2 : all;
  for (std::uint32_t quad = 0; quad < all; quad += job.quads) {
    job.quads = all - quad < together ? all - quad : together;
    job.sums = accumulate ? waiting : reinterpret_cast<std::int32_t*>(job.dst);
    const std::int8_t* w = rhs.weights + last * padded + (row + 4 * quad) * width;
    begin_sums(job.sums, w, lhs.values + last, width, width, job.quads);
    w = rhs.weights + 64 * (row + 4 * quad);
    const std::int8_t* x = lhs.values;
    for (; x != lhs.values + last - 64; x += 64, w += 64 * padded) sum_rows<4, false, false>(job.sums, w, x, job.quads, 0);
    job.w = w;
    job.x = x;
    (accumulate ? multiply_rows<4, true, false, false, true> : multiply_rows<4, true, false, false, false>)(job);
    job.scales += 4 * job.quads;
    job.dst += 4 * job.quads;
  }
}

inline void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  if (range.n != 1 || rhs.group || rhs.bias || rhs.cols <= 48) return matmul_general(dst, lhs, rhs, range);
  const std::uint32_t row = range.row_begin;
  RowJob job;
  job.w = rhs.weights + 64 * row;
  job.x = lhs.values;
  job.scales = rhs.scales + row;
  job.dst = dst + row;
  job.factor = bits_of(lhs.scales[0]);
  job.quads = (range.row_end - row) / 4;
  if (rhs.cols > 64) return multiply_wide(job, lhs, rhs, row, padded_cols(Layout::block64, rhs.cols), range.accumulate);
  if (range.accumulate)
    multiply_rows<4, false, false, false, true>(job);
  else
    multiply_rows<4, false, false, false, false>(job);
}

}  // namespace heed::helium
