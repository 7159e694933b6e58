// SPDX-License-Identifier: Apache-2.0
// opt.cpp: OPT (transformers/models/opt): learned positions from row 2 on, ReLU, norms before the sublayers or, in the model of 350
// million parameters, behind them.
#include "quant/readers/family.hpp"

namespace heed::quant {

void read_opt(Family& f) {
  constexpr std::uint32_t kPositionOffset = 2;
  constexpr SizeNames kSizes = {"hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim", "vocab_size",
                                "max_position_embeddings"};
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.norm = Norm::layer;
  c.position = Position::none;
  c.position_table = 1;
  c.gated = 0;
  c.biases = kBiasNorm;
  in.read_sizes(c, kSizes);
  c.n_outputs = c.vocab_size;
  if (in.flag_or("enable_bias", true))
    c.biases |= kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown;
  in.expect("layer_norm_elementwise_affine", true);
  if (in.has("word_embed_proj_dim") && in.size("word_embed_proj_dim", 1, 65536) != c.d_model)
    in.refuse("word_embed_proj_dim", "is not hidden_size; a projection of the embeddings is not supported");
  const bool before = in.flag_or("do_layer_norm_before", true);
  c.norm_placement = before ? NormPlacement::before : NormPlacement::after;
  c.final_norm = before && !in.flag_or("_remove_final_layer_norm", false);
  c.activation = in.activation("activation_function", "relu");
  c.tied_unembedding = in.flag_or("tie_word_embeddings", true);
  in.ignore({"_remove_final_layer_norm"});
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  f.take_unembedding("lm_head");
  t.choose_prefix({"model.decoder.", "decoder."}, "embed_tokens.weight");
  t.matrix(Role::token_embedding, 0, "embed_tokens");
  t.positions("embed_positions", kPositionOffset);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "layers." + std::to_string(layer) + ".";
    t.norm(before ? Role::attention_gain : Role::attention_after_gain,
           before ? Role::attention_norm_bias : Role::attention_after_bias, layer, h + "self_attn_layer_norm");
    t.matrix(Role::w_query, layer, h + "self_attn.q_proj");
    t.matrix(Role::w_key, layer, h + "self_attn.k_proj");
    t.matrix(Role::w_value_down, layer, h + "self_attn.v_proj");
    t.matrix(Role::w_value_up, layer, h + "self_attn.out_proj");
    t.norm(before ? Role::ffn_gain : Role::ffn_after_gain, before ? Role::ffn_norm_bias : Role::ffn_after_bias, layer,
           h + "final_layer_norm");
    t.matrix(Role::w_up, layer, h + "fc1");
    t.matrix(Role::w_down, layer, h + "fc2");
  }
  if (c.final_norm) t.norm(Role::final_gain, Role::final_norm_bias, 0, "final_layer_norm");
}

}  // namespace heed::quant
