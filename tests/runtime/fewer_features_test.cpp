// SPDX-License-Identifier: Apache-2.0
// fewer_features_test.cpp: builds with fewer features, through heed.h and of layers: what is missing is said, and nothing is
// ignored.
#include <cstdio>

#include "platform/select.hpp"
#include "runtime/features.hpp"
#include "runtime/heed.h"
#include "runtime/layers.hpp"
#include "runtime/session.hpp"
#include "tests/check.hpp"

namespace {

alignas(64) unsigned char g_image[48 * 1024], g_arena[128 * 1024];

// A golden image; tiny.heed needs key offsets.
std::size_t read_image(const char* path = HEED_SOURCE_DIR "/tests/golden/tiny.heed") {
  std::FILE* const file = std::fopen(path, "rb");
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
  const std::uint64_t missing = heed_needed_features(g_image, bytes, kernels) & ~heed_built_features();
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
  CHECK(make_linear_plan(linear, {8, 8, 0, Activation::gelu_quick}, traits) == built(kBuiltFeatures.gelu_quick));
  CHECK(make_linear_plan(linear, {8, 8, 0, Activation::gelu_tanh}, traits) == built(kBuiltFeatures.gelu));
  FeedForwardMemory memory;
  CHECK(make_feed_forward_plan(memory, {8, 8, true, Activation::silu, 0, 0}, traits) == Status::ok);
  CHECK(make_feed_forward_plan(memory, {8, 8, false, Activation::silu, 0, 0}, traits) == built(kBuiltFeatures.ungated));
  CHECK(make_feed_forward_plan(memory, {8, 8, true, Activation::gelu_erf, 0, 0}, traits) == built(kBuiltFeatures.gelu));
  CHECK(make_feed_forward_plan(memory, {8, 8, true, Activation::silu, 0, 64}, traits) == built(kBuiltFeatures.groups));
  float x[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  CHECK(norm(x, x, 4, {nullptr, nullptr, 1e-5f, false}, kernels) == built(kNormsToFloats));
  CHECK(activate({x, 4}, 4, Activation::relu) == built(kBuiltFeatures.relu));
}

TEST_CASE("objects of a build for one stack are smaller, and have room to grow", "[features]") {
#ifdef HEED_ONE_STACK
  CHECK(sizeof(heed_model) == 384);
  CHECK(sizeof(heed_plan) == 576);
  CHECK(sizeof(heed_session) == (sizeof(void*) == 8 ? 2048u : 1600u));
#else
  CHECK(sizeof(heed_session) == (sizeof(void*) == 8 ? 5056u : 3776u));
#endif
  CHECK(sizeof(heed::Model) * 8 <= sizeof(heed_model) * 7);
  CHECK(sizeof(heed::Plan) * 8 <= sizeof(heed_plan) * 7);
  CHECK(sizeof(heed::Session) * 8 <= sizeof(heed_session) * 7);
}

TEST_CASE("encoders and sources are refused by a build without them, in C", "[features]") {
  const heed_kernels* const kernels = heed_best_kernels();
  heed_model model;
  const struct {
    const char* path;
    std::uint32_t needs;  // among others
  } images[] = {{HEED_SOURCE_DIR "/tests/golden/frames.heed",
                 HEED_FEATURE_ENCODE | HEED_FEATURE_CONVOLUTIONS | HEED_FEATURE_POOLING | HEED_FEATURE_WINDOWS},
                {HEED_SOURCE_DIR "/tests/golden/two.heed",
                 HEED_FEATURE_CROSS_ATTENTION | HEED_FEATURE_DENSE | HEED_FEATURE_NORM_AFTER | HEED_FEATURE_SCORE_BIAS |
                     HEED_FEATURE_ENCODE | HEED_FEATURE_UNGATED | HEED_FEATURE_EMBEDDING_EXTRAS}};  // of the first stack
  for (const auto& image : images) {
    const std::size_t bytes = read_image(image.path);
    REQUIRE(bytes != 0);
    const std::uint64_t needed = heed_needed_features(g_image, bytes, kernels);
    CHECK((needed & image.needs) == image.needs);
    CHECK(heed_model_open(&model, g_image, bytes, kernels) ==
          (needed & ~heed_built_features() ? HEED_FEATURE_NOT_BUILT : HEED_OK));
  }
  if (heed_model_open(&model, g_image, read_image(), kernels) != HEED_OK) return;
  heed_plan plan;
  heed_session session;
  REQUIRE(heed_plan_make(&plan, &model, kernels, nullptr) == HEED_OK);
  CHECK(heed_plan_source_seq(&plan) == 0);
  REQUIRE(heed_session_create(&session, &model, &plan, kernels, g_arena, sizeof g_arena) == HEED_OK);
  heed_limits limits{};
  limits.source_seq = 1;  // of a decoder, which has no source
  CHECK(heed_plan_make(&plan, &model, kernels, &limits) == HEED_BAD_ARGUMENT);
  limits.source_seq = 0;
  limits.score_rows = 4097;
  CHECK(heed_plan_make(&plan, &model, kernels, &limits) == HEED_BAD_ARGUMENT);
  limits.score_rows = 2;
  CHECK(heed_plan_make(&plan, &model, kernels, &limits) == HEED_OK);
  REQUIRE(heed_plan_make(&plan, &model, kernels, nullptr) == HEED_OK);
  // A decoder encodes nothing in any build.
  const heed_token token = 1;
  heed_sequence text{};
  text.tokens = &token;
  text.n_tokens = 1;
  const auto take = [](void*, std::uint32_t, const float*, std::uint32_t) {};
  const heed_status encodes = heed::kBuiltFeatures.encode ? HEED_BAD_ARGUMENT : HEED_FEATURE_NOT_BUILT;
  const float* output = nullptr;
  CHECK(heed_session_encode(&session, &output, &text) == encodes);
  CHECK(heed_session_encode_each(&session, &text, take, nullptr) == encodes);
  CHECK(heed_session_set_source(&session, &text) ==
        (heed::kBuiltFeatures.cross_attention ? HEED_BAD_ARGUMENT : HEED_FEATURE_NOT_BUILT));
  CHECK(heed_session_source_positions(&session) == 0);
}

TEST_CASE("layers in C say what this build lacks", "[features]") {
  const heed_kernels* const kernels = heed_best_kernels();
  const auto built = [](bool has) { return has ? HEED_OK : HEED_FEATURE_NOT_BUILT; };
  const heed::Features& has = heed::kBuiltFeatures;
  heed_layer_plan plan;
  heed_linear_config linear{};
  linear.d_in = linear.d_out = 8;
  linear.activation = HEED_ACTIVATION_NONE;
  CHECK(heed_linear_plan(&plan, &linear, kernels, 0) == HEED_OK);
  linear.group = 32;
  CHECK(heed_linear_plan(&plan, &linear, kernels, 0) == built(has.groups));
  linear.group = 0;
  linear.activation = HEED_ACTIVATION_GELU_ERF;
  CHECK(heed_linear_plan(&plan, &linear, kernels, 0) == built(has.gelu));
  heed_feed_forward_config feed_forward{};
  feed_forward.d_model = feed_forward.d_ff = 8;
  feed_forward.activation = HEED_ACTIVATION_SILU;
  CHECK(heed_feed_forward_plan(&plan, &feed_forward, kernels, 0) == built(has.ungated));
  heed_attention_config attention{};
  attention.d_model = attention.head_dim = attention.max_seq = 8;
  attention.n_heads = attention.n_kv_heads = 1;
  const auto with = [&](auto change) {
    heed_attention_config c = attention;
    change(c);
    return heed_attention_plan(&plan, &c, kernels, 0);
  };
  using Config = heed_attention_config;
  CHECK(with([](Config&) {}) == HEED_OK);
  CHECK(with([](Config& c) { c.two_way = 1; }) == built(has.encode));
  CHECK(with([](Config& c) { c.window = 4; }) == built(has.windows));
  CHECK(with([](Config& c) { c.d_source = 4; }) == built(has.cross_attention));
  CHECK(with([](Config& c) { c.undivided_values = 1; }) == built(has.undivided_values));
  CHECK(with([](Config& c) { c.query_key_norm = 1; }) == built(has.query_key_norm));
  CHECK(with([](Config& c) { c.alibi = 1; }) == built(has.score_bias));
  float x[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  CHECK(heed_norm(x, x, 1, 4, 0, nullptr, nullptr, 1e-5f, kernels) == built(has.norm_after || has.query_key_norm));
  CHECK(heed_activate(x, 1, 4, HEED_ACTIVATION_RELU) == built(has.relu));
}
