// SPDX-License-Identifier: Apache-2.0
// plan.hpp: decides where every buffer of a session lives, before any memory exists. Integer arithmetic only, the one
// place where bytes are added up; constexpr when the configuration is, and callable for any CPU on any other.
#pragma once
#include "runtime/config_check.hpp"
#include "runtime/kv_cache.hpp"

namespace heed {

// The most positions, or rows of a layer alone, that are taken together, and outputs that one product gives.
inline constexpr std::uint32_t kMaxChunk = 4096;

// What the caller asks for; 0 = the default.
struct Limits {
  std::uint32_t max_seq = 0;     // positions to keep, at most the model's; default: the model's
  std::uint32_t chunk = 0;       // tokens that go through the layers together; default: the table's
  std::uint32_t source_seq = 0;  // of two stacks: positions of the source, at most the first stack's; default: its own
  std::uint32_t score_rows = 0;  // outputs that one product gives, where each position has one; default: 1, and no more in a
                                 // build without `speed`; the bits are the same
};

struct Slice {
  std::uint64_t offset = 0, bytes = 0;
};

// One that only builds with some feature have; in others it takes nothing and reads as empty.
template <bool kBuilt>
struct SliceOf : Slice {};
template <>
struct SliceOf<false> {
  static constexpr std::uint64_t offset = 0, bytes = 0;
  constexpr operator Slice() const { return {}; }
};

// The buffers of attention for `chunk` tokens.
struct AttentionPlan {
  Slice query;         // [chunk, d_query padded] f32, later the heads' outputs
  Slice key;           // [chunk, d_key padded] f32
  Slice value;         // [chunk, d_value padded] f32
  Slice queries;       // [n_kv_heads, chunk, heads per kv head] quantised heads
  Slice numerators;    // [n_kv_heads, chunk, heads per kv head, value_dim] f32
  Slice denominators;  // [n_kv_heads, chunk, heads per kv head] f32
  Slice references;    // the same, s32
  SliceOf<kBuiltFeatures.score_bias> score_bias;  // [n_heads, chunk + 64] s32, with biases of scores
};

// The parts of a session's memory that may lie in different memories of a board.
enum class Region : std::uint8_t {
  kv_cache = 0,  // the largest, a few bytes written and all of it read once per token
  scratch = 1,   // small, read and written by every operation: what tightly coupled memory is for
  logits = 2,    // written once per token, read by the sampler
};
inline constexpr int kRegionCount = 3;

// What one stack takes while it runs.
struct StackPlan {
  std::uint32_t max_seq = 0, chunk = 0;
  // In the region kv_cache, by their offset in it.
  Slice cache;        // [n_layers] KvCache; of a stack that encodes, of one layer
  // In the scratch.
  Slice residual;     // [chunk, d_model padded] f32, the embeddings that the layers move, where no sequence is kept
  Slice rotation;     // [chunk, rotary_dims / 2, 2] s16
  Slice activations;  // [chunk] quantised vectors of the widest site
  AttentionPlan attention;
  Slice gate, up;     // [chunk, d_ff padded] f32, in the same bytes as `attention`; `up` in gated layers only
  // In the region kv_cache.
  SliceOf<kBuiltFeatures.encode> sequence;  // [max_seq, d_model padded] f32, the embeddings of a sequence that is encoded
  // In the scratch.
  SliceOf<kBuiltFeatures.windows> local_rotation;  // as `rotation`, of windowed layers with phases of their own
  SliceOf<kBuiltFeatures.learned_positions || kBuiltFeatures.embedding_extras>
      position;                                    // [d_model padded] f32, a row that is added to an embedding
  SliceOf<kBuiltFeatures.convolutions> frames;     // [3 d_input or 3 d_model padded] f32, three neighbours of a convolution
  SliceOf<kBuiltFeatures.convolutions> convolved;  // [stride * chunk + 2, d_model padded] f32, what the second one reads
  SliceOf<kBuiltFeatures.side_by_side> kept;       // [chunk] quantised inputs of a feed-forward layer beside attention
  SliceOf<kBuiltFeatures.norm_after> change;       // [chunk, d_model padded] f32, what a norm behind the sublayer reads
  SliceOf<kBuiltFeatures.pooling> pooled;          // [2, d_model padded] f32, a sum and what is added to it
  SliceOf<kBuiltFeatures.dense> dense;             // [rows of outputs, d_dense padded] f32
  SliceOf<kBuiltFeatures.pooling> heads;           // [n_output_heads * n_outputs padded] f32, logits before the average
};

// That of the first of two stacks, in builds that run two.
template <bool kTwoStacks>
struct SourcePlan {
  StackPlan source;
  Slice cross_cache;  // in the region kv_cache: the main stack's [n_layers] KvCache of the source
};
template <>
struct SourcePlan<false> {  // reads as empty
  static constexpr StackPlan source{};
  static constexpr SliceOf<false> cross_cache{};
};

// That of the main stack, and the whole.
struct Plan : StackPlan, SourcePlan<kBuiltFeatures.cross_attention> {
  std::uint64_t arena_bytes = 0;  // exactly what `create` asks for
  std::uint32_t arena_align = 0;  // power of two, of each region too
  std::uint32_t slack = 0;        // bytes that kernels may read behind a region; in the one block they are the next one's
  std::uint32_t output_rows = 0, output_stride = 0;  // of `logits`, the latter in floats
  // The regions, by their offset in the one block.
  Slice kv_cache;     // keys and values, and sequences that are encoded
  Slice scratch;      // what only lives while a call runs
  Slice logits;       // [output_rows, output_stride] f32, logits or vectors, live until the next call

