// SPDX-License-Identifier: Apache-2.0
// attention.hpp: one causal multi-head attention layer, usable alone: embeddings in, the change to each embedding out.
#pragma once
#include "runtime/parallel.hpp"
#include "runtime/plan.hpp"
#include "runtime/span.hpp"

namespace heed {

// The shape of one attention layer. Query head h reads the keys and values of KV head h / (n_heads / n_kv_heads).
struct AttentionConfig {
  std::uint32_t d_model = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0;
  std::uint32_t max_seq = 0;      // positions to keep
  std::uint32_t rotary_dims = 0;  // 0 = no rotary positions
  RotaryPairing rotary_pairing = RotaryPairing::adjacent;
  float scale = 0.0f;             // of the scores; 0 = 1 / sqrt(head_dim)
};

// Views; whoever owns the bytes keeps them alive. Matrices of one layout, with one scale per row, without biases, aligned
// as `Tensor` says. The numbers in them are trusted: weights within -127..127, scales within 2^-40..2^40, offsets above
// -32768, their exponents within -39..41.
struct AttentionWeights {
  Tensor w_query;       // [n_heads * head_dim, d_model]
  Tensor w_key;         // [n_kv_heads * head_dim, d_model]
  Tensor w_value_down;  // [n_kv_heads * head_dim, d_model]
  Tensor w_value_up;    // [d_model, n_heads * head_dim]: the heads' value_up matrices side by side
  const std::uint32_t* rotary_phases = nullptr;  // [rotary_dims / 2], turn per position, 2^32 = one turn
  const std::int16_t* key_offsets = nullptr;     // [n_kv_heads, head_dim], or null
  const std::int8_t* key_offset_exponents = nullptr;  // [n_kv_heads]
};

// Receives attention weights as they are computed: those of query `position` in query head `head` of layer `layer`
// to the keys first_key, first_key + 1, ... A position's row comes in order of keys, in pieces of at most 64; it
// sums to one. Later keys are never computed, so they never come. With threads, rows of any heads and positions may come
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
  float* value = nullptr;    // [chunk, key_stride]
  void* queries = nullptr;
  AttentionSums sums{};
  std::uint32_t query_stride = 0, key_stride = 0;
};

struct AttentionLayer {
  AttentionConfig config;
  AttentionWeights weights;
  KvCache cache;
  AttentionScratch scratch;
  const Kernels* kernels = nullptr;
  const Parallel* parallel = nullptr;
  PatternTap tap;
  std::uint32_t index = 0;  // of the layer, for the tap
};

AttentionScratch attention_scratch(const AttentionPlan& plan, std::byte* arena, std::uint32_t n_heads,
                                   std::uint32_t n_kv_heads, std::uint32_t head_dim);

// Cosines and sines of n positions from `first`. dst [n, pairs, 2]
void fill_rotation(std::int16_t* dst, const std::uint32_t* phases, std::uint32_t pairs, std::uint32_t first,
                   std::uint32_t n);

// n positions from `first`, whose normalised, quantised embeddings are `input`: stores their keys and values, attends,
// and adds (or writes) the change to dst [n, dst_stride]. `activations` holds n quantised vectors of d_query with
// group `group`; `input` may live in the same bytes.
void attention_forward(const AttentionLayer& layer, float* dst, std::uint32_t dst_stride, bool accumulate,
                       const Activations& input, const std::int16_t* rotation, std::uint32_t first, std::uint32_t n,
                       void* activations);

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
  return bits_of(c.scale) == 0 || in_range(c.scale) ? Status::ok : Status::bad_config;
}

// chunk: positions taken through the layer together; 0 = the table's default. Fails with bad_config, or bad_argument for a
// chunk above 4096.
constexpr Status make_attention_plan(AttentionMemory& plan, const AttentionConfig& c, const KernelTraits& traits,
                                     std::uint32_t chunk = 0) {
  if (const Status s = check_attention(c); s != Status::ok) return s;
  if (chunk > 4096) return Status::bad_argument;
  plan = AttentionMemory{};
  plan.chunk = chunk ? chunk : traits.default_chunk;
  if (plan.chunk > c.max_seq) plan.chunk = c.max_seq;
  plan.arena_align = traits.alignment;
  plan_detail::Stacker s(0, traits.alignment);
  s.take(plan.kv_cache, KvShape{c.n_kv_heads, c.head_dim, c.max_seq, traits.alignment}.layer_bytes());
  s.take(plan.rotation, std::uint64_t{2} * plan.chunk * c.rotary_dims);
  s.take(plan.activations, plan_detail::larger(activations_bytes(traits, c.d_model, 0, plan.chunk),
                                                activations_bytes(traits, c.n_heads * c.head_dim, 0, plan.chunk)));
  s.take(plan.change, std::uint64_t{4} * plan.chunk * float_row(c.d_model));
  plan_detail::stack_attention(plan.buffers, s, traits, c.n_heads, c.n_kv_heads, c.head_dim, plan.chunk);
  plan.arena_bytes = s.at() + traits.slack;
  return Status::ok;
}

// One causal attention layer over a caller's block of memory. Weights with one scale per row, without biases, in the
// table's layout (`set_weight` writes any). The embeddings come as they are: a norm in front of the layer is the caller's.
class Attention {
 public:
  // Positions seen so far.
  std::uint32_t position() const { return position_; }
  // Forgets everything after the first `position` positions. Fails with bad_argument beyond the present one.
  Status rewind(std::uint32_t position);

  // Takes n embeddings [n, d_model] at the next n positions and writes the change to each [n, d_model]; nothing is
  // added to the embeddings themselves. Any cut of a sequence into calls gives the same bits. Fails with bad_argument
  // (sizes, a null pointer), misaligned, context_full, or rounding_mode when floats no longer round to nearest even, as
  // each call finds out; the layer is unchanged then.
  Status forward(Span<float> change, Span<const float> embeddings);

  // Neither compiles in a build without its feature, where it would have no effect.
  template <bool kBuilt = kBuiltFeatures.pattern_tap>
  void set_tap(const PatternTap& tap) {
    static_assert(kBuilt, "a tap needs HEED_FEATURES with Feature::pattern_tap");
    layer_.tap = tap;
  }
  template <bool kBuilt = kBuiltFeatures.threads>
  void set_parallel(const Parallel& parallel) {
    static_assert(kBuilt, "threads need HEED_FEATURES with Feature::threads");
    parallel_ = parallel;
  }

 private:
  friend Status create(Attention&, const AttentionConfig&, const AttentionWeights&, const AttentionMemory&,
                       const Kernels&, Span<std::byte>);
  AttentionLayer layer_;
  Parallel parallel_;
  std::byte* arena_ = nullptr;
  AttentionMemory plan_;
  std::uint32_t position_ = 0;
};

// `arena` must hold plan.arena_bytes, aligned to plan.arena_align, and outlive the layer, as must the weights. The
// plan must come from the same configuration and kernels.traits. Fails with bad_argument (also matrices of another shape
// or of several layouts, with groups or biases), bad_config, misaligned (the arena, or a part of the weights),
// arena_too_small, layout_unsupported, feature_not_built (key offsets) or rounding_mode (also of a build whose compiler
// fused products with sums).
Status create(Attention& attention, const AttentionConfig& config, const AttentionWeights& weights,
              const AttentionMemory& plan, const Kernels& kernels, Span<std::byte> arena);

}  // namespace heed
