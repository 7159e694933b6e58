// SPDX-License-Identifier: Apache-2.0
// value_map.cpp: products of factors.
#include "quant/value_map.hpp"

#include <algorithm>

namespace heed::quant {
namespace {

struct AttentionTensors {
  Role value_down, value_up;
  std::uint32_t down_bias, up_bias, cols;
};

void make_undivided(FloatModel& model, std::uint32_t stack, std::uint32_t layer, const AttentionTensors& a) {
  const StackConfig& c = model.config.stacks[stack];
  const std::size_t d = c.d_model, heads = c.n_heads, dims = c.head_dim, cols = a.cols;
  const std::vector<float> down = model.read(a.value_down, layer, stack), up = model.read(a.value_up, layer, stack);
  const float* down_bias = model.bias(a.value_down, layer, stack).data();
  const float* up_bias = model.bias(a.value_up, layer, stack).data();
  std::vector<float> product(heads * d * cols), bias(heads * d);
  std::vector<double> row(cols);
  for (std::size_t head = 0; head < heads; ++head) {
    for (std::size_t r = 0; r < d; ++r) {
      std::fill(row.begin(), row.end(), 0.0);
      double shift = up_bias ? double{up_bias[r]} / static_cast<double>(heads) : 0.0;
      for (std::size_t k = 0; k < dims; ++k) {
        const double factor = up[r * heads * dims + head * dims + k];
        const float* from = &down[(head * dims + k) * cols];
        for (std::size_t col = 0; col < cols; ++col) row[col] += factor * from[col];
        if (down_bias) shift += factor * down_bias[head * dims + k];
      }
      for (std::size_t col = 0; col < cols; ++col)
        product[(head * d + r) * cols + col] = static_cast<float>(row[col]);
      bias[head * d + r] = static_cast<float>(shift);
    }
  }
  const bool has_bias = down_bias || up_bias;
  model.drop(a.value_up, layer, stack);
  model.drop(a.value_down, layer, stack);
  model.set(a.value_down, layer, StoredTensor::of(std::move(product), static_cast<std::uint32_t>(heads * d), a.cols), stack);
  if (has_bias) model.set_bias(a.value_down, layer, std::move(bias), stack);
}

}  // namespace

std::string why_not_undivided(const StackConfig& c) {
  if (c.value_map == ValueMap::undivided) return "they are";
  if (c.n_heads != c.n_kv_heads) return "query heads share values, each with a value_up of its own";
  if (c.d_model > kMaxHeadDim) return "d_model is above " + std::to_string(kMaxHeadDim);
  if (std::uint64_t{c.n_heads} * c.d_model > kMaxCols) return "all heads together would be too wide";
  return {};
}

void make_undivided(FloatModel& model, std::uint32_t stack) {
  StackConfig& c = model.config.stacks[stack];
  const AttentionTensors self{Role::w_value_down, Role::w_value_up, kBiasValueDown, kBiasValueUp, c.d_model};
  const AttentionTensors cross{Role::cross_w_value_down, Role::cross_w_value_up, kBiasCrossValueDown,
                               kBiasCrossValueUp, c.d_source};
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    make_undivided(model, stack, layer, self);
    if (c.cross_attention) make_undivided(model, stack, layer, cross);
  }
  for (const AttentionTensors& a : {self, cross}) {
    if (c.biases & a.up_bias) c.biases |= a.down_bias;
    c.biases &= ~a.up_bias;
  }
  c.value_map = ValueMap::undivided;
}

}  // namespace heed::quant
