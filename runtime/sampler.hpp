// SPDX-License-Identifier: Apache-2.0
// sampler.hpp: from logits to the next token; integers after one exp, so that a seed gives the same text everywhere.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/kernels.hpp"
#include "runtime/span.hpp"
#include "runtime/status.hpp"
#include "runtime/token.hpp"

namespace heed {

struct SamplerConfig {
  float temperature = 0.0f;  // 0..100; 0 (and anything below 2^-20) takes the largest logit
  std::uint32_t top_k = 0;   // keep this many; 0 = all
  float top_p = 1.0f;        // keep the fewest whose share of what top_k left reaches this; <= 0 or >= 1 = all
  std::uint64_t seed = 0;    // any
  // Of the last `repeat_last` tokens, 0.01..100: a logit above 0 is divided by it, any other multiplied; 1 = off. It also
  // works at temperature 0.
  float repeat_penalty = 1.0f;
  std::uint32_t repeat_last = 64;  // 1..; without a penalty nothing is remembered
  float min_p = 0.0f;              // 0..1: of what top_p left, keep those at least this times as likely as the likeliest
};

class Sampler {
 public:
  // Picks from `logits` [vocab_size], which stay as they are, and remembers the token. A NaN is never picked, and of equals
  // the lower id is kept. So the largest logit stays possible unless top_k or top_p has room for fewer than are as likely:
  // those within 2^-23 of it count as its equals. Fails with bad_argument when the number of logits is not the
  // vocabulary's or all are NaN, and with a temperature or a penalty with rounding_mode when floats do not round to nearest
  // even; no random number is used up then, nor at temperature 0.
  Status pick(Token& token, Span<const float> logits);

  // The same, but never one of `suppressed`: their logits count as NaN. (What this takes, a program pays that calls it.) Fails
  // also with bad_token when one of them is outside the vocabulary.
  Status pick(Token& token, Span<const float> logits, Span<const Token> suppressed);

  // Remembers tokens that are not picked here: a prompt's, in order. Without a penalty there is nothing to remember.
  // Fails with bad_token, and remembers none of them then.
  Status accept(Span<const Token> tokens);

  // Bytes that `create` asks for. `repeat_last`: that of a config with a penalty, else 0.
  static constexpr std::size_t scratch_bytes(std::size_t vocab_size, std::size_t repeat_last = 0) {
    return (vocab_size + repeat_last) * sizeof(std::uint32_t);
  }

 private:
  friend Status create(Sampler&, const SamplerConfig&, std::uint32_t, const Kernels&, Span<std::byte>);
  bool remembers() const { return kBuiltFeatures.repeat_penalty && history_size_ != 0; }
  void remember(Token token);
  bool draws() const { return kBuiltFeatures.sampling && inverse_temperature_ != 0.0f; }
  Status ready(Span<const float> logits) const;
  Status choose(Token& token, const float* logits);
  float* copied(const float* logits);
  float* penalised(const float* logits);
  std::uint32_t draw(const float* logits, std::uint32_t best);

  const Kernels* kernels_ = nullptr;
  std::uint32_t* weights_ = nullptr;  // [vocab_size], the caller's scratch
  std::uint64_t state_ = 0;
  std::uint32_t vocab_size_ = 0;
  std::uint32_t top_k_ = 0;           // 0 = off
  std::uint32_t top_p_ = 0;           // in 2^-24; 0 = off
  std::uint32_t min_weight_ = 0;      // 0 = off
  float inverse_temperature_ = 0.0f;  // 0 = largest logit
  float repeat_penalty_ = 1.0f;
  std::uint32_t history_size_ = 0;    // 0 = no penalty
  std::uint32_t history_next_ = 0;
  Token* history_ = nullptr;          // [history_size], a ring behind the weights; kNoToken where none has been yet
};

// `scratch`: Sampler::scratch_bytes() bytes aligned to 4; may be empty at temperature 0 without a penalty. The first
// 4 * vocab_size bytes are used during each pick only, so they may serve others between; the rest, 4 * repeat_last, holds
// what is remembered. `kernels` and `scratch` must outlive the sampler.
// Fails with bad_argument (a number out of range or NaN, an empty vocabulary, too little scratch), misaligned,
// feature_not_built (a temperature without the sampling feature, a penalty or min_p without theirs) or, with a temperature
// or a penalty, rounding_mode.
Status create(Sampler& sampler, const SamplerConfig& config, std::uint32_t vocab_size, const Kernels& kernels,
              Span<std::byte> scratch);

}  // namespace heed
