// SPDX-License-Identifier: Apache-2.0
// gguf_decoders.cpp: architectures that go on with a text.
#include "quant/readers/gguf_architectures.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

// Llama's block: RMS norms before, SiLU gates, rotary positions.
void describe_llama_like(GgufDescription& d, RotaryPairing pairing) {
  describe_sizes(d, d.c());
  describe_decoder(d);
  describe_rope(d, pairing);
}

// GPT-2's: layer norms before, no gates, GELU.
void describe_gpt_like(GgufDescription& d, Activation activation) {
  StackConfig& c = d.c();
  c.norm = Norm::layer;
  c.gated = 0;
  c.activation = activation;
  c.position = Position::none;
  describe_sizes(d, c);
  describe_decoder(d);
}

// Gemma's: embeddings times sqrt(d_model), GELU gates. Writers have added the 1 to its gains.
void describe_gemma_like(GgufDescription& d) {
  d.c().activation = Activation::gelu_tanh;
  describe_llama_like(d, RotaryPairing::halves);
  d.c().embedding_scale = square_root(static_cast<float>(d.c().d_model));
}

// After how many layers one sees all keys: a number, or a flag for each layer that has a window.
void describe_pattern(GgufDescription& d, std::uint32_t usual) {
  constexpr char kName[] = "attention.sliding_window_pattern";
  StackConfig& c = d.c();
  const std::vector<bool> has_window = d.in.flags(kName);
  if (has_window.empty()) {
    c.global_every = d.in.size_or(kName, usual, 2, 4096);
    c.global_first = c.global_every - 1;
    return;
  }
  std::uint32_t first = 0;
  while (first < has_window.size() && has_window[first]) ++first;
  c.global_every = first < has_window.size() ? first + 1 : 0;
  c.global_first = c.global_every ? first : 0;
  bool regular = has_window.size() == c.n_layers && c.global_every != 1 && c.global_every <= 4096;
  for (std::uint32_t layer = 0; regular && layer < c.n_layers; ++layer)
    regular = has_window[layer] != c.sees_all(layer);
  if (!regular) d.in.refuse(kName, "is no pattern that heed has: every so many layers one without a window");
}

}  // namespace

// Its writers reorder the rows of queries and keys, so that neighbours rotate together.
void describe_llama(GgufDescription& d) {
  describe_llama_like(d, RotaryPairing::adjacent);
  describe_window(d);  // Mistral's
}

void describe_qwen2(GgufDescription& d) { describe_llama_like(d, RotaryPairing::halves); }

void describe_qwen3(GgufDescription& d) {
  d.c().query_key_norm = HeadNorm::rms;
  describe_llama_like(d, RotaryPairing::halves);
}

void describe_gemma(GgufDescription& d) { describe_gemma_like(d); }

// Five layers with a window and rotary positions of their own, then one that sees all. The 27B model alone divides
// its scores by other numbers than sqrt(head_dim), and its file does not say so.
void describe_gemma3(GgufDescription& d) {
  constexpr std::uint32_t kEvery = 6, kLayersOf27B = 62;
  StackConfig& c = d.c();
  c.norm_placement = NormPlacement::both;
  c.query_key_norm = HeadNorm::rms;
  describe_gemma_like(d);
  const float scaled = c.n_layers == kLayersOf27B ? static_cast<float>(c.d_model) / static_cast<float>(c.n_heads)
                                                  : static_cast<float>(c.head_dim);
  c.attention_scale = 1.0f / square_root(scaled);
  c.window = d.in.size("attention.sliding_window", 1, 1u << 20);
  describe_pattern(d, kEvery);
  c.local_rotary = 1;
  d.x().local_rope.theta = d.in.number_or("rope.freq_base_swa", kUsualTheta, 1.0 + 0x1p-20, 1e12);
}

// Attention and feed-forward layer side by side behind one norm.
void describe_phi2(GgufDescription& d) {
  describe_gpt_like(d, Activation::gelu_tanh);
  d.c().sublayers = Sublayers::side_by_side;
  describe_rope(d, RotaryPairing::halves);
}

void describe_phi3(GgufDescription& d) {
  if (d.tensors.has("rope_factors_long.weight") && !d.error)
    d.error = Error(
        "tensor rope_factors_long.weight: other frequencies for long texts than for short ones are not supported");
  describe_llama_like(d, RotaryPairing::halves);
  describe_window(d);
}

void describe_gpt2(GgufDescription& d) {
  describe_gpt_like(d, Activation::gelu_tanh);
  d.c().position_table = 1;
}

// The file does not say which GELU; that of Pythia and of the family's configuration is the exact one.
void describe_gptneox(GgufDescription& d) {
  describe_gpt_like(d, Activation::gelu_erf);
  if (d.in.flag_or("use_parallel_residual", true)) d.c().sublayers = Sublayers::side_by_side_two_norms;
  describe_rope(d, RotaryPairing::halves);
}

void describe_bloom(GgufDescription& d) {
  describe_gpt_like(d, Activation::gelu_tanh);
  StackConfig& c = d.c();
  c.input_norm = 1;
  c.position = Position::alibi;
  d.x().slopes = alibi_slopes(c.n_heads);
  if (d.in.number_or("attention.max_alibi_bias", 8.0, 0.0, 1e6) != 8.0) d.in.refuse("attention.max_alibi_bias");
}

}  // namespace heed::quant
