// SPDX-License-Identifier: Apache-2.0
// own_weights_test.cpp: weights that a program made itself, on every target and in builds with fewer features: what is not
// built, misaligned, missing or of another shape is refused before a kernel sees it.
#include "platform/select.hpp"
#include "runtime/attention.hpp"
#include "tests/check.hpp"

namespace {

using namespace heed;

constexpr std::uint32_t kModel = 20, kHeads = 2, kHeadDim = 12, kBytes = 64 * 32;

// Twice as wide as needed, so that what is read behind a part that was moved belongs to it as well.
alignas(64) std::int8_t g_weights[4][2 * kBytes];
alignas(64) float g_scales[4][64];
alignas(64) std::uint32_t g_phases[kHeadDim];
alignas(64) std::int16_t g_offsets[kHeads * kHeadDim + 4];
alignas(64) std::byte g_arena[48 * 1024];
alignas(64) float g_embeddings[3 * kModel + 4], g_change[3 * kModel + 4];
constexpr std::int8_t kOffsetExponents[kHeads] = {1, 1};

// `p`, so many bytes further.
template <class T>
T* moved(T* p, std::uintptr_t bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(p) + bytes);
}

Tensor matrix(int i, std::uint32_t rows, std::uint32_t cols, Layout layout) {
  for (std::int8_t& w : g_weights[i]) w = static_cast<std::int8_t>((&w - g_weights[i]) % 23 - 11);
  for (float& s : g_scales[i]) s = 0.01f;
  Tensor t;
  t.weights = g_weights[i];
  t.scales = g_scales[i];
  t.rows = rows;
  t.cols = cols;
  t.layout = layout;
  return t;
}

struct Layer {
  const Kernels& kernels = best_kernels();
  AttentionConfig config;
  AttentionWeights weights;
  AttentionMemory memory;
  Status planned;
  Layer() {
    config.d_model = kModel;
    config.n_heads = config.n_kv_heads = kHeads;
    config.head_dim = kHeadDim;
    config.max_seq = 70;
    config.rotary_dims = kHeadDim;
    const Layout layout = kernels.traits.preferred;
    weights.w_query = matrix(0, kHeads * kHeadDim, kModel, layout);
    weights.w_key = matrix(1, kHeads * kHeadDim, kModel, layout);
    weights.w_value_down = matrix(2, kHeads * kHeadDim, kModel, layout);
    weights.w_value_up = matrix(3, kModel, kHeads * kHeadDim, layout);
    for (std::uint32_t i = 0; i < kHeadDim; ++i) g_phases[i] = 683565276u >> i;
    weights.rotary_phases = g_phases;
    for (float& x : g_embeddings) x = 0.25f * static_cast<float>((&x - g_embeddings) % 7 - 3);
    planned = make_attention_plan(memory, config, kernels.traits, 4);
  }
  template <class Edit>
  Status created(Edit edit) const {
    AttentionWeights changed = weights;
    edit(changed);
    Attention attention;
    return create(attention, config, changed, memory, kernels, g_arena);
  }
};

Tensor* const* all_of(AttentionWeights& w) {
  static Tensor* all[4];
  all[0] = &w.w_query, all[1] = &w.w_key, all[2] = &w.w_value_down, all[3] = &w.w_value_up;
  return all;
}

}  // namespace

TEST_CASE("a layer of one's own weights runs", "[own weights]") {
  const Layer layer;
  REQUIRE(layer.planned == Status::ok);
  REQUIRE(layer.memory.arena_bytes <= sizeof g_arena);
  Attention attention;
  REQUIRE(create(attention, layer.config, layer.weights, layer.memory, layer.kernels, g_arena) == Status::ok);
  CHECK(attention.forward({g_change, 3 * kModel}, {g_embeddings, 3 * kModel}) == Status::ok);
  CHECK(attention.position() == 3);
  bool moved_any = false;
  for (const float x : g_change) moved_any = moved_any || x != 0.0f;
  CHECK(moved_any);
}

TEST_CASE("a misaligned part of a layer is refused", "[own weights]") {
  const Layer layer;
  for (int i = 0; i < 4; ++i) {
    for (const std::uintptr_t bytes : {1u, 2u, 4u, 32u})
      CHECK(layer.created([&](AttentionWeights& w) { all_of(w)[i]->weights += bytes; }) == Status::misaligned);
    for (const std::uintptr_t bytes : {1u, 2u, 3u})
      CHECK(layer.created([&](AttentionWeights& w) { all_of(w)[i]->scales = moved(g_scales[i], bytes); }) ==
            Status::misaligned);
    CHECK(layer.created([&](AttentionWeights& w) { all_of(w)[i]->scales += 1; }) == Status::ok);
  }
  for (const std::uintptr_t bytes : {1u, 2u, 3u})
    CHECK(layer.created([&](AttentionWeights& w) { w.rotary_phases = moved(g_phases, bytes); }) == Status::misaligned);
  const Status odd = layer.created([](AttentionWeights& w) {
    w.key_offsets = moved(g_offsets, 1);
    w.key_offset_exponents = kOffsetExponents;
  });
  CHECK(odd == (kBuiltFeatures.key_offset ? Status::misaligned : Status::feature_not_built));

  Attention attention;
  REQUIRE(create(attention, layer.config, layer.weights, layer.memory, layer.kernels, g_arena) == Status::ok);
  for (const std::uintptr_t bytes : {1u, 2u, 3u}) {
    CHECK(attention.forward({moved(g_change, bytes), kModel}, {g_embeddings, kModel}) == Status::misaligned);
    CHECK(attention.forward({g_change, kModel}, {moved(g_embeddings, bytes), kModel}) == Status::misaligned);
  }
  CHECK(attention.position() == 0);
}