  // Where a region begins in the one block, and the bytes that it needs in a memory of its own.
  constexpr Slice region(Region r) const {
    const Slice& s = r == Region::kv_cache ? kv_cache : r == Region::scratch ? scratch : logits;
    return {s.offset, s.bytes + slack};
  }
};

// Rows of float buffers are padded to this, because products come in blocks of rows.
inline constexpr std::uint32_t kFloatRowBlock = 16;
constexpr std::uint32_t float_row(std::uint32_t n) { return round_up(n, kFloatRowBlock); }

// Queries beyond a chunk's that a row of biases serves: a key block's distances.
constexpr std::uint32_t bias_row(std::uint32_t chunk) { return chunk + kBlockKeys; }

namespace plan_detail {

class Stacker {
 public:
  constexpr Stacker(std::uint64_t at, std::uint32_t align) : at_(at), align_(align) {}
  constexpr void take(Slice& slice, std::uint64_t bytes) {
    slice = {at_, bytes};
    at_ = align_up(at_ + bytes, align_);
  }
  constexpr void take_rows(Slice& slice, std::uint32_t rows, std::uint32_t cols) {
    take(slice, std::uint64_t{rows} * (4 * float_row(cols)));
  }
  constexpr void take(SliceOf<false>&, std::uint64_t) {}
  constexpr void take_rows(SliceOf<false>&, std::uint32_t, std::uint32_t) {}
  constexpr std::uint64_t at() const { return at_; }

