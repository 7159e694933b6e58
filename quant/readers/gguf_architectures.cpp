// SPDX-License-Identifier: Apache-2.0
// gguf_architectures.cpp: the table of architectures, and what most of them have in common.
#include "quant/readers/gguf_architectures.hpp"

#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr double kSmallestNumber = 0x1p-40, kLargestNumber = 0x1p40;
constexpr char kCapped[] = "its scores and logits are capped, which heed has not";
constexpr char kRecurrent[] = "it has recurrent layers";
constexpr char kExperts[] = "it is a mixture of experts";

constexpr GgufArchitecture kArchitectures[] = {
    {"llama", describe_llama, nullptr},
    {"qwen2", describe_qwen2, nullptr},
    {"qwen3", describe_qwen3, nullptr},
    {"gemma", describe_gemma, nullptr},
    {"gemma3", describe_gemma3, nullptr},
    {"phi2", describe_phi2, nullptr},
    {"phi3", describe_phi3, nullptr},
    {"gpt2", describe_gpt2, nullptr},
    {"gptneox", describe_gptneox, nullptr},
    {"bloom", describe_bloom, nullptr},
    {"bert", describe_bert, nullptr},
    {"t5", describe_t5, nullptr},
    {"t5encoder", describe_t5encoder, nullptr},
    {"gemma2", nullptr, kCapped},
    {"grok", nullptr, kCapped},
    {"gemma3n", nullptr, "it has several streams and embeddings for each layer"},
    {"nomic-bert", nullptr, "rotary positions and gates in BERT's blocks are not read"},
    {"nomic-bert-moe", nullptr, kExperts},
    {"qwen2moe", nullptr, kExperts},
    {"qwen3moe", nullptr, kExperts},
    {"phimoe", nullptr, kExperts},
    {"olmoe", nullptr, kExperts},
    {"granitemoe", nullptr, kExperts},
    {"gpt-oss", nullptr, kExperts},
    {"deepseek2", nullptr, kExperts},
    {"llama4", nullptr, kExperts},
    {"mamba", nullptr, kRecurrent},
    {"mamba2", nullptr, kRecurrent},
    {"jamba", nullptr, kRecurrent},
    {"rwkv6", nullptr, kRecurrent},
    {"rwkv7", nullptr, kRecurrent},
    {"granitehybrid", nullptr, kRecurrent},
    {"falcon-h1", nullptr, kRecurrent},
    {"lfm2", nullptr, "it has convolutions between its layers"},
    {"clip", nullptr, "it is the part of a larger model that sees pictures or hears"},
};

Rope read_scaling(GgufDescription& d, Rope rope) {
  GgufFields& in = d.in;
  const char* type_key = "rope.scaling.type";
  const bool old_key = in.has("rope.scale_linear"), has_factor = in.has("rope.scaling.factor") || old_key;
  const std::string type = in.text_or(type_key, has_factor ? "linear" : "none");
  const double factor = in.number_or("rope.scaling.factor", in.number_or("rope.scale_linear", 1.0, 1.0, 1e6), 1.0, 1e6);
  const double attention = in.number_or("rope.scaling.attn_factor", 1.0, 1e-3, 1e3);
  const bool yarn = type == "yarn";
  if (yarn) {
    rope.scaling = RopeScaling::yarn;
    rope.factor = factor;
    rope.original_max_seq = in.size_or("rope.scaling.original_context_length", d.c().max_seq, 1, 1u << 24);
    rope.beta_fast = in.number_or("rope.scaling.yarn_beta_fast", rope.beta_fast, 1e-3, 1e6);
    rope.beta_slow = in.number_or("rope.scaling.yarn_beta_slow", rope.beta_slow, 1e-3, 1e6);
    if (rope.beta_slow > rope.beta_fast) in.refuse("rope.scaling.yarn_beta_slow", "is above yarn_beta_fast");
    if (attention != 1.0) rope.attention_factor = attention * rope.query_key_factor();
    if (in.number_or("rope.scaling.yarn_ext_factor", 1.0, -1e6, 1e6) != 1.0) in.refuse("rope.scaling.yarn_ext_factor");
    if (in.number_or("rope.scaling.yarn_attn_factor", 1.0, -1e6, 1e6) != 1.0)
      in.refuse("rope.scaling.yarn_attn_factor");
  } else if (type == "linear") {
    if (factor != 1.0) rope.scaling = RopeScaling::linear;
    rope.factor = factor;
  } else if (type == "longrope") {
    in.refuse(type_key, "is not supported: it has other frequencies for long texts than for short ones");
  } else if (type != "none") {
    in.refuse(type_key);
  }
  if (!yarn && attention != 1.0) in.refuse("rope.scaling.attn_factor");
  in.has("rope.scaling.original_context_length");  // beside rope_freqs.weight, which holds what is made of it
  in.only_zero("rope.scaling.yarn_log_multiplier");
  return rope;
}

}  // namespace

