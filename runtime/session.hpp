// SPDX-License-Identifier: Apache-2.0
// session.hpp: a model running in the caller's block of memory: tokens or vectors in, logits or vectors out.
#pragma once
#include "runtime/input.hpp"
#include "runtime/output.hpp"

namespace heed {

// A block of the caller's for each region of the plan, so that a board can keep the cache in its large memory and the
// scratch in its fast one.
struct SessionMemory {
  constexpr SessionMemory(Span<std::byte> for_kv_cache, Span<std::byte> for_scratch, Span<std::byte> for_logits)
      : kv_cache(for_kv_cache), scratch(for_scratch), logits(for_logits) {}
  Span<std::byte> kv_cache, scratch, logits;
};

// Nothing here allocates, and after `create` nothing can fail for lack of memory. Not thread-safe; sessions that do
// not share an arena are independent. The same tokens give the same bits however they are cut into calls, and whatever the
// chunk, the threads and the rows of a product. A refused call leaves the session as it was.
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;  // its parts know where they are
  Session& operator=(const Session&) = delete;

  // ---- Of a model whose main stack generates ------------------------------------------------------------------

  // Takes the prompt at the next positions; logits [vocab_size] of its last token, valid until the next call.
  // Fails with bad_argument (empty, a null pointer, a stack that does not generate, a source that is not there yet), bad_token, context_full,
  // or rounding_mode when floats no longer round to nearest even, as each call finds out.
  Status prefill(Span<const float>& logits, Span<const Token> prompt);
  // The same for one token.
  Status step(Span<const float>& logits, Token token);
  // The same with the logits at every position: each position predicts its next token. As many positions are unembedded
  // together as the plan has rows for. `sink` leaves the rounding mode as it is.
  Status evaluate(Span<const Token> tokens, const RowSink& sink);

  std::uint32_t position() const { return position_; }
  std::uint32_t max_seq() const { return plan_.max_seq; }
  // Forgets everything after the first `position` positions. Fails with bad_argument beyond the present one, and where a
  // window's keys before it are no longer kept; 0 is always possible.
  Status rewind(std::uint32_t position);

  // ---- Of a model whose main stack encodes --------------------------------------------------------------------

  // Takes a whole sequence, class vectors in front of it, and hands out its outputs in order: one per position, logits
  // [n_outputs] or vectors [d_output], or one at position 0 where they are pooled. Fails with bad_argument (no sink, a stack
  // that does not encode, a source that is not there yet, or as check_sequence), misaligned, bad_token, context_full or
  // rounding_mode.
  Status encode(const Sequence& input, const RowSink& sink);
  // The same for the one output of a stack that pools, valid until the next call; bad_argument for others.
  Status encode(Span<const float>& row, const Sequence& input);

  // ---- Of a model of two stacks -------------------------------------------------------------------------------

  // Encodes the source, whose keys and values every layer of the main stack keeps from then on; the main stack forgets its
  // own positions. Fails as `encode`, and with bad_argument on a model of one stack; what was there is kept then.
  Status set_source(const Sequence& source);
  // Positions of the source; 0 before it is set.
  std::uint32_t source_positions() const { return kBuiltFeatures.cross_attention ? main().cross().length : 0; }

  // Neither compiles in a build without its feature, where it would have no effect.
  template <bool kBuilt = kBuiltFeatures.pattern_tap>
  void set_tap(const PatternTap& tap) {
    static_assert(kBuilt, "a tap needs HEED_FEATURES with Feature::pattern_tap");
    main().attention().tap = tap;
    if (kBuiltFeatures.cross_attention) main().cross().tap = tap;
  }
  template <bool kBuilt = kBuiltFeatures.threads>
  void set_parallel(const Parallel& parallel) {
    static_assert(kBuilt, "threads need HEED_FEATURES with Feature::threads");
    parallel_ = parallel;
  }
  const Model& model() const { return model_; }
  const Plan& plan() const { return plan_; }
  const Kernels* kernels() const { return main().attention().kernels; }  // null before `create`

 private:
  friend Status create(Session&, const Model&, const Plan&, const Kernels&, Span<std::byte>);
  friend Status create(Session&, const Model&, const Plan&, const Kernels&, const SessionMemory&);
  Status place(const Model& model, const Plan& plan, const Kernels& kernels, std::byte* kv_cache, std::byte* scratch,
               std::byte* logits);
  void place(Stack& stack, std::uint32_t index, const StackPlan& plan, const Kernels& kernels, std::byte* scratch);
  const Stack& main() const { return stacks_[kMaxStacks == 1 ? 0 : model_.config().n_stacks - 1]; }
  Stack& main() { return stacks_[kMaxStacks == 1 ? 0 : model_.config().n_stacks - 1]; }
  const StackPlan& plan_of(const Stack& stack) const {
    if (&stack == &main()) return plan_;
    return plan_.source;
  }
  Status check(Span<const Token> tokens) const;
  void forward(Span<const Token> tokens);
  void set_rotation(const Stack& stack, std::uint32_t first, std::uint32_t n);
  void move_to_layer(Stack& stack, std::uint32_t layer);
  Status check(const Stack& stack, std::uint32_t& positions, const Sequence& input) const;
  float* run_encoder(Stack& stack, const Sequence& input, std::uint32_t n);
  Span<const float> output(std::uint32_t row) const {
    return {logits_ + std::size_t{row} * plan_.output_stride, output_width(*main().config)};
  }

  Model model_;
  Plan plan_;
  Stack stacks_[kMaxStacks];  // each at layer 0 between calls
  Parallel parallel_;
  std::byte* kv_cache_ = nullptr;
  float* logits_ = nullptr;
  std::uint32_t position_ = 0;
  std::uint32_t furthest_ = 0;  // positions stored since the last rewind to 0
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
