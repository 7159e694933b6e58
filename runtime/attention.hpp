// SPDX-License-Identifier: Apache-2.0
// attention.hpp: one multi-head attention layer, usable alone: embeddings in, the change to each embedding out.
#pragma once
#include "runtime/parallel.hpp"
#include "runtime/plan.hpp"
#include "runtime/span.hpp"

namespace heed {

// The shape of one attention layer. Query head h reads the keys and values of KV head h / (n_heads / n_kv_heads).
struct AttentionConfig {
  std::uint32_t d_model = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::uint32_t max_seq = 0;      // positions to keep: of the sequence, or of the source
  std::uint32_t rotary_dims = 0;  // 0 = no rotary positions
  RotaryPairing rotary_pairing = RotaryPairing::adjacent;
  float scale = 0.0f;             // of the scores; 0 = 1 / sqrt(head_dim)
  Mask mask = Mask::causal;       // feature encode: two_way
  std::uint32_t window = 0;       // feature windows: a position sees keys less than this far away; 0 = all
  // Feature cross_attention: width of the vectors of another sequence, the source, that keys and values come from; 0 = they
  // come from the embeddings. Every position sees all of a source; it has neither a window nor rotary positions nor a bias.
  std::uint32_t d_source = 0;
  ValueMap value_map = ValueMap::factors;       // feature undivided_values: undivided
  HeadNorm query_key_norm = HeadNorm::none;     // feature query_key_norm
  float norm_epsilon = 1e-5f;
  // Feature score_bias: a bias of scores falls with the distance, or is looked up for each of n_distances.
  bool alibi = false;
  std::uint32_t n_distances = 0;

