// SPDX-License-Identifier: Apache-2.0
// presets.cpp: the numbers, from each model's own configuration file or paper.
#include "examples/heed/presets.hpp"

#include <cmath>

namespace heed::tool {
namespace {

// What the quantiser makes of a Llama: gains folded into the matrices behind them, keys less their mean.
StackConfig llama(std::uint32_t d_model, std::uint32_t d_ff, std::uint32_t n_layers, std::uint32_t n_heads,
                  std::uint32_t n_kv_heads, std::uint32_t vocab_size, std::uint32_t max_seq) {
  StackConfig c;
  c.d_model = d_model;
  c.d_ff = d_ff;
  c.n_layers = n_layers;
  c.n_heads = n_heads;
  c.n_kv_heads = n_kv_heads;
  c.head_dim = d_model / n_heads;
  c.vocab_size = c.n_outputs = vocab_size;
  c.max_seq = max_seq;
  c.rotary_dims = c.head_dim;
  c.attention_scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
  c.flags = kAttentionGainFolded | kFfnGainFolded | kKeyOffset;
  return c;
}

// Layer norm, learned positions, biases, an ungated feed-forward layer and a matrix of its own for the unembedding.
StackConfig gpt(std::uint32_t d_model, std::uint32_t n_layers, std::uint32_t n_heads, std::uint32_t max_seq) {
  StackConfig c = llama(d_model, 4 * d_model, n_layers, n_heads, n_heads, 50257, max_seq);
  c.norm = Norm::layer;
  c.activation = Activation::gelu_tanh;
  c.gated = 0;
  c.position = Position::none;
  c.position_table = 1;
  c.rotary_dims = 0;
  c.tied_unembedding = 0;
  c.flags = kKeyOffset;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  return c;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> kPresets = [] {
    StackConfig smollm = llama(576, 1536, 30, 9, 3, 49152, 2048);
    smollm.rotary_pairing = RotaryPairing::halves;
    return std::vector<Preset>{
        {"stories260k", llama(64, 172, 5, 8, 4, 512, 512)},
        {"llama2c-15m", llama(288, 768, 6, 6, 6, 32000, 256)},
        {"llama2c-110m", llama(768, 2048, 12, 12, 12, 32000, 1024)},
        {"smollm-135m", smollm},
        {"gpt-3", gpt(12288, 96, 96, 2048), true},
    };
  }();
  return kPresets;
}

std::string preset_names() {
  std::string names;
  for (const Preset& p : presets()) names += (names.empty() ? "" : ", ") + std::string(p.name);
  return names;
}

}  // namespace heed::tool