const GgufArchitecture* find_architecture(const std::string& name) {
  for (const GgufArchitecture& a : kArchitectures)
    if (name == a.name) return &a;
  return nullptr;
}

std::string architectures_read() {
  std::string names;
  for (const GgufArchitecture& a : kArchitectures)
    if (a.describe) names += (names.empty() ? "" : ", ") + std::string(a.name);
  return names;
}

void describe_sizes(GgufDescription& d, StackConfig& c) {
  GgufFields& in = d.in;
  c.d_model = in.size("embedding_length", 1, 65536);
  c.n_layers = in.size("block_count", 1, 4096);
  c.d_ff = in.size("feed_forward_length", 1, kMaxCols);
  c.n_heads = in.size("attention.head_count", 1, 1024);
  c.n_kv_heads = in.size_or("attention.head_count_kv", c.n_heads, 1, 1024);
  if (c.n_heads % c.n_kv_heads != 0) in.refuse("attention.head_count_kv", "does not divide attention.head_count");
  c.max_seq = in.size("context_length", 1, 1u << 20);
  if (!in.has("attention.key_length") && c.d_model % c.n_heads != 0)
    in.refuse("attention.head_count", "does not divide embedding_length, and there is no attention.key_length");
  c.head_dim = in.size_or("attention.key_length", c.d_model / c.n_heads, 1, kMaxHeadDim);
  if (c.head_dim < 1 || c.head_dim > kMaxHeadDim)
    in.refuse("attention.head_count",
              "makes heads of " + std::to_string(c.head_dim) + ", not of 1 to " + std::to_string(kMaxHeadDim));
  if (in.size_or("attention.value_length", c.head_dim, 1, 1u << 20) != c.head_dim)
    in.refuse("attention.value_length", "is not that of the keys, which is not supported");
  c.vocab_size = d.tensors.rows_of("token_embd.weight", 1u << 20);
  const char* epsilon = c.norm == Norm::rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  if (!in.has(epsilon)) in.refuse(epsilon, "is missing");
  c.norm_epsilon = static_cast<float>(in.number_or(epsilon, 1e-5, kSmallestNumber, kLargestNumber));
  c.attention_scale = 1.0f / square_root(static_cast<float>(c.head_dim));
  for (const char* name : {"expert_count", "expert_used_count", "expert_shared_count"})
    in.only_zero(name, "is not supported: a mixture of experts");
  for (const char* name : {"attn_logit_softcapping", "final_logit_softcapping"})
    in.only_zero(name, "is not supported: capped scores or logits");
  in.only_zero("attention.clamp_kqv");
}

void describe_decoder(GgufDescription& d) {
  StackConfig& c = d.c();
  c.n_outputs = c.vocab_size;
  c.tied_unembedding = !d.tensors.has("output.weight");
  c.biases = d.tensors.biases(c, "");
  if (!d.in.flag_or("attention.causal", true)) d.in.refuse("attention.causal");
}

void describe_rope(GgufDescription& d, RotaryPairing pairing) {
  StackConfig& c = d.c();
  c.position = Position::rotary;
  c.rotary_pairing = pairing;
  c.rotary_dims = d.in.size_or("rope.dimension_count", c.head_dim, 2, kMaxHeadDim);
  if (c.rotary_dims % 2 != 0 || c.rotary_dims > c.head_dim)
    d.in.refuse(d.in.has("rope.dimension_count") ? "rope.dimension_count" : "attention.head_count",
                "makes dimensions that rotate in no pairs, or more than a head has");
  Rope& rope = d.x().rope;
  rope.theta = d.in.number_or("rope.freq_base", kUsualTheta, 1.0 + 0x1p-20, 1e12);
  rope = read_scaling(d, rope);
  d.rope_factors = d.tensors.rope_factors(c.rotary_dims / 2);
}

void describe_window(GgufDescription& d) {
  StackConfig& c = d.c();
  c.window = d.in.size_or("attention.sliding_window", 0, 0, 1u << 20);
  if (c.window >= c.max_seq) c.window = 0;
}

}  // namespace heed::quant