  constexpr bool is_undivided() const { return kBuiltFeatures.undivided_values && value_map == ValueMap::undivided; }
  constexpr bool has_source() const { return kBuiltFeatures.cross_attention && d_source != 0; }
  constexpr bool is_two_way() const { return kBuiltFeatures.encode && mask == Mask::two_way; }
  constexpr bool is_biased() const { return kBuiltFeatures.score_bias && (alibi || n_distances != 0); }
  constexpr std::uint32_t value_dim() const { return is_undivided() ? d_model : head_dim; }
  constexpr std::uint32_t key_width() const { return has_source() ? d_source : d_model; }
};

// Views; whoever owns the bytes keeps them alive. What the configuration does not ask for is null. Matrices of one layout,
// with one scale per row, aligned as `Tensor` says. The numbers in them are trusted: weights within -127..127, scales within
// 2^-40..2^40, offsets above -32768, their exponents within -39..41.
struct AttentionWeights {
  Tensor w_query;       // [n_heads * head_dim, d_model]
  Tensor w_key;         // [n_kv_heads * head_dim, d_model], or d_source
  Tensor w_value_down;  // [n_kv_heads * head_dim, d_model], or d_source; undivided [n_kv_heads * d_model, ...]
  Tensor w_value_up;    // [d_model, n_heads * head_dim]: the heads' value_up matrices side by side; undivided: none
  const std::uint32_t* rotary_phases = nullptr;  // [rotary_dims / 2], turn per position, 2^32 = one turn
  const std::int16_t* key_offsets = nullptr;     // [n_kv_heads, head_dim], or null
  const std::int8_t* key_offset_exponents = nullptr;  // [n_kv_heads]
  NormWeights query_norm{}, key_norm{};  // [head_dim], with query_key_norm, whose epsilon and kind the configuration says
  // With a bias of scores, in powers of two, Q10: [n_heads, n_distances], by distance from 0 on or with two_way from the
  // middle on, at most 2^23 in magnitude; or with alibi [n_heads] slopes per position, 2^12 times as fine, not negative.
  const std::int32_t* score_bias = nullptr;
};

// Biases of scores, where the key lies `distance` positions in front of the query (behind it if negative): with alibi, of
// this slope; and the column of a row of n_distances, odd with two_way, where it stands (SPEC.md 2.7).
inline std::int32_t alibi_bias(std::int32_t slope, std::int32_t distance) {
  const std::uint64_t fine = std::uint64_t{static_cast<std::uint32_t>(slope)} *
                             static_cast<std::uint32_t>(distance < 0 ? -distance : distance);
  const std::uint64_t fall = (fine + (1 << 11)) >> 12;
  return -static_cast<std::int32_t>(fall < kMaxScoreBias ? fall : kMaxScoreBias);
}
inline std::uint32_t bias_column(std::int32_t distance, std::uint32_t n_distances, bool two_way) {
  const auto last = static_cast<std::int32_t>(n_distances) - 1;
  const std::int32_t i = two_way ? distance + last / 2 : distance;
  return static_cast<std::uint32_t>(i < 0 ? 0 : i < last ? i : last);
}

// Receives attention weights as they are computed: those of query `position` in query head `head` of layer `layer`
// to the keys first_key, first_key + 1, ... A position's row comes in order of keys, in pieces of at most 64; it
// sums to one. Keys that it does not see are never computed, so they never come. Cross-attention of layer l comes as layer
// n_layers + l. With threads, rows of any heads and positions may come
// at the same time, each row from one thread.
struct PatternTap {
  void (*take)(void* context, std::uint32_t layer, std::uint32_t head, std::uint32_t position,
               std::uint32_t first_key, Span<const float> weights) = nullptr;
  void* context = nullptr;
};

// The parts that a forward pass shares between layers; internal to runtime/.
struct AttentionScratch {
  float* query = nullptr;    // [chunk, query_stride]
  float* key = nullptr;      // [chunk, key_stride]
  float* value = nullptr;    // [chunk, value_stride]
  void* queries = nullptr;
  AttentionSums sums{};
  std::int32_t* score_bias = nullptr;  // [n_heads, bias_row(chunk)]
  std::uint32_t query_stride = 0, key_stride = 0, value_stride = 0, bias_stride = 0;
};

struct AttentionLayer {
  AttentionConfig config;
  AttentionWeights weights;
  KvCache cache;
  AttentionScratch scratch;
  const Kernels* kernels = nullptr;
  const Parallel* parallel = nullptr;
  PatternTap tap;
  std::uint32_t index = 0;   // of the layer, for the tap
  std::uint32_t length = 0;  // keys that are stored, where queries do not come with their own
};

AttentionScratch attention_scratch(const AttentionPlan& plan, std::byte* arena, const AttentionConfig& config,
                                   std::uint32_t chunk);

// Cosines and sines of n positions from `first`. dst [n, pairs, 2]
void fill_rotation(std::int16_t* dst, const std::uint32_t* phases, std::uint32_t pairs, std::uint32_t first,
                   std::uint32_t n);

// What is done with n positions.
enum class AttentionStep : std::uint8_t {
  both = 0,    // store, then attend: causal
  store = 1,   // their keys and values into the cache
  attend = 2,  // their queries meet the keys [0, layer.length)
};

// n positions from `first`, whose quantised embeddings (or vectors of the source) are `input`: stores their keys and
// values, attends, and adds (or writes) the change to dst [n, dst_stride]; or one of these. `activations` holds n
// quantised vectors of the heads' outputs with value_up's group; `input` may live in the same bytes.
void attention_forward(const AttentionLayer& layer, AttentionStep step, float* dst, std::uint32_t dst_stride,
                       bool accumulate, const Activations& input, const std::int16_t* rotation, std::uint32_t first,
                       std::uint32_t n, void* activations);

// Whether a layer's cache still has what queries from `position` on see, after `furthest` positions were stored.
bool keeps_before(const KvShape& shape, std::uint32_t window, std::uint32_t position, std::uint32_t furthest);

// One of the products of the same input: dst [n, dst_stride] = (or +=) input * rhs^T.
struct Product {
  float* dst;
  const Tensor* rhs;  // all of one layout and width
  std::uint32_t dst_stride;
};

// The rows of `count` products, cut into parts for the threads.
void matmul_parallel(const Kernels& kernels, const Parallel& parallel, const Product* products, std::uint32_t count,
                     bool accumulate, const Activations& lhs, std::uint32_t n);

// ---- The layer alone -----------------------------------------------------------------------------------------

// What every layer that stands alone has; `Memory` is its plan.
template <class Memory>
class LayerBase {
 public:
  // Does not compile in a build without threads.
  template <bool kBuilt = kBuiltFeatures.threads>
  void set_parallel(const Parallel& parallel) {
    static_assert(kBuilt, "threads need HEED_FEATURES with Feature::threads");
    parallel_ = parallel;
  }

