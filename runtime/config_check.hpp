// SPDX-License-Identifier: Apache-2.0
// config_check.hpp: the rules that a description keeps (SPEC.md, C1 to C20), and which of them a build can tell.
#pragma once
#include "runtime/config.hpp"

namespace heed {

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
    if (!kHas.groups) missing |= v;
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

  const bool tokens = reads_tokens(c), convolved = is_convolved(c), projected = is_projected(c), logits = gives_logits(c);
  const bool dense = has_dense(c), cross = has_cross(c), undivided = is_undivided(c);
  const bool norm_before = normed_before(c), side_by_side = is_side_by_side(c);
  const bool rotary = c.position == Position::rotary;
  const bool norm_biases = kHas.layer_norm && (c.norm == Norm::layer || (kHas.query_key_norm && c.query_key_norm == HeadNorm::layer));
  const auto site = [](Site s) { return 1u << static_cast<unsigned>(s); };

  // Heads.
  if (c.n_heads % c.n_kv_heads != 0 || c.d_query() > kMaxCols) return Status::bad_config;
  if (undivided && (c.d_model > kMaxHeadDim || c.d_heads() > kMaxCols)) return Status::bad_config;
  // What comes in, and what goes out. As many outputs as tokens, and tokens, are logits too.
  if ((c.vocab_size != 0) != tokens || (c.n_outputs != 0) != logits) return Status::bad_config;
  if ((!kHas.encode || c.use == Use::generate) &&
      (!tokens || c.n_outputs != c.vocab_size || is_pooled(c) || (kHas.encode && c.mask != Mask::causal) ||
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
                              (has_final_norm(c) ? kFinalGainFolded : 0) | (cross ? kCrossKeyOffset : 0) |
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
