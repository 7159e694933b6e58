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

// Nothing here allocates, and after `create` nothing can fail for lack of memory. Not thread-safe; sessions that do
// not share an arena are independent. The same tokens give the same bits however they are cut into calls.
class Session {
 public:
  // Takes the prompt at the next positions; logits [vocab_size] of its last token, valid until the next call.
  // Fails with bad_argument (empty), bad_token or context_full; the session is unchanged then.
  Status prefill(Span<const float>& logits, Span<const Token> prompt);
  // The same for one token.
  Status step(Span<const float>& logits, Token token);
  // The same with the logits at every position: each position predicts its next token.
  Status evaluate(Span<const Token> tokens, const LogitsSink& sink);

  std::uint32_t position() const { return position_; }
  std::uint32_t max_seq() const { return plan_.max_seq; }
  // Forgets everything after the first `position` positions. Fails with bad_argument beyond the present one.
  Status rewind(std::uint32_t position);

  void set_tap(const PatternTap& tap) { attention_.tap = tap; }
  void set_parallel(const Parallel& parallel) { parallel_ = parallel; }
  const Model& model() const { return model_; }
  const Plan& plan() const { return plan_; }
  const Kernels& kernels() const { return *attention_.kernels; }

 private:
  friend Status create(Session&, const Model&, const Plan&, const Kernels&, Span<std::byte>);
  Status check(Span<const Token> tokens) const;
  void forward(Span<const Token> tokens);
  Span<const float> unembed(std::uint32_t token_of_chunk);

  Model model_;
  Plan plan_;
  AttentionLayer attention_;
  BlockScratch scratch_;
  Parallel parallel_;
  std::byte* arena_ = nullptr;
  std::uint32_t position_ = 0;
};

// `model`'s image and `arena` must outlive the session; `plan` must come from model.config() and kernels.traits.
// `arena` needs plan.arena_bytes, aligned to plan.arena_align; its content does not matter. Fails with bad_argument (a plan
// of another model or table, a null arena), misaligned, arena_too_small, layout_unsupported or rounding_mode.
Status create(Session& session, const Model& model, const Plan& plan, const Kernels& kernels,
              Span<std::byte> arena);

}  // namespace heed
