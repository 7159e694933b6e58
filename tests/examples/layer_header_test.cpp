// SPDX-License-Identifier: Apache-2.0
// layer_header_test.cpp: headers that `heed quantize-layer` wrote while this test was built, in several layouts and with
// groups: every byte is what quant::pack makes of the same floats, and layers run from them.
#include <cstring>

#include "layer_block64.h"
#include "layer_grouped.h"
#include "layer_packed.h"
#include "layer_pair.h"
#include "layer_row.h"
#include "platform/select.hpp"
#include "quant/file.hpp"
#include "quant/pack.hpp"
#include "quant/quantize.hpp"
#include "quant/readers/safetensors.hpp"
#include "quant/source.hpp"
#include "runtime/layers.hpp"
#include "tests/examples/layer_header_run.h"
#include "tests/support/catch.hpp"

namespace {

using namespace heed;

// The file from which the headers are, and what stands in it.
struct Source {
  quant::SourceFile file;
  quant::SafeTensors tensors;
  Source() {
    const quant::Error unread = file.open(HEED_SOURCE_DIR "/examples/models/spotter.safetensors");
    REQUIRE(unread.sentence() == "");
    const quant::Error refused = tensors.open(file.bytes());
    REQUIRE(refused.sentence() == "");
  }
  std::vector<float> floats(const char* name) const {
    const quant::SafeTensor* const t = tensors.find(name);
    std::vector<float> x;
    REQUIRE(t != nullptr);
    const quant::Error refused = quant::read_floats(x, *t);
    REQUIRE(refused.sentence() == "");
    return x;
  }
};

void check(const Tensor& tensor, const Source& source, const char* name, const char* bias, Layout layout, std::uint32_t group) {
  INFO(name << ", layout " << quant::name_of(layout) << ", group " << group);
  const std::vector<std::uint64_t>& shape = source.tensors.find(name)->shape;
  const auto rows = static_cast<std::uint32_t>(shape[0]), cols = static_cast<std::uint32_t>(shape[1]);
  quant::QuantizedMatrix m = quant::quantize_matrix(source.floats(name).data(), nullptr, rows, cols, group);
  if (bias) m.bias = source.floats(bias);
  quant::ImageBytes packed(static_cast<std::size_t>(tensor_bytes(layout, rows, cols, group, bias != nullptr).total));
  quant::pack(packed.data(), m, layout);
  const Tensor expected = quant::view(packed.data(), m, layout);

  REQUIRE(check_weights(find_kernels("portable")->traits, tensor) == Status::ok);
  REQUIRE((tensor.rows == rows && tensor.cols == cols && tensor.group == group && tensor.layout == layout));
  REQUIRE((tensor.bias != nullptr) == (bias != nullptr));
  const std::size_t padded = padded_rows(layout, rows);
  CHECK(std::memcmp(tensor.weights, expected.weights, padded * padded_cols(layout, cols)) == 0);
  CHECK(std::memcmp(tensor.scales, expected.scales, 4 * padded) == 0);
  if (bias) CHECK(std::memcmp(tensor.bias, expected.bias, 4 * padded) == 0);
  if (group) CHECK(std::memcmp(tensor.multipliers, expected.multipliers, padded * group_count(cols, group)) == 0);
}

// Logits of one vector: w_down * silu gate, then the output matrix.
std::vector<float> run(const Kernels& k, const FeedForwardWeights& weights, const Tensor& output) {
  FeedForwardConfig config{weights.w_up.cols, weights.w_up.rows};
  config.group_in = weights.w_up.group;
  config.group_down = weights.w_down.group;
  const LinearConfig linear_config{output.cols, output.rows, output.group, Activation::none};
  FeedForwardMemory memory;
  LinearMemory linear_memory;
  REQUIRE(make_feed_forward_plan(memory, config, k.traits, 1) == Status::ok);
  REQUIRE(make_linear_plan(linear_memory, linear_config, k.traits, 1) == Status::ok);
  quant::ImageBytes arena(memory.arena_bytes), linear_arena(linear_memory.arena_bytes);
  FeedForward feed_forward;
  Linear linear;
  const auto span = [](quant::ImageBytes& a) { return Span<std::byte>(reinterpret_cast<std::byte*>(a.data()), a.size()); };
  REQUIRE(create(feed_forward, config, weights, memory, k, span(arena)) == Status::ok);
  REQUIRE(create(linear, linear_config, output, linear_memory, k, span(linear_arena)) == Status::ok);
  std::vector<float> x(config.d_model), logits(output.rows);
  for (std::uint32_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 5) - 2.0f;
  REQUIRE(feed_forward.forward(x, x) == Status::ok);
  REQUIRE(linear.forward(logits, x) == Status::ok);
  return logits;
}

}  // namespace

