// SPDX-License-Identifier: Apache-2.0
// centre_values.cpp: the mean of the values leaves them and goes through w_value_up once and for all: what weighs values sums
// to one, so their mean comes out of attention as it went in. Matrices without a bias get one.
#include "quant/passes/pass.hpp"

namespace heed::quant {
namespace {

// The pass is one of the whole stack, so both matrices of all its layers have a bias behind it.
bool costs(const StackConfig& c) {
  for (const AttentionTensors& a : attentions_of(c))
    if (!(c.biases & a.value_down_bias) || !(c.biases & a.value_up_bias)) return true;
  return false;
}

bool is_valid(const StackConfig& c) { return c.value_map == ValueMap::factors; }

void apply(FloatModel& model, StackCalibration& seen, std::uint32_t stack) {
  StackConfig& c = model.config.stacks[stack];
  for (const AttentionTensors& a : attentions_of(c)) {
    ChannelStatistics& values = seen.heads[static_cast<int>(a.values)];
    for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
      std::vector<double> down_bias = bias_of(model, a.value_down, layer, stack),
                          up_bias = bias_of(model, a.value_up, layer, stack);
      if (values.has(layer)) {
        std::vector<double> means(c.d_key());
        for (std::size_t i = 0; i < means.size(); ++i) {
          means[i] = values.mean(layer, i);
          down_bias[i] -= means[i];
        }
        const std::vector<double> gathered = for_query_heads(c, means);
        for_each_row(model, a.value_up, layer, stack, [&](std::uint32_t r, const float* w) {
          for (std::size_t k = 0; k < gathered.size(); ++k) up_bias[r] += w[k] * gathered[k];
        });
        subtract_from_samples(seen.sites[static_cast<int>(a.value_up_in)], layer, gathered);
        values.subtract(layer, means);
        subtract_from_samples(seen.heads_seen[static_cast<int>(a.values)], layer, means);
      }
      set_bias(model, a.value_down, layer, stack, down_bias);
      set_bias(model, a.value_up, layer, stack, up_bias);
    }
    c.biases |= a.value_down_bias | a.value_up_bias;
  }
}

}  // namespace

const Pass kCentreValues = {"centre_values", "the mean of the values moved behind value_up", costs, is_valid, apply};

}  // namespace heed::quant