TEST_CASE("a missing or another part of a layer is refused", "[own weights]") {
  const Layer layer;
  const auto bad = [&](auto edit) { return layer.created(edit) == Status::bad_argument; };
  for (int i = 0; i < 4; ++i) {
    CHECK(bad([&](AttentionWeights& w) { all_of(w)[i]->weights = nullptr; }));
    CHECK(bad([&](AttentionWeights& w) { all_of(w)[i]->scales = nullptr; }));
    CHECK(layer.created([&](AttentionWeights& w) { all_of(w)[i]->bias = g_scales[0]; }) ==
          (kBuiltFeatures.biases ? Status::ok : Status::feature_not_built));
    CHECK(bad([&](AttentionWeights& w) { all_of(w)[i]->group = 32; }));
    CHECK(bad([&](AttentionWeights& w) { all_of(w)[i]->rows += 1; }));
    CHECK(bad([&](AttentionWeights& w) { all_of(w)[i]->cols -= 1; }));
    // Another layout than the others', be it one that this table eats, or none at all.
    for (int other = 0; other < 256; ++other)
      if (other != static_cast<int>(layer.kernels.traits.preferred))
        CHECK(layer.created([&](AttentionWeights& w) { all_of(w)[i]->layout = static_cast<Layout>(other); }) !=
              Status::ok);
  }
  for (const int none : {kLayoutCount, 32, 33, 35, 255})  // the same in all
    CHECK(layer.created([&](AttentionWeights& w) {
            for (int i = 0; i < 4; ++i) all_of(w)[i]->layout = static_cast<Layout>(none);
          }) == Status::layout_unsupported);
  CHECK(bad([](AttentionWeights& w) { w.rotary_phases = nullptr; }));
  CHECK(bad([](AttentionWeights& w) { w.key_offsets = g_offsets; }));
  // What the configuration does not ask for would change nothing.
  CHECK(bad([](AttentionWeights& w) { w.key_offset_exponents = kOffsetExponents; }));
  CHECK(bad([](AttentionWeights& w) { w.score_bias = reinterpret_cast<const std::int32_t*>(g_phases); }));
  for (NormWeights AttentionWeights::*norm : {&AttentionWeights::query_norm, &AttentionWeights::key_norm}) {
    CHECK(bad([norm](AttentionWeights& w) { (w.*norm).gain = g_scales[0]; }));
    CHECK(bad([norm](AttentionWeights& w) { (w.*norm).bias = g_scales[0]; }));
  }
  AttentionConfig still = layer.config;
  still.rotary_dims = 0;
  AttentionMemory memory;
  REQUIRE(make_attention_plan(memory, still, layer.kernels.traits, 4) == Status::ok);
  Attention without;
  CHECK(create(without, still, layer.weights, memory, layer.kernels, g_arena) == Status::bad_argument);

  Attention attention;
  REQUIRE(create(attention, layer.config, layer.weights, layer.memory, layer.kernels, g_arena) == Status::ok);
  CHECK(attention.forward({nullptr, kModel}, {g_embeddings, kModel}) == Status::bad_argument);
  CHECK(attention.forward({g_change, kModel}, {nullptr, kModel}) == Status::bad_argument);
  CHECK(attention.forward({}, {}) == Status::ok);
  CHECK(attention.position() == 0);
}

TEST_CASE("numbers that are none of an enumeration's are refused", "[own weights]") {
  const Layer layer;
  AttentionMemory memory;
  const auto planned = [&](auto edit) {
    AttentionConfig c = layer.config;
    edit(c);
    return make_attention_plan(memory, c, layer.kernels.traits);
  };
  CHECK(planned([](AttentionConfig& c) { c.mask = static_cast<Mask>(2); }) == Status::bad_config);
  CHECK(planned([](AttentionConfig& c) { c.rotary_pairing = static_cast<RotaryPairing>(2); }) == Status::bad_config);
  CHECK(planned([](AttentionConfig& c) { c.value_map = static_cast<ValueMap>(2); }) == Status::bad_config);
  CHECK(planned([](AttentionConfig& c) { c.query_key_norm = static_cast<HeadNorm>(3); }) == Status::bad_config);
}

