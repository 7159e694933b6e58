// SPDX-License-Identifier: Apache-2.0
// c_layers_test.cpp: the layers of heed.h are those of layers.hpp and attention.hpp, bit for bit, and refuse what those refuse.
#include <cfenv>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/heed.h"
#include "tests/support/catch.hpp"
#include "tests/support/matrix.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;

const heed_kernels* for_c(const Kernels& k) { return heed_find_kernels(k.traits.name); }

heed_tensor for_c(const Tensor& t) {
  heed_tensor c{};
  c.weights = t.weights;
  c.scales = t.scales;
  c.bias = t.bias;
  c.multipliers = t.multipliers;
  c.rows = t.rows;
  c.cols = t.cols;
  c.group = t.group;
  c.layout = static_cast<std::uint32_t>(t.layout);
  return c;
}

std::vector<float> normal_rows(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = random.normal();
  return x;
}

const float* odd(const float* x) { return reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + 1); }
float* odd(float* x) { return reinterpret_cast<float*>(reinterpret_cast<char*>(x) + 1); }

// Storage in which nothing may matter, and a guarded block of exactly what the plan says.
template <class Object>
struct InArena {
  explicit InArena(const heed_layer_plan& plan)
      : arena(heed_layer_plan_arena_bytes(&plan), heed_layer_plan_arena_align(&plan)) {
    std::memset(&object, 0xA5, sizeof object);
  }
  ~InArena() { CHECK(arena.intact()); }
  void* memory() { return arena.span().data(); }
  std::size_t bytes() { return arena.span().size(); }
  Object object;
  GuardedArena arena;
};

void run_backwards(void* context, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  *static_cast<std::uint32_t*>(context) += count;
  for (std::uint32_t i = count; i-- > 0;) task(argument, i);
}

constexpr std::uint32_t kRows = 19;

heed_linear_config linear_config(std::uint32_t d_in, std::uint32_t d_out, std::uint32_t group, std::uint32_t activation) {
  heed_linear_config c{};
  c.d_in = d_in;
  c.d_out = d_out;
  c.group = group;
  c.activation = activation;
  return c;
}

heed_feed_forward_config feed_forward_config(bool gated, std::uint32_t activation, std::uint32_t group_in,
                                             std::uint32_t group_down) {
  heed_feed_forward_config c{};
  c.d_model = 40;
  c.d_ff = 96;
  c.gated = gated;
  c.activation = activation;
  c.group_in = group_in;
  c.group_down = group_down;
  return c;
}

heed_attention_config attention_config() {
  heed_attention_config c{};
  c.d_model = 48;
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.head_dim = 12;
  c.max_seq = 100;
  return c;
}

// Everything that any configuration asks for.
struct AttentionParts {
  AttentionParts(const heed_attention_config& c, Layout layout)
      : query(c.n_heads * c.head_dim, c.d_model, 0, true, layout, 1, 2.0f),
        key(c.n_kv_heads * c.head_dim, c.d_source ? c.d_source : c.d_model, 0, false, layout, 2, 2.0f),
        value_down(c.n_kv_heads * (c.undivided_values ? c.d_model : c.head_dim), c.d_source ? c.d_source : c.d_model, 0,
                   true, layout, 3),
        value_up(c.d_model, c.n_heads * c.head_dim, 0, false, layout, 4) {
    Random random(9);
    for (std::uint32_t i = 0; i < c.rotary_dims / 2; ++i) phases.push_back(683565276u >> i);
    for (std::uint32_t i = 0; i < c.n_kv_heads * c.head_dim; ++i)
      offsets.push_back(static_cast<std::int16_t>(random.between(-32767, 32767)));
    for (std::uint32_t i = 0; i < c.n_kv_heads; ++i) exponents.push_back(-1);
    for (std::uint32_t i = 0; i < 4 * c.head_dim; ++i) norms.push_back(1.0f + 0.5f * random.uniform());
    for (std::uint32_t i = 0; i < c.n_heads; ++i) slopes.push_back(6051102 >> (i + 1));
    for (std::uint32_t i = 0; i < c.n_heads * c.n_distances; ++i) slopes.push_back(random.between(-3000, 3000));
    if (c.n_distances) slopes.erase(slopes.begin(), slopes.begin() + c.n_heads);
    weights.w_query = query.tensor;
    weights.w_key = key.tensor;
    weights.w_value_down = value_down.tensor;
    if (!c.undivided_values) weights.w_value_up = value_up.tensor;
    if (c.rotary_dims) weights.rotary_phases = phases.data();
    if (!c.query_key_norm) {
      weights.key_offsets = offsets.data();
      weights.key_offset_exponents = exponents.data();
    } else {
      const float *const g = norms.data(), *const b = c.query_key_norm == 2 ? g + 2 * c.head_dim : nullptr;
      weights.query_norm = {g, b, 0.0f, false};
      weights.key_norm = {g + c.head_dim, b ? b + c.head_dim : nullptr, 0.0f, false};
    }
    if (c.alibi || c.n_distances) weights.score_bias = slopes.data();
    in_c.w_query = for_c(weights.w_query);
    in_c.w_key = for_c(weights.w_key);
    in_c.w_value_down = for_c(weights.w_value_down);
    in_c.w_value_up = for_c(weights.w_value_up);
    in_c.rotary_phases = weights.rotary_phases;
    in_c.key_offsets = weights.key_offsets;
    in_c.key_offset_exponents = weights.key_offset_exponents;
    in_c.query_gain = weights.query_norm.gain;
    in_c.query_bias = weights.query_norm.bias;
    in_c.key_gain = weights.key_norm.gain;
    in_c.key_bias = weights.key_norm.bias;
    in_c.score_bias = weights.score_bias;
  }
  RandomMatrix query, key, value_down, value_up;
  std::vector<std::uint32_t> phases;
  std::vector<std::int16_t> offsets;
  std::vector<std::int8_t> exponents;
  std::vector<float> norms;
  std::vector<std::int32_t> slopes;
  AttentionWeights weights{};
  heed_attention_weights in_c{};
};

}  // namespace

