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
};

class Sampler {
 public:
  // Picks from `logits` [vocab_size]. The largest logit always stays possible, a NaN is never picked, and of equals the
  // lower id is kept. Fails with bad_argument when the number of logits is not the vocabulary's or all are NaN, and
  // with a temperature with rounding_mode when floats do not round to nearest even; no random number is used up then, nor
  // at temperature 0.
  Status pick(Token& token, Span<const float> logits);

  static constexpr std::size_t scratch_bytes(std::size_t vocab_size) { return vocab_size * sizeof(std::uint32_t); }

 private:
  friend Status create(Sampler&, const SamplerConfig&, std::uint32_t, const Kernels&, Span<std::byte>);

  const Kernels* kernels_ = nullptr;
  std::uint32_t* weights_ = nullptr;  // [vocab_size], the caller's scratch
  std::uint64_t state_ = 0;
  std::uint32_t vocab_size_ = 0;
  std::uint32_t top_k_ = 0;           // 0 = off
  std::uint32_t top_p_ = 0;           // in 2^-24; 0 = off
  float inverse_temperature_ = 0.0f;  // 0 = largest logit
};

// `scratch`: Sampler::scratch_bytes(vocab_size) bytes aligned to 4, which the sampler uses during each pick only;
// may be empty at temperature 0. `kernels` and `scratch` must outlive the sampler.
// Fails with bad_argument (a number out of range or NaN, an empty vocabulary, too little scratch), misaligned,
// feature_not_built (a temperature without the sampling feature) or, with a temperature, rounding_mode.
Status create(Sampler& sampler, const SamplerConfig& config, std::uint32_t vocab_size, const Kernels& kernels,
              Span<std::byte> scratch);

}  // namespace heed
