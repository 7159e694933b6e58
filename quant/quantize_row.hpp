// SPDX-License-Identifier: Apache-2.0
// quantize_row.hpp: one row of floats to int8.
#pragma once
#include <cstdint>
#include <vector>

#include "quant/pack.hpp"

namespace heed::quant {

// Sums of squares of an error and of what it is an error of.
struct SquaredError {
  double error = 0.0, reference = 0.0;
  double relative() const;
  SquaredError& operator+=(const SquaredError& b) {
    error += b.error;
    reference += b.reference;
    return *this;
  }
};

// Quantises rows of one width and keeps what it needs between them; one for each thread. Precondition: finite numbers.
class RowQuantizer {
 public:
  RowQuantizer(std::uint32_t cols, std::uint32_t group) : group_(group), gained_(cols) {}

  // `weights` [cols] times `gain` [cols] (null = 1). Scale: max / 127; with groups max / 127 / 15, and each group takes the
  // smallest multiplier that holds its largest weight. A row without a weight above 127 * 2^-40 counts as zero and gets
  // scale 1. Results: q [cols], multipliers [group_count(cols, group)], the scale.
  float quantize(std::int8_t* q, std::uint8_t* multipliers, const float* weights, const float* gain);
  // Of the last row: how far q is from the gained weights.
  SquaredError error(const std::int8_t* q, const std::uint8_t* multipliers, float scale) const;

 private:
  std::uint32_t group_;
  std::vector<double> gained_;
};

}  // namespace heed::quant
