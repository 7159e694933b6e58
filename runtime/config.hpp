// SPDX-License-Identifier: Apache-2.0
// config.hpp: one description for every transformer that an image can hold: one or two stacks of alike blocks; the 256
// bytes of a stack are those of the image (SPEC.md 1.3).
#pragma once
#include <cstddef>

#include "runtime/activation.hpp"
#include "runtime/bits.hpp"
#include "runtime/features.hpp"
#include "runtime/status.hpp"
#include "runtime/tensor.hpp"

namespace heed {

// What a stack's blocks are run for.
enum class Use : std::uint8_t {
  generate = 0,  // one token after the other: keys and values of all layers are kept
  encode = 1     // a whole sequence at once: those of one layer at a time
};
enum class Input : std::uint8_t {
  tokens = 0,
  vectors = 1,    // [d_model] each, as they are
  projected = 2,  // [d_input] each, through a matrix
  convolved = 3   // [d_input] each, through one-dimensional convolutions over three neighbours
};
enum class Mask : std::uint8_t { causal = 0, two_way = 1 };
enum class Norm : std::uint8_t { rms = 0, layer = 1 };
enum class NormPlacement : std::uint8_t {
  before = 0,  // x += f(norm(x))
  after = 1,   // x = norm(x + f(x))
  both = 2     // x += norm(f(norm(x)))
};
enum class Sublayers : std::uint8_t {
  in_turn = 0,
  side_by_side = 1,           // x += attention(norm(x)) + feed_forward(norm(x)), one norm
  side_by_side_two_norms = 2  // each with its own
};
enum class Position : std::uint8_t {
  none = 0,
  rotary = 1,
  alibi = 2,    // a bias of the scores, proportional to the distance
  relative = 3  // a bias of the scores for each distance
};
enum class RotaryPairing : std::uint8_t { adjacent = 0, halves = 1 };
enum class HeadNorm : std::uint8_t { none = 0, rms = 1, layer = 2 };  // of each query and key head
enum class ValueMap : std::uint8_t {
  factors = 0,   // w_value_down, w_value_up
  undivided = 1  // per KV head one d_model x d_model map, in w_value_down; no w_value_up
};
enum class Pooling : std::uint8_t { every = 0, first = 1, mean = 2, last = 3 };  // every: an output per position
enum class Output : std::uint8_t { logits = 0, vectors = 1 };

// Bits of StackConfig::biases: which matrices have one, and whether norms do.
inline constexpr std::uint32_t kBiasQuery = 1, kBiasKey = 2, kBiasValueDown = 4, kBiasValueUp = 8, kBiasFfnIn = 16,
                               kBiasDown = 32, kBiasUnembedding = 64, kBiasNorm = 128, kBiasCrossQuery = 256,
                               kBiasCrossKey = 512, kBiasCrossValueDown = 1024, kBiasCrossValueUp = 2048,
                               kBiasInput = 4096, kBiasDense = 8192, kKnownBiases = 16383;
inline constexpr std::uint32_t kCrossBiasShift = 8;  // from a bit of self-attention to that of cross-attention

// The largest magnitude of a bias of scores for a distance, in 2^-10 powers of two.
inline constexpr std::int32_t kMaxScoreBias = 1 << 23;

// Bits of StackConfig::flags.
inline constexpr std::uint32_t kAttentionGainFolded = 1;  // the gain of the norm is part of the weights behind it
inline constexpr std::uint32_t kFfnGainFolded = 2;
inline constexpr std::uint32_t kFinalGainFolded = 4;
inline constexpr std::uint32_t kCrossGainFolded = 8;
inline constexpr std::uint32_t kKeyOffset = 16;       // each layer's self-attention carries a key_offset tensor
inline constexpr std::uint32_t kCrossKeyOffset = 32;  // each layer's cross-attention does
inline constexpr std::uint32_t kKnownFlags = 63;

// A place where one quantised vector feeds one or more matrices, which therefore share a group size.
enum class Site : std::uint8_t {
  attention_in = 0, value_up_in = 1, ffn_in = 2, down_in = 3, unembed_in = 4,
  cross_in = 5,           // w_query of cross-attention
  cross_value_up_in = 6,
  source_in = 7,          // w_key and w_value_down of cross-attention: the first stack's output
  input_in = 8,           // the projection of feature vectors, or the first convolution
  convolution_in = 9,     // the second one
  dense_in = 10
};
inline constexpr int kSiteCount = 11;

// The choices come first, one byte each, then bits, then counts, then floats; config_detail lists the first and the third
// in this order.
struct StackConfig {
  Use use = Use::generate;
  Input input = Input::tokens;
  Mask mask = Mask::causal;
  std::uint8_t cross_attention = 0;  // 1: between self-attention and feed-forward layer, to the output of the stack before
  Norm norm = Norm::rms;
  NormPlacement norm_placement = NormPlacement::before;
  Sublayers sublayers = Sublayers::in_turn;
  std::uint8_t input_norm = 0;       // 1: a norm behind the sum of the embeddings
  std::uint8_t final_norm = 1;       // 1: a norm behind the last block
  std::uint8_t position_table = 0;   // 1: a vector per position is added to the embeddings, learned or sinusoidal
  Position position = Position::rotary;
  RotaryPairing rotary_pairing = RotaryPairing::adjacent;
  HeadNorm query_key_norm = HeadNorm::none;
  ValueMap value_map = ValueMap::factors;
  std::uint8_t gated = 1;
  Activation activation = Activation::silu;
  Pooling pooling = Pooling::every;
  std::uint8_t dense = 0;            // 1: a matrix and an activation behind pooling
  Activation dense_activation = Activation::none;
  std::uint8_t dense_norm = 0;       // 1: a norm behind that
  Output output = Output::logits;
  std::uint8_t tied_unembedding = 1; // 1: the token embedding unembeds too
  std::uint8_t unit_length = 0;      // 1: vectors are divided by their length
  std::uint8_t second_convolution = 0;   // 1: of a convolved input
  std::uint8_t strides[2] = {0, 0};  // of the convolutions that there are, 1 or 2
  std::uint8_t n_output_heads = 1;   // unembeddings whose logits are averaged, one for each of the first positions; to 7
  std::uint8_t reserved0[5] = {};
  std::uint32_t biases = 0, flags = 0;

