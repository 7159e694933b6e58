// SPDX-License-Identifier: Apache-2.0
// plan.hpp: decides where every buffer of a session lives, before any memory exists. Integer arithmetic only, the one
// place where bytes are added up; constexpr when the configuration is, and callable for any CPU on any other.
#pragma once
#include "runtime/config.hpp"
#include "runtime/kv_cache.hpp"

namespace heed {

// What the caller asks for; 0 = the default.
struct Limits {
  std::uint32_t max_seq = 0;  // positions to keep, at most the model's; default: the model's
  std::uint32_t chunk = 0;    // tokens that a prefill takes through the layers together; default: the table's
};

struct Slice {
  std::uint64_t offset = 0, bytes = 0;
};

// The buffers of attention for `chunk` tokens.
struct AttentionPlan {
  Slice query;         // [chunk, d_query padded] f32, later the heads' outputs
  Slice key;           // [chunk, d_key_value padded] f32
  Slice value;         // [chunk, d_key_value padded] f32
  Slice queries;       // [n_kv_heads, chunk, heads per kv head] quantised heads
  Slice numerators;    // [n_kv_heads, chunk, heads per kv head, head_dim] f32
  Slice denominators;  // [n_kv_heads, chunk, heads per kv head] f32
  Slice references;    // the same, s32
};

// The parts of a session's memory that may lie in different memories of a board.
enum class Region : std::uint8_t {
  kv_cache = 0,  // the largest, a few bytes written and all of it read once per token
  scratch = 1,   // small, read and written by every operation: what tightly coupled memory is for
  logits = 2,    // written once per token, read by the sampler
};
inline constexpr int kRegionCount = 3;

struct Plan {
  std::uint64_t arena_bytes = 0;  // exactly what `create` asks for
  std::uint32_t arena_align = 0;  // power of two, of each region too
  std::uint32_t slack = 0;        // bytes that kernels may read behind a region; in the one block they are the next one's
  std::uint32_t max_seq = 0, chunk = 0;
  // The regions, by their offset in the one block.
  Slice kv_cache;     // [n_layers] KvCache
  Slice scratch;      // the buffers below
  Slice logits;       // [vocab_size padded] f32, live until the next step
  // Where a region begins in the one block, and the bytes that it needs in a memory of its own.
  constexpr Slice region(Region r) const {
    const Slice& s = r == Region::kv_cache ? kv_cache : r == Region::scratch ? scratch : logits;
    return {s.offset, s.bytes + slack};
  }

  // The buffers of the scratch, by their offset in it.
  Slice residual;     // [chunk, d_model padded] f32, the embeddings that the layers move
  Slice rotation;     // [chunk, rotary_dims / 2, 2] s16
  Slice position;     // [d_model padded] f32, with learned positions
  Slice activations;  // [chunk] quantised vectors of the widest site
  AttentionPlan attention;
  Slice gate, up;     // [chunk, d_ff padded] f32, in the same bytes as `attention`; `up` in gated layers only
};

// Rows of float buffers are padded to this, because products come in blocks of rows.
inline constexpr std::uint32_t kFloatRowBlock = 16;
constexpr std::uint32_t float_row(std::uint32_t n) { return round_up(n, kFloatRowBlock); }

namespace plan_detail {

class Stacker {
 public:
  constexpr Stacker(std::uint64_t at, std::uint32_t align) : at_(at), align_(align) {}
  constexpr void take(Slice& slice, std::uint64_t bytes) {
    slice = {at_, bytes};
    at_ = align_up(at_ + bytes, align_);
  }
  constexpr std::uint64_t at() const { return at_; }

 private:
  std::uint64_t at_;
  std::uint32_t align_;
};

constexpr void stack_attention(AttentionPlan& p, Stacker& s, const KernelTraits& traits, std::uint32_t n_heads,
                               std::uint32_t n_kv_heads, std::uint32_t head_dim, std::uint32_t chunk) {
  const std::uint64_t heads = std::uint64_t{chunk} * n_heads;
  s.take(p.query, std::uint64_t{4} * chunk * float_row(n_heads * head_dim));
  s.take(p.key, std::uint64_t{4} * chunk * float_row(n_kv_heads * head_dim));
  s.take(p.value, std::uint64_t{4} * chunk * float_row(n_kv_heads * head_dim));
  s.take(p.queries, activations_bytes(traits, head_dim, 0, static_cast<std::uint32_t>(heads)));
  s.take(p.numerators, 4 * heads * head_dim);
  s.take(p.denominators, 4 * heads);
  s.take(p.references, 4 * heads);
}

constexpr std::uint64_t larger(std::uint64_t a, std::uint64_t b) { return a > b ? a : b; }

}  // namespace plan_detail

// Fills `plan` for running a model of this configuration on a CPU described by `traits`, which need not be this one.
// Fails with bad_config, feature_not_built, context_too_long or bad_argument (a chunk above 4096); `plan` is
// unspecified then. An arena that does not fit the address space of the target is the caller's to compare.
constexpr Status make_plan(Plan& plan, const ModelConfig& m, const KernelTraits& traits, const Limits& limits = {}) {
  if (const Status s = check_config(m); s != Status::ok) return s;
  const StackConfig& c = m.main();
  if (limits.max_seq > c.max_seq) return Status::context_too_long;
  if (limits.chunk > 4096) return Status::bad_argument;
  plan = Plan{};
  plan.max_seq = limits.max_seq ? limits.max_seq : c.max_seq;
  plan.chunk = limits.chunk ? limits.chunk : traits.default_chunk;
  if (plan.chunk > plan.max_seq) plan.chunk = plan.max_seq;
  plan.arena_align = traits.alignment;
  plan.slack = traits.slack;

  using plan_detail::larger;
  const KvShape kv{c.n_kv_heads, c.head_dim, plan.max_seq, traits.alignment};
  plan_detail::Stacker block(0, traits.alignment), s = block;
  block.take(plan.kv_cache, kv.layer_bytes() * c.n_layers);
  s.take(plan.residual, std::uint64_t{4} * plan.chunk * float_row(c.d_model));
  s.take(plan.rotation, std::uint64_t{2} * plan.chunk * c.rotary_dims);
  s.take(plan.position, c.position_table ? std::uint64_t{4} * float_row(c.d_model) : 0);
  std::uint64_t activations = activations_bytes(traits, c.d_model, c.group(Site::attention_in), plan.chunk);
  activations = larger(activations, activations_bytes(traits, c.d_query(), c.group(Site::value_up_in), plan.chunk));
  activations = larger(activations, activations_bytes(traits, c.d_model, c.group(Site::ffn_in), plan.chunk));
  activations = larger(activations, activations_bytes(traits, c.d_ff, c.group(Site::down_in), plan.chunk));
  activations = larger(activations, activations_bytes(traits, c.d_model, c.group(Site::unembed_in), 1));
  s.take(plan.activations, activations);
  // Attention and feed-forward layer never live at the same time.
  plan_detail::Stacker attention = s, ffn = s;
  plan_detail::stack_attention(plan.attention, attention, traits, c.n_heads, c.n_kv_heads, c.head_dim, plan.chunk);
  ffn.take(plan.gate, std::uint64_t{4} * plan.chunk * float_row(c.d_ff));
  ffn.take(plan.up, c.gated ? std::uint64_t{4} * plan.chunk * float_row(c.d_ff) : 0);
  block.take(plan.scratch, larger(attention.at(), ffn.at()));
  block.take(plan.logits, std::uint64_t{4} * float_row(c.vocab_size));
  plan.arena_bytes = block.at() + traits.slack;
  return Status::ok;
}

}  // namespace heed
