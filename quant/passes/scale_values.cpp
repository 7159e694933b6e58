// SPDX-License-Identifier: Apache-2.0
// scale_values.cpp: each dimension of a value head times a factor, and the columns of w_value_up that read it divided by it.
// The dimensions of a head share a step in the cache, and all heads share one in what w_value_up reads; a weight's column
// shares that of its row. sqrt(rms of the column / largest value) makes either side's rounding weigh the same.
#include "quant/passes/pass.hpp"

namespace heed::quant {
namespace {

// Mean squares of the columns of w_value_up that read a dimension of a KV head.
std::vector<double> column_squares(const FloatModel& model, Role value_up, std::uint32_t layer, std::uint32_t stack) {
  const StackConfig& c = model.config.stacks[stack];
  const std::uint32_t share = c.n_heads / c.n_kv_heads, cols = c.d_query();
  std::vector<double> squares(c.d_key(), 0.0);
  for_each_row(model, value_up, layer, stack, [&](std::uint32_t, const float* w) {
    for (std::uint32_t i = 0; i < cols; ++i)
      squares[std::size_t{i / c.head_dim / share} * c.head_dim + i % c.head_dim] += double{w[i]} * w[i];
  });
  for (double& s : squares) s /= static_cast<double>(c.d_model) * share;
  return squares;
}

bool is_valid(const StackConfig& c) { return c.value_map == ValueMap::factors; }

void apply(FloatModel& model, StackCalibration& seen, std::uint32_t stack) {
  const StackConfig& c = model.config.stacks[stack];
  for (const AttentionTensors& a : attentions_of(c)) {
    ChannelStatistics& values = seen.heads[static_cast<int>(a.values)];
    for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
      if (!values.has(layer)) continue;
      std::vector<double> factors = column_squares(model, a.value_up, layer, stack);
      for (std::size_t i = 0; i < factors.size(); ++i)
        factors[i] = balance(__builtin_sqrt(factors[i]), values.largest(layer, i));
      model.scale_rows(a.value_down, layer, stack, factors);
      const std::vector<double> gathered = for_query_heads(c, factors);
      model.scale_columns(a.value_up, layer, stack, inverse_of(gathered));
      scale_samples(seen.sites[static_cast<int>(a.value_up_in)], layer, gathered);
      values.scale(layer, factors);
      scale_samples(seen.heads_seen[static_cast<int>(a.values)], layer, factors);
    }
  }
}

}  // namespace

const Pass kScaleValues = {"scale_values", "value dimensions against the columns of value_up",
                           [](const StackConfig&) { return false; }, is_valid, apply};

}  // namespace heed::quant