  std::uint32_t d_model = 0, d_ff = 0, n_layers = 0;
  std::uint32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::uint32_t vocab_size = 0;      // tokens that come in; 0 without tokens
  std::uint32_t n_outputs = 0;       // logits of one vector: vocab_size of a decoder, or classes; 0 where vectors come out
  std::uint32_t max_seq = 0;         // positions that the stack was trained for, class vectors included
  std::uint32_t window = 0;          // a position sees keys less than this far away; 0 = all
  std::uint32_t global_every = 0;    // with a window: of so many layers one sees all keys; 0 = none does
  std::uint32_t global_first = 0;    // layer l does where l % global_every is this
  std::uint32_t n_sinks = 0;         // positions always visible beside the window; none so far
  std::uint32_t rotary_dims = 0;     // dimensions of a head that rotate
  std::uint32_t local_rotary = 0;    // 1: windowed layers have phases of their own
  std::uint32_t n_distances = 0;     // of relative positions: biases per head
  std::uint32_t d_input = 0;         // width of a feature vector; 0 with tokens
  std::uint32_t d_source = 0;        // width of what cross-attention reads; 0 without
  std::uint32_t n_token_types = 0, n_class_vectors = 0;
  std::uint32_t d_dense = 0;

  float norm_epsilon = 1e-5f;
  float attention_scale = 0.0f;      // usually 1 / sqrt(head_dim)
  float cross_scale = 0.0f;          // the same of cross-attention; 0 without
  float embedding_scale = 1.0f;
  std::uint16_t groups[kSiteCount] = {};  // columns per group at each Site, 0 = one scale per row
  std::uint16_t reserved1 = 0;
  std::uint32_t reserved2[23] = {};

