// SPDX-License-Identifier: Apache-2.0
// folding.hpp: norms whose gains and biases become a part of the matrices behind them.
#pragma once
#include "quant/source.hpp"

namespace heed::quant {

// The bias bits of the matrices behind a norm, which a folded norm bias becomes a part of.
std::uint32_t matrix_bias(Site site);
std::uint32_t folded_flag(Role gain);
// Whether the norm before a site may be folded.
bool is_foldable(const StackConfig& config, Site site);

// Gain and bias of the norm before a matrix, [cols]; null where there is none.
struct NormBefore {
  const float* gain = nullptr;
  const float* bias = nullptr;
};
NormBefore norm_weights(const FloatModel& model, std::uint32_t stack, Site site, std::uint32_t layer);
// Of the norm that the quantised stack `config` folds into a matrix.
NormBefore folded_into(const FloatModel& model, const StackConfig& config, Role role, std::uint32_t layer,
                       std::uint32_t stack);

// What the bias of a folded norm becomes behind a row of the matrix: their product, summed in the order of the columns.
double shift_of(const float* row, const float* norm_bias, std::uint32_t cols);

}  // namespace heed::quant
