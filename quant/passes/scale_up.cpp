// SPDX-License-Identifier: Apache-2.0
// scale_up.cpp: each number inside the feed-forward layer times a factor, and the column of w_down that reads it divided by it.
// Beside a gate, w_up is linear. Without one only ReLU lets a positive factor through.
#include "quant/passes/pass.hpp"

namespace heed::quant {
namespace {

bool is_valid(const StackConfig& c) { return c.gated || c.activation == Activation::relu; }

void apply(FloatModel& model, StackCalibration& seen, std::uint32_t stack) {
  const StackConfig& c = model.config.stacks[stack];
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    if (!seen.inner.has(layer)) continue;
    std::vector<double> squares(c.d_ff, 0.0), factors(c.d_ff);
    for_each_row(model, Role::w_down, layer, stack, [&](std::uint32_t, const float* w) {
      for (std::size_t k = 0; k < c.d_ff; ++k) squares[k] += double{w[k]} * w[k];
    });
    for (std::size_t k = 0; k < c.d_ff; ++k)
      factors[k] = balance(__builtin_sqrt(squares[k] / static_cast<double>(c.d_model)), seen.inner.largest(layer, k));
    model.scale_rows(Role::w_up, layer, stack, factors);
    model.scale_columns(Role::w_down, layer, stack, inverse_of(factors));
    scale_samples(seen.sites[static_cast<int>(Site::down_in)], layer, factors);
    seen.inner.scale(layer, factors);
  }
}

}  // namespace

const Pass kScaleUp = {"scale_up", "rows of up against the columns of down", [](const StackConfig&) { return false; },
                       is_valid, apply};

}  // namespace heed::quant