TEST_CASE("a matrix alone in C is that of C++", "[c][layers]") {
  for (const Kernels* k : runnable_kernels())
    for (const heed_linear_config& c : {linear_config(24, 10, 0, HEED_ACTIVATION_NONE), linear_config(33, 17, 0, HEED_ACTIVATION_SILU),
                                        linear_config(130, 48, 32, HEED_ACTIVATION_GELU_QUICK),
                                        linear_config(64, 64, 64, HEED_ACTIVATION_TANH), linear_config(7, 5, 0, 0)}) {
      INFO(k->traits.name << " " << c.d_in << " " << c.activation);
      const RandomMatrix w(c.d_out, c.d_in, c.group, c.d_in != 33, k->traits.preferred, 11);
      const std::vector<float> x = normal_rows(kRows * c.d_in, 12);
      const LinearConfig config{c.d_in, c.d_out, c.group, static_cast<Activation>(c.activation)};
      LinearMemory expected_plan;
      REQUIRE(make_linear_plan(expected_plan, config, k->traits, 5) == Status::ok);
      GuardedArena expected_arena(expected_plan.arena_bytes, expected_plan.arena_align);
      Linear expected_layer;
      REQUIRE(create(expected_layer, config, w.tensor, expected_plan, *k, expected_arena.span()) == Status::ok);
      std::vector<float> expected(kRows * c.d_out), y(expected.size());
      REQUIRE(expected_layer.forward(expected, x) == Status::ok);

      heed_layer_plan plan;
      const heed_tensor weights = for_c(w.tensor);
      REQUIRE(heed_linear_plan(&plan, &c, for_c(*k), 5) == HEED_OK);
      CHECK(heed_layer_plan_arena_bytes(&plan) == expected_plan.arena_bytes);
      CHECK(heed_layer_plan_arena_align(&plan) == expected_plan.arena_align);
      CHECK(heed_layer_plan_chunk(&plan) == 5);
      InArena<heed_linear> in(plan);
      REQUIRE(heed_linear_create(&in.object, &c, &weights, &plan, for_c(*k), in.memory(), in.bytes()) == HEED_OK);
      REQUIRE(heed_linear_forward(&in.object, y.data(), x.data(), kRows) == HEED_OK);
      CHECK(bits(y) == bits(expected));
      std::uint32_t parts = 0;
      const heed_parallel threads{run_backwards, &parts, 3, 0};
      REQUIRE(heed_linear_set_parallel(&in.object, &threads) == HEED_OK);
      REQUIRE(heed_linear_forward(&in.object, y.data(), x.data(), kRows) == HEED_OK);
      CHECK(bits(y) == bits(expected));
      CHECK(parts > 0);
      parts = 0;
      REQUIRE(heed_linear_set_parallel(&in.object, nullptr) == HEED_OK);
      REQUIRE(heed_linear_forward(&in.object, y.data(), x.data(), 1) == HEED_OK);
      CHECK(parts == 0);
    }
}

