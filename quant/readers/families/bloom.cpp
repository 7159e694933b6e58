// SPDX-License-Identifier: Apache-2.0
// bloom.cpp: BLOOM (transformers/models/bloom): ALiBi, a norm behind the embedding, and queries, keys and values fused head by head.
#include "quant/readers/family.hpp"

namespace heed::quant {

void read_bloom(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  const auto name = [&](const char* older, const char* newer) { return in.has(older) ? older : newer; };
  const SizeNames sizes = {name("n_embed", "hidden_size"), name("num_hidden_layers", "n_layer"),
                           name("num_attention_heads", "n_head"), nullptr, "vocab_size", nullptr};
  c.norm = Norm::layer;
  c.input_norm = 1;
  c.position = Position::alibi;
  c.gated = 0;
  c.activation = Activation::gelu_tanh;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  in.read_sizes(c, sizes);
  c.n_outputs = c.vocab_size;
  c.d_ff = 4 * c.d_model;
  if (c.d_ff > kMaxCols) in.refuse(sizes.d_model, "makes a feed-forward layer of more than 131072");
  c.max_seq = in.size_or("seq_length", 2048, 1, 1u << 20);  // what it was trained with; ALiBi has no table that ends
  in.read_epsilon(c, "layer_norm_epsilon", 1e-5);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", true);
  in.expect("apply_residual_connection_post_layernorm", false);
  in.ignore({"hidden_size", "slow_but_exact", "offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "masked_softmax_fusion",
             "attention_softmax_in_fp32", "bias_dropout_fusion", "n_inner"});
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  f.take_unembedding("lm_head");
  t.choose_prefix({"transformer.", ""}, "word_embeddings.weight");
  t.matrix(Role::token_embedding, 0, "word_embeddings");
  t.norm(Role::input_gain, Role::input_norm_bias, 0, "word_embeddings_layernorm");
  t.set(Role::score_bias, 0, StoredTensor::of(alibi_slopes(c.n_heads), c.n_heads, 1));
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "h." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "input_layernorm");
    t.fused({Role::w_query, Role::w_key, Role::w_value_down}, layer, h + "self_attention.query_key_value", Fused::heads);
    t.matrix(Role::w_value_up, layer, h + "self_attention.dense");
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, h + "post_attention_layernorm");
    t.matrix(Role::w_up, layer, h + "mlp.dense_h_to_4h");
    t.matrix(Role::w_down, layer, h + "mlp.dense_4h_to_h");
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "ln_f");
}

}  // namespace heed::quant
