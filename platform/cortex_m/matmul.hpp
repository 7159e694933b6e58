// SPDX-License-Identifier: Apache-2.0
// matmul.hpp: products of four weight rows at a time for cores without vector registers; Core::dot4 is the inner loop.
#pragma once
#include "runtime/kernels.hpp"
#include "runtime/numerics.hpp"

namespace heed::cortex_m {

// The float of |sum| < 2^38, rounded once: both halves are exact.
inline float float_of_wide(std::int64_t sum) {
  return static_cast<float>(static_cast<std::int32_t>(sum >> 16)) * 65536.0f +
         static_cast<float>(static_cast<std::int32_t>(sum & 0xFFFF));
}

// Whether a vector's scale is 0, because it is all zeros or smaller than scales go (activation_scale): its products are
// zeros with the signs of the sums, which only Core::scaled_sum knows.
inline bool has_zero_scale(const Activations& lhs, std::uint32_t n) {
  for (const float *scale = lhs.scales, *const end = scale + n; scale != end; ++scale)
    if (bits_of(*scale) == 0) return true;
  return false;
}

// Four rows of a product whose segments (groups, or runs of Core::kSegment columns) are weighed and added in integers.
template <class Core>
__attribute__((noinline)) void add_segments(std::int32_t* acc, std::int64_t* total, const Activations& lhs,
                                            std::uint32_t token, const Tensor& rhs, std::uint32_t row) {
  const std::uint32_t cols = padded_cols(rhs.layout, rhs.cols), groups = group_count(rhs.cols, rhs.group);
  const std::uint32_t segment = groups ? rhs.group : Core::kSegment;
  const std::int8_t* const x = lhs.values + std::size_t{token} * lhs.value_stride;
  const std::uint8_t* multiplier = groups ? rhs.multipliers + std::size_t{row} * groups : nullptr;
  const std::uint8_t* exponent = lhs.exponents + std::size_t{token} * lhs.groups;
  const bool wide = groups && cols > kGroupedColsInS32;
  for (int i = 0; i < 4; ++i) acc[i] = 0, total[i] = 0;
  for (std::uint32_t c = 0; c < cols; c += segment) {
    std::int32_t sums[4];
    Core::dot4(sums, rhs, row, c, x + c * Core::kElementBytes, cols - c < segment ? cols - c : segment);
    const int shift = groups ? *exponent++ : 0;
    const bool flush = wide && ((c + segment) % kGroupedColsInS32 == 0 || c + segment >= cols);
    for (int i = 0; i < 4; ++i) {
      acc[i] += groups ? sums[i] * (*multiplier++ << shift) : sums[i];
      if (flush) total[i] += acc[i], acc[i] = 0;
    }
  }
}

// Core::dot4(sums, rhs, row, column, x, columns) sets four exact dot products of at most Core::kSegment columns; `x` is
// the vector prepared by the table, Core::kElementBytes per activation. Core::scaled_sum(sum, row_scale, x_scale) is
// float(sum) * (row_scale * x_scale).
template <class Core>
void matmul(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  const std::uint32_t cols = padded_cols(rhs.layout, rhs.cols);
  const bool grouped = group_count(rhs.cols, rhs.group) != 0, wide = grouped && cols > kGroupedColsInS32;
  for (std::uint32_t t = 0; t < range.n; ++t) {
    const float x_scale = lhs.scales[t];
    float* out = dst + std::size_t{t} * range.dst_stride + range.row_begin;
    for (std::uint32_t row = range.row_begin; row < range.row_end; row += 4) {
      std::int32_t acc[4];
      std::int64_t total[4];
      if (grouped || cols > Core::kSegment)
        add_segments<Core>(acc, total, lhs, t, rhs, row);
      else
        Core::dot4(acc, rhs, row, 0, lhs.values + std::size_t{t} * lhs.value_stride, cols);
      for (std::uint32_t i = 0; i < 4; ++i, ++out) {
        const float scale = rhs.scales[row + i];
        float y = wide ? float_of_wide(total[i]) * (scale * x_scale)
                       : Core::scaled_sum(acc[i], scale, x_scale);
        if (rhs.bias) y += rhs.bias[row + i];
        *out = range.accumulate ? *out + y : y;
      }
    }
  }
}

}  // namespace heed::cortex_m
