// SPDX-License-Identifier: Apache-2.0
// value_map_test.cpp: random heads with their value maps in both forms, through the public layer in int8 and through the float
// reference, each in its own form.
#include "quant/value_map.hpp"

#include <cmath>

#include "quant/float_reference.hpp"
#include "quant/quantize.hpp"
#include "runtime/attention.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::quant;

struct Heads {
  std::uint32_t d_model, n_heads, head_dim, positions;
  Mask mask = Mask::causal;
  std::uint32_t biases = 0;
  std::uint32_t window = 0;
};

// A stack whose attention reads the vectors as they are, so that the layer alone gives the same changes.
FloatModel random_model(const Heads& h, std::uint64_t seed) {
  FloatModel model;
  StackConfig& s = model.config.stacks[0];
  s.use = Use::encode;
  s.input = Input::vectors;
  s.mask = h.mask;
  s.norm_placement = NormPlacement::after;
  s.final_norm = s.gated = s.tied_unembedding = 0;
  s.position = Position::none;
  s.output = Output::vectors;
  s.biases = h.biases;
  s.d_model = h.d_model;
  s.d_ff = s.n_layers = 1;
  s.n_heads = s.n_kv_heads = h.n_heads;
  s.head_dim = h.head_dim;
  s.max_seq = h.positions;
  s.window = h.window;
  s.attention_scale = 1.0f / std::sqrt(static_cast<float>(h.head_dim));
  test::Random random(seed);
  for_each_slot(s, [&](const TensorSlot& slot) {
    const float size = slot.role == Role::w_query ? 1.5f : 1.0f;  // scores of a deviation above 1
    std::vector<float> x(std::size_t{slot.rows} * slot.cols), bias(slot.rows);
    for (float& v : x) v = size * random.normal() / std::sqrt(static_cast<float>(slot.cols));
    for (float& v : bias) v = 0.3f * random.normal();
    model.own(slot.role, slot.layer, std::move(x));
    if (slot.bias) model.set_bias(slot.role, slot.layer, std::move(bias));
  });
  const Error error = check(model);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  return model;
}

using Rows = std::vector<std::vector<double>>;

Rows rows_of(const std::vector<float>& x, std::uint32_t width) {
  Rows rows;
  for (auto at = x.begin(); at != x.end(); at += width) rows.emplace_back(at, at + width);
  return rows;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}
double length(const std::vector<double>& a) { return distance(a, std::vector<double>(a.size(), 0.0)); }

Rows float_changes(const FloatModel& model, const std::vector<float>& vectors) {
  FloatReference reference(model, model.config.main().max_seq);
  std::vector<float> changes;
  reference.watchers.stage = [&](Stage stage, const Place&, std::uint32_t, Span<const float> x) {
    if (stage == Stage::attention_change) changes.insert(changes.end(), x.begin(), x.end());
  };
  REQUIRE_FALSE(reference.encode({{}, {}, vectors}).empty());
  return rows_of(changes, model.config.main().d_model);
}

struct Packed {
  QuantizedMatrix quantized;
  ImageBytes bytes;
  Tensor tensor;
};

// False where the model has no such matrix.
bool pack_matrix(Packed& packed, const FloatModel& model, Role role, Layout layout) {
  const float* const weights = model.floats(role, 0);
  if (!weights) return false;
  const TensorSlot slot = tensor_slot(model.config.main(), role, 0);
  packed.quantized = quantize_matrix(weights, nullptr, slot.rows, slot.cols, 0);
  if (const float* const bias = model.bias(role, 0).data()) packed.quantized.bias.assign(bias, bias + slot.rows);
  packed.bytes.resize(static_cast<std::size_t>(tensor_bytes(layout, slot.rows, slot.cols, 0, slot.bias).total));
  pack(packed.bytes.data(), packed.quantized, layout);
  packed.tensor = view(packed.bytes.data(), packed.quantized, layout);
  return true;
}