TEST_CASE("what is not built is refused", "[own weights]") {
  const Layer layer;
  const Status with_offsets = layer.created([](AttentionWeights& w) {
    w.key_offsets = g_offsets;
    w.key_offset_exponents = kOffsetExponents;
  });
  CHECK(with_offsets == (kBuiltFeatures.key_offset ? Status::ok : Status::feature_not_built));

  const KernelTraits& traits = layer.kernels.traits;
  const auto if_built = [](bool built) { return built ? Status::ok : Status::feature_not_built; };
  Tensor t = layer.weights.w_query;
  CHECK(check_weights(traits, t) == Status::ok);
  t.bias = g_scales[1];
  CHECK(check_weights(traits, t) == if_built(kBuiltFeatures.biases));
  t.bias = nullptr;
  t.group = 32;
  CHECK(check_weights(traits, t) == Status::bad_argument);
  t.multipliers = reinterpret_cast<const std::uint8_t*>(g_offsets);
  CHECK(check_weights(traits, t) == if_built(kBuiltFeatures.groups));
  t.group = 31;
  CHECK(check_weights(traits, t) == Status::bad_argument);
  t.group = 0;
  CHECK(check_weights(traits, t) == Status::bad_argument);
  CHECK(check_weights(NormWeights{g_scales[0], nullptr, 1e-5f, false}) == Status::ok);
  CHECK(check_weights(NormWeights{g_scales[0], g_scales[1], 1e-5f, false}) == Status::bad_argument);
  CHECK(check_weights(NormWeights{g_scales[0], g_scales[1], 1e-5f, true}) == if_built(kBuiltFeatures.layer_norm));
  CHECK(check_weights(NormWeights{nullptr, nullptr, 1e-5f, true}) == if_built(kBuiltFeatures.layer_norm));
  CHECK(check_weights(NormWeights{moved(g_scales[0], 2), nullptr, 1e-5f, false}) == Status::misaligned);
  CHECK(check_gate(true) == Status::ok);
  CHECK(check_gate(false) == if_built(kBuiltFeatures.ungated));
}

TEST_CASE("a configuration says what it needs", "[own weights]") {
  StackConfig c;
  c.d_model = c.d_ff = 16;
  c.n_layers = c.n_heads = c.n_kv_heads = 1;
  c.head_dim = c.rotary_dims = 16;
  c.vocab_size = c.n_outputs = c.max_seq = 16;
  c.attention_scale = 0.25f;
  CHECK(is_empty(required_features(c)));
  REQUIRE(check_config(c) == Status::ok);
  const auto needs = [&](Feature f, auto edit) {
    StackConfig changed = c;
    edit(changed);
    const Features expected = kNoFeatures + f;
    return feature_bits(required_features(changed)) == feature_bits(expected) &&
           check_config(changed) == (has(kBuiltFeatures, f) ? Status::ok : Status::feature_not_built);
  };
  CHECK(needs(Feature::groups, [](StackConfig& m) { m.groups[3] = 64; }));
  CHECK(needs(Feature::biases, [](StackConfig& m) { m.biases = kBiasDown; }));
  CHECK(needs(Feature::ungated, [](StackConfig& m) { m.gated = 0; }));
  CHECK(needs(Feature::key_offset, [](StackConfig& m) { m.flags = kKeyOffset; }));
  CHECK(needs(Feature::layer_norm, [](StackConfig& m) { m.norm = Norm::layer; }));
  CHECK(needs(Feature::layer_norm, [](StackConfig& m) { m.norm = Norm::layer, m.biases = kBiasNorm; }));
  CHECK(needs(Feature::learned_positions, [](StackConfig& m) { m.position_table = 1, m.position = Position::none, m.rotary_dims = 0; }));
  CHECK(needs(Feature::gelu, [](StackConfig& m) { m.activation = Activation::gelu_tanh; }));
  CHECK(needs(Feature::gelu, [](StackConfig& m) { m.activation = Activation::gelu_erf; }));
  CHECK(needs(Feature::relu, [](StackConfig& m) { m.activation = Activation::relu; }));
  c.n_sinks = 1;
  CHECK(!needs_of(c).is_carried());
  CHECK(check_config(c) == Status::feature_not_built);
}

TEST_CASE("features by name", "[own weights]") {
  CHECK(feature_bits(kAllFeatures) == (std::uint64_t{1} << kFeatureCount) - 1);
  CHECK(feature_bits(kNoFeatures) == 0);
  for (int i = 0; i < kFeatureCount; ++i) {
    const auto f = static_cast<Feature>(i);
    CHECK(feature_bits(kNoFeatures + f) == std::uint64_t{1} << i);
    CHECK(feature_bits(kAllFeatures - f) == feature_bits(kAllFeatures) - (std::uint64_t{1} << i));
    CHECK(has(kNoFeatures + f, f));
    CHECK(!has(kAllFeatures - f, f));
  }
  static_assert(has(kLlamaFeatures + Feature::groups, Feature::groups) && !kLlamaFeatures.groups);
  static_assert(kGpt2Features.layer_norm && kGpt2Features.biases && kGpt2Features.key_offset && !kGpt2Features.relu);
  static_assert(is_empty(kDecoderFeatures - kLlamaFeatures) && !is_empty(kLlamaFeatures - kDecoderFeatures));
}
