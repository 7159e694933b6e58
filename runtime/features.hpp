// SPDX-License-Identifier: Apache-2.0
// features.hpp: which optional parts of the runtime a build carries. What is not built costs no flash; an image that needs
// it is refused with feature_not_built.
#pragma once
#include <cstdint>

namespace heed {

struct Features {
  bool groups = true;       // group multipliers on weights, powers of two on activations
  bool biases = true;       // of matrices
  bool ungated = true;      // a feed-forward layer without a gate
  bool key_offset = true;   // a constant taken from every key before it is quantised
  bool pattern_tap = true;  // handing out attention weights
  bool layer_norm = true;   // beside RMS norm
  bool learned_positions = true;  // beside rotary ones
  bool gelu = true;         // beside SiLU
  bool relu = true;
  bool threads = true;      // the Parallel hook
  bool sampling = true;     // picking by chance, beside picking the largest logit
  // How large the kernels are; no image needs these two.
  bool speed = true;        // larger kernels where a table has smaller ones as well: several tokens or queries together
  bool unrolled = true;     // beside speed, kernels that are larger again for some percent
  // What a sampler may do beside temperature, top-k and top-p; no image needs these two.
  bool repeat_penalty = true;
  bool min_p = true;
  // What models take beyond a decoder of the Llama or GPT-2 family.
  bool windows = true;           // keys that lie too far away to be seen
  bool score_bias = true;        // ALiBi and relative positions
  bool norm_after = true;        // norms behind the sublayers, or none behind the last block
  bool query_key_norm = true;    // of each head
  bool encode = true;            // whole sequences at once, both ways, and vectors as output
  bool cross_attention = true;   // a second stack that attends to the first one's output
  bool vector_input = true;      // feature vectors in the place of tokens
  bool convolutions = true;      // in front of them
  bool embedding_extras = true;  // a scale of embeddings, token types, class vectors, a norm behind the sum
  bool side_by_side = true;      // attention and feed-forward layer on the same input
  bool pooling = true;           // one output for a sequence, several output heads, vectors of length 1
  bool dense = true;             // a matrix and an activation in front of the output
  bool undivided_values = true;  // value maps that are not two factors
  bool gelu_quick = true;        // x * sigmoid(1.702 x)
  // What text is cut into beside SentencePiece BPE as llama2.c has it. An image is opened without them; its tokenizer is not.
  bool byte_pairs = true;    // byte-level BPE
  bool unigram = true;       // SentencePiece unigram; character maps of SentencePiece
  bool word_pieces = true;   // WordPiece
  bool added_tokens = true;  // SentencePiece BPE with a rules block; pairs of texts
};

// A member by name, so that a set can be written as kLlamaFeatures+Feature::groups or kAllFeatures-Feature::threads: no
// character of it means anything to a shell, to CMake or to make.
enum class Feature : std::uint8_t {
  groups, biases, ungated, key_offset, pattern_tap, layer_norm, learned_positions, gelu, relu, threads, sampling, speed,
  unrolled, repeat_penalty, min_p, windows, score_bias, norm_after, query_key_norm, encode, cross_attention, vector_input,
  convolutions, embedding_extras, side_by_side, pooling, dense, undivided_values, gelu_quick,
  byte_pairs, unigram, word_pieces, added_tokens
};

// In the order of `Feature`.
struct NamedFeature {
  const char* name;
  bool Features::*member;
};
inline constexpr NamedFeature kFeatureTable[] = {
    {"groups", &Features::groups},         {"biases", &Features::biases},
    {"ungated", &Features::ungated},       {"key_offset", &Features::key_offset},
    {"pattern_tap", &Features::pattern_tap}, {"layer_norm", &Features::layer_norm},
    {"learned_positions", &Features::learned_positions}, {"gelu", &Features::gelu},
    {"relu", &Features::relu},             {"threads", &Features::threads},
    {"sampling", &Features::sampling},     {"speed", &Features::speed},
    {"unrolled", &Features::unrolled},     {"repeat_penalty", &Features::repeat_penalty},
    {"min_p", &Features::min_p},
    {"windows", &Features::windows},
    {"score_bias", &Features::score_bias},
    {"norm_after", &Features::norm_after},
    {"query_key_norm", &Features::query_key_norm},
    {"encode", &Features::encode},
    {"cross_attention", &Features::cross_attention},
    {"vector_input", &Features::vector_input},
    {"convolutions", &Features::convolutions},
    {"embedding_extras", &Features::embedding_extras},
    {"side_by_side", &Features::side_by_side},
    {"pooling", &Features::pooling},
    {"dense", &Features::dense},
    {"undivided_values", &Features::undivided_values},
    {"gelu_quick", &Features::gelu_quick},
    {"byte_pairs", &Features::byte_pairs},
    {"unigram", &Features::unigram},
    {"word_pieces", &Features::word_pieces},
    {"added_tokens", &Features::added_tokens}};
inline constexpr int kFeatureCount = static_cast<int>(Feature::added_tokens) + 1;
static_assert(sizeof kFeatureTable == kFeatureCount * sizeof(NamedFeature) && sizeof(Features) == kFeatureCount,
              "a member of Features is a Feature and has a row in kFeatureTable");

constexpr const NamedFeature& named(Feature f) { return kFeatureTable[static_cast<int>(f)]; }
constexpr bool has(const Features& set, Feature f) { return set.*named(f).member; }
constexpr Features operator+(Features set, Feature f) {
  set.*named(f).member = true;
  return set;
}
constexpr Features operator-(Features set, Feature f) {
  set.*named(f).member = false;
  return set;
}
// What is in either, and what is in the first alone.
constexpr Features operator+(Features a, const Features& b) {
  for (const NamedFeature& f : kFeatureTable) a.*f.member = a.*f.member || b.*f.member;
  return a;
}
constexpr Features operator-(Features a, const Features& b) {
  for (const NamedFeature& f : kFeatureTable) a.*f.member = a.*f.member && !(b.*f.member);
  return a;
}
constexpr bool is_empty(const Features& set) {
  for (const NamedFeature& f : kFeatureTable)
    if (set.*f.member) return false;
  return true;
}
// Bit i is Feature i; HEED_FEATURE_* of heed.h are the same bits.
constexpr std::uint64_t feature_bits(const Features& set) {
  std::uint64_t bits = 0;
  for (int i = 0; i < kFeatureCount; ++i) bits |= static_cast<std::uint64_t>(set.*kFeatureTable[i].member) << i;
  return bits;
}

// The default, so that every image runs. It costs a firmware for Cortex-M4 more than twice the flash of
// kLlamaFeatures, and three times that of kDecoderFeatures; DESIGN.md has the bytes of each feature. `heed inspect` and `heed
// plan` print the line that fits an image.
inline constexpr Features kAllFeatures{};
inline constexpr Features kNoFeatures = kAllFeatures - kAllFeatures;
// What a decoder of the Llama family with one scale per row takes on one core, as `heed quantize` writes it.
inline constexpr Features kLlamaFeatures = kNoFeatures + Feature::key_offset + Feature::sampling + Feature::speed;
// The same of the GPT-2 family: layer norm, biases, learned positions, GELU without a gate.
inline constexpr Features kGpt2Features = kLlamaFeatures + Feature::biases + Feature::ungated + Feature::layer_norm +
                                          Feature::learned_positions + Feature::gelu;
// The smallest: the program picks its tokens itself.
inline constexpr Features kDecoderFeatures = kLlamaFeatures - Feature::sampling - Feature::speed;

// A firmware that carries less says so once for its whole program, e.g. -DHEED_FEATURES=kLlamaFeatures or
// -DHEED_FEATURES=kLlamaFeatures+Feature::groups.
#ifndef HEED_FEATURES
#define HEED_FEATURES kAllFeatures
#endif
inline constexpr Features kBuiltFeatures = HEED_FEATURES;

}  // namespace heed
