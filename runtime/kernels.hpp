// SPDX-License-Identifier: Apache-2.0
// kernels.hpp: what the runtime asks of a CPU. platform/ fills one `Kernels` table per instruction set; every
// function gives the bits that SPEC.md, part 2, defines, so that tables can be exchanged for each other.
//
// Names are op_dst_lhs_rhs: f32 float, s8r int8 with one dynamic scale per vector, s8c int8 weights with one scale
// per row. Outputs come first. Preconditions are the caller's; nothing here can fail. One of them: a table leaves out
// what is not built (features.hpp), so what needs a feature must not reach it without; `create` and `open` see to that for
// layers and models, and check_weights below for whoever calls a table himself.
#pragma once
#include "runtime/features.hpp"
#include "runtime/status.hpp"
#include "runtime/tensor.hpp"

namespace heed {

// Keys are attended to in blocks of this many absolute positions.
inline constexpr std::uint32_t kBlockKeys = 64;
// A last, shorter block is a multiple of this many.
inline constexpr std::uint32_t kKeyGranule = 16;

// Compile-time facts about a table, enough to plan a session for a CPU that is not this one.
struct KernelTraits {
  const char* name;
  std::uint8_t layouts;                   // bit (1 << Layout) for each layout it eats
  Layout preferred;                       // the layout to quantise for
  std::uint8_t activation_element_bytes;  // bytes that hold one prepared int8 activation: 1 or 2
  std::uint8_t alignment;                 // of every buffer in the arena, a power of two
  std::uint16_t slack;                    // bytes that kernels may read behind a buffer, so also behind the last one
  std::uint16_t default_chunk;            // tokens that a prefill takes through the layers together
  // Where a product's rows may be cut without a loss: row blocks that lie in one tile of at least `tile_tokens` vectors,
  // and those that are taken side by side for fewer.
  std::uint8_t tile_tokens = 1, tile_blocks = 1, stream_blocks = 1;
  bool stores_first_sums = false;         // attend_block reads no numerators of fresh queries, so nobody clears them

  constexpr std::uint32_t blocks_together(std::uint32_t n) const { return n >= tile_tokens ? tile_blocks : stream_blocks; }
};

// n vectors of quantised activations, [n] each; the content of `values` belongs to the table that wrote it, which may let
// vectors that are multiplied together lie together.
struct Activations {
  std::int8_t* values;        // [n, value_stride bytes]
  float* scales;              // [n]
  std::int32_t* sums;         // [n, sum_count]: per group, what the table wants to know of it, such as -128 * sum
  std::uint8_t* exponents;    // [n, groups], 0..3; unused without groups
  std::uint32_t value_stride; // bytes
  std::uint32_t cols;
  std::uint16_t groups;       // 0 = none
  std::uint16_t group;        // columns per group: 32, 64, 128 or 256
  std::uint32_t n;

