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

namespace config_detail {

// What a byte of a choice may be: bit v for value v. Of every build, and of this one.
struct Choice {
  std::uint8_t known, built;
};
constexpr Features kHas = kBuiltFeatures;
constexpr std::uint8_t only(int values) { return static_cast<std::uint8_t>(values); }
constexpr Choice choice(int always, bool feature, int more) {
  return {only(always | more), only(feature ? always | more : always)};
}
constexpr Choice kFlag{3, 3}, kNothing{1, 1};
constexpr int kTabled = (kHas.gelu ? 6 : 0) | (kHas.gelu_quick ? 16 : 0) | (kHas.relu ? 1 : 0);  // activations beside SiLU

// The first 32 bytes of StackConfig.
inline constexpr Choice kChoices[32] = {
    choice(1, kHas.encode, 2),                                               // use
    {15, only(1 | (kHas.vector_input ? 6 : 0) | (kHas.convolutions ? 8 : 0))},  // input
    choice(1, kHas.encode, 2),                                               // mask
    choice(1, kHas.cross_attention, 2),                                      // cross_attention
    choice(1, kHas.layer_norm, 2),                                           // norm
    choice(1, kHas.norm_after, 6),                                           // norm_placement
    choice(1, kHas.side_by_side, 6),                                         // sublayers
    choice(1, kHas.embedding_extras, 2),                                     // input_norm
    choice(2, kHas.norm_after, 1),                                           // final_norm
    choice(1, kHas.learned_positions, 2),                                    // position_table
    choice(3, kHas.score_bias, 12),                                          // position
    kFlag,                                                                   // rotary_pairing
    {7, only(1 | (kHas.query_key_norm ? 2 | (kHas.layer_norm ? 4 : 0) : 0))},  // query_key_norm
    choice(1, kHas.undivided_values, 2),                                     // value_map
    choice(2, kHas.ungated, 1),                                              // gated
    {31, only(8 | kTabled)},                                                 // activation
    choice(1, kHas.pooling, 14),                                             // pooling
    choice(1, kHas.dense, 2),                                                // dense
    {127, only(64 | (kHas.dense ? 40 | kTabled : 0))},                       // dense_activation
    choice(1, kHas.dense, 2),                                                // dense_norm
    choice(1, kHas.encode, 2),                                               // output
    kFlag,                                                                   // tied_unembedding
    choice(1, kHas.pooling, 2),                                              // unit_length
    choice(1, kHas.convolutions, 2),                                         // second_convolution
    choice(1, kHas.convolutions, 6), choice(1, kHas.convolutions, 6),        // strides
    choice(2, kHas.pooling, 252),                                            // n_output_heads, 1 to 7
    kNothing, kNothing, kNothing, kNothing, kNothing};                       // reserved0

// What a count may be: at most 2^exponent; not 0 with kFromOne; nothing but 0 in a build that has it as kNone.
constexpr std::uint8_t kFromOne = 32, kNone = 64;
constexpr std::uint8_t count_if(bool feature, int exponent) { return only(feature ? exponent : exponent | kNone); }
inline constexpr std::uint8_t kCounts[21] = {
    16 | kFromOne, 17 | kFromOne, 12 | kFromOne,  // d_model, d_ff, n_layers
    10 | kFromOne, 10 | kFromOne, 8 | kFromOne,   // n_heads, n_kv_heads, head_dim
    20, 20, 20 | kFromOne,                        // vocab_size, n_outputs, max_seq
    count_if(kHas.windows, 20), count_if(kHas.windows, 12), count_if(kHas.windows, 12),  // window, global_every, global_first
    20 | kNone, 8, count_if(kHas.windows, 0),     // n_sinks, rotary_dims, local_rotary
    count_if(kHas.score_bias, 20),                // n_distances
    count_if(kHas.vector_input || kHas.convolutions, 16), count_if(kHas.cross_attention, 16),  // d_input, d_source
    count_if(kHas.embedding_extras, 16), count_if(kHas.embedding_extras, 16),  // n_token_types, n_class_vectors
    count_if(kHas.dense, 16)};                    // d_dense

// The record as what it is in the image. A constant expression may not look at bytes in place, and copies them.
struct Bytes {
  std::uint8_t of[sizeof(StackConfig)];
};
constexpr std::uint8_t byte_at(const StackConfig& c, std::uint32_t i) {
  if (__builtin_is_constant_evaluated()) return __builtin_bit_cast(Bytes, c).of[i];
  return reinterpret_cast<const std::uint8_t*>(&c)[i];
}
struct Words {
  std::uint32_t of[sizeof(StackConfig) / 4];
};
constexpr std::uint32_t word_at(const StackConfig& c, std::uint32_t i) {
  if (__builtin_is_constant_evaluated()) return __builtin_bit_cast(Words, c).of[i];
  return reinterpret_cast<const std::uint32_t*>(&c)[i];
}
inline constexpr std::uint32_t kFirstCount = 10, kFirstGroupWord = 35, kFirstReservedWord = 41;
static_assert(offsetof(StackConfig, d_model) == 4 * kFirstCount && offsetof(StackConfig, groups) == 4 * kFirstGroupWord &&
              offsetof(StackConfig, reserved2) == 4 * kFirstReservedWord);

}  // namespace config_detail

