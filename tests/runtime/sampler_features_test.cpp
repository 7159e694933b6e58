// SPDX-License-Identifier: Apache-2.0
// sampler_features_test.cpp: the sampler of a build with kLlamaFeatures, which has neither a penalty nor min-p: what is
// not built is refused, not ignored.
#include <cstring>

#include "runtime/sampler.hpp"
#include "tests/support/catch.hpp"

namespace {

using heed::SamplerConfig;
using heed::Status;

static_assert(!heed::kBuiltFeatures.repeat_penalty && !heed::kBuiltFeatures.min_p && heed::kBuiltFeatures.sampling);
static_assert(!heed::kDecoderFeatures.repeat_penalty && !heed::kDecoderFeatures.min_p);
static_assert(heed::kAllFeatures.repeat_penalty && heed::kAllFeatures.min_p);

std::uint32_t first_of_largest(const float* logits, std::uint32_t n) {
  std::uint32_t best = 0;
  for (std::uint32_t i = 1; i < n; ++i)
    if (logits[i] > logits[best]) best = i;
  return best;
}

}  // namespace

TEST_CASE("what a sampler is built without is refused", "[sampler]") {
  heed::Kernels kernels{};
  kernels.argmax = first_of_largest;
  alignas(4) std::byte scratch[heed::Sampler::scratch_bytes(4, 64)];
  heed::Sampler sampler;
  const auto created = [&](const SamplerConfig& config) { return create(sampler, config, 4, kernels, scratch); };
  SamplerConfig config;
  for (const float temperature : {0.0f, 0.8f}) {
    config = {};
    config.temperature = temperature;
    CHECK(created(config) == Status::ok);
    config.repeat_penalty = 1.1f;
    CHECK(created(config) == Status::feature_not_built);
    config.repeat_penalty = 101.0f;  // no build takes that
    CHECK(created(config) == Status::feature_not_built);
    config.repeat_penalty = 1.0f;
    config.min_p = 0.05f;
    CHECK(created(config) == Status::feature_not_built);
    config.min_p = -0.0f;
    CHECK(created(config) == Status::ok);
  }
  REQUIRE(created({}) == Status::ok);
  const heed::Token seen[2] = {1, 9};
  CHECK(sampler.accept(seen) == Status::ok);  // nothing to remember
  const float logits[4] = {1.0f, 4.0f, 3.0f, 4.0f};
  heed::Token token = heed::kNoToken;
  CHECK(sampler.pick(token, logits) == Status::ok);
  CHECK(token == 1);
}
