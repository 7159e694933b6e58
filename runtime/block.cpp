// SPDX-License-Identifier: Apache-2.0
// block.cpp: the forward pass of one block; with attention.cpp beside it, the whole transformer.
#include "runtime/block.hpp"

#include "runtime/numerics.hpp"

namespace heed {

AttentionWeights attention_weights(const Model& model, std::uint32_t layer) {
  AttentionWeights w;
  w.w_query = model.tensor(Role::w_query, layer);
  w.w_key = model.tensor(Role::w_key, layer);
  w.w_value_down = model.tensor(Role::w_value_down, layer);
  w.w_value_up = model.tensor(Role::w_value_up, layer);
  if (model.has(Role::rotary_phases)) w.rotary_phases = model.rotary_phases();
  if (model.has(Role::key_offset)) {
    const KeyOffset first = model.key_offset(layer, 0);
    w.key_offsets = first.values;
    w.key_offset_exponents = reinterpret_cast<const std::int8_t*>(
        first.values + std::size_t{model.config().n_kv_heads} * model.config().head_dim);
  }
  return w;
}

NormWeights norm_weights(const Model& model, Role gain, Role bias, std::uint32_t layer) {
  const ModelConfig& c = model.config();
  return {model.has(gain) ? model.floats(gain, layer) : nullptr, model.has(bias) ? model.floats(bias, layer) : nullptr,
          c.norm_epsilon, c.norm == Norm::layer};
}

namespace {

const std::uint16_t* activation_factor(Activation a) {
  if (kBuiltFeatures.gelu && a == Activation::gelu_tanh) return kGeluTanh;
  if (kBuiltFeatures.gelu && a == Activation::gelu_erf) return kGeluErf;
  if (kBuiltFeatures.relu && a == Activation::relu) return kStep;
  return kSigmoid;
}

}  // namespace

void block_forward(const Model& model, const AttentionLayer& attention, const BlockScratch& scratch,
                   std::uint32_t first, std::uint32_t n) {
  const ModelConfig& c = model.config();
  const Kernels& k = *attention.kernels;
  const Parallel& parallel = *attention.parallel;
  const std::uint32_t layer = attention.index;
  float* const x = scratch.residual;
  const std::uint32_t stride = scratch.residual_stride;

  // A folded gain is part of the weights behind the norm.
  const auto norm = [&](Role gain, Role bias, Site site) {
    const Activations normed = make_activations(scratch.activations, k.traits, c.d_model, c.group(site), n);
    const NormWeights weights = norm_weights(model, gain, bias, layer);
    for (std::uint32_t t = 0; t < n; ++t) k.norm_s8r_f32(normed, t, x + std::size_t{t} * stride, weights);
    return normed;
  };

  // x += attention(norm(x))
  const Activations attention_in = norm(Role::attention_gain, Role::attention_norm_bias, Site::attention_in);
  attention_forward(attention, x, stride, true, attention_in, scratch.rotation, first, n, scratch.activations);

  // x += w_down * (F(w_gate * norm(x)) * (w_up * norm(x))), or without a gate x += w_down * F(w_up * norm(x))
  const Activations ffn_in = norm(Role::ffn_gain, Role::ffn_norm_bias, Site::ffn_in);
  const Tensor gate_or_up = model.tensor(c.gated ? Role::w_gate : Role::w_up, layer);
  matmul_parallel(k, parallel, scratch.gate, scratch.ffn_stride, false, ffn_in, gate_or_up, n);
  if (c.gated)
    matmul_parallel(k, parallel, scratch.up, scratch.ffn_stride, false, ffn_in, model.tensor(Role::w_up, layer), n);
  const Activations down_in = make_activations(scratch.activations, k.traits, c.d_ff, c.group(Site::down_in), n);
  for (std::uint32_t t = 0; t < n; ++t) {
    const std::size_t row = std::size_t{t} * scratch.ffn_stride;
    k.gate_s8r_f32(down_in, t, scratch.gate + row, c.gated ? scratch.up + row : nullptr, activation_factor(c.activation));
  }
  matmul_parallel(k, parallel, x, stride, true, down_in, model.tensor(Role::w_down, layer), n);
}

}  // namespace heed
