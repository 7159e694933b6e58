// SPDX-License-Identifier: Apache-2.0
// config.hpp: one description for every transformer that an image can hold; its 128 bytes are those of the image.
#pragma once
#include "runtime/bits.hpp"
#include "runtime/features.hpp"
#include "runtime/status.hpp"
#include "runtime/tensor.hpp"

namespace heed {

enum class Architecture : std::uint8_t { decoder = 0, encoder = 1, encoder_decoder = 2 };
enum class Input : std::uint8_t { tokens = 0, features = 1 };
enum class Output : std::uint8_t { logits = 0, pooled_class = 1, hidden_states = 2 };
enum class Norm : std::uint8_t { rms = 0, layer = 1 };
enum class NormPlacement : std::uint8_t { before = 0, after = 1 };
enum class Activation : std::uint8_t { relu = 0, gelu_tanh = 1, gelu_erf = 2, silu = 3 };
enum class Position : std::uint8_t { none = 0, learned = 1, sinusoidal = 2, rotary = 3, alibi = 4, relative = 5 };
enum class RotaryPairing : std::uint8_t { adjacent = 0, halves = 1 };
enum class Mask : std::uint8_t { causal = 0, bidirectional = 1 };

// Bits of ModelConfig::flags.
inline constexpr std::uint16_t kAttentionGainFolded = 1;  // the gain of the norm is part of the weights behind it
inline constexpr std::uint16_t kFfnGainFolded = 2;
inline constexpr std::uint16_t kFinalGainFolded = 4;
inline constexpr std::uint16_t kKeyOffset = 8;            // each layer carries a key_offset tensor
inline constexpr std::uint16_t kQueryKeyNorm = 16;
inline constexpr std::uint16_t kKnownFlags = 31;

// Bits of ModelConfig::biases.
inline constexpr std::uint16_t kBiasQueryKeyValue = 1, kBiasValueUp = 2, kBiasFfnIn = 4, kBiasDown = 8, kBiasHead = 16,
                               kBiasNorm = 32, kKnownBiases = 63;

// A place where one quantised vector feeds one or more matrices, which therefore share a group size.
enum class Site : std::uint8_t { attention_in = 0, value_up_in = 1, ffn_in = 2, down_in = 3, unembed_in = 4 };
inline constexpr int kSiteCount = 5;

struct ModelConfig {
  Architecture architecture = Architecture::decoder;
  Input input = Input::tokens;
  Output output = Output::logits;
  Norm norm = Norm::rms;
  NormPlacement norm_placement = NormPlacement::before;
  Activation activation = Activation::silu;
  std::uint8_t gated = 1;
  Position position = Position::rotary;
  RotaryPairing rotary_pairing = RotaryPairing::adjacent;
  Mask mask = Mask::causal;
  std::uint8_t tied_unembedding = 1;
  std::uint8_t reserved0 = 0;
  std::uint16_t biases = 0;
  std::uint16_t flags = 0;
  std::uint32_t d_model = 0;
  std::uint32_t d_ff = 0;
  std::uint32_t n_layers = 0;          // decoder layers, or the layers of an encoder-only model
  std::uint32_t n_encoder_layers = 0;  // of an encoder-decoder
  std::uint32_t n_heads = 0;
  std::uint32_t n_kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t max_seq = 0;           // positions that the model was trained for
  std::uint32_t window = 0;            // sliding window in positions, 0 = none
  std::uint32_t n_sinks = 0;           // positions always visible beside the window
  std::uint32_t d_input = 0;           // width of a feature vector, 0 with tokens
  std::uint32_t rotary_dims = 0;       // dimensions of a head that rotate
  float norm_epsilon = 1e-5f;
  float attention_scale = 0.0f;        // usually 1 / sqrt(head_dim)
  float embedding_scale = 1.0f;
  std::uint16_t groups[kSiteCount] = {0, 0, 0, 0, 0};  // columns per group at each Site, 0 = one scale per row
  std::uint16_t reserved1 = 0;
  std::uint32_t reserved2[9] = {};

