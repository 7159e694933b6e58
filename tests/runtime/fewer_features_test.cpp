// SPDX-License-Identifier: Apache-2.0
// fewer_features_test.cpp: builds with fewer features, through heed.h and of layers: what is missing is said, and nothing is
// ignored.
#include <cstdio>

#include "platform/select.hpp"
#include "runtime/features.hpp"
#include "runtime/heed.h"
#include "runtime/layers.hpp"
#include "tests/check.hpp"

namespace {

alignas(64) unsigned char g_image[16 * 1024], g_arena[128 * 1024];

// The golden image, which needs key offsets.
std::size_t read_image() {
  std::FILE* const file = std::fopen(HEED_SOURCE_DIR "/tests/golden/tiny.heed", "rb");
  if (!file) return 0;
  const std::size_t n = std::fread(g_image, 1, sizeof g_image, file);
  std::fclose(file);
  return n;
}

void run(void*, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  for (std::uint32_t i = 0; i < count; ++i) task(argument, i);
}

}  // namespace

TEST_CASE("an image says what this build lacks", "[features]") {
  const std::size_t bytes = read_image();
  REQUIRE(bytes != 0);
  const heed_kernels* const kernels = heed_best_kernels();
  const std::uint32_t missing = heed_needed_features(g_image, bytes, kernels) & ~heed_built_features();
  CHECK(heed_built_features() == heed::feature_bits(heed::kBuiltFeatures));
  CHECK(missing == (heed::kBuiltFeatures.key_offset ? 0 : HEED_FEATURE_KEY_OFFSET));
  heed_model model;
  CHECK(heed_model_open(&model, g_image, bytes, kernels) == (missing ? HEED_FEATURE_NOT_BUILT : HEED_OK));
}

TEST_CASE("threads and chance are refused by a build without them", "[features]") {
  const heed_kernels* const kernels = heed_best_kernels();
  heed_sampler_config config{};
  config.temperature = 0.8f;
  heed_sampler sampler;
  CHECK(heed_sampler_create(&sampler, &config, 16, kernels, g_arena, sizeof g_arena) ==
        (heed::kBuiltFeatures.sampling ? HEED_OK : HEED_FEATURE_NOT_BUILT));

  heed_model model;
  if (heed_model_open(&model, g_image, read_image(), kernels) != HEED_OK) return;
  heed_plan plan;
  heed_session session;
  REQUIRE(heed_plan_make(&plan, &model, kernels, nullptr) == HEED_OK);
  REQUIRE(heed_session_create(&session, &model, &plan, kernels, g_arena, sizeof g_arena) == HEED_OK);
  heed_parallel parallel = {run, nullptr, 2, 0};
  const heed_status lent = heed::kBuiltFeatures.threads ? HEED_OK : HEED_FEATURE_NOT_BUILT;
  CHECK(heed_session_set_parallel(&session, &parallel) == lent);
  CHECK(heed_session_set_parallel(&session, nullptr) == HEED_OK);
  parallel.run = nullptr;
  CHECK(heed_session_set_parallel(&session, &parallel) == HEED_BAD_ARGUMENT);
  const float* logits = nullptr;
  CHECK(heed_session_step(&session, &logits, 1) == HEED_OK);
}

TEST_CASE("layers say what this build lacks", "[features]") {
  using namespace heed;
  const Kernels& kernels = best_kernels();
  const KernelTraits& traits = kernels.traits;
  const auto built = [](bool has) { return has ? Status::ok : Status::feature_not_built; };
  LinearMemory linear;
  CHECK(make_linear_plan(linear, {8, 8, 0, Activation::none}, traits) == Status::ok);
  CHECK(make_linear_plan(linear, {8, 8, 0, Activation::tanh}, traits) == Status::ok);
  CHECK(make_linear_plan(linear, {8, 8, 32, Activation::none}, traits) == built(kBuiltFeatures.groups));
  CHECK(make_linear_plan(linear, {8, 8, 0, Activation::relu}, traits) == built(kBuiltFeatures.relu));
  CHECK(make_linear_plan(linear, {8, 8, 0, Activation::gelu_quick}, traits) == built(kBuiltFeatures.gelu));
  FeedForwardMemory memory;
  CHECK(make_feed_forward_plan(memory, {8, 8, true, Activation::silu, 0, 0}, traits) == Status::ok);
  CHECK(make_feed_forward_plan(memory, {8, 8, false, Activation::silu, 0, 0}, traits) == built(kBuiltFeatures.ungated));
  CHECK(make_feed_forward_plan(memory, {8, 8, true, Activation::gelu_erf, 0, 0}, traits) == built(kBuiltFeatures.gelu));
  CHECK(make_feed_forward_plan(memory, {8, 8, true, Activation::silu, 0, 64}, traits) == built(kBuiltFeatures.groups));
  float x[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  CHECK(norm(x, x, 4, {nullptr, nullptr, 1e-5f, false}, kernels) == built(kNormsToFloats));
  CHECK(activate({x, 4}, 4, Activation::relu) == built(kBuiltFeatures.relu));
}
