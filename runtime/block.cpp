// SPDX-License-Identifier: Apache-2.0
// block.cpp: the forward pass of one block; with attention.cpp beside it, the whole transformer.
#include "runtime/one_rounding.hpp"

#include "runtime/block.hpp"

#include "runtime/numerics.hpp"

namespace heed {

namespace {

constexpr Role kMatrices[] = {Role::w_query, Role::w_key,  Role::w_value_down, Role::w_value_up,
                              Role::w_gate,  Role::w_up,   Role::w_down};

template <class T>
void move(const T*& part, std::ptrdiff_t bytes) {
  part = reinterpret_cast<const T*>(reinterpret_cast<const std::uint8_t*>(part) + bytes);
}

template <class T>
void advance(const T*& part, std::ptrdiff_t bytes) {
  if (part) move(part, bytes);
}

// Once for each, in the order above.
template <class Visit>
void for_each_matrix(AttentionWeights& a, BlockWeights& b, Visit visit) {
  Tensor* const tensors[] = {&a.w_query, &a.w_key, &a.w_value_down, &a.w_value_up, &b.w_gate, &b.w_up, &b.w_down};
  for (int i = 0; i < 7; ++i) visit(kMatrices[i], *tensors[i]);
}

}  // namespace

void first_layer(AttentionWeights& attention, BlockWeights& block, const Model& model) {
  for_each_matrix(attention, block, [&](Role role, Tensor& t) {
    t = model.has(role) ? model.tensor(role, 0) : Tensor{};
  });
  block.attention_norm = norm_weights(model, Role::attention_gain, Role::attention_norm_bias, 0);
  block.ffn_norm = norm_weights(model, Role::ffn_gain, Role::ffn_norm_bias, 0);
  attention.rotary_phases = model.has(Role::rotary_phases) ? model.rotary_phases() : nullptr;
  attention.key_offsets = nullptr;
  if (kBuiltFeatures.key_offset && model.has(Role::key_offset)) {
    attention.key_offsets = model.key_offset(0, 0).values;
    attention.key_offset_exponents =
        reinterpret_cast<const std::int8_t*>(attention.key_offsets + model.config().d_key_value());
  }
}

void advance_layer(AttentionWeights& attention, BlockWeights& block, std::ptrdiff_t bytes) {
  for_each_matrix(attention, block, [&](Role, Tensor& t) {
    if (!t.weights) return;
    move(t.weights, bytes);
    move(t.scales, bytes);
    if (kBuiltFeatures.biases) advance(t.bias, bytes);
    if (kBuiltFeatures.groups) advance(t.multipliers, bytes);
  });
  NormWeights* const norms[] = {&block.attention_norm, &block.ffn_norm};
  for (NormWeights* const w : norms) {
    advance(w->gain, bytes);
    if (kBuiltFeatures.layer_norm) advance(w->bias, bytes);
  }
  if (kBuiltFeatures.key_offset) {
    advance(attention.key_offsets, bytes);
    advance(attention.key_offset_exponents, bytes);
  }
}

NormWeights norm_weights(const Model& model, Role gain, Role bias, std::uint32_t layer) {
  const ModelConfig& c = model.config();
  return {model.has(gain) ? model.floats(gain, layer) : nullptr,
          kBuiltFeatures.layer_norm && model.has(bias) ? model.floats(bias, layer) : nullptr,
          c.norm_epsilon, c.norm == Norm::layer};
}

void block_forward(const ModelConfig& c, const AttentionLayer& attention, const BlockWeights& weights,
                   const BlockScratch& scratch, std::uint32_t first, std::uint32_t n) {
  const Kernels& k = *attention.kernels;
  const Parallel& parallel = *attention.parallel;
  float* const x = scratch.residual;
  const std::uint32_t stride = scratch.residual_stride;

  // A folded gain is part of the weights behind the norm.
  const auto norm = [&](const NormWeights& w, Site site) {
    const Activations normed = make_activations(scratch.activations, k.traits, c.d_model, c.group(site), n);
    for_each_range(parallel, n, std::uint64_t{n} * c.d_model * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
      for (; t < end; ++t) k.norm_s8r_f32(normed, t, x + std::size_t{t} * stride, w);
    });
    return normed;
  };

  // x += attention(norm(x))
  const Activations attention_in = norm(weights.attention_norm, Site::attention_in);
  attention_forward(attention, x, stride, true, attention_in, scratch.rotation, first, n, scratch.activations);

  // x += w_down * (F(w_gate * norm(x)) * (w_up * norm(x))), or without a gate x += w_down * F(w_up * norm(x))
  const Activations ffn_in = norm(weights.ffn_norm, Site::ffn_in);
  const bool gated = !kBuiltFeatures.ungated || c.gated;
  const Product inputs[] = {{scratch.gate, gated ? &weights.w_gate : &weights.w_up, scratch.ffn_stride},
                            {scratch.up, &weights.w_up, scratch.ffn_stride}};
  matmul_parallel(k, parallel, inputs, gated ? 2 : 1, false, ffn_in, n);
  const Activations down_in = make_activations(scratch.activations, k.traits, c.d_ff, c.group(Site::down_in), n);
  for_each_range(parallel, n, std::uint64_t{n} * c.d_ff * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
    for (; t < end; ++t) {
      const std::size_t row = std::size_t{t} * scratch.ffn_stride;
      k.gate_s8r_f32(down_in, t, scratch.gate + row, gated ? scratch.up + row : nullptr, activation_factor(c.activation));
    }
  });
  const Product down{x, &weights.w_down, stride};
  matmul_parallel(k, parallel, &down, 1, true, down_in, n);
}

}  // namespace heed