 protected:
  std::byte* arena_ = nullptr;  // null before `create`
  Memory plan_;
  Parallel parallel_;
};

struct AttentionMemory {
  std::uint64_t arena_bytes = 0;  // exactly what `create` asks for
  std::uint32_t arena_align = 0;
  std::uint32_t chunk = 0;
  Slice kv_cache, rotation, activations;
  Slice change;  // [chunk, d_model padded] f32
  AttentionPlan buffers;
};

constexpr Status check_attention(const AttentionConfig& c) {
  if (c.d_model == 0 || c.d_model > 65536 || c.head_dim == 0 || c.head_dim > kMaxHeadDim || c.n_heads == 0 ||
      c.n_heads > 1024 || c.n_kv_heads == 0 || c.n_heads % c.n_kv_heads != 0 || c.n_heads * c.head_dim > kMaxCols ||
      c.max_seq == 0 || c.max_seq > 1u << 20 || c.rotary_dims % 2 != 0 || c.rotary_dims > c.head_dim)
    return Status::bad_config;
  if (bits_of(c.scale) != 0 && !in_range(c.scale)) return Status::bad_config;
  // A caller's number may be none of an enumeration's.
  if (c.mask > Mask::two_way || c.rotary_pairing > RotaryPairing::halves || c.value_map > ValueMap::undivided ||
      c.query_key_norm > HeadNorm::layer)
    return Status::bad_config;
  if ((!kBuiltFeatures.encode && c.mask != Mask::causal) || (!kBuiltFeatures.windows && c.window) ||
      (!kBuiltFeatures.cross_attention && c.d_source) ||
      (!kBuiltFeatures.undivided_values && c.value_map != ValueMap::factors) ||
      (!kBuiltFeatures.query_key_norm && c.query_key_norm != HeadNorm::none) ||
      (!kBuiltFeatures.layer_norm && c.query_key_norm == HeadNorm::layer) ||
      (!kBuiltFeatures.score_bias && (c.alibi || c.n_distances)))
    return Status::feature_not_built;
  if (c.is_undivided() && (c.d_model > kMaxHeadDim || c.n_heads * c.d_model > kMaxCols)) return Status::bad_config;
  if (c.has_source() && (c.d_source > 65536 || c.window || c.rotary_dims || c.is_biased())) return Status::bad_config;
  if (kBuiltFeatures.windows && c.window > 1u << 20) return Status::bad_config;
  if (c.is_biased() && (c.n_distances > 1u << 20 || (c.alibi && c.n_distances) ||
                        (!c.alibi && c.is_two_way() && c.n_distances % 2 == 0)))
    return Status::bad_config;
  if (kBuiltFeatures.query_key_norm && c.query_key_norm != HeadNorm::none && !in_range(c.norm_epsilon))
    return Status::bad_config;
  return Status::ok;
}

// What a layer keeps: all of max_seq, or of a causal one with a window as much as its chunks see.
constexpr KvShape kv_shape(const AttentionConfig& c, std::uint32_t chunk, std::uint32_t align) {
  const bool ring = kBuiltFeatures.windows && c.window && !c.is_two_way();
  return {c.n_kv_heads, c.head_dim, c.max_seq, align, c.value_dim(), ring ? ring_of(c.window, chunk, c.max_seq) : 0};
}

// chunk: positions taken through the layer together; 0 = the table's default. Fails with bad_config, feature_not_built, or
// bad_argument for a chunk above kMaxChunk.
constexpr Status make_attention_plan(AttentionMemory& plan, const AttentionConfig& c, const KernelTraits& traits,
                                     std::uint32_t chunk = 0) {
  if (const Status s = check_attention(c); s != Status::ok) return s;
  if (chunk > kMaxChunk) return Status::bad_argument;
  plan = AttentionMemory{};
  plan.chunk = chunk ? chunk : traits.default_chunk;
  if (plan.chunk > c.max_seq && !c.has_source()) plan.chunk = c.max_seq;
  plan.arena_align = traits.alignment;
  plan_detail::Stacker s(0, traits.alignment);
  s.take(plan.kv_cache, kv_shape(c, plan.chunk, traits.alignment).layer_bytes());
  s.take(plan.rotation, std::uint64_t{2} * plan.chunk * c.rotary_dims);
  std::uint64_t widest = activations_bytes(traits, c.d_model, 0, plan.chunk);
  if (c.has_source()) widest = plan_detail::larger(widest, activations_bytes(traits, c.d_source, 0, plan.chunk));
  if (!c.is_undivided())
    widest = plan_detail::larger(widest, activations_bytes(traits, c.n_heads * c.head_dim, 0, plan.chunk));
  s.take(plan.activations, widest);
  s.take_rows(plan.change, plan.chunk, c.d_model);
  plan_detail::stack_attention(plan.buffers, s, traits,
                               {c.n_heads, c.n_kv_heads, c.head_dim, c.value_dim(), c.is_biased()}, plan.chunk);
  plan.arena_bytes = s.at() + traits.slack;
  return Status::ok;
}

// One attention layer over a caller's block of memory. Matrices with one scale per row, in the table's layout
// (`set_weight` writes any). The embeddings come as they are: a norm in front of the layer is the caller's.
class Attention : public LayerBase<AttentionMemory> {
 public:
  // Positions seen so far of a causal layer; of one with a source, the positions of the source.
  std::uint32_t position() const { return position_; }
  // Forgets everything after the first `position` positions. Fails with bad_argument beyond the present one, and where a
  // window's keys before it are no longer kept.
  Status rewind(std::uint32_t position);

