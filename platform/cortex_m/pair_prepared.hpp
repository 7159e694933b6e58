// SPDX-License-Identifier: Apache-2.0
// pair_prepared.hpp: where the prepared activations of cores with the DSP extension lie: for four columns x0..x3 the
// words X1 = (x1, x3) and X' = (256 x0 - x1, 256 x2 - x3).
#pragma once
#include "runtime/kernels.hpp"

namespace heed::pair {

struct PreparedRow {
  std::uint32_t* words;
  std::uint32_t word_step;  // bytes from one word to the next
};

inline PreparedRow prepared_row(const Activations& a, std::uint32_t index) {
  return {reinterpret_cast<std::uint32_t*>(a.values + std::size_t{index} * a.value_stride), 4};
}

// Zeros from column `first`, rounded up to four, to where every layout's padding ends.
__attribute__((noinline)) inline void clear_from(const PreparedRow& row, std::uint32_t cols, std::uint32_t first) {
  for (std::uint32_t word = round_up(first, 4) / 2; word < activation_cols(cols) / 2; ++word)
    row.words[word * row.word_step / 4] = 0;
}

}  // namespace heed::pair
