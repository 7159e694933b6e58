// SPDX-License-Identifier: Apache-2.0
// phi3.cpp: Phi-3 and Phi-4 mini (transformers/models/phi3): Llama's layers with fused matrices.
#include "quant/readers/family.hpp"

namespace heed::quant {

void read_phi3(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.rotary_pairing = RotaryPairing::halves;
  in.read_sizes(c, kUsualSizes);
  c.n_outputs = c.vocab_size;
  in.read_kv_heads(c);
  c.activation = in.activation("hidden_act", "silu");
  in.read_epsilon(c, "rms_norm_eps", 1e-5);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", false);
  in.expect("attention_bias", false);
  in.read_window(c);
  in.ignore({"embd_pdrop", "resid_pdrop", "original_max_position_embeddings"});  // the last one is longrope's, which is refused
  const Rope rope = in.read_rotary(c, 10000.0, "partial_rotary_factor", 1.0);
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  f.take_unembedding("lm_head");
  t.set_prefix("model.");
  t.matrix(Role::token_embedding, 0, "embed_tokens");
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "layers." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "input_layernorm");
    t.fused({Role::w_query, Role::w_key, Role::w_value_down}, layer, h + "self_attn.qkv_proj", Fused::parts);
    t.matrix(Role::w_value_up, layer, h + "self_attn.o_proj");
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, h + "post_attention_layernorm");
    t.fused({Role::w_gate, Role::w_up}, layer, h + "mlp.gate_up_proj", Fused::parts);
    t.matrix(Role::w_down, layer, h + "mlp.down_proj");
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "norm");
  f.rotate(rope);
}

}  // namespace heed::quant
