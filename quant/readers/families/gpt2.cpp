// SPDX-License-Identifier: Apache-2.0
// gpt2.cpp: GPT2LMHeadModel (transformers/models/gpt2). Its matrices are Conv1D: [in, out], the transpose of ours.
#include "quant/readers/family.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kUsualEnd = 50256;  // <|endoftext|>, when config.json does not say
constexpr SizeNames kSizes = {"n_embd", "n_layer", "n_head", nullptr, "vocab_size", "n_positions"};

void read_config(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.norm = Norm::layer;
  c.position = Position::none;
  c.position_table = 1;
  c.gated = 0;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  c.activation = in.activation("activation_function", "gelu_new");
  in.read_sizes(c, kSizes);
  c.n_outputs = c.vocab_size;
  c.d_ff = in.size_or("n_inner", 4 * c.d_model, 1, kMaxCols);
  if (c.d_ff > kMaxCols) in.refuse("n_embd", "makes a feed-forward layer of more than 131072");
  in.read_epsilon(c, "layer_norm_epsilon", 1e-5);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", true);
  if (!in.flag_or("scale_attn_weights", true)) c.attention_scale = 1.0f;
  in.expect("scale_attn_by_inverse_layer_idx", false);
  in.expect("rope_scaling", nullptr);
  in.ignore({"n_ctx", "attn_pdrop", "embd_pdrop", "resid_pdrop", "reorder_and_upcast_attn", "summary_activation",
             "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
             "predict_special_tokens"});
  // null is not the same as absent: it means none.
  const auto usual = [&](const char* name) {
    return in.is_named(name) || kUsualEnd >= c.vocab_size ? kNoSourceToken : kUsualEnd;
  };
  f.model.bos = usual("bos_token_id");
  f.model.eos = usual("eos_token_id");
}

}  // namespace

void read_gpt2(Family& f) {
  read_config(f);
  if (!f.is_configured()) return;
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  if (c.tied_unembedding)
    t.skip("lm_head.weight");  // the embedding once more
  else
    t.matrix(Role::unembedding, 0, "lm_head");
  t.choose_prefix({"transformer.", ""}, "wte.weight");
  t.matrix(Role::token_embedding, 0, "wte");
  t.positions("wpe", 0);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "h." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "ln_1");
    t.fused({Role::w_query, Role::w_key, Role::w_value_down}, layer, h + "attn.c_attn", Fused::parts, true);
    t.turned_matrix(Role::w_value_up, layer, h + "attn.c_proj");
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, h + "ln_2");
    t.turned_matrix(Role::w_up, layer, h + "mlp.c_fc");
    t.turned_matrix(Role::w_down, layer, h + "mlp.c_proj");
    for (const char* mask : {"attn.bias", "attn.masked_bias"}) t.skip(h + mask);
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "ln_f");
}

}  // namespace heed::quant