// Everything that a stack must satisfy on its own (SPEC.md, C1 to C18, C20). What this build does not carry is refused first,
// so that the rules behind it are built with the features that they are about.
constexpr Status check_stack(const StackConfig& c) {
  using namespace config_detail;
  std::uint32_t missing = 0;  // not 0 if something is not built
  for (std::uint32_t i = 0; i < sizeof kChoices / sizeof *kChoices; ++i) {
    const std::uint32_t v = byte_at(c, i);
    if (v > 7 || !((kChoices[i].known >> v) & 1)) return Status::bad_config;
    missing |= ~(std::uint32_t{kChoices[i].built} >> v) & 1;
  }
  for (std::uint32_t i = 0; i < sizeof kCounts; ++i) {
    const std::uint32_t v = word_at(c, kFirstCount + i), rule = kCounts[i];
    if (((rule & kFromOne) && v == 0) || v > 1u << (rule & 31)) return Status::bad_config;
    if (rule & kNone) missing |= v;
  }
  // A build without groups reads them, and what is reserved beside them, as the words in front of the reserved ones.
  for (std::uint32_t i = kHas.groups ? kFirstReservedWord : kFirstGroupWord; i < sizeof(StackConfig) / 4; ++i) {
    const std::uint32_t v = word_at(c, i);
    if (v != 0 && i >= kFirstReservedWord) return Status::bad_config;
    missing |= v;
  }
  std::uint32_t grouped_sites = 0;
  if (kHas.groups) {
    for (int i = 0; i < kSiteCount; ++i) {
      const std::uint32_t g = c.groups[i];
      if ((g & ~(32u | 64u | 128u | 256u)) || (g & (g - 1))) return Status::bad_config;
      grouped_sites |= g ? 1u << i : 0u;
    }
    if (c.reserved1) return Status::bad_config;
  }
  if (!kHas.biases) missing |= c.biases & ~kBiasNorm;
  if (!kHas.key_offset) missing |= c.flags & (kKeyOffset | kCrossKeyOffset);
  if (!kHas.embedding_extras) missing |= bits_of(c.embedding_scale) ^ bits_of(1.0f);
  if (missing) return Status::feature_not_built;

  // What there is, as far as this build can have it.
  const bool tokens = !(kHas.vector_input || kHas.convolutions) || c.input == Input::tokens;
  const bool convolved = kHas.convolutions && c.input == Input::convolved;
  const bool projected = kHas.vector_input && c.input == Input::projected;
  const bool logits = !kHas.encode || c.output == Output::logits;
  const bool pooled = kHas.pooling && c.pooling != Pooling::every;
  const bool dense = kHas.dense && c.dense;
  const bool cross = kHas.cross_attention && c.cross_attention;
  const bool undivided = kHas.undivided_values && c.value_map == ValueMap::undivided;
  const bool norm_before = !kHas.norm_after || c.norm_placement != NormPlacement::after;
  const bool final_norm = !kHas.norm_after || c.final_norm;
  const bool side_by_side = kHas.side_by_side && c.sublayers != Sublayers::in_turn;
  const bool rotary = c.position == Position::rotary;
  const bool norm_biases = kHas.layer_norm && (c.norm == Norm::layer || (kHas.query_key_norm && c.query_key_norm == HeadNorm::layer));
  const auto site = [](Site s) { return 1u << static_cast<unsigned>(s); };

  // Heads.
  if (c.n_heads % c.n_kv_heads != 0 || c.d_query() > kMaxCols) return Status::bad_config;
  if (undivided && (c.d_model > kMaxHeadDim || c.d_heads() > kMaxCols)) return Status::bad_config;
  // What comes in, and what goes out. As many outputs as tokens, and tokens, are logits too.
  if ((c.vocab_size != 0) != tokens || (c.n_outputs != 0) != logits) return Status::bad_config;
  if ((!kHas.encode || c.use == Use::generate) &&
      (!tokens || c.n_outputs != c.vocab_size || pooled || (kHas.encode && c.mask != Mask::causal) ||
       (kHas.embedding_extras && c.n_class_vectors)))
    return Status::bad_config;
  if (c.tied_unembedding && (!tokens || c.n_outputs != c.vocab_size || (kHas.pooling && c.n_output_heads != 1) ||
                             (kHas.dense && c.d_output() != c.d_model)))
    return Status::bad_config;
  if ((kHas.vector_input || kHas.convolutions) && (c.d_input != 0) != (projected || convolved)) return Status::bad_config;
  if (kHas.convolutions &&
      ((c.strides[0] != 0) != convolved || (c.strides[1] != 0) != (c.second_convolution != 0) ||
       (c.second_convolution && !convolved) || (convolved && 3 * c.d_input > kMaxCols) ||
       (c.second_convolution && 3 * c.d_model > kMaxCols)))
    return Status::bad_config;
  if (kHas.embedding_extras && (c.n_class_vectors >= c.max_seq ||
                                (!tokens && (c.n_token_types || bits_of(c.embedding_scale) != bits_of(1.0f)))))
    return Status::bad_config;
  if (kHas.dense && ((c.d_dense != 0) != dense ||
                     (!dense && (c.dense_activation != Activation::none || c.dense_norm))))
    return Status::bad_config;
  if (kHas.pooling && ((c.unit_length && logits) ||
                       (c.n_output_heads > 1 && (c.pooling != Pooling::first || !logits || dense ||
                                                 c.n_output_heads > c.n_class_vectors + 1))))
    return Status::bad_config;
  // Positions and windows.
  if (rotary ? c.rotary_dims == 0 || c.rotary_dims % 2 != 0 || c.rotary_dims > c.head_dim
             : c.rotary_dims != 0 || c.rotary_pairing != RotaryPairing::adjacent)
    return Status::bad_config;
  if (kHas.score_bias && ((c.n_distances != 0) != (c.position == Position::relative) ||
                          (c.n_distances != 0 && c.mask == Mask::two_way && c.n_distances % 2 == 0)))
    return Status::bad_config;
  if (kHas.windows && ((c.global_every ? c.global_every < 2 || c.window == 0 || c.global_first >= c.global_every
                                       : c.global_first != 0) ||
                       (c.local_rotary && (c.window == 0 || !rotary))))
    return Status::bad_config;
  // Sublayers, and the bits and groups of what they have.
  if (side_by_side && (!norm_before || cross)) return Status::bad_config;
  if (kHas.cross_attention && (c.d_source != 0) != cross) return Status::bad_config;
  const std::uint32_t flags = kKeyOffset | (norm_before ? kAttentionGainFolded : 0) |
                              (norm_before && !(side_by_side && c.sublayers == Sublayers::side_by_side) ? kFfnGainFolded : 0) |
                              (final_norm ? kFinalGainFolded : 0) | (cross ? kCrossKeyOffset : 0) |
                              (cross && norm_before ? kCrossGainFolded : 0);
  const std::uint32_t biases =
      (kBiasQuery | kBiasKey | kBiasValueDown | kBiasFfnIn | kBiasDown) | (undivided ? 0 : kBiasValueUp) |
      (logits ? kBiasUnembedding : 0) | (norm_biases ? kBiasNorm : 0) | (projected || convolved ? kBiasInput : 0) |
      (dense ? kBiasDense : 0) |
      (cross ? kBiasCrossQuery | kBiasCrossKey | kBiasCrossValueDown | (undivided ? 0 : kBiasCrossValueUp) : 0);
  if ((c.flags & ~flags) || (c.biases & ~biases)) return Status::bad_config;
  const std::uint32_t sites =
      (site(Site::attention_in) | site(Site::ffn_in) | site(Site::down_in)) | (undivided ? 0 : site(Site::value_up_in)) |
      (logits ? site(Site::unembed_in) : 0) | (projected || convolved ? site(Site::input_in) : 0) |
      (convolved && c.second_convolution ? site(Site::convolution_in) : 0) | (dense ? site(Site::dense_in) : 0) |
      (cross ? site(Site::cross_in) | site(Site::source_in) | (undivided ? 0 : site(Site::cross_value_up_in)) : 0);
  if (kHas.groups && ((grouped_sites & ~sites) || (side_by_side && c.sublayers == Sublayers::side_by_side &&
                                                   c.group(Site::ffn_in) != c.group(Site::attention_in))))
    return Status::bad_config;
  // Floats.
  if (!in_range(c.norm_epsilon) || !in_range(c.attention_scale) || (kHas.embedding_extras && !in_range(c.embedding_scale)))
    return Status::bad_config;
  return (cross ? in_range(c.cross_scale) : bits_of(c.cross_scale) == 0) ? Status::ok : Status::bad_config;
}

// The same of a model: of each of its stacks, and of what they are to each other (SPEC.md, C19).
constexpr Status check_config(const ConfigView& m) {
  if (!__builtin_is_constant_evaluated() && !m.stacks) return Status::bad_config;
  if (m.n_stacks < 1 || m.n_stacks > kMaxStacks) return Status::bad_config;
  for (std::uint32_t i = 0; i < m.count(); ++i)
    if (const Status s = check_stack(m.stacks[i]); s != Status::ok) return s;
  if (!kBuiltFeatures.cross_attention) return Status::ok;
  const StackConfig &source = m.source(), &main = m.main();
  if (m.n_stacks == 1) return main.cross_attention ? Status::bad_config : Status::ok;
  const bool gives_vectors = source.use == Use::encode && source.output == Output::vectors &&
                             source.pooling == Pooling::every && !source.dense && !source.unit_length;
  return gives_vectors && !source.cross_attention && main.cross_attention && main.d_source == source.d_model
             ? Status::ok
             : Status::bad_config;
}
constexpr Status check_config(const ModelConfig& m) { return check_config(ConfigView(m)); }

}  // namespace heed
