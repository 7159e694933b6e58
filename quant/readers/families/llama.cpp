// SPDX-License-Identifier: Apache-2.0
// llama.cpp: Llama 2 and 3, Mistral, Qwen 2 and 3 (transformers/models/llama, mistral, qwen2, qwen3), and what is saved as one of
// them, such as TinyLlama and SmolLM: one set of names, with or without biases, windows, and norms of heads.
#include "quant/readers/family.hpp"

namespace heed::quant {
namespace {

// use_sliding_window with max_window_layers, from which on layers have a window; newer files list the layers' types.
void read_qwen_window(FamilyConfig& in, StackConfig& c) {
  const bool windows = in.flag_or("use_sliding_window", false);
  const std::uint32_t first = in.size_or("max_window_layers", c.n_layers, 0, 1u << 20);
  if (!windows) {
    in.ignore({"sliding_window", "layer_types"});
    return;
  }
  in.read_window(c);
  if (in.has("layer_types") || first == 0) return;
  if (first < c.n_layers) in.refuse("max_window_layers", "gives windows to some layers behind each other, which is not supported");
  c.window = 0;
}

Rope read_config(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  const bool llama = f.is("LlamaForCausalLM"), mistral = f.is("MistralForCausalLM"), qwen3 = f.is("Qwen3ForCausalLM");
  c.rotary_pairing = RotaryPairing::halves;
  in.read_sizes(c, kUsualSizes, f.is("Qwen2ForCausalLM") ? nullptr : "head_dim");
  c.n_outputs = c.vocab_size;
  if (!llama && !in.has("num_key_value_heads")) in.refuse("num_key_value_heads", "is missing");
  in.read_kv_heads(c);
  c.activation = in.activation("hidden_act", "silu");
  in.read_epsilon(c, "rms_norm_eps", 1e-6);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", false);
  if (llama || qwen3) {
    if (in.flag_or("attention_bias", false)) c.biases |= kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp;
    if (llama && in.flag_or("mlp_bias", false)) c.biases |= kBiasFfnIn | kBiasDown;
  } else if (!mistral) {
    c.biases = kBiasQuery | kBiasKey | kBiasValueDown;
    in.ignore({"use_mrope"});
  }
  if (mistral) {
    in.read_window(c);
    if (!in.is_named("sliding_window")) c.window = 4096;
  } else if (!llama) {
    read_qwen_window(in, c);
  }
  if (qwen3) c.query_key_norm = HeadNorm::rms;
  in.ignore({"rope_interleaved", "is_llama_config"});
  return in.read_rotary(c, 10000.0);
}

}  // namespace

void read_llama(Family& f) {
  const Rope rope = read_config(f);
  if (!f.is_configured()) return;
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  f.take_unembedding("lm_head");
  t.choose_prefix({"model.", ""}, "embed_tokens.weight");
  t.matrix(Role::token_embedding, 0, "embed_tokens");
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "layers." + std::to_string(layer) + ".";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "input_layernorm");
    t.matrix(Role::w_query, layer, h + "self_attn.q_proj");
    t.matrix(Role::w_key, layer, h + "self_attn.k_proj");
    t.matrix(Role::w_value_down, layer, h + "self_attn.v_proj");
    t.matrix(Role::w_value_up, layer, h + "self_attn.o_proj");
    if (c.query_key_norm != HeadNorm::none) {
      t.norm(Role::query_gain, Role::query_norm_bias, layer, h + "self_attn.q_norm");
      t.norm(Role::key_gain, Role::key_norm_bias, layer, h + "self_attn.k_norm");
    }
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, h + "post_attention_layernorm");
    t.matrix(Role::w_gate, layer, h + "mlp.gate_proj");
    t.matrix(Role::w_up, layer, h + "mlp.up_proj");
    t.matrix(Role::w_down, layer, h + "mlp.down_proj");
    t.skip(h + "self_attn.rotary_emb.inv_freq");
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "norm");
  f.rotate(rope);
}

}  // namespace heed::quant