  constexpr std::uint32_t d_query() const { return n_heads * head_dim; }
  constexpr std::uint32_t d_key() const { return n_kv_heads * head_dim; }
  // Of a value head, and of all of them; and of the heads' outputs side by side.
  constexpr std::uint32_t value_dim() const {
    return kBuiltFeatures.undivided_values && value_map == ValueMap::undivided ? d_model : head_dim;
  }
  constexpr std::uint32_t d_value() const { return n_kv_heads * value_dim(); }
  constexpr std::uint32_t d_heads() const { return n_heads * value_dim(); }
  // Of the vectors that come in; 0 with tokens.
  constexpr std::uint32_t input_width() const { return input == Input::vectors ? d_model : d_input; }
  // Of the vectors that the unembedding reads, or that come out.
  constexpr std::uint32_t d_output() const { return kBuiltFeatures.dense && dense ? d_dense : d_model; }
  constexpr std::uint32_t group(Site s) const { return kBuiltFeatures.groups ? groups[static_cast<int>(s)] : 0; }
  constexpr bool sees_all(std::uint32_t layer) const {
    return window == 0 || (global_every != 0 && layer % global_every == global_first);
  }
};
static_assert(sizeof(StackConfig) == 256, "the image holds these bytes");

// A decoder or an encoder is one stack; an encoder-decoder is two, the second with cross-attention to the first. A build
// without cross-attention runs no model of two, and spares the memory of the second description.
inline constexpr std::uint32_t kMaxStacks = kBuiltFeatures.cross_attention ? 2 : 1;
struct ConfigView;
struct ModelConfig {
  StackConfig stacks[kMaxStacks];
  std::uint32_t n_stacks = 1;

  constexpr ModelConfig() = default;
  constexpr ModelConfig(const StackConfig& only) { stacks[0] = only; }  // implicit: a stack alone is a model
  // Of a view of nothing, or of more stacks than there can be, a description that check_config refuses.
  constexpr ModelConfig(const ConfigView& view);

  // The stack whose output is the model's, and the one that it reads through cross-attention.
  constexpr const StackConfig& main() const { return stacks[count() - 1]; }
  constexpr StackConfig& main() { return stacks[count() - 1]; }
  constexpr const StackConfig& source() const { return stacks[0]; }
  // n_stacks, and known to the compiler where there can be only one; of a number that check_config refuses, 1.
  constexpr std::uint32_t count() const { return kMaxStacks == 2 && n_stacks == 2 ? 2 : 1; }
};

// The same where it lies, usually in an image: it is not copied into memory, and must outlive the view.
struct ConfigView {
  const StackConfig* stacks = nullptr;  // [n_stacks]; null until there is a model
  std::uint32_t n_stacks = 1;

  constexpr ConfigView() = default;
  constexpr ConfigView(const StackConfig* first, std::uint32_t n) : stacks(first), n_stacks(n) {}
  explicit constexpr ConfigView(const ModelConfig& config) : ConfigView(config.stacks, config.n_stacks) {}
  ConfigView(const ModelConfig&&) = delete;  // nothing would be left to look at

