// SPDX-License-Identifier: Apache-2.0
// matmul.hpp: products of four weight rows at a time for cores without vector registers. `Core::dot4` does the inner loop.
#pragma once
#include "runtime/kernels.hpp"

namespace heed::cortex_m {

// The float of |sum| < 2^38, rounded once: both halves are exact.
inline float float_of_wide(std::int64_t sum) {
  return static_cast<float>(static_cast<std::int32_t>(sum >> 16)) * 65536.0f +
         static_cast<float>(static_cast<std::int32_t>(sum & 0xFFFF));
}

// Core::kSegment columns at most fit one call of Core::dot4(sums, rhs, row, column, x, columns), which sets four exact
// dot products. `x` is the vector prepared by the table, Core::kElementBytes per activation.
template <class Core>
void matmul(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  const std::uint32_t cols = padded_cols(rhs.layout, rhs.cols);
  const std::uint32_t groups = group_count(rhs.cols, rhs.group);
  const std::uint32_t segment = groups ? rhs.group : Core::kSegment;
  const bool wide = groups && cols > kGroupedColsInS32;
  for (std::uint32_t t = 0; t < range.n; ++t) {
    const std::int8_t* x = lhs.values + std::size_t{t} * lhs.value_stride;
    float* out = dst + std::size_t{t} * range.dst_stride;
    for (std::uint32_t row = range.row_begin; row < range.row_end; row += 4) {
      const std::uint8_t* multiplier = groups ? rhs.multipliers + std::size_t{row} * groups : nullptr;
      const std::uint8_t* exponent = lhs.exponents + std::size_t{t} * lhs.groups;
      std::int32_t acc[4] = {};
      std::int64_t total[4] = {};
      for (std::uint32_t c = 0; c < cols; c += segment) {
        std::int32_t sums[4];
        Core::dot4(sums, rhs, row, c, x + c * Core::kElementBytes, cols - c < segment ? cols - c : segment);
        const int shift = groups ? *exponent++ : 0;
        for (int i = 0; i < 4; ++i) acc[i] += groups ? sums[i] * (*multiplier++ << shift) : sums[i];
        if (wide && ((c + segment) % kGroupedColsInS32 == 0 || c + segment >= cols))
          for (int i = 0; i < 4; ++i) total[i] += acc[i], acc[i] = 0;
      }
      for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint32_t r = row + i;
        const float scale = rhs.scales[r] * lhs.scales[t];
        float y = (wide ? float_of_wide(total[i]) : static_cast<float>(acc[i])) * scale;
        if (rhs.bias) y += rhs.bias[r];
        out[r] = range.accumulate ? out[r] + y : y;
      }
    }
  }
}

}  // namespace heed::cortex_m
