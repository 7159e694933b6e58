// SPDX-License-Identifier: Apache-2.0
// layers_board_test.cpp: the layers beside attention on every target, to bits that are pinned; that they are SPEC.md's,
// layers_test.cpp says.
#include "platform/select.hpp"
#include "runtime/layers.hpp"
#include "tests/check.hpp"

namespace {

using namespace heed;

constexpr std::uint32_t kRows = 5, kModel = 24, kFf = 40, kOut = 10;

std::uint32_t g_state = 1;
std::uint32_t next() { return g_state = g_state * 1664525u + 1013904223u; }
float next_float() { return static_cast<float>(static_cast<std::int32_t>(next()) >> 8) * (1.0f / 4194304.0f); }

// A matrix in the layout that this target's table prefers; padded to what any layout wants.
template <std::uint32_t Rows, std::uint32_t Cols>
struct Matrix {
  alignas(64) std::int8_t weights[round_up(Rows, 16) * round_up(Cols, 16)] = {};
  float scales[round_up(Rows, 16)] = {}, bias[round_up(Rows, 16)] = {};
  Tensor fill(Layout layout) {
    for (std::uint32_t r = 0; r < Rows; ++r) {
      scales[r] = 0.0009765625f * (1.0f + 0.25f * next_float());
      bias[r] = next_float();
      for (std::uint32_t c = 0; c < Cols; ++c)
        set_weight(weights, layout, Rows, Cols, r, c, static_cast<std::int32_t>(next() >> 8) % 128);
    }
    for (std::uint32_t r = Rows; r < padded_rows(layout, Rows); ++r) scales[r] = 1.0f;
    Tensor t;
    t.weights = weights;
    t.scales = scales;
    if (kBuiltFeatures.biases) t.bias = bias;
    t.rows = Rows;
    t.cols = Cols;
    t.layout = layout;
    return t;
  }
};
Matrix<kFf, kModel> g_gate, g_up;
Matrix<kModel, kFf> g_down;
Matrix<kOut, kModel> g_out;

alignas(64) std::byte g_arena[16 * 1024];

std::uint32_t crc_of(const Kernels& k, const float* x, std::uint32_t n) { return k.crc32c(0, x, n * sizeof(float)); }

}  // namespace

TEST_CASE("layers give the same bits on every target", "[layers]") {
  const Kernels& k = best_kernels();
  const Layout layout = k.traits.preferred;
  g_state = 1;
  FeedForwardConfig config{kModel, kFf};
  const FeedForwardWeights weights{g_gate.fill(layout), g_up.fill(layout), g_down.fill(layout)};
  FeedForwardMemory memory;
  REQUIRE(make_feed_forward_plan(memory, config, k.traits, 2) == Status::ok);
  FeedForward feed_forward;
  REQUIRE(create(feed_forward, config, weights, memory, k, {g_arena, static_cast<std::size_t>(memory.arena_bytes)}) ==
          Status::ok);
  CHECK(create(feed_forward, config, weights, memory, k, {g_arena, static_cast<std::size_t>(memory.arena_bytes - 1)}) ==
        Status::arena_too_small);
  float x[kRows * kModel], change[kRows * kModel], gain[kModel], logits[kOut], pooled[kModel];
  for (float& v : x) v = 2.0f * next_float();
  for (float& v : gain) v = 1.0f + 0.5f * next_float();
  REQUIRE(feed_forward.forward(change, x) == Status::ok);
  CHECK(crc_of(k, change, kRows * kModel) == 0xDF17A7BDu);
  REQUIRE(add(x, change) == Status::ok);
  REQUIRE(norm(x, x, kModel, {gain, nullptr, 1e-5f, false}, k) == Status::ok);
  CHECK(crc_of(k, x, kRows * kModel) == 0x9C28589Au);
  REQUIRE(norm(change, x, kModel, {gain, gain, 1e-5f, true}, k) == Status::ok);
  CHECK(crc_of(k, change, kRows * kModel) == 0xBE39A377u);
  REQUIRE(mean(pooled, change) == Status::ok);

  const LinearConfig linear_config{kModel, kOut, 0, Activation::tanh};
  LinearMemory linear_memory;
  REQUIRE(make_linear_plan(linear_memory, linear_config, k.traits, 1) == Status::ok);
  Linear linear;
  REQUIRE(create(linear, linear_config, g_out.fill(layout), linear_memory, k,
                 {g_arena, static_cast<std::size_t>(linear_memory.arena_bytes)}) == Status::ok);
  REQUIRE(linear.forward(logits, pooled) == Status::ok);
  CHECK(crc_of(k, logits, kOut) == 0x9A5EBEF7u);
  REQUIRE(activate({logits, kOut}, kOut, Activation::gelu_quick) == Status::ok);
  CHECK(crc_of(k, logits, kOut) == 0x1678C306u);
}