  // Precondition: stacks.
  constexpr const StackConfig& main() const { return stacks[count() - 1]; }
  constexpr const StackConfig& source() const { return stacks[0]; }
  constexpr std::uint32_t count() const { return kMaxStacks == 2 && n_stacks == 2 ? 2 : 1; }
};
constexpr ModelConfig::ModelConfig(const ConfigView& view) : n_stacks(view.stacks ? view.n_stacks : 0) {
  for (std::uint32_t i = 0; n_stacks != 0 && i < count(); ++i) stacks[i] = view.stacks[i];
}

// ---- What a stack is made of, as far as this build can have it; a question that it answers by itself costs nothing ----

constexpr bool encodes(const StackConfig& c) { return kBuiltFeatures.encode && c.use == Use::encode; }
constexpr bool sees_both_ways(const StackConfig& c) { return kBuiltFeatures.encode && c.mask == Mask::two_way; }
constexpr bool is_pooled(const StackConfig& c) { return kBuiltFeatures.pooling && c.pooling != Pooling::every; }
constexpr bool has_dense(const StackConfig& c) { return kBuiltFeatures.dense && c.dense != 0; }
constexpr bool has_cross(const StackConfig& c) { return kBuiltFeatures.cross_attention && c.cross_attention != 0; }
constexpr bool is_undivided(const StackConfig& c) {
  return kBuiltFeatures.undivided_values && c.value_map == ValueMap::undivided;
}
constexpr bool has_score_bias(const StackConfig& c) {
  return kBuiltFeatures.score_bias && (c.position == Position::alibi || c.position == Position::relative);
}
constexpr bool normed_before(const StackConfig& c) {
  return !kBuiltFeatures.norm_after || c.norm_placement != NormPlacement::after;
}
constexpr bool normed_after(const StackConfig& c) {
  return kBuiltFeatures.norm_after && c.norm_placement != NormPlacement::before;
}
constexpr bool has_final_norm(const StackConfig& c) { return !kBuiltFeatures.norm_after || c.final_norm != 0; }
constexpr bool is_side_by_side(const StackConfig& c) {
  return kBuiltFeatures.side_by_side && c.sublayers != Sublayers::in_turn;
}
constexpr bool reads_tokens(const StackConfig& c) {
  return !(kBuiltFeatures.vector_input || kBuiltFeatures.convolutions) || c.input == Input::tokens;
}
constexpr bool is_projected(const StackConfig& c) { return kBuiltFeatures.vector_input && c.input == Input::projected; }
constexpr bool is_convolved(const StackConfig& c) { return kBuiltFeatures.convolutions && c.input == Input::convolved; }
constexpr bool gives_logits(const StackConfig& c) { return !kBuiltFeatures.encode || c.output == Output::logits; }
// Whether rows are added to embeddings.
constexpr bool adds_rows(const StackConfig& c) {
  return (kBuiltFeatures.learned_positions && c.position_table) || (kBuiltFeatures.embedding_extras && c.n_token_types);
}

// ---- What a stack needs -----------------------------------------------------------------------------------------

constexpr bool is_gelu(Activation a) { return a == Activation::gelu_tanh || a == Activation::gelu_erf; }

// The features without which a build refuses a stack. What a program asks for beside it (chance, threads, the pattern)
// is the program's own.
constexpr Features required_features(const StackConfig& c) {
  Features f = kNoFeatures;
  for (const std::uint16_t g : c.groups) f.groups = f.groups || g != 0;
  f.biases = (c.biases & ~kBiasNorm) != 0;
  f.ungated = !c.gated;
  f.key_offset = (c.flags & (kKeyOffset | kCrossKeyOffset)) != 0;
  f.layer_norm = c.norm == Norm::layer || c.query_key_norm == HeadNorm::layer;
  f.learned_positions = c.position_table != 0;
  f.gelu = is_gelu(c.activation) || is_gelu(c.dense_activation);
  f.gelu_quick = c.activation == Activation::gelu_quick || c.dense_activation == Activation::gelu_quick;
  f.relu = c.activation == Activation::relu || c.dense_activation == Activation::relu;
  f.windows = c.window != 0;
  f.score_bias = c.position == Position::alibi || c.position == Position::relative;
  f.norm_after = c.norm_placement != NormPlacement::before || !c.final_norm;
  f.query_key_norm = c.query_key_norm != HeadNorm::none;
  f.encode = c.use == Use::encode;
  f.cross_attention = c.cross_attention != 0;
  f.vector_input = c.input == Input::vectors || c.input == Input::projected;
  f.convolutions = c.input == Input::convolved;
  f.embedding_extras = bits_of(c.embedding_scale) != bits_of(1.0f) || c.n_token_types || c.n_class_vectors || c.input_norm;
  f.side_by_side = c.sublayers != Sublayers::in_turn;
  f.pooling = c.pooling != Pooling::every || c.unit_length;
  f.dense = c.dense != 0;
  f.undivided_values = c.value_map == ValueMap::undivided;
  return f;
}
constexpr Features required_features(const ConfigView& m) {
  Features f = kNoFeatures;
  for (std::uint32_t i = 0; i < m.count(); ++i) f = f + required_features(m.stacks[i]);
  return f;
}
constexpr Features required_features(const ModelConfig& m) { return required_features(ConfigView(m)); }

// What a model needs, whether or not this build has it; of an image: needs_of in model.hpp.
struct Needs {
  Features features = kNoFeatures;
  bool sinks = false, four_bit_weights = false;  // no build of this version carries them (SPEC.md, C20 and D2)

  constexpr bool is_carried() const { return !sinks && !four_bit_weights; }
  constexpr void add(const StackConfig& c) {
    features = features + required_features(c);
    sinks = sinks || c.n_sinks != 0;
  }
};
constexpr Needs needs_of(const ConfigView& m) {
  Needs needs;
  for (std::uint32_t i = 0; i < m.count(); ++i) needs.add(m.stacks[i]);
  return needs;
}
constexpr Needs needs_of(const ModelConfig& m) { return needs_of(ConfigView(m)); }

}  // namespace heed