  constexpr std::uint32_t d_query() const { return n_heads * head_dim; }
  constexpr std::uint32_t d_key_value() const { return n_kv_heads * head_dim; }
  constexpr std::uint32_t group(Site s) const { return groups[static_cast<int>(s)]; }
};
static_assert(sizeof(ModelConfig) == 128, "the image holds these bytes");

// Whether any build of this version can run it (SPEC.md, C12).
constexpr bool is_carried(const ModelConfig& c) {
  return c.architecture == Architecture::decoder && c.input == Input::tokens && c.output == Output::logits &&
         c.norm_placement == NormPlacement::before && c.mask == Mask::causal && c.window == 0 && c.n_sinks == 0 &&
         c.n_encoder_layers == 0 && !(c.flags & kQueryKeyNorm) && bits_of(c.embedding_scale) == bits_of(1.0f) &&
         !(c.tied_unembedding && (c.biases & kBiasHead)) &&
         (c.position == Position::rotary || c.position == Position::learned || c.position == Position::none);
}

// The features without which a build refuses the model. What a program asks for beside it (chance, threads, the pattern)
// is the program's own.
constexpr Features required_features(const ModelConfig& c) {
  Features f = kNoFeatures;
  std::uint32_t groups = 0;
  for (std::uint16_t g : c.groups) groups |= g;
  f.groups = groups != 0;
  f.biases = (c.biases & ~kBiasNorm) != 0;
  f.ungated = !c.gated;
  f.key_offset = (c.flags & kKeyOffset) != 0;
  f.layer_norm = c.norm == Norm::layer;
  f.learned_positions = c.position == Position::learned;
  f.gelu = c.activation == Activation::gelu_tanh || c.activation == Activation::gelu_erf;
  f.relu = c.activation == Activation::relu;
  return f;
}

// Whether a set lacks one of those. By name, because what is built costs a firmware no look at it then.
constexpr bool lacks(const Features& built, const Features& needed) {
  return (!built.groups && needed.groups) || (!built.biases && needed.biases) || (!built.ungated && needed.ungated) ||
         (!built.key_offset && needed.key_offset) || (!built.layer_norm && needed.layer_norm) ||
         (!built.learned_positions && needed.learned_positions) || (!built.gelu && needed.gelu) ||
         (!built.relu && needed.relu);
}

// Everything a configuration must satisfy on its own (SPEC.md, C1 to C12), then what this build can run.
constexpr Status check_config(const ModelConfig& c) {
  const auto between = [](std::uint32_t v, std::uint32_t low, std::uint32_t high) { return v >= low && v <= high; };
  if (static_cast<int>(c.architecture) > 2 || static_cast<int>(c.input) > 1 || static_cast<int>(c.output) > 2 ||
      static_cast<int>(c.norm) > 1 || static_cast<int>(c.norm_placement) > 1 || static_cast<int>(c.activation) > 3 ||
      c.gated > 1 || static_cast<int>(c.position) > 5 || static_cast<int>(c.rotary_pairing) > 1 ||
      static_cast<int>(c.mask) > 1 || c.tied_unembedding > 1)
    return Status::bad_config;
  if ((c.flags & ~kKnownFlags) || (c.biases & ~kKnownBiases) || c.reserved0 || c.reserved1) return Status::bad_config;
  for (std::uint32_t r : c.reserved2)
    if (r) return Status::bad_config;
  if (!between(c.d_model, 1, 65536) || !between(c.d_ff, 1, kMaxCols) || !between(c.n_layers, 1, 4096) ||
      c.n_encoder_layers > 4096)
    return Status::bad_config;
  if (!between(c.head_dim, 1, 256) || !between(c.n_heads, 1, 1024) || !between(c.n_kv_heads, 1, c.n_heads) ||
      c.n_heads % c.n_kv_heads != 0 || c.d_query() > kMaxCols)
    return Status::bad_config;
  if (!between(c.max_seq, 1, 1u << 20) || c.window > c.max_seq || c.n_sinks > c.max_seq) return Status::bad_config;
  if (c.input == Input::tokens ? !between(c.vocab_size, 1, 1u << 20) || c.d_input != 0
                               : !between(c.d_input, 1, 65536) || c.vocab_size > 1u << 20)
    return Status::bad_config;
  if (c.position == Position::rotary ? c.rotary_dims == 0 || c.rotary_dims % 2 != 0 || c.rotary_dims > c.head_dim
                                     : c.rotary_dims != 0)
    return Status::bad_config;
  if (!in_range(c.norm_epsilon) || !in_range(c.attention_scale) || !in_range(c.embedding_scale))
    return Status::bad_config;
  for (std::uint16_t g : c.groups)
    if (g != 0 && g != 32 && g != 64 && g != 128 && g != 256) return Status::bad_config;
  if ((c.biases & kBiasNorm) && c.norm != Norm::layer) return Status::bad_config;
  if (!is_carried(c) || lacks(kBuiltFeatures, required_features(c))) return Status::feature_not_built;
  return Status::ok;
}

}  // namespace heed
