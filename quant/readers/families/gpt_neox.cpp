// SPDX-License-Identifier: Apache-2.0
// gpt_neox.cpp: GPT-NeoX and Pythia (transformers/models/gpt_neox): sublayers side by side, each behind its own norm, a quarter of
// a head's dimensions rotates, and queries, keys and values are fused head by head.
#include "quant/readers/family.hpp"

namespace heed::quant {

void read_gpt_neox(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.norm = Norm::layer;
  c.rotary_pairing = RotaryPairing::halves;
  c.gated = 0;
  c.biases = kBiasFfnIn | kBiasDown | kBiasNorm;
  if (in.flag_or("attention_bias", true)) c.biases |= kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp;
  in.read_sizes(c, kUsualSizes);
  c.n_outputs = c.vocab_size;
  c.sublayers = in.flag_or("use_parallel_residual", true) ? Sublayers::side_by_side_two_norms : Sublayers::in_turn;
  c.activation = in.activation("hidden_act", "gelu");
  in.read_epsilon(c, "layer_norm_eps", 1e-5);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", false);
  Rope rope = in.read_rotary(c, 10000.0, in.has("rotary_pct") ? "rotary_pct" : "partial_rotary_factor", 0.25);
  if (in.has("rotary_emb_base")) rope.theta = in.number_or("rotary_emb_base", rope.theta, 1.0 + 0x1p-20, 1e12);
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  f.take_unembedding("embed_out");
  t.set_prefix("gpt_neox.");
  t.matrix(Role::token_embedding, 0, "embed_in");
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "layers." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "input_layernorm");
    t.fused({Role::w_query, Role::w_key, Role::w_value_down}, layer, h + "attention.query_key_value", Fused::heads);
    t.matrix(Role::w_value_up, layer, h + "attention.dense");
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, h + "post_attention_layernorm");
    t.matrix(Role::w_up, layer, h + "mlp.dense_h_to_4h");
    t.matrix(Role::w_down, layer, h + "mlp.dense_4h_to_h");
    for (const char* buffer : {"attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"}) t.skip(h + buffer);
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "final_layer_norm");
  f.rotate(rope);
}

}  // namespace heed::quant