  // Takes n embeddings [n, d_model] at the next n positions and writes the change to each [n, d_model]; nothing is
  // added to the embeddings themselves; `change` may be `embeddings`. Any cut of a sequence into calls gives the same bits.
  // With two_way a call is a whole sequence of at most max_seq positions, and the arena holds nothing between two of them;
  // with a source it is any number of queries, each of which sees all of the
  // source. Fails with bad_argument (sizes, a null pointer, no source yet), misaligned, context_full, or rounding_mode when
  // floats no longer round to nearest even, as each call finds out; the layer is unchanged then.
  Status forward(Span<float> change, Span<const float> embeddings);

  // Of a layer with a source: takes its vectors [n, d_source], at most max_seq, in the place of those before; computes their
  // keys and values, so that they need not be kept. Fails as `forward`, and with bad_argument on a layer without a source.
  Status set_source(Span<const float> vectors);

  // Does not compile in a build without the feature, where it would have no effect.
  template <bool kBuilt = kBuiltFeatures.pattern_tap>
  void set_tap(const PatternTap& tap) {
    static_assert(kBuilt, "a tap needs HEED_FEATURES with Feature::pattern_tap");
    layer_.tap = tap;
  }

 private:
  friend Status create(Attention&, const AttentionConfig&, const AttentionWeights&, const AttentionMemory&,
                       const Kernels&, Span<std::byte>);
  AttentionLayer layer_;
  std::uint32_t position_ = 0, furthest_ = 0;  // the latter since the last rewind to 0
};

// `arena` must hold plan.arena_bytes, aligned to plan.arena_align, and outlive the layer, as must the weights. The
// plan must come from the same configuration and kernels.traits. Fails with bad_argument (also matrices of another shape
// or of several layouts, with groups; vectors that are missing, or that the configuration has no use for), bad_config,
// misaligned (the arena, or a part of the weights), arena_too_small, layout_unsupported, feature_not_built (key offsets, biases)
// or rounding_mode (also of a build whose compiler fused products with sums).
Status create(Attention& attention, const AttentionConfig& config, const AttentionWeights& weights,
              const AttentionMemory& plan, const Kernels& kernels, Span<std::byte> arena);

}  // namespace heed