TEST_CASE("a feed-forward layer in C is that of C++", "[c][layers]") {
  for (const Kernels* k : runnable_kernels())
    for (const heed_feed_forward_config& c : {feed_forward_config(true, HEED_ACTIVATION_SILU, 0, 0),
                                              feed_forward_config(false, HEED_ACTIVATION_GELU_ERF, 32, 0),
                                              feed_forward_config(true, HEED_ACTIVATION_RELU, 0, 64)}) {
      INFO(k->traits.name << " " << c.activation);
      const Layout layout = k->traits.preferred;
      const RandomMatrix gate(96, 40, c.group_in, true, layout, 1), up(96, 40, c.group_in, false, layout, 2),
          down(40, 96, c.group_down, true, layout, 3);
      const std::vector<float> x = normal_rows(kRows * 40, 4);
      const FeedForwardConfig config{40, 96, c.gated != 0, static_cast<Activation>(c.activation), c.group_in, c.group_down};
      FeedForwardMemory expected_plan;
      REQUIRE(make_feed_forward_plan(expected_plan, config, k->traits) == Status::ok);
      GuardedArena expected_arena(expected_plan.arena_bytes, expected_plan.arena_align);
      FeedForward expected_layer;
      REQUIRE(create(expected_layer, config, {c.gated ? gate.tensor : Tensor{}, up.tensor, down.tensor}, expected_plan, *k,
                     expected_arena.span()) == Status::ok);
      std::vector<float> expected(x.size()), y(x.size());
      REQUIRE(expected_layer.forward(expected, x) == Status::ok);

      heed_layer_plan plan;
      const heed_tensor w_gate = for_c(gate.tensor), w_up = for_c(up.tensor), w_down = for_c(down.tensor);
      REQUIRE(heed_feed_forward_plan(&plan, &c, for_c(*k), 0) == HEED_OK);
      CHECK(heed_layer_plan_arena_bytes(&plan) == expected_plan.arena_bytes);
      CHECK(heed_layer_plan_chunk(&plan) == k->traits.default_chunk);
      InArena<heed_feed_forward> in(plan);
      REQUIRE(heed_feed_forward_create(&in.object, &c, c.gated ? &w_gate : nullptr, &w_up, &w_down, &plan, for_c(*k),
                                       in.memory(), in.bytes()) == HEED_OK);
      REQUIRE(heed_feed_forward_forward(&in.object, y.data(), x.data(), kRows) == HEED_OK);
      CHECK(bits(y) == bits(expected));
      std::uint32_t parts = 0;
      const heed_parallel threads{run_backwards, &parts, 3, 0};
      REQUIRE(heed_feed_forward_set_parallel(&in.object, &threads) == HEED_OK);
      y = x;
      REQUIRE(heed_feed_forward_forward(&in.object, y.data(), y.data(), kRows) == HEED_OK);  // in place
      CHECK(bits(y) == bits(expected));
      CHECK(parts > 0);
    }
}