  constexpr std::uint32_t sum_count() const { return groups ? groups : 1u; }
};

// A position's rotation: for each pair of a head the cosine and sine, Q15.
struct Rotation {
  const std::int16_t* cosine_sine;  // [pairs, 2]; null = no rotation
  std::uint16_t pairs;              // 2 * pairs <= head_dim; the rest of the head is not rotated
  bool halves;                      // pair i is (i, i + pairs) instead of (2 i, 2 i + 1)
};

// 64 positions of one KV head in the cache, every array aligned to 4; the order inside `keys` and `values` belongs to
// the table.
struct KvBlock {
  std::int8_t* keys;                     // [capacity, round_up(head_dim, 4)]
  std::int8_t* values;                   // [capacity, value_dim]
  std::uint8_t* key_mantissas;           // [capacity], 128..255: key = int8 * mantissa * 2^exponent
  std::int8_t* key_exponents;            // [capacity]
  std::int8_t* key_exponent_maxima;      // [capacity], of the block's keys up to this one
  std::int8_t* value_exponents;          // [capacity]: value = int8 * 2^exponent
  std::int8_t* value_exponent_maxima;    // [capacity]
  std::uint32_t capacity;                // multiple of kKeyGranule, at most kBlockKeys
  std::uint32_t head_dim;                // of keys and queries, at most kMaxHeadDim
  std::uint32_t value_dim;               // likewise of values
};

constexpr std::uint32_t kv_block_bytes(std::uint32_t capacity, std::uint32_t head_dim, std::uint32_t value_dim) {
  return capacity * (round_up(head_dim, 4) + value_dim + 5);
}

// Lays a block out in `memory`, which holds kv_block_bytes() and is aligned to 4.
inline KvBlock make_kv_block(void* memory, std::uint32_t capacity, std::uint32_t head_dim, std::uint32_t value_dim) {
  KvBlock b;
  b.keys = static_cast<std::int8_t*>(memory);
  b.values = b.keys + std::size_t{capacity} * round_up(head_dim, 4);
  b.key_mantissas = reinterpret_cast<std::uint8_t*>(b.values + std::size_t{capacity} * value_dim);
  b.key_exponents = reinterpret_cast<std::int8_t*>(b.key_mantissas + capacity);
  b.key_exponent_maxima = b.key_exponents + capacity;
  b.value_exponents = b.key_exponent_maxima + capacity;
  b.value_exponent_maxima = b.value_exponents + capacity;
  b.capacity = capacity;
  b.head_dim = head_dim;
  b.value_dim = value_dim;
  return b;
}

// A constant subtracted from each rotated key: softmax does not see it, int8 does.
struct KeyOffset {
  const std::int16_t* values;  // [head_dim], or null; offset = value * 2^(exponent - 15)
  std::int8_t exponent;
};

// What attention over key blocks has gathered so far for each query. Before its first block a query is fresh: numerators
// and denominator 0, reference kFreshReference, below every other by so much that it weighs nothing.
inline constexpr std::int32_t kFreshReference = -(1 << 24);
struct AttentionSums {
  float* numerators;          // [n, value_dim]
  float* denominators;        // [n]
  std::int32_t* references;   // [n]
};

// So far below 0 that no run of a call comes to hide a key.
inline constexpr std::int32_t kNoneHidden = -(1 << 30);

// Queries that meet one key block together: `n` vectors, in runs of `per_position` that see the same keys.
struct BlockQueries {
  Activations queries;             // cols = head_dim
  std::uint32_t first, n;          // indices into `queries` and the sums
  std::uint32_t per_position;      // query heads per KV head
  std::uint32_t visible;           // keys of the block seen by the first run, 1..capacity; each run sees one more,
                                   // up to `visible_limit`
  std::uint32_t visible_limit;     // at most capacity; `visible` if all runs see the same keys
  float factor;                    // log2(e) * attention scale
  // Features windows and score_bias: set where a run does not see the block's first key or `bias` is not null. Otherwise
  // neither `hidden` nor `bias` is read.
  bool keys_differ = false;
  // Feature windows: as many keys at the beginning of the block the first run does not see, each further run one more, if
  // that is above 0. Every run sees a key.
  std::int32_t hidden = kNoneHidden;
  // Feature score_bias: what is added to scores, in powers of two, Q10, at most 2^23 in magnitude; or null. That of key k
  // for head j of run r lies at bias[j * bias_stride + r - k], so in front of `bias` too.
  const std::int32_t* bias = nullptr;
  std::uint32_t bias_stride = 0;
};

// Rows [row_begin, row_end) of a product for n tokens; row_begin is a multiple of the row block, row_end too or
// the padded end. dst[t * dst_stride + r] = y, or += y with `accumulate`.
struct MatmulRange {
  std::uint32_t n;          // all vectors of the left side; tables that do not lay them together take fewer as well
  std::uint32_t row_begin, row_end;
  std::uint32_t dst_stride;
  bool accumulate;
  bool shared = false;  // other threads may read the same activations meanwhile
};

// RMS norm: y = x / sqrt(mean(x^2) + epsilon) * gain. Layer norm (`centred`): the same of x - mean(x), plus bias.
struct NormWeights {
  const float* gain;     // [n], or null when it is folded into the weights behind it
  const float* bias;     // [n], or null; with `centred` only
  float epsilon;
  bool centred;
};

// Whether anything asks for a norm as floats.
inline constexpr bool kNormsToFloats = kBuiltFeatures.norm_after || kBuiltFeatures.query_key_norm || kBuiltFeatures.encode ||
                                       kBuiltFeatures.cross_attention || kBuiltFeatures.embedding_extras ||
                                       kBuiltFeatures.pooling || kBuiltFeatures.dense;

struct Kernels {
  KernelTraits traits;

