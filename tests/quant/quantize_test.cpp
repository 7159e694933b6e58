// SPDX-License-Identifier: Apache-2.0
// quantize_test.cpp: rows, groups, key offsets, and what the measured choice decides.
#include "quant/quantize.hpp"

#include <cmath>

#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::quant;

namespace {

std::vector<float> random_floats(std::size_t n, std::uint64_t seed, float size = 1.0f) {
  test::Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = size * random.normal();
  return x;
}

// One column of what feeds w_down is `size` times as large and its weights as much smaller, which changes nothing in
// floats: the outlier channels of larger models.
FloatModel model_with_outlier(float size) {
  StackConfig c = test::llama_config(64, 96, 1, 4, 4, 16, 40, 64);
  c.attention_scale = 0.25f;
  FloatModel model = golden::numbered_model(c, 9);
  const auto scaled = [&](Role role, std::uint32_t rows, std::uint32_t cols, auto factor) {
    std::vector<float> w(model.floats(role, 0), model.floats(role, 0) + std::size_t{rows} * cols);
    for (std::uint32_t r = 0; r < rows; ++r)
      for (std::uint32_t k = 0; k < cols; ++k) w[std::size_t{r} * cols + k] *= factor(r, k);
    model.own(role, 0, std::move(w));
  };
  scaled(Role::w_up, 96, 64, [=](std::uint32_t r, std::uint32_t) { return r == 5 ? size : 1.0f; });
  scaled(Role::w_down, 64, 96, [=](std::uint32_t, std::uint32_t k) { return k == 5 ? 1.0f / size : 1.0f; });
  return model;
}

QuantizedModel quantized(QuantizeReport& report, const FloatModel& model, const QuantizeOptions& options) {
  QuantizedModel result;
  const Error error = quantize_model(result, report, model, Layout::packed, options, kernels_portable);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  return result;
}

}  // namespace

TEST_CASE("one scale per row: the largest weight is 127, no weight is off by more than half a step") {
  const std::vector<float> x = random_floats(10 * 33, 1);
  const QuantizedMatrix m = quantize_matrix(x.data(), nullptr, 10, 33, 0);
  CHECK(m.multipliers.empty());
  for (std::uint32_t r = 0; r < 10; ++r) {
    int largest = 0;
    for (std::uint32_t c = 0; c < 33; ++c) {
      largest = std::max(largest, std::abs(int{m.weights[r * 33 + c]}));
      CHECK(std::fabs(m.value(r, c) - x[r * 33 + c]) <= 0.50001 * m.scales[r]);
    }
    CHECK(largest == 127);
  }
  CHECK(matrix_error(m, x.data(), nullptr).relative() < 0.01);
}

TEST_CASE("groups: each takes the smallest multiplier that holds it, and small groups gain") {
  std::vector<float> x = random_floats(6 * 100, 2);
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t c = 32; c < 64; ++c) x[r * 100 + c] *= 0.02f;
  for (const std::uint32_t group : {32u, 64u, 128u, 256u}) {
    const QuantizedMatrix m = quantize_matrix(x.data(), nullptr, 6, 100, group);
    const std::uint32_t groups = group_count(100, group);
    REQUIRE(m.multipliers.size() == 6 * groups);
    for (std::uint32_t r = 0; r < 6; ++r) {
      for (std::uint32_t g = 0; g < groups; ++g) {
        const int multiplier = m.multipliers[r * groups + g];
        CHECK((multiplier >= 1 && multiplier <= 15));
        double largest = 0.0;
        for (std::uint32_t c = g * group; c < std::min(100u, (g + 1) * group); ++c) {
          largest = std::fmax(largest, std::fabs(x[r * 100 + c]));
          CHECK(std::fabs(m.value(r, c) - x[r * 100 + c]) <= 0.50001 * multiplier * m.scales[r]);
        }
        CHECK(largest <= 127.5001 * multiplier * m.scales[r]);
        if (multiplier > 1) CHECK(largest > 127.4999 * (multiplier - 1) * m.scales[r]);
      }
    }
  }
  CHECK(quantize_matrix(x.data(), nullptr, 6, 100, 32).multipliers[1] == 1);
  CHECK(matrix_error(quantize_matrix(x.data(), nullptr, 6, 100, 32), x.data(), nullptr).relative() <
        matrix_error(quantize_matrix(x.data(), nullptr, 6, 100, 0), x.data(), nullptr).relative());
}

TEST_CASE("rows of zeros and of next to nothing have scale 1 and no weights; gains multiply columns") {
  const float x[12] = {0, 0, 0, 0, 1e-11f, -1e-11f, 0, 1e-12f, 1, 2, -4, 0.5f};
  for (const std::uint32_t group : {0u, 32u}) {
    const QuantizedMatrix m = quantize_matrix(x, nullptr, 3, 4, group);
    for (int i = 0; i < 8; ++i) CHECK(m.weights[i] == 0);
    CHECK(m.scales[0] == 1.0f);
    CHECK(m.scales[1] == 1.0f);
    CHECK(m.weights[10] == -127);
  }
  const float gain[4] = {1, -2, 0, 4};
  const QuantizedMatrix m = quantize_matrix(x, gain, 3, 4, 0);
  CHECK(m.weights[8] == 32);  // 1, -4, 0, 2: 127/4 is 31.75
  CHECK(m.weights[9] == -127);
  CHECK(m.weights[10] == 0);
  CHECK(m.weights[11] == 64);  // 63.5 to even
}

