// SPDX-License-Identifier: Apache-2.0
// session.hpp: a model running in the caller's block of memory: tokens in, logits out.
#pragma once
#include "runtime/block.hpp"
#include "runtime/token.hpp"

namespace heed {

// Receives the logits at one position; they are overwritten after it returns.
struct LogitsSink {
  void (*take)(void* context, std::uint32_t position, Span<const float> logits) = nullptr;
  void* context = nullptr;
};

// A block of the caller's for each region of the plan, so that a board can keep the cache in its large memory and the
// scratch in its fast one.
struct SessionMemory {
  constexpr SessionMemory(Span<std::byte> for_kv_cache, Span<std::byte> for_scratch, Span<std::byte> for_logits)
      : kv_cache(for_kv_cache), scratch(for_scratch), logits(for_logits) {}
  Span<std::byte> kv_cache, scratch, logits;
};

// Nothing here allocates, and after `create` nothing can fail for lack of memory. Not thread-safe; sessions that do
// not share an arena are independent. The same tokens give the same bits however they are cut into calls.
class Session {
 public:
  // Takes the prompt at the next positions; logits [vocab_size] of its last token, valid until the next call.
  // Fails with bad_argument (empty), bad_token, context_full, or rounding_mode when floats no longer round to nearest
  // even, as each call finds out; the session is unchanged then.
  Status prefill(Span<const float>& logits, Span<const Token> prompt);
  // The same for one token.
  Status step(Span<const float>& logits, Token token);
  // The same with the logits at every position: each position predicts its next token. `sink` leaves the rounding mode
  // as it is.
  Status evaluate(Span<const Token> tokens, const LogitsSink& sink);

  std::uint32_t position() const { return position_; }
  std::uint32_t max_seq() const { return plan_.max_seq; }
  // Forgets everything after the first `position` positions. Fails with bad_argument beyond the present one.
  Status rewind(std::uint32_t position);

  // Neither compiles in a build without its feature, where it would have no effect.
  template <bool kBuilt = kBuiltFeatures.pattern_tap>
  void set_tap(const PatternTap& tap) {
    static_assert(kBuilt, "a tap needs HEED_FEATURES with Feature::pattern_tap");
    attention_.tap = tap;
  }
  template <bool kBuilt = kBuiltFeatures.threads>
  void set_parallel(const Parallel& parallel) {
    static_assert(kBuilt, "threads need HEED_FEATURES with Feature::threads");
    parallel_ = parallel;
  }
  const Model& model() const { return model_; }
  const Plan& plan() const { return plan_; }
  const Kernels& kernels() const { return *attention_.kernels; }

 private:
  friend Status create(Session&, const Model&, const Plan&, const Kernels&, Span<std::byte>);
  friend Status create(Session&, const Model&, const Plan&, const Kernels&, const SessionMemory&);
  Status place(const Model& model, const Plan& plan, const Kernels& kernels, std::byte* kv_cache, std::byte* scratch,
               std::byte* logits);
  Status check(Span<const Token> tokens) const;
  void forward(Span<const Token> tokens);
  void move_to_layer(std::uint32_t layer);
  Span<const float> unembed(std::uint32_t token_of_chunk);

  Model model_;
  Plan plan_;
  AttentionLayer attention_;  // both hold the weights of layer 0 between calls
  BlockWeights block_;
  BlockScratch scratch_;
  Parallel parallel_;
  std::byte* kv_cache_ = nullptr;
  float* position_row_ = nullptr;
  float* logits_ = nullptr;
  std::uint32_t position_ = 0;
};

// `model`'s image and `arena` must outlive the session; `plan` must come from model.config() and kernels.traits.
// `arena` needs plan.arena_bytes, aligned to plan.arena_align; its content does not matter. Fails with bad_argument (a plan
// of another model or table, a null arena), misaligned, arena_too_small, layout_unsupported or rounding_mode (also of a
// build whose compiler fused products with sums).
Status create(Session& session, const Model& model, const Plan& plan, const Kernels& kernels,
              Span<std::byte> arena);

// The same in a block per region: plan.region(r).bytes each, aligned to plan.arena_align. Fails also with bad_argument for
// blocks that overlap; check_region says which one is wrong. The answer is the same bits.
Status create(Session& session, const Model& model, const Plan& plan, const Kernels& kernels,
              const SessionMemory& memory);

// Whether a block can hold a region: ok, bad_argument (null), misaligned or arena_too_small.
Status check_region(const Plan& plan, Region region, Span<const std::byte> block);

}  // namespace heed