TEST_CASE("attention in C is that of C++, with everything that it can have", "[c][layers]") {
  heed_attention_config rotary = attention_config(), halves = rotary, two_way = rotary, window = rotary, source = rotary,
                        undivided = rotary, rms = rotary, layer = rotary, alibi = rotary, relative = rotary;
  rotary.rotary_dims = halves.rotary_dims = 8;
  halves.rotary_halves = 1;
  two_way.two_way = 1;
  window.window = 5;
  source.d_source = 31;
  source.scale = 0.4f;
  undivided.undivided_values = 1;
  rms.query_key_norm = 1;
  layer.query_key_norm = 2;
  layer.norm_epsilon = 0.125f;
  alibi.alibi = 1;
  relative.n_distances = 7;
  relative.two_way = 1;
  int number = 0;
  for (const heed_attention_config& c : {rotary, halves, two_way, window, source, undivided, rms, layer, alibi, relative})
    for (const Kernels* k : {find_kernels("portable"), &best_kernels()}) {
      INFO(k->traits.name << " " << number++ / 2);
      const AttentionParts parts(c, k->traits.preferred);
      AttentionConfig config;
      config.d_model = c.d_model;
      config.n_heads = c.n_heads;
      config.n_kv_heads = c.n_kv_heads;
      config.head_dim = c.head_dim;
      config.max_seq = c.max_seq;
      config.rotary_dims = c.rotary_dims;
      if (c.rotary_halves) config.rotary_pairing = RotaryPairing::halves;
      config.scale = c.scale;
      if (c.two_way) config.mask = Mask::two_way;
      config.window = c.window;
      config.d_source = c.d_source;
      if (c.undivided_values) config.value_map = ValueMap::undivided;
      config.query_key_norm = static_cast<HeadNorm>(c.query_key_norm);
      if (c.norm_epsilon != 0.0f) config.norm_epsilon = c.norm_epsilon;
      config.alibi = c.alibi != 0;
      config.n_distances = c.n_distances;
      AttentionMemory expected_plan;
      REQUIRE(make_attention_plan(expected_plan, config, k->traits, 4) == Status::ok);
      GuardedArena expected_arena(expected_plan.arena_bytes, expected_plan.arena_align);
      Attention expected_layer;
      REQUIRE(create(expected_layer, config, parts.weights, expected_plan, *k, expected_arena.span()) == Status::ok);
      const std::vector<float> x = normal_rows(kRows * c.d_model, 5), vectors = normal_rows(13 * 31, 6);
      std::vector<float> expected(x.size()), y(x.size());
      if (c.d_source) REQUIRE(expected_layer.set_source(vectors) == Status::ok);
      REQUIRE(expected_layer.forward(expected, x) == Status::ok);

      heed_layer_plan plan;
      REQUIRE(heed_attention_plan(&plan, &c, for_c(*k), 4) == HEED_OK);
      CHECK(heed_layer_plan_arena_bytes(&plan) == expected_plan.arena_bytes);
      CHECK(heed_layer_plan_chunk(&plan) == 4);
      InArena<heed_attention> in(plan);
      heed_attention* const a = &in.object;
      REQUIRE(heed_attention_create(a, &c, &parts.in_c, &plan, for_c(*k), in.memory(), in.bytes()) == HEED_OK);
      CHECK(heed_attention_position(a) == 0);
      if (c.d_source) {
        CHECK(heed_attention_forward(a, y.data(), x.data(), kRows) == HEED_BAD_ARGUMENT);  // no source yet
        REQUIRE(heed_attention_set_source(a, vectors.data(), 13) == HEED_OK);
        CHECK(heed_attention_position(a) == 13);
      } else {
        CHECK(heed_attention_set_source(a, vectors.data(), 13) == HEED_BAD_ARGUMENT);
      }
      REQUIRE(heed_attention_forward(a, y.data(), x.data(), kRows) == HEED_OK);
      CHECK(bits(y) == bits(expected));
      CHECK(heed_attention_position(a) == expected_layer.position());
      if (c.d_source || c.two_way) continue;
      CHECK(heed_attention_rewind(a, kRows + 1) == HEED_BAD_ARGUMENT);
      REQUIRE(heed_attention_rewind(a, 0) == HEED_OK);
      CHECK(heed_attention_position(a) == 0);
      std::uint32_t tasks = 0;
      const heed_parallel threads{run_backwards, &tasks, 3, 0};
      REQUIRE(heed_attention_set_parallel(a, &threads) == HEED_OK);
      for (std::uint32_t i = 0; i < kRows; ++i)
        REQUIRE(heed_attention_forward(a, y.data() + i * c.d_model, x.data() + i * c.d_model, 1) == HEED_OK);
      CHECK(bits(y) == bits(expected));
      CHECK(tasks > 0);
      std::vector<float> many(100 * c.d_model), change(many.size());
      CHECK(heed_attention_forward(a, change.data(), many.data(), 100) == HEED_CONTEXT_FULL);
      CHECK(heed_attention_position(a) == kRows);
    }
}

