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
  __asm__ volatile(
      "vldrb.u8 q0, [r5], #16\n\t"
      ".if %c[steps] > 1\n\tvldrb.u8 q1, [r5], #16\n\t.endif\n\t"
      ".if %c[steps] > 2\n\tvldrb.u8 q2, [r5], #16\n\t.endif\n\t"
      ".if %c[steps] > 3\n\tvldrb.u8 q3, [r5], #16\n\t.endif\n\t"
      "dls lr, lr\n\t"
      "1:\n\t"
      ".if %c[first] == 0\n\tldm r1, {r0, r2, r4, r6}\n\t.endif\n\t"
      HEED_ROW("r0") HEED_ROW("r2") HEED_ROW("r4") HEED_ROW("r6")
      "stm r1!, {r0, r2, r4, r6}\n\t"
      "le lr, 1b"
      : "+r"(to), "+r"(w), "+r"(vector), "+r"(n)
      : "r"(skip), [steps] "i"(kSteps), [first] "i"(kFirst ? 1 : 0), [gaps] "i"(kGaps ? 1 : 0)
      : "r0", "r2", "r4", "r6", "q0", "q1", "q2", "q3", "q4", "q5", "memory");
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

// totals += sums * multiplier << exponent; the multipliers of a quad of rows lie `step` bytes apart.
__attribute__((noinline)) inline void add_group(std::int32_t* totals, const std::int32_t* sums,
                                                const std::uint8_t* multipliers, std::uint32_t step, int exponent,
                                                std::uint32_t quads) {
  __asm__ volatile(
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrb.u32 q1, [%[multipliers]]\n\t"
      "vldrw.u32 q0, [%[sums]], #16\n\t"
      "vshl.s32 q1, %[exponent]\n\t"
      "vldrw.u32 q2, [%[totals]]\n\t"
      "vmul.i32 q0, q0, q1\n\t"
      "add %[multipliers], %[step]\n\t"
      "vadd.i32 q0, q0, q2\n\t"
      "vstrw.32 q0, [%[totals]], #16\n\t"
      "le lr, 1b"
      : [totals] "+r"(totals), [sums] "+r"(sums), [multipliers] "+l"(multipliers)
      : [n] "r"(quads), [step] "r"(step), [exponent] "r"(exponent)
      : "lr", "q0", "q1", "q2", "memory");
}

constexpr std::uint32_t kRowsTogether = 128;

// Sums of rows whose columns come in groups, up to kGroupedColsInS32 columns.
inline void sum_groups(std::int32_t* totals, const Activations& lhs, std::uint32_t token, const Tensor& rhs,
                       std::uint32_t row, const std::int8_t* x, std::uint32_t columns, std::uint32_t quads) {
  const std::uint32_t padded = padded_rows(Layout::block64, rhs.rows), groups = group_count(rhs.cols, rhs.group);
  const std::uint8_t* multipliers = rhs.multipliers + std::size_t{row} * groups;
  const std::uint8_t* exponents = lhs.exponents + std::size_t{token} * lhs.groups;
  std::int32_t sums[kRowsTogether];
  for (std::uint32_t i = 0; i < 4 * quads; ++i) totals[i] = 0;
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
    add_group(totals, sums, multipliers, 4 * groups, *exponents++, quads);
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

inline void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  const std::uint32_t columns = padded_cols(Layout::block64, rhs.cols), groups = group_count(rhs.cols, rhs.group);
  const std::uint32_t padded = padded_rows(Layout::block64, rhs.rows);
  if (kBuiltFeatures.groups && groups && columns > kGroupedColsInS32)
    return cortex_m::matmul<WideCore>(dst, lhs, rhs, range);
  std::int32_t sums[kRowsTogether];
  for (std::uint32_t t = 0; t < range.n; ++t) {
    const std::int8_t* const x = lhs.values + std::size_t{t} * lhs.value_stride;
    for (std::uint32_t row = range.row_begin, n; row < range.row_end; row += n) {
      n = range.row_end - row < kRowsTogether ? range.row_end - row : kRowsTogether;
      if (groups)
        sum_groups(sums, lhs, t, rhs, row, x, columns, n / 4);
      else
        sum_matrix(sums, rhs.weights, padded, row, x, columns, n / 4);
      scale_sums(dst + std::size_t{t} * range.dst_stride + row, sums, rhs.scales + row,
                 rhs.bias ? rhs.bias + row : nullptr, lhs.scales[t], n / 4, range.accumulate);
    }
  }
}

}  // namespace heed::helium