 private:
  std::uint64_t at_;
  std::uint32_t align_;
};

constexpr std::uint64_t larger(std::uint64_t a, std::uint64_t b) { return a > b ? a : b; }

struct Heads {
  std::uint32_t n_heads, n_kv_heads, head_dim, value_dim;
  bool biased;
};

constexpr void stack_attention(AttentionPlan& p, Stacker& s, const KernelTraits& traits, const Heads& h,
                               std::uint32_t chunk) {
  const std::uint32_t heads = chunk * h.n_heads;
  s.take_rows(p.query, chunk, h.n_heads * h.head_dim);
  s.take_rows(p.key, chunk, h.n_kv_heads * h.head_dim);
  s.take_rows(p.value, chunk, h.n_kv_heads * h.value_dim);
  s.take(p.queries, activations_bytes(traits, h.head_dim, 0, heads));
  s.take(p.numerators, std::uint64_t{heads} * (4 * h.value_dim));
  s.take(p.denominators, 4 * heads);
  s.take(p.references, 4 * heads);
  s.take(p.score_bias, h.biased ? std::uint64_t{4} * h.n_heads * bias_row(chunk) : 0);
}

}  // namespace plan_detail

// The shape of a layer's own keys and values. Windowed layers of a stack that generates keep a window.
constexpr KvShape kv_shape(const StackConfig& c, const StackPlan& p, std::uint32_t align, std::uint32_t layer) {
  const bool ring = kBuiltFeatures.windows && !encodes(c) && !c.sees_all(layer);
  return {c.n_kv_heads, c.head_dim, p.max_seq, align, c.value_dim(), ring ? ring_of(c.window, p.chunk, p.max_seq) : 0};
}

namespace plan_detail {

// The buffers of one stack: those of the region kv_cache from `kv` on; returns the bytes of its scratch.
constexpr std::uint64_t stack_buffers(StackPlan& p, Stacker& kv, const StackConfig& c, const KernelTraits& traits,
                                      std::uint32_t rows) {
  const std::uint32_t chunk = p.chunk;
  std::uint64_t cache = kv_shape(c, p, traits.alignment, 0).layer_bytes();
  if (!encodes(c)) {
    if (kBuiltFeatures.windows && c.window) {
      for (std::uint32_t l = 1; l < c.n_layers; ++l) cache += kv_shape(c, p, traits.alignment, l).layer_bytes();
    } else {
      cache *= c.n_layers;
    }
  }
  kv.take(p.cache, cache);
  Stacker s(0, traits.alignment);
  if (encodes(c))
    kv.take_rows(p.sequence, p.max_seq, c.d_model);
  else
    s.take_rows(p.residual, chunk, c.d_model);
  s.take(p.rotation, std::uint64_t{2} * chunk * c.rotary_dims);
  s.take(p.local_rotation, c.local_rotary ? std::uint64_t{2} * chunk * c.rotary_dims : 0);
  s.take_rows(p.position, adds_rows(c) ? 1 : 0, c.d_model);

  // Without groups the widest vectors take the most bytes, whatever reads them.
  std::uint32_t widest_cols = c.d_model < c.d_ff ? c.d_ff : c.d_model;
  if (!is_undivided(c) && widest_cols < c.d_heads()) widest_cols = c.d_heads();
  std::uint64_t widest = activations_bytes(traits, widest_cols, 0, chunk);
  const auto site = [&](std::uint32_t cols, Site at, std::uint32_t n) {
    widest = larger(widest, activations_bytes(traits, cols, c.group(at), n));
  };
  if (kBuiltFeatures.groups) {
    site(c.d_model, Site::attention_in, chunk);
    if (!is_undivided(c)) site(c.d_heads(), Site::value_up_in, chunk);
    site(c.d_model, Site::ffn_in, chunk);
    site(c.d_ff, Site::down_in, chunk);
  }
  if (has_cross(c)) {
    site(c.d_model, Site::cross_in, chunk);
    site(c.d_source, Site::source_in, chunk);
    if (!is_undivided(c)) site(c.d_heads(), Site::cross_value_up_in, chunk);
  }
  if (is_projected(c)) site(c.d_input, Site::input_in, chunk);
  if (is_convolved(c)) {
    site(3 * c.d_input, Site::input_in, chunk);
    if (c.second_convolution) {
      site(3 * c.d_model, Site::convolution_in, chunk);
      s.take_rows(p.convolved, c.strides[1] * chunk + 2, c.d_model);
    }
    s.take_rows(p.frames, 1, c.second_convolution && c.d_model > c.d_input ? 3 * c.d_model : 3 * c.d_input);
  }
  // A stack whose output another one reads has none of these.
  if (rows) {
    s.take_rows(p.pooled, c.pooling == Pooling::mean ? 2 : 0, c.d_model);
    if (has_dense(c)) {
      site(c.d_model, Site::dense_in, rows);
      s.take_rows(p.dense, rows, c.d_dense);
    }
    if (gives_logits(c) && (kBuiltFeatures.groups || has_dense(c))) site(c.d_output(), Site::unembed_in, rows);
    s.take_rows(p.heads, c.n_output_heads > 1 ? 1 : 0, c.n_output_heads * c.n_outputs);
  }
  s.take(p.activations, widest);
  s.take(p.kept, is_side_by_side(c) ? activations_bytes(traits, c.d_model, c.group(Site::ffn_in), chunk) : 0);
  s.take_rows(p.change, c.norm_placement == NormPlacement::both ? chunk : 0, c.d_model);
  // Attention and feed-forward layer never live at the same time.
  Stacker attention = s, ffn = s;
  stack_attention(p.attention, attention, traits, {c.n_heads, c.n_kv_heads, c.head_dim, c.value_dim(), has_score_bias(c)},
                  chunk);
  ffn.take_rows(p.gate, chunk, c.d_ff);
  ffn.take_rows(p.up, c.gated ? chunk : 0, c.d_ff);
  return larger(attention.at(), ffn.at());
}

}  // namespace plan_detail

// The keys and values of the source in one layer of the second of two stacks.
constexpr KvShape cross_shape(const StackConfig& c, std::uint32_t source_seq, std::uint32_t align) {
  return {c.n_kv_heads, c.head_dim, source_seq, align, c.value_dim(), 0};
}

namespace plan_detail {

struct SourceBytes {
  std::uint64_t kv = 0, scratch = 0;  // up to where the first of two stacks needs them
};

// The buffers of the first of two stacks, and the main one's keys and values of it, from `kv` on, which is behind the latter
// then. The source is encoded before the main stack runs, in the same bytes.
template <bool kTwoStacks>
constexpr SourceBytes stack_source(SourcePlan<kTwoStacks>& p, Stacker& kv, const ConfigView& m, const KernelTraits& traits,
                                   std::uint32_t source_seq, std::uint32_t chunk) {
  SourceBytes bytes;
  if constexpr (kTwoStacks) {
    p.source.max_seq = source_seq ? source_seq : m.source().max_seq;
    p.source.chunk = chunk < p.source.max_seq ? chunk : p.source.max_seq;
    kv.take(p.cross_cache, cross_shape(m.main(), p.source.max_seq, traits.alignment).layer_bytes() * m.main().n_layers);
    Stacker source_kv = kv;
    bytes.scratch = stack_buffers(p.source, source_kv, m.source(), traits, 0);
    bytes.kv = source_kv.at();
  }
  return bytes;
}

}  // namespace plan_detail

// Whether outputs of several positions are made in one product; a build without `speed` makes one after the other.
inline constexpr bool kGivesRowsTogether = kBuiltFeatures.speed;

// Fills `plan` for running a model of this configuration on a CPU described by `traits`, which need not be this one.
// Fails with bad_config, feature_not_built, context_too_long or bad_argument (a chunk above kMaxChunk, more score rows than that,
// source positions of a model without a source); `plan` is unspecified then. An arena that does not fit the address space of
// the target is the caller's to compare.
constexpr Status make_plan(Plan& plan, const ConfigView& m, const KernelTraits& traits, const Limits& limits = {}) {
  if (const Status s = check_config(m); s != Status::ok) return s;
  const StackConfig& c = m.main();
  const bool two = kBuiltFeatures.cross_attention && m.n_stacks == 2;
  if (limits.max_seq > c.max_seq || (two && limits.source_seq > m.source().max_seq)) return Status::context_too_long;
  if (limits.chunk > kMaxChunk || limits.score_rows > kMaxChunk || (!two && limits.source_seq)) return Status::bad_argument;
  plan = Plan{};
  plan.max_seq = limits.max_seq ? limits.max_seq : c.max_seq;
  const std::uint32_t chunk = limits.chunk ? limits.chunk : traits.default_chunk;
  plan.chunk = chunk < plan.max_seq ? chunk : plan.max_seq;
  plan.arena_align = traits.alignment;
  plan.slack = traits.slack;
  plan.output_rows = 1;
  if (kGivesRowsTogether && limits.score_rows && !is_pooled(c))
    plan.output_rows = limits.score_rows < plan.chunk ? limits.score_rows : plan.chunk;
  plan.output_stride = float_row(gives_logits(c) ? c.n_outputs : c.d_output());

  using plan_detail::larger;
  plan_detail::Stacker block(0, traits.alignment), kv = block;
  plan_detail::SourceBytes source;
  if (two) source = plan_detail::stack_source(plan, kv, m, traits, limits.source_seq, chunk);
  const std::uint64_t scratch = larger(plan_detail::stack_buffers(plan, kv, c, traits, plan.output_rows), source.scratch);
  const std::uint64_t kv_bytes = larger(kv.at(), source.kv);
  block.take(plan.kv_cache, kv_bytes);
  block.take(plan.scratch, scratch);
  block.take(plan.logits, std::uint64_t{4} * plan.output_rows * plan.output_stride);
  plan.arena_bytes = block.at() + traits.slack;
  return Status::ok;
}
constexpr Status make_plan(Plan& plan, const ModelConfig& m, const KernelTraits& traits, const Limits& limits = {}) {
  return make_plan(plan, ConfigView(m), traits, limits);
}

}  // namespace heed