TEST_CASE("norms, activations, means and sums in C are those of C++", "[c][layers]") {
  const Kernels& k = best_kernels();
  const std::vector<float> x = normal_rows(5 * 24, 1), gain = normal_rows(24, 2), bias = normal_rows(24, 3);
  std::vector<float> y(x.size()), expected(x.size());
  for (const bool layer : {false, true}) {
    const float* const b = layer ? bias.data() : nullptr;
    REQUIRE(norm(expected, x, 24, {gain.data(), b, 1e-3f, layer}, k) == Status::ok);
    REQUIRE(heed_norm(y.data(), x.data(), 5, 24, layer, gain.data(), b, 1e-3f, for_c(k)) == HEED_OK);
    CHECK(bits(y) == bits(expected));
    REQUIRE(norm(expected, x, 24, {nullptr, nullptr, 1e-3f, layer}, k) == Status::ok);
    REQUIRE(heed_norm(y.data(), x.data(), 5, 24, layer, nullptr, nullptr, 1e-3f, for_c(k)) == HEED_OK);
    CHECK(bits(y) == bits(expected));
  }
  for (std::uint32_t a = 0; a <= HEED_ACTIVATION_NONE; ++a) {
    y = expected = x;
    REQUIRE(activate(expected, 24, static_cast<Activation>(a)) == Status::ok);
    REQUIRE(heed_activate(y.data(), 5, 24, a) == HEED_OK);
    CHECK(bits(y) == bits(expected));
  }
  expected.resize(24);
  REQUIRE(mean(expected, x) == Status::ok);
  y.assign(24, 0.0f);
  REQUIRE(heed_mean(y.data(), x.data(), 5, 24) == HEED_OK);
  CHECK(bits(y) == bits(expected));
  y = expected = x;
  const std::vector<float> change = normal_rows(x.size(), 7);
  REQUIRE(add(expected, change) == Status::ok);
  REQUIRE(heed_add(y.data(), change.data(), y.size()) == HEED_OK);
  CHECK(bits(y) == bits(expected));

  const auto refused = [&](heed_status status) { CHECK(status == HEED_BAD_ARGUMENT); };
  float* const out = y.data();
  const heed_kernels* const c = for_c(k);
  refused(heed_norm(nullptr, x.data(), 5, 24, 0, nullptr, nullptr, 1e-3f, c));
  refused(heed_norm(out, nullptr, 5, 24, 0, nullptr, nullptr, 1e-3f, c));
  refused(heed_norm(out, x.data(), 5, 0, 0, nullptr, nullptr, 1e-3f, c));
  refused(heed_norm(out, x.data(), 5, 24, 2, nullptr, nullptr, 1e-3f, c));
  refused(heed_norm(out, x.data(), 5, 24, 0, nullptr, bias.data(), 1e-3f, c));
  refused(heed_norm(out, x.data(), 5, 24, 0, nullptr, nullptr, std::nanf(""), c));
  refused(heed_norm(out, x.data(), 5, 24, 0, nullptr, nullptr, 1e-3f, nullptr));
  refused(heed_norm(out, x.data(), SIZE_MAX / 16, 24, 0, nullptr, nullptr, 1e-3f, c));
  CHECK(heed_norm(out, odd(x.data()), 4, 24, 0, nullptr, nullptr, 1e-3f, c) == HEED_MISALIGNED);
  refused(heed_activate(nullptr, 5, 24, 0));
  refused(heed_activate(out, 5, 0, 0));
  refused(heed_activate(out, 5, 24, 7));
  refused(heed_activate(out, 5, 24, 256));
  refused(heed_mean(nullptr, x.data(), 5, 24));
  refused(heed_mean(out, nullptr, 5, 24));
  refused(heed_mean(out, x.data(), 0, 24));
  refused(heed_mean(out, x.data(), 5, 0));
  CHECK(heed_mean(odd(out), x.data(), 5, 24) == HEED_MISALIGNED);
  refused(heed_add(nullptr, x.data(), 5));
  refused(heed_add(out, nullptr, 5));
  refused(heed_add(out, x.data(), SIZE_MAX));
}

TEST_CASE("matrices by hand in C", "[c][layers]") {
  CHECK(heed_kernels_layout(nullptr) == 0);
  for (const Kernels* k : runnable_kernels())
    CHECK(heed_kernels_layout(for_c(*k)) == static_cast<std::uint32_t>(k->traits.preferred));
  for (std::uint32_t layout = 0; layout < 4; ++layout) {
    const auto l = static_cast<Layout>(layout);
    CHECK(heed_padded_rows(layout, 21) == padded_rows(l, 21));
    CHECK(heed_padded_cols(layout, 21) == padded_cols(l, 21));
    std::vector<std::int8_t> here(std::size_t{padded_rows(l, 5)} * padded_cols(l, 7)), there(here.size());
    Random random(layout);
    for (std::uint32_t r = 0; r < 5; ++r)
      for (std::uint32_t c = 0; c < 7; ++c) {
        const std::int32_t weight = random.between(-127, 127);
        set_weight(there.data(), l, 5, 7, r, c, weight);
        REQUIRE(heed_set_weight(here.data(), layout, 5, 7, r, c, weight) == HEED_OK);
      }
    CHECK(here == there);
    CHECK(heed_set_weight(here.data(), layout, 5, 7, 5, 0, 1) == HEED_BAD_ARGUMENT);
    CHECK(heed_set_weight(here.data(), layout, 5, 7, 0, 7, 1) == HEED_BAD_ARGUMENT);
    CHECK(heed_set_weight(here.data(), layout, 5, 7, 0, 0, 128) == HEED_BAD_ARGUMENT);
    CHECK(heed_set_weight(here.data(), layout, 5, 7, 0, 0, -128) == HEED_BAD_ARGUMENT);
    CHECK(heed_set_weight(nullptr, layout, 5, 7, 0, 0, 1) == HEED_BAD_ARGUMENT);
    CHECK(here == there);
  }
  std::int8_t weights[64] = {};
  CHECK(heed_padded_rows(4, 21) == 0);
  CHECK(heed_padded_cols(4, 21) == 0);
  CHECK(heed_set_weight(weights, 4, 5, 7, 0, 0, 1) == HEED_BAD_ARGUMENT);
}