  // CRC-32C (Castagnoli) continued from `crc`, which starts at 0.
  std::uint32_t (*crc32c)(std::uint32_t crc, const void* data, std::size_t bytes);

  // dst[cols] = row `row` of `rhs`.
  void (*embed_f32_s8c)(float* dst, const Tensor& rhs, std::uint32_t row);

  // Vector `index` of dst = src[dst.cols], quantised.
  void (*quantize_s8r_f32)(const Activations& dst, std::uint32_t index, const float* src);

  // The same for the norm of src; `src` is not changed.
  void (*norm_s8r_f32)(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights);

  // dst[n] = the norm of src[n] as floats; dst may be src. Null without kNormsToFloats.
  void (*norm_f32_f32)(float* dst, const float* src, std::uint32_t n, const NormWeights& weights);

  // Quantises gate * F(gate) * up, where F is one of numerics.hpp's tables [257], not falling and at most 32767; `gate`
  // is overwritten, up to the next multiple of eight floats, and `up` read as far. up may be null (no factor; feature
  // ungated).
  void (*gate_s8r_f32)(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                       const std::uint16_t* factor);

  // dst = lhs * rhs^T (+ bias).
  void (*matmul_f32_s8r_s8c)(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range);

  // One head's query vector, rotated and quantised, as vector `index` of dst (cols = head_dim).
  void (*query_s8r_f32)(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation);

  // One head's key, rotated, less the offset; and its value; at `slot` of a block. Slots fill in order from 0.
  void (*store_key)(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                    const KeyOffset& offset);
  void (*store_value)(const KvBlock& dst, std::uint32_t slot, const float* src);

  // Adds one key block to the sums of each query. All queries of a call are equally fresh: either none of them has met a
  // block yet or each has. A table may look at one of them and then write the numerators of all instead of adding to
  // them (M4 does so for pairs, M55 for fours); with some of each, a fresh one would keep what was there, or another
  // lose what it had. The numerators of fresh queries are zeros on every table but M55's, which never reads them.
  // `weights`, if not null (feature pattern_tap), receives for the only query of a call with n = 1 the unnormalised
  // weights of the visible keys relative to the block's reference, which is returned in `*reference`; the sums are not
  // touched then, nor does it matter what they are.
  void (*attend_block)(const AttentionSums& sums, const BlockQueries& queries, const KvBlock& block,
                       std::uint16_t* weights, std::int32_t* reference);

  // dst[d] = numerator / denominator of one query.
  void (*attend_finish)(float* dst, const float* numerators, float denominator, std::uint32_t value_dim);

  // Index of the largest logit, the lowest one of equals; NaN counts as minus infinity.
  std::uint32_t (*argmax)(const float* logits, std::uint32_t n);

