// SPDX-License-Identifier: Apache-2.0
// gemma3.cpp: Gemma 3's text models (transformers/models/gemma3): norms before and behind, gains stored less one, windows with
// rotary frequencies of their own, and norms of heads.
#include "quant/readers/family.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr double kOne = 1.0;

struct Ropes {
  Rope all, windowed;
};

// Older files say how often a layer sees all keys, newer ones list the layers' types.
void read_layers(FamilyConfig& in, StackConfig& c) {
  in.read_window(c);
  if (!in.has("sliding_window")) in.refuse("sliding_window", "is missing");
  const std::uint32_t every = in.size_or("sliding_window_pattern", in.size_or("_sliding_window_pattern", 6, 2, 4096), 2, 4096);
  if (in.has("layer_types")) return;
  c.global_every = every;
  c.global_first = every - 1;
}

Ropes read_ropes(FamilyConfig& in, StackConfig& c) {
  Ropes ropes;
  const bool newer = in.has("rope_parameters");
  ropes.all = in.read_rotary(c, 1e6, nullptr, 1.0, newer ? "full_attention" : nullptr);
  ropes.windowed.theta = in.number_or("rope_local_base_freq", 10000.0, 1.0 + 0x1p-20, 1e12);
  if (newer) ropes.windowed = in.rope(10000.0, "sliding_attention");
  c.local_rotary = c.window != 0;
  return ropes;
}

}  // namespace

void read_gemma3(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.rotary_pairing = RotaryPairing::halves;
  c.norm_placement = NormPlacement::both;
  c.query_key_norm = HeadNorm::rms;
  if (!in.has("head_dim")) in.refuse("head_dim", "is missing");
  if (!in.has("num_key_value_heads")) in.refuse("num_key_value_heads", "is missing");
  in.read_sizes(c, kUsualSizes, "head_dim");
  c.n_outputs = c.vocab_size;
  in.read_kv_heads(c);
  c.activation = in.activation("hidden_activation", "gelu_pytorch_tanh");
  in.read_epsilon(c, "rms_norm_eps", 1e-6);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", true);
  if (in.flag_or("attention_bias", false)) c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp;
  c.attention_scale = 1.0f / square_root(static_cast<float>(in.size_or("query_pre_attn_scalar", 256, 1, 1u << 20)));
  c.embedding_scale = square_root(static_cast<float>(c.d_model));
  for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"}) in.expect(cap, nullptr);
  in.expect("use_bidirectional_attention", false);
  in.ignore({"cache_implementation", "hidden_act"});
  read_layers(in, c);
  const Ropes ropes = read_ropes(in, c);
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  f.take_unembedding("lm_head");
  t.choose_prefix({"model.", ""}, "embed_tokens.weight");
  t.matrix(Role::token_embedding, 0, "embed_tokens");
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "layers." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "input_layernorm", kOne);
    t.matrix(Role::w_query, layer, h + "self_attn.q_proj");
    t.matrix(Role::w_key, layer, h + "self_attn.k_proj");
    t.matrix(Role::w_value_down, layer, h + "self_attn.v_proj");
    t.matrix(Role::w_value_up, layer, h + "self_attn.o_proj");
    t.norm(Role::query_gain, Role::query_norm_bias, layer, h + "self_attn.q_norm", kOne);
    t.norm(Role::key_gain, Role::key_norm_bias, layer, h + "self_attn.k_norm", kOne);
    t.norm(Role::attention_after_gain, Role::attention_after_bias, layer, h + "post_attention_layernorm", kOne);
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, h + "pre_feedforward_layernorm", kOne);
    t.matrix(Role::w_gate, layer, h + "mlp.gate_proj");
    t.matrix(Role::w_up, layer, h + "mlp.up_proj");
    t.matrix(Role::w_down, layer, h + "mlp.down_proj");
    t.norm(Role::ffn_after_gain, Role::ffn_after_bias, layer, h + "post_feedforward_layernorm", kOne);
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "norm", kOne);
  f.rotate(ropes.all, &ropes.windowed);
}

}  // namespace heed::quant