TEST_CASE("what layers refuse in C, and what zeroed ones do", "[c][layers]") {
  const Kernels& k = *find_kernels("portable");
  const heed_kernels* const kc = for_c(k);
  heed_layer_plan plan, other;
  heed_linear_config c = linear_config(40, 40, 32, HEED_ACTIVATION_NONE);
  const RandomMatrix w(40, 40, 32, true, k.traits.preferred, 1);
  const heed_tensor good = for_c(w.tensor);
  REQUIRE(heed_linear_plan(&plan, &c, kc, 0) == HEED_OK);
  InArena<heed_linear> in(plan);
  heed_linear* const l = &in.object;
  const auto create_with = [&](const heed_linear_config& config, const heed_tensor& weights, const heed_layer_plan& p,
                               std::size_t less = 0) {
    return heed_linear_create(l, &config, &weights, &p, kc, in.memory(), in.bytes() - less);
  };
  const auto changed_config = [&](auto change) {
    heed_linear_config config = c;
    change(config);
    heed_layer_plan p;
    const heed_status status = heed_linear_plan(&p, &config, kc, 0);
    if (status != HEED_OK) CHECK(heed_layer_plan_arena_bytes(&p) == 0);
    CHECK(create_with(config, good, plan) == status);
    return status;
  };
  using Config = heed_linear_config;
  CHECK(changed_config([](Config& x) { x.d_in = 0; }) == HEED_BAD_CONFIG);
  CHECK(changed_config([](Config& x) { x.group = 48; }) == HEED_BAD_CONFIG);
  CHECK(changed_config([](Config& x) { x.activation = 7; }) == HEED_BAD_CONFIG);
  CHECK(changed_config([](Config& x) { x.activation = 256 + HEED_ACTIVATION_NONE; }) == HEED_BAD_CONFIG);
  CHECK(changed_config([](Config& x) { x.reserved[3] = 1; }) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_plan(&other, &c, kc, 4097) == HEED_BAD_ARGUMENT);
  const auto changed_tensor = [&](auto change) {
    heed_tensor t = good;
    change(t);
    return create_with(c, t, plan);
  };
  CHECK(changed_tensor([](heed_tensor& t) { t.rows = 36; }) == HEED_BAD_ARGUMENT);
  CHECK(changed_tensor([](heed_tensor& t) { t.group = 65536 + 32; }) == HEED_BAD_ARGUMENT);
  CHECK(changed_tensor([](heed_tensor& t) { t.layout = 4; }) == HEED_BAD_ARGUMENT);
  CHECK(changed_tensor([](heed_tensor& t) { t.layout = 256; }) == HEED_BAD_ARGUMENT);
  CHECK(changed_tensor([](heed_tensor& t) { t.reserved[0] = 1; }) == HEED_BAD_ARGUMENT);
  CHECK(changed_tensor([](heed_tensor& t) { t.weights += 1; }) == HEED_MISALIGNED);
  CHECK(changed_tensor([](heed_tensor& t) { t.weights = nullptr; }) == HEED_BAD_ARGUMENT);
  CHECK(create_with(c, good, plan, 1) == HEED_ARENA_TOO_SMALL);
  const auto all_zero = [](const auto& object) {
    for (const std::uint64_t word : object.storage)
      if (word) return false;
    return true;
  };
  CHECK(all_zero(*l));
  const int rounding = std::fegetround();
  std::fesetround(FE_UPWARD);
  const heed_status upward = create_with(c, good, plan);
  std::fesetround(rounding);
  CHECK(upward == HEED_ROUNDING_MODE);

  // A zeroed layer, and calls without one.
  std::vector<float> x(80), y(80);
  const heed_parallel idle{nullptr, nullptr, 1, 0};
  CHECK(heed_linear_forward(l, y.data(), x.data(), 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_set_parallel(l, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_forward(nullptr, y.data(), x.data(), 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_plan(nullptr, &c, kc, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_plan(&other, nullptr, kc, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_plan(&other, &c, nullptr, 0) == HEED_BAD_ARGUMENT);
  CHECK(all_zero(other));
  CHECK(heed_linear_create(nullptr, &c, &good, &plan, kc, in.memory(), in.bytes()) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_create(l, nullptr, &good, &plan, kc, in.memory(), in.bytes()) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_create(l, &c, nullptr, &plan, kc, in.memory(), in.bytes()) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_create(l, &c, &good, nullptr, kc, in.memory(), in.bytes()) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_create(l, &c, &good, &other, kc, in.memory(), in.bytes()) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_create(l, &c, &good, &plan, nullptr, in.memory(), in.bytes()) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_create(l, &c, &good, &plan, kc, nullptr, in.bytes()) == HEED_BAD_ARGUMENT);
  REQUIRE(create_with(c, good, plan) == HEED_OK);
  CHECK(heed_linear_forward(l, nullptr, x.data(), 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_forward(l, y.data(), nullptr, 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_forward(l, y.data(), x.data(), SIZE_MAX / 40) == HEED_BAD_ARGUMENT);
  CHECK(heed_linear_forward(l, y.data(), odd(x.data()), 1) == HEED_MISALIGNED);
  CHECK(heed_linear_set_parallel(l, &idle) == HEED_BAD_ARGUMENT);
  CHECK(heed_layer_plan_arena_bytes(nullptr) == 0);
  CHECK(heed_layer_plan_arena_align(nullptr) == 0);
  CHECK(heed_layer_plan_chunk(nullptr) == 0);
  CHECK(heed_layer_plan_arena_align(&other) == 0);
  CHECK(heed_layer_plan_chunk(&other) == 0);

  // A feed-forward layer.
  heed_feed_forward_config f = feed_forward_config(true, HEED_ACTIVATION_SILU, 0, 0);
  const RandomMatrix gate(96, 40, 0, false, k.traits.preferred, 1), down(40, 96, 0, false, k.traits.preferred, 2);
  const heed_tensor w_gate = for_c(gate.tensor), w_down = for_c(down.tensor);
  heed_layer_plan f_plan;
  REQUIRE(heed_feed_forward_plan(&f_plan, &f, kc, 0) == HEED_OK);
  InArena<heed_feed_forward> in_f(f_plan);
  heed_feed_forward* const ff = &in_f.object;
  const auto create_f = [&](const heed_feed_forward_config* config, const heed_tensor* g, const heed_tensor* u,
                            const heed_tensor* d, const heed_layer_plan* p, const heed_kernels* kernels) {
    return heed_feed_forward_create(ff, config, g, u, d, p, kernels, in_f.memory(), in_f.bytes());
  };
  CHECK(create_f(nullptr, &w_gate, &w_gate, &w_down, &f_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_f(&f, nullptr, &w_gate, &w_down, &f_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_f(&f, &w_gate, nullptr, &w_down, &f_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_f(&f, &w_gate, &w_gate, nullptr, &f_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_f(&f, &w_gate, &w_gate, &w_down, nullptr, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_f(&f, &w_gate, &w_gate, &w_down, &plan, kc) == HEED_BAD_ARGUMENT);  // of another kind of layer
  CHECK(create_f(&f, &w_gate, &w_gate, &w_down, &f_plan, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_feed_forward_forward(ff, y.data(), x.data(), 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_feed_forward_set_parallel(ff, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_feed_forward_forward(nullptr, y.data(), x.data(), 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_feed_forward_plan(nullptr, &f, kc, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_feed_forward_plan(&other, nullptr, kc, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_feed_forward_plan(&other, &f, nullptr, 0) == HEED_BAD_ARGUMENT);
  f.gated = 2;
  CHECK(heed_feed_forward_plan(&other, &f, kc, 0) == HEED_BAD_ARGUMENT);
  f.gated = 0;
  CHECK(create_f(&f, &w_gate, &w_gate, &w_down, &f_plan, kc) == HEED_BAD_ARGUMENT);  // a gate without a gate
  f = feed_forward_config(true, HEED_ACTIVATION_TANH, 0, 0);
  CHECK(heed_feed_forward_plan(&other, &f, kc, 0) == HEED_BAD_CONFIG);
  f.activation = 8;
  CHECK(heed_feed_forward_plan(&other, &f, kc, 0) == HEED_BAD_CONFIG);
  f = feed_forward_config(true, HEED_ACTIVATION_SILU, 0, 0);
  f.reserved[0] = 1;
  CHECK(heed_feed_forward_plan(&other, &f, kc, 0) == HEED_BAD_ARGUMENT);

  // Attention.
  const heed_attention_config good_attention = attention_config();
  const AttentionParts parts(good_attention, k.traits.preferred);
  heed_layer_plan a_plan;
  REQUIRE(heed_attention_plan(&a_plan, &good_attention, kc, 0) == HEED_OK);
  InArena<heed_attention> in_a(a_plan);
  heed_attention* const a = &in_a.object;
  const auto create_a = [&](const heed_attention_config* config, const heed_attention_weights* weights,
                            const heed_layer_plan* p, const heed_kernels* kernels) {
    return heed_attention_create(a, config, weights, p, kernels, in_a.memory(), in_a.bytes());
  };
  const auto changed_attention = [&](auto change) {
    heed_attention_config config = good_attention;
    change(config);
    heed_layer_plan p;
    const heed_status status = heed_attention_plan(&p, &config, kc, 0);
    CHECK(create_a(&config, &parts.in_c, &a_plan, kc) == status);
    return status;
  };
  using AConfig = heed_attention_config;
  CHECK(changed_attention([](AConfig& x) { x.n_heads = 3; }) == HEED_BAD_CONFIG);
  CHECK(changed_attention([](AConfig& x) { x.rotary_halves = 2; }) == HEED_BAD_CONFIG);
  CHECK(changed_attention([](AConfig& x) { x.two_way = 2; }) == HEED_BAD_CONFIG);
  CHECK(changed_attention([](AConfig& x) { x.undivided_values = 2; }) == HEED_BAD_CONFIG);
  CHECK(changed_attention([](AConfig& x) { x.alibi = 2; }) == HEED_BAD_CONFIG);
  CHECK(changed_attention([](AConfig& x) { x.query_key_norm = 3; }) == HEED_BAD_CONFIG);
  CHECK(changed_attention([](AConfig& x) { x.query_key_norm = 257; }) == HEED_BAD_CONFIG);
  CHECK(changed_attention([](AConfig& x) { x.reserved[7] = 1; }) == HEED_BAD_ARGUMENT);
  heed_attention_weights broken = parts.in_c;
  broken.w_key.rows += 4;
  CHECK(create_a(&good_attention, &broken, &a_plan, kc) == HEED_BAD_ARGUMENT);
  broken = parts.in_c;
  broken.w_value_up.layout = 9;
  CHECK(create_a(&good_attention, &broken, &a_plan, kc) == HEED_BAD_ARGUMENT);
  broken = parts.in_c;
  broken.reserved[2] = &broken;
  CHECK(create_a(&good_attention, &broken, &a_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_a(nullptr, &parts.in_c, &a_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_a(&good_attention, nullptr, &a_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_a(&good_attention, &parts.in_c, nullptr, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_a(&good_attention, &parts.in_c, &f_plan, kc) == HEED_BAD_ARGUMENT);
  CHECK(create_a(&good_attention, &parts.in_c, &a_plan, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(all_zero(*a));
  CHECK(heed_attention_forward(a, y.data(), x.data(), 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_attention_set_source(a, x.data(), 1) == HEED_BAD_ARGUMENT);
  CHECK(heed_attention_rewind(a, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_attention_position(a) == 0);
  CHECK(heed_attention_set_parallel(a, nullptr) == HEED_BAD_ARGUMENT);
  CHECK(heed_attention_position(nullptr) == 0);
  CHECK(heed_attention_rewind(nullptr, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_attention_plan(nullptr, &good_attention, kc, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_attention_plan(&other, nullptr, kc, 0) == HEED_BAD_ARGUMENT);
  CHECK(heed_attention_plan(&other, &good_attention, nullptr, 0) == HEED_BAD_ARGUMENT);
  REQUIRE(create_a(&good_attention, &parts.in_c, &a_plan, kc) == HEED_OK);
  CHECK(heed_attention_forward(a, y.data(), x.data(), 0) == HEED_OK);  // nothing to do
  CHECK(heed_attention_position(a) == 0);
  CHECK(heed_attention_forward(a, y.data(), odd(x.data()), 1) == HEED_MISALIGNED);
  CHECK(heed_attention_set_parallel(a, &idle) == HEED_BAD_ARGUMENT);
}

TEST_CASE("layers have room to grow before the ABI breaks", "[c][layers]") {
  constexpr std::size_t kWidths = 16;  // that C's keep beside the layer
  CHECK((sizeof(Linear) + kWidths) * 8 <= sizeof(heed_linear) * 7);
  CHECK((sizeof(FeedForward) + kWidths) * 8 <= sizeof(heed_feed_forward) * 7);
  CHECK((sizeof(Attention) + kWidths) * 8 <= sizeof(heed_attention) * 7);
  CHECK((sizeof(AttentionMemory) + 8) * 8 <= sizeof(heed_layer_plan) * 7);
  const bool wide = sizeof(void*) == 8;
  CHECK(sizeof(heed_linear) == (wide ? 192u : 160u));
  CHECK(sizeof(heed_feed_forward) == (wide ? 448u : 320u));
  CHECK(sizeof(heed_attention) == (wide ? 896u : 672u));
  CHECK(sizeof(heed_layer_plan) == 288);
  CHECK(sizeof(heed_tensor) == (wide ? 64u : 48u));
  CHECK(sizeof(heed_linear_config) == 32);
  CHECK(sizeof(heed_feed_forward_config) == 48);
  CHECK(sizeof(heed_attention_config) == 96);
  CHECK(sizeof(heed_attention_weights) == (wide ? 352u : 240u));
}