  // weights[i] = round(exp((logits[i] - max) * inverse_temperature) * 2^22) for sampling; `weights` may lie where `logits`
  // do.
  void (*sample_weights)(std::uint32_t* weights, const float* logits, std::uint32_t n, float max,
                         float inverse_temperature);
};

// ---- Weights that a caller made -------------------------------------------------------------------------------

inline bool is_aligned(const void* p, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

// Whether a matrix may be handed to this table: bad_argument (a null pointer, an empty shape, or more than 2^20 rows or
// kMaxCols columns, a group size that does not exist, or one of group and multipliers without the other),
// feature_not_built (biases, groups), layout_unsupported, or misaligned (weights to 64 bytes, the other parts to 4). Its
// numbers are the caller's: those of SPEC.md, V1 to V5.
inline Status check_weights(const KernelTraits& traits, const Tensor& t) {
  if (!t.weights || !t.scales || t.rows == 0 || t.rows > 1u << 20 || t.cols == 0 || t.cols > kMaxCols)
    return Status::bad_argument;
  if (t.group ? (t.group != 32 && t.group != 64 && t.group != 128 && t.group != 256) || !t.multipliers
              : t.multipliers != nullptr)
    return Status::bad_argument;
  if ((!kBuiltFeatures.biases && t.bias) || (!kBuiltFeatures.groups && t.group)) return Status::feature_not_built;
  if (static_cast<int>(t.layout) >= kLayoutCount || !((traits.layouts >> static_cast<unsigned>(t.layout)) & 1u))
    return Status::layout_unsupported;
  const bool aligned = is_aligned(t.weights, 64) && is_aligned(t.scales, 4) && is_aligned(t.bias, 4) &&
                       is_aligned(t.multipliers, 4);
  return aligned ? Status::ok : Status::misaligned;
}

// The same of a norm: bad_argument (a bias without `centred`), feature_not_built (layer norm) or misaligned.
inline Status check_weights(const NormWeights& w) {
  if (w.bias && !w.centred) return Status::bad_argument;
  if (!kBuiltFeatures.layer_norm && w.centred) return Status::feature_not_built;
  return is_aligned(w.gain, 4) && is_aligned(w.bias, 4) ? Status::ok : Status::misaligned;
}

// The same of a key offset.
inline Status check_weights(const KeyOffset& offset) {
  if (!kBuiltFeatures.key_offset && offset.values) return Status::feature_not_built;
  return is_aligned(offset.values, 2) ? Status::ok : Status::misaligned;
}

// Whether gate_s8r_f32 may be called with (`gated`) or without a factor `up`.
constexpr Status check_gate(bool gated) {
  return gated || kBuiltFeatures.ungated ? Status::ok : Status::feature_not_built;
}

// ---- Sizes that the plan adds up -----------------------------------------------------------------------------

// To a multiple of a power of two; a mask, because a 64-bit division costs a board 700 bytes of flash.
constexpr std::uint64_t align_up(std::uint64_t n, std::uint32_t align) { return (n + align - 1) & ~std::uint64_t{align - 1}; }

constexpr std::uint32_t activation_stride(const KernelTraits& traits, std::uint32_t cols) {
  return round_up(activation_cols(cols) * traits.activation_element_bytes, traits.alignment);
}

// Bytes that hold n quantised vectors of this shape.
constexpr std::uint64_t activations_bytes(const KernelTraits& traits, std::uint32_t cols, std::uint32_t group,
                                          std::uint32_t n) {
  const std::uint32_t groups = group_count(cols, group), sums = groups ? groups : 1;
  const std::uint32_t each = activation_stride(traits, cols) + 4 + 4 * sums + groups;
  return align_up(std::uint64_t{n} * each, traits.alignment);
}

// Lays n vectors out in `memory`, which holds activations_bytes() and is aligned to traits.alignment.
inline Activations make_activations(void* memory, const KernelTraits& traits, std::uint32_t cols, std::uint32_t group,
                                    std::uint32_t n) {
  Activations a{};
  a.n = n;
  a.cols = cols;
  a.group = static_cast<std::uint16_t>(group);
  a.groups = static_cast<std::uint16_t>(group_count(cols, group));
  a.value_stride = activation_stride(traits, cols);
  auto* p = static_cast<std::int8_t*>(memory);
  a.values = p;
  p += std::size_t{n} * a.value_stride;
  a.scales = reinterpret_cast<float*>(p);
  p += std::size_t{n} * 4;
  a.sums = reinterpret_cast<std::int32_t*>(p);
  p += std::size_t{n} * 4 * a.sum_count();
  a.exponents = reinterpret_cast<std::uint8_t*>(p);
  return a;
}

}  // namespace heed
