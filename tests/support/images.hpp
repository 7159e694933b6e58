// SPDX-License-Identifier: Apache-2.0
// images.hpp: small random images, made in memory, for tests that need a model but not a good one.
#pragma once
#include "quant/image_writer.hpp"

namespace heed::test {

// A configuration that check_config accepts, with the fields that tests vary left to the caller.
constexpr StackConfig llama_config(std::uint32_t d_model, std::uint32_t d_ff, std::uint32_t n_layers,
                                   std::uint32_t n_heads, std::uint32_t n_kv_heads, std::uint32_t head_dim,
                                   std::uint32_t vocab_size, std::uint32_t max_seq) {
  StackConfig c;
  c.d_model = d_model;
  c.d_ff = d_ff;
  c.n_layers = n_layers;
  c.n_heads = n_heads;
  c.n_kv_heads = n_kv_heads;
  c.head_dim = head_dim;
  c.vocab_size = c.n_outputs = vocab_size;
  c.max_seq = max_seq;
  c.rotary_dims = head_dim / 2 * 2;
  c.attention_scale = 0.25f;
  return c;
}

// The configuration of stories260K.
constexpr StackConfig stories_config() {
  StackConfig c = llama_config(64, 172, 5, 8, 4, 8, 512, 512);
  c.attention_scale = 0.35355338f;
  return c;
}

// Two stacks with most kinds of tensors: frames
// through convolutions to a two-way encoder with relative positions; a decoder with windows and norms on both sides.
ModelConfig two_stacks_config();
// One stack with most of the rest: tokens of two types behind a class vector, to a class by a dense layer.
StackConfig classifier_config();

struct NamedConfig {
  const char* name;
  StackConfig config;
};

// Shapes that meet the edges: odd widths, groups, one KV head, a head of 256, rows of more than 1,024 columns.
Span<const NamedConfig> edge_configs();

// Weights over the whole int8 range, scales such that activations stay ordinary and attention is peaked.
quant::ImageBytes random_image(const ModelConfig& config, Layout layout, std::uint64_t seed,
                               Span<const std::uint8_t> tokenizer = {});

// The same model with every scale, gain and offset anywhere in its legal range.
quant::ImageBytes wild_image(const ModelConfig& config, Layout layout, std::uint64_t seed);

// The same with everything at 2^exponent, -40 to 40: scales, gains, epsilon, the scale of the scores.
quant::ImageBytes extreme_image(const ModelConfig& config, Layout layout, int exponent);

// stories260K from the test data, quantised here; empty (and counted as skipped) without them.
const quant::ImageBytes& stories_image();

// A vocabulary of this many pieces: <unk>, BOS, EOS, all bytes, and two-letter pieces. vocab_size >= 259.
std::vector<std::uint8_t> small_tokenizer(std::uint32_t vocab_size);

}  // namespace heed::test