Rows int8_changes(const FloatModel& model, const std::vector<float>& vectors, const Kernels& kernels) {
  const StackConfig& s = model.config.main();
  AttentionConfig c;
  c.d_model = s.d_model;
  c.n_heads = s.n_heads;
  c.n_kv_heads = s.n_kv_heads;
  c.head_dim = s.head_dim;
  c.max_seq = s.max_seq;
  c.mask = s.mask;
  c.window = s.window;
  c.value_map = s.value_map;
  const Layout layout = kernels.traits.preferred;
  Packed query, key, value_down, value_up;
  AttentionWeights w;
  REQUIRE(pack_matrix(query, model, Role::w_query, layout));
  REQUIRE(pack_matrix(key, model, Role::w_key, layout));
  REQUIRE(pack_matrix(value_down, model, Role::w_value_down, layout));
  REQUIRE(pack_matrix(value_up, model, Role::w_value_up, layout) == (s.value_map == ValueMap::factors));
  w.w_query = query.tensor;
  w.w_key = key.tensor;
  w.w_value_down = value_down.tensor;
  w.w_value_up = value_up.tensor;
  AttentionMemory plan;
  REQUIRE(make_attention_plan(plan, c, kernels.traits) == Status::ok);
  test::GuardedArena arena(plan.arena_bytes, plan.arena_align);
  Attention layer;
  REQUIRE(create(layer, c, w, plan, kernels, arena.span()) == Status::ok);
  std::vector<float> changes(vectors.size());
  REQUIRE(layer.forward({changes.data(), changes.size()}, {vectors.data(), vectors.size()}) == Status::ok);
  CHECK(arena.intact());
  return rows_of(changes, s.d_model);
}

}  // namespace

TEST_CASE("both forms of random heads agree within the sum of their errors against float") {
  constexpr std::uint32_t kAllBiases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp;
  const Heads cases[] = {
      {24, 1, 24, 90, Mask::causal, 0},      {36, 2, 30, 70, Mask::two_way, 0},
      {36, 3, 12, 70, Mask::two_way, kAllBiases}, {48, 2, 40, 130, Mask::causal, kBiasValueDown, 21},
      {25, 4, 7, 65, Mask::two_way, kBiasValueUp, 9}, {64, 2, 70, 66, Mask::causal, kAllBiases},
  };
  for (const Heads& h : cases) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(h.d_model, h.n_heads, h.head_dim, seed);
      const FloatModel factors = random_model(h, seed);
      FloatModel undivided = random_model(h, seed);
      REQUIRE(why_not_undivided(undivided.config.main()).empty());
      make_undivided(undivided, 0);
      test::Random random(seed + 100);
      std::vector<float> vectors(std::size_t{h.positions} * h.d_model);
      for (float& v : vectors) v = random.normal();
      const Rows exact_a = float_changes(factors, vectors), exact_b = float_changes(undivided, vectors);
      const Kernels& kernels = best_kernels();
      const Rows a = int8_changes(factors, vectors, kernels), b = int8_changes(undivided, vectors, kernels);
      REQUIRE(a.size() == h.positions);
      SquaredError off_a, off_b;
      for (std::uint32_t t = 0; t < h.positions; ++t) {
        const double size = length(exact_a[t]), error_a = distance(a[t], exact_a[t]), error_b = distance(b[t], exact_b[t]);
        REQUIRE(distance(a[t], b[t]) <= error_a + error_b);
        // Each error is against its own form in floats, so that the two forms must be one function.
        REQUIRE(distance(exact_a[t], exact_b[t]) <= 1e-5 * size);
        off_a += {error_a * error_a, size * size};
        off_b += {error_b * error_b, size * size};
      }
      for (const SquaredError& off : {off_a, off_b}) {
        CHECK(off.relative() <= 0.03);
        CHECK(off.relative() >= 1e-3);  // int8 it was
      }
    }
  }
}