TEST_CASE("key offsets: s16 with the exponent of the largest, at the edges as well") {
  std::int16_t values[3];
  const double usual[3] = {1.5, -3.0, 0.001};
  const int e = encode_key_offset(values, usual, 3);
  CHECK(e == 2);
  for (int i = 0; i < 3; ++i)
    CHECK(std::fabs(values[i] * std::ldexp(1.0, e - 15) - usual[i]) <= std::ldexp(0.5, e - 15));
  const double nothing[3] = {0.0, 1e-13, -1e-13};
  CHECK(encode_key_offset(values, nothing, 3) == -39);
  CHECK((values[0] == 0 && values[1] == 0 && values[2] == 0));
  const double huge[3] = {1e30, -1e30, 1.0};
  CHECK(encode_key_offset(values, huge, 3) == 41);
  CHECK(values[1] == -32767);
  const double almost[3] = {-1.99999999, 1.0, 0.0};  // rounds up to 2^e in float, and not to -32768
  encode_key_offset(values, almost, 3);
  CHECK(values[0] >= -32767);
}

TEST_CASE("the text that the float model writes is the same each time and stays in the context") {
  const FloatModel model = golden::numbered_model(test::small_config(true), 4);
  const Calibration a = calibrate(model), b = calibrate(model);
  CHECK(a.tokens.size() == 16);
  CHECK(a.tokens[0] == 1);
  CHECK(a.tokens == b.tokens);
  CHECK(a.stacks[0].key_means == b.stacks[0].key_means);
  CHECK(a.positions == 16);
  const SiteSamples* sites = a.stacks[0].sites;
  CHECK(sites[static_cast<int>(Site::down_in)].n == 16);
  CHECK(sites[static_cast<int>(Site::down_in)].x.size() == 2u * 16 * 40);
  CHECK(sites[static_cast<int>(Site::unembed_in)].x.size() == 16u * 24);
}

TEST_CASE("the measured choice keeps rows where they do, and finds the site that needs groups") {
  QuantizeReport report;
  QuantizedModel plain = quantized(report, model_with_outlier(1.0f), {});
  for (const SiteReport& site : report.sites[0]) {
    CHECK(site.group == 0);
    CHECK(site.error < kRowErrorLimit);
    CHECK(site.error == site.row_error);
  }
  CHECK((plain.config.main().flags & (kAttentionGainFolded | kFfnGainFolded)) == (kAttentionGainFolded | kFfnGainFolded));
  CHECK((plain.config.main().flags & kFinalGainFolded) == 0);  // tied

  QuantizeOptions unmeasured;  // else a pass undoes the outlier
  unmeasured.run_whole = false;
  const QuantizedModel outlier = quantized(report, model_with_outlier(300.0f), unmeasured);
  const SiteReport& down = report.sites[0][static_cast<int>(Site::down_in)];
  CHECK(down.row_error > kRowErrorLimit);
  CHECK(down.group != 0);
  CHECK(down.error < 0.8 * down.row_error);
  CHECK(outlier.config.main().group(Site::down_in) == down.group);
  CHECK(report.sites[0][static_cast<int>(Site::ffn_in)].group == 0);

  const QuantizedModel asked = quantized(report, model_with_outlier(300.0f), {64u, false});
  for (int i = 0; i < 5; ++i) CHECK(asked.config.main().groups[i] == 64);
  CHECK((asked.config.main().flags & kKeyOffset) == 0);
}

TEST_CASE("a gain is folded unless that costs accuracy") {
  StackConfig config = test::small_config(true);
  config.n_layers = 1;
  const auto folded = [&](float odd_embedding, float odd_gain) {
    FloatModel model = golden::numbered_model(config, 4);
    std::vector<float> embedding(model.floats(Role::token_embedding, 0),
                                 model.floats(Role::token_embedding, 0) + 30 * 24);
    std::vector<float> gain(24, 1.0f);
    for (std::size_t i = 1; i < embedding.size(); i += 2) embedding[i] *= odd_embedding;
    for (std::size_t i = 1; i < gain.size(); i += 2) gain[i] = odd_gain;
    model.own(Role::token_embedding, 0, embedding);
    model.own(Role::attention_gain, 0, gain);
    QuantizeReport report;
    return (quantized(report, model, {0u, true}).config.main().flags & kAttentionGainFolded) != 0;
  };
  CHECK(folded(1.0f, 1.0f));
  CHECK(folded(1.0f, 30.0f));
  // Channels that only the gain makes large: without it int8 activations round them away.
  CHECK_FALSE(folded(0.01f, 100.0f));
}

TEST_CASE("numbers that no image can hold are refused with the tensor's name") {
  FloatModel model = golden::numbered_model(test::small_config(true), 4);
  model.own(Role::w_key, 1, std::vector<float>(24 * 12, 1.0e12f));
  model.own(Role::attention_gain, 1, std::vector<float>(24, 1.0e6f));
  QuantizedModel result;
  QuantizeReport report;
  const Error error = quantize_model(result, report, model, Layout::row, {0u, true}, kernels_portable);
  CHECK(error.sentence() == "w_key of layer 1: its numbers are too large for an image");
}

TEST_CASE("tiny gains are stored as zero") {
  FloatModel model = golden::numbered_model(test::small_config(true), 4);
  std::vector<float> gain(24, 1.0f);
  gain[3] = 1e-20f;
  gain[4] = -1e-20f;
  model.own(Role::final_gain, 0, gain);
  QuantizeReport report;
  const QuantizedModel result = quantized(report, model, {0u, true});
  ImageBytes image;
  write_image(image, result.config, *result.tensors, {}, {}, kernels_portable);
  Model opened;
  REQUIRE(open(opened, {image.data(), image.size()}, kernels_portable) == Status::ok);
  CHECK(opened.floats(Role::final_gain, 0)[3] == 0.0f);
  CHECK(opened.floats(Role::final_gain, 0)[2] == 1.0f);
}
