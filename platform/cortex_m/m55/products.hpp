// SPDX-License-Identifier: Apache-2.0
// products.hpp: matrix products for Helium: the integer sums of sums.hpp and what turns them into floats.
#pragma once
#include "platform/cortex_m/m55/pairs.hpp"

namespace heed::helium {

// Rows whose sums wait together where their floats cannot stand yet.
constexpr std::uint32_t kRowsTogether = 128;

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
}

// The same of 64 columns, with everything in registers from the start: what a token of a narrow model mostly is.
template <bool kAdd>
__attribute__((always_inline)) inline void multiply_64(float* dst, const std::int8_t* w, const std::int8_t* x,
                                                       const float* scales, std::uint32_t x_scale, std::uint32_t quads) {
  register float* to __asm__("r8") = dst;
  register const std::int8_t* rows __asm__("r3") = w;
  register const float* row_scales __asm__("r7") = scales;
  register std::uint32_t factor __asm__("r9") = x_scale;
  register std::uint32_t n __asm__("lr") = quads;
  __asm__ volatile(
      "vldrb.u8 q0, [%[x]]\n\t"
      "vldrb.u8 q1, [%[x], #16]\n\t"
      "vldrb.u8 q2, [%[x], #32]\n\t"
      "vldrb.u8 q3, [%[x], #48]\n\t"
      "add r0, lr, #1\n\t"
      "ands lr, #1\n\t"
      "lsr r0, r0, #1\n\t"
      "dls lr, r0\n\t"
      "bne 2f\n\t"
      "1:\n\t" HEED_QUAD
      "2:\n\t" HEED_QUAD
      "le lr, 1b"
      : "+r"(to), "+r"(rows), "+r"(row_scales), "+r"(n)
      : "r"(factor), [x] "r"(x), [steps] "i"(4), [load] "i"(0), [group] "i"(0), [store] "i"(0), [add] "i"(kAdd ? 1 : 0),
        [sum] "i"(0)
      : "r0", "r2", "r4", "r6", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "cc", "memory");
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

// Sums of up to kRowsTogether rows whose columns come in groups, up to kGroupedColsInS32 columns.
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
  alignas(8) std::int32_t sums[2 * kRowsTogether];
  const bool by_blocks = kBuiltFeatures.groups && rhs.group == 64 && groups > 1 && !rhs.bias;
  // Sums wait where their floats will stand, unless something is there.
  const bool in_place = !range.accumulate;
  for (std::uint32_t t = 0, tokens; t < range.n; t += tokens) {
    const std::int8_t* const x = lhs.values + std::size_t{t} * lhs.value_stride;
    tokens = groups == 0 && range.n - t >= 2 ? 2 : 1;
    const bool whole = (in_place && (by_blocks || !groups)) || (tokens == 2 && !rhs.bias);
    const std::uint32_t waiting = groups && !by_blocks ? kRowsTogether : (3 - tokens) * kRowsTogether;
    const std::uint32_t together = whole ? range.row_end : waiting;
    for (std::uint32_t row = range.row_begin, n; row < range.row_end; row += n) {
      n = range.row_end - row < together ? range.row_end - row : together;
      float* const y = dst + std::size_t{t} * range.dst_stride + row;
      if (tokens == 2) {
        if (!kBuiltFeatures.biases || !rhs.bias) {
          multiply_two(y, range.dst_stride, lhs, t, rhs, row, columns, n / 4, range.accumulate);
          continue;
        }
        const std::uint32_t stride = in_place ? range.dst_stride : kRowsTogether;
        auto* const products = in_place ? y : reinterpret_cast<float*>(sums);
        multiply_two(products, stride, lhs, t, rhs, row, columns, n / 4, false);
        add_bias(y, products, rhs.bias + row, n / 4, range.accumulate);
        add_bias(y + range.dst_stride, products + stride, rhs.bias + row, n / 4, range.accumulate);
        continue;
      }
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
      if (groups)
        sum_groups(sums, lhs, t, rhs, row, x, columns, n / 4);
      else
        sum_matrix(at, rhs.weights, padded, row, x, columns, n / 4);
      scale_sums(y, at, rhs.scales + row, rhs.bias ? rhs.bias + row : nullptr, lhs.scales[t], n / 4, range.accumulate);
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
  const bool plain = range.n == 1 && !(kBuiltFeatures.groups && rhs.group) && !(kBuiltFeatures.biases && rhs.bias);
  if (!plain || rhs.cols <= 48) return matmul_general(dst, lhs, rhs, range);
  const std::uint32_t row = range.row_begin, quads = (range.row_end - row) / 4;
  const std::int8_t* const w = rhs.weights + 64 * row;
  if (rhs.cols <= 64) {
    const float* const scales = rhs.scales + row;
    const std::uint32_t x_scale = bits_of(lhs.scales[0]);
    return range.accumulate ? multiply_64<true>(dst + row, w, lhs.values, scales, x_scale, quads)
                            : multiply_64<false>(dst + row, w, lhs.values, scales, x_scale, quads);
  }
  RowJob job;
  job.scales = rhs.scales + row;
  job.dst = dst + row;
  job.factor = bits_of(lhs.scales[0]);
  job.quads = quads;
  multiply_wide(job, lhs, rhs, row, padded_cols(Layout::block64, rhs.cols), range.accumulate);
}

}  // namespace heed::helium
