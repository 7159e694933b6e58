// SPDX-License-Identifier: Apache-2.0
// phi.cpp: Phi 1, 1.5 and 2 (transformers/models/phi): sublayers side by side behind one layer norm, some dimensions of a head
// rotate, biases everywhere.
#include "quant/readers/family.hpp"

namespace heed::quant {

void read_phi(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.norm = Norm::layer;
  c.sublayers = Sublayers::side_by_side;
  c.rotary_pairing = RotaryPairing::halves;
  c.gated = 0;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm | kBiasUnembedding;
  in.read_sizes(c, kUsualSizes);
  c.n_outputs = c.vocab_size;
  in.read_kv_heads(c);
  c.activation = in.activation("hidden_act", "gelu_new");
  in.read_epsilon(c, "layer_norm_eps", 1e-5);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", false);
  in.expect("qk_layernorm", false);
  in.ignore({"embd_pdrop", "resid_pdrop"});
  const Rope rope = in.read_rotary(c, 10000.0, "partial_rotary_factor", 0.5);
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  f.take_unembedding("lm_head");
  t.set_prefix("model.");
  t.matrix(Role::token_embedding, 0, "embed_tokens");
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "layers." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "input_layernorm");
    t.matrix(Role::w_query, layer, h + "self_attn.q_proj");
    t.matrix(Role::w_key, layer, h + "self_attn.k_proj");
    t.matrix(Role::w_value_down, layer, h + "self_attn.v_proj");
    t.matrix(Role::w_value_up, layer, h + "self_attn.dense");
    t.matrix(Role::w_up, layer, h + "mlp.fc1");
    t.matrix(Role::w_down, layer, h + "mlp.fc2");
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "final_layernorm");
  f.rotate(rope);
}

}  // namespace heed::quant
