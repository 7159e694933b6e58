// SPDX-License-Identifier: Apache-2.0
// prepared.hpp: where the prepared activations of cores with the DSP extension lie: for four columns x0..x3 the
// words X1 = (x1, x3) and X' = (256 x0 - x1, 256 x2 - x3). Of three vectors that are multiplied together, the three words
// X1 and the three words X' follow each other.
#pragma once
#include "runtime/kernels.hpp"

namespace heed::pair {

// Columns of a run whose sum times 256 is exact.
inline constexpr std::uint32_t kSegment = 512;
// Vectors that tile.hpp multiplies together.
inline constexpr std::uint32_t kTogether = 3;

// How many of the vectors, from the first on, lie in threes.
inline std::uint32_t count_together(const Activations& a) {
  return !kBuiltFeatures.speed || a.groups || a.cols > kSegment ? 0 : a.n - a.n % kTogether;
}

struct PreparedRow {
  std::uint32_t* words;
  std::uint32_t word_step;  // bytes from one word to the next
};

// A vector that lies alone.
inline PreparedRow single_row(const Activations& a, std::uint32_t index) {
  return {reinterpret_cast<std::uint32_t*>(a.values + std::size_t{index} * a.value_stride), 4};
}

inline PreparedRow prepared_row(const Activations& a, std::uint32_t index) {
  if (index >= count_together(a)) return single_row(a, index);
  const std::uint32_t place = index % kTogether;
  return {single_row(a, index - place).words + place, 4 * kTogether};
}

// Zeros from column `first`, rounded up to four, to where every layout's padding ends.
__attribute__((noinline)) inline void clear_from(const PreparedRow& row, std::uint32_t cols, std::uint32_t first) {
  const std::uint32_t step = kBuiltFeatures.speed ? row.word_step : 4;
  auto* at = reinterpret_cast<std::uint8_t*>(row.words) + round_up(first, 4) / 2 * step;
  for (const auto* const end = reinterpret_cast<std::uint8_t*>(row.words) + activation_cols(cols) / 2 * step; at != end; at += step)
    *reinterpret_cast<std::uint32_t*>(at) = 0;
}

}  // namespace heed::pair
