// SPDX-License-Identifier: Apache-2.0
// block.cpp: the forward pass of one block; with attention.cpp beside it, the whole transformer.
#include "runtime/block.hpp"

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

void block_forward(const Model& model, const AttentionLayer& attention, const BlockScratch& scratch,
                   std::uint32_t first, std::uint32_t n) {
  const ModelConfig& c = model.config();
  const Kernels& k = *attention.kernels;
  const Parallel& parallel = *attention.parallel;
  const std::uint32_t layer = attention.index;
  float* const x = scratch.residual;
  const std::uint32_t stride = scratch.residual_stride;

  // A folded gain is part of the weights behind the norm.
  const auto norm = [&](Role gain, Site site) {
    const Activations normed = make_activations(scratch.activations, k.traits, c.d_model, c.group(site), n);
    const NormWeights weights{model.has(gain) ? model.floats(gain, layer) : nullptr, c.norm_epsilon};
    for (std::uint32_t t = 0; t < n; ++t) k.norm_s8r_f32(normed, t, x + std::size_t{t} * stride, weights);
    return normed;
  };

  // x += attention(norm(x))
  const Activations attention_in = norm(Role::attention_gain, Site::attention_in);
  attention_forward(attention, x, stride, true, attention_in, scratch.rotation, first, n, scratch.activations);

  // x += w_down * (silu(w_gate * norm(x)) * (w_up * norm(x)))
  const Activations ffn_in = norm(Role::ffn_gain, Site::ffn_in);
  matmul_parallel(k, parallel, scratch.gate, scratch.ffn_stride, false, ffn_in, model.tensor(Role::w_gate, layer), n);
  matmul_parallel(k, parallel, scratch.up, scratch.ffn_stride, false, ffn_in, model.tensor(Role::w_up, layer), n);
  const Activations down_in = make_activations(scratch.activations, k.traits, c.d_ff, c.group(Site::down_in), n);
  for (std::uint32_t t = 0; t < n; ++t) {
    const std::size_t row = std::size_t{t} * scratch.ffn_stride;
    k.gate_s8r_f32(down_in, t, scratch.gate + row, scratch.up + row, kSigmoid);
  }
  matmul_parallel(k, parallel, x, stride, true, down_in, model.tensor(Role::w_down, layer), n);
}

}  // namespace heed