TEST_CASE("a header of layers has the bytes of an image's matrices", "[quant]") {
  const Source source;
  const auto check_header = [&](const Tensor& input, const Tensor& query, const Tensor& down, Layout layout, std::uint32_t group) {
    check(input, source, "input.weight", "input.bias", layout, group);
    check(query, source, "layer0.query", nullptr, layout, group);
    check(down, source, "layer1.down", nullptr, layout, group);
  };
  check_header(layer_row::input, layer_row::layer0_query, layer_row::layer1_down, Layout::row, 0);
  check_header(layer_packed::input, layer_packed::layer0_query, layer_packed::layer1_down, Layout::packed, 0);
  check_header(layer_pair::input, layer_pair::layer0_query, layer_pair::layer1_down, Layout::pair, 0);
  check_header(layer_block64::input, layer_block64::layer0_query, layer_block64::layer1_down, Layout::block64, 0);
  check_header(layer_grouped::input, layer_grouped::layer0_query, layer_grouped::layer1_down, Layout::packed, 32);

  const std::vector<float> gain = source.floats("final_gain");
  static_assert(sizeof layer_row::final_gain == 32 * sizeof(float));
  CHECK(std::memcmp(layer_row::final_gain, gain.data(), sizeof layer_row::final_gain) == 0);
  const std::vector<std::uint32_t> phases = quant::rotary_phases(16, 10000.0);
  static_assert(sizeof layer_row::rotary_phases == 8 * sizeof(std::uint32_t));
  CHECK(std::memcmp(layer_row::rotary_phases, phases.data(), sizeof layer_row::rotary_phases) == 0);
}

TEST_CASE("layers run from a header, alike in all layouts", "[quant]") {
  const Kernels& k = *find_kernels("portable");
  const std::vector<float> logits =
      run(k, {layer_row::layer0_gate, layer_row::layer0_up, layer_row::layer0_down}, layer_row::output);
  CHECK(run(k, {layer_packed::layer0_gate, layer_packed::layer0_up, layer_packed::layer0_down}, layer_packed::output) == logits);
  CHECK(run(k, {layer_pair::layer0_gate, layer_pair::layer0_up, layer_pair::layer0_down}, layer_pair::output) == logits);
  CHECK(run(k, {layer_block64::layer0_gate, layer_block64::layer0_up, layer_block64::layer0_down}, layer_block64::output) == logits);
  const std::vector<float> grouped =
      run(k, {layer_grouped::layer0_gate, layer_grouped::layer0_up, layer_grouped::layer0_down}, layer_grouped::output);
  CHECK(grouped != logits);
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    difference += static_cast<double>(grouped[i] - logits[i]) * static_cast<double>(grouped[i] - logits[i]);
    size += static_cast<double>(logits[i]) * static_cast<double>(logits[i]);
  }
  CHECK(difference < 0.05 * 0.05 * size);
}

namespace {

Tensor from_c(const heed_tensor& c) {
  return {c.weights, c.scales, c.bias, c.multipliers, c.rows, c.cols, static_cast<std::uint16_t>(c.group), static_cast<Layout>(c.layout)};
}

}  // namespace

TEST_CASE("a header in C has the same constants, and layers of heed.h run from it", "[quant]") {
  const Source source;
  for (const std::uint32_t group : {0u, 32u}) {
    c_layers c{};
    layers_in_c(&c, group != 0);
    check(from_c(*c.input), source, "input.weight", "input.bias", Layout::packed, group);
    check(from_c(*c.query), source, "layer0.query", nullptr, Layout::packed, group);
    check(from_c(*c.down), source, "layer0.down", nullptr, Layout::packed, group);
    CHECK(c.final_gain_bytes == sizeof layer_row::final_gain);
    CHECK(std::memcmp(c.final_gain, layer_row::final_gain, c.final_gain_bytes) == 0);
    CHECK(c.rotary_phases_bytes == sizeof layer_row::rotary_phases);
    CHECK(std::memcmp(c.rotary_phases, layer_row::rotary_phases, c.rotary_phases_bytes) == 0);

    const std::vector<float> expected =
        group ? run(*find_kernels("portable"), {layer_grouped::layer0_gate, layer_grouped::layer0_up, layer_grouped::layer0_down}, layer_grouped::output)
              : run(*find_kernels("portable"), {layer_row::layer0_gate, layer_row::layer0_up, layer_row::layer0_down}, layer_row::output);
    std::vector<float> x(c.up->cols), logits(c.output->rows);
    for (std::uint32_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 5) - 2.0f;
    quant::ImageBytes arena(1u << 16);
    REQUIRE(run_layers_in_c(logits.data(), x.data(), group != 0, arena.data(), arena.size()) == HEED_OK);
    CHECK(logits == expected);
  }
}
