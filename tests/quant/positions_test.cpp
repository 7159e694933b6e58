// SPDX-License-Identifier: Apache-2.0
// positions_test.cpp: tables of positions against numbers that were published or follow from the formula by hand.
// described.json holds them to another implementation.
#include "quant/positions.hpp"

#include <cmath>

#include "tests/support/catch.hpp"

using namespace heed::quant;

TEST_CASE("ALiBi: the slopes of the paper, and between powers of two those of its code") {
  const std::vector<float> eight = alibi_slopes(8);
  for (int h = 0; h < 8; ++h) CHECK(eight[static_cast<std::size_t>(h)] == std::ldexp(1.0f, -(h + 1)));
  const std::vector<float> six = alibi_slopes(6);  // four of four heads, then every other one of eight
  const float kSix[] = {0.25f, 0.0625f, 0.015625f, 0.00390625f, 0.5f, 0.125f};
  for (std::size_t h = 0; h < 6; ++h) CHECK(six[h] == kSix[h]);
}

TEST_CASE("T5's buckets: 32 of them to 128, both ways and causal") {
  // where a bucket begins: 16 * 8^(k / 16), rounded up
  const std::uint32_t kBegins[] = {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
  for (std::uint32_t k = 0; k < 16; ++k) {
    CHECK(relative_bucket(k, 32, 128, false) == k);
    CHECK(relative_bucket(kBegins[k], 32, 128, false) == 16 + k);
    CHECK(relative_bucket(kBegins[k] - 1, 32, 128, false) == 15 + k);
  }
  CHECK(relative_bucket(5000, 32, 128, false) == 31);
  CHECK(relative_bucket(-3, 32, 128, false) == 0);
  CHECK(relative_bucket(7, 32, 128, true) == 7);
  CHECK(relative_bucket(-7, 32, 128, true) == 16 + 7);
  CHECK(relative_bucket(8, 32, 128, true) == 8);
  CHECK(relative_bucket(16, 32, 128, true) == 10);   // ln 2 / ln 16 * 8 is 2, not a little less
  CHECK(relative_bucket(-64, 32, 128, true) == 16 + 14);
  CHECK(relative_bucket(127, 32, 128, true) == 15);
}

TEST_CASE("buckets become distances, as many as differ") {
  CHECK(relative_distances(32, 128, false, 512) == 114);
  CHECK(relative_distances(32, 128, true, 512) == 2 * 91 + 1);
  CHECK(relative_distances(32, 128, true, 20) == 2 * 19 + 1);  // a context of 20 has no others
  std::vector<float> table(32 * 3);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i);
  const std::uint32_t n = relative_distances(32, 128, true, 512);
  const std::vector<float> spread = spread_buckets(table.data(), 3, 32, 128, true, n);
  for (std::uint32_t head = 0; head < 3; ++head) {
    CHECK(spread[head * n + 91] == table[0 * 3 + head]);
    CHECK(spread[head * n + 91 + 5] == table[5 * 3 + head]);
    CHECK(spread[head * n + 91 - 5] == table[(16 + 5) * 3 + head]);
    CHECK(spread[head * n] == table[31 * 3 + head]);
    CHECK(spread[head * n + n - 1] == table[15 * 3 + head]);
  }
}

TEST_CASE("rotary phases: scaled, interpolated, and kept where they are fast") {
  const auto plain = rotary_frequencies(8, Rope{});
  Rope rope;
  rope.factor = 4.0;
  rope.scaling = RopeScaling::linear;
  for (std::size_t i = 0; i < 4; ++i) CHECK(rotary_frequencies(8, rope)[i] == plain[i] / 4.0);
  rope.scaling = RopeScaling::ntk;  // the fastest pair stays, the slowest is interpolated
  CHECK(rotary_frequencies(8, rope)[0] == 1.0);
  CHECK(std::fabs(rotary_frequencies(8, rope)[3] - plain[3] / 4.0) < 1e-15);
  rope.scaling = RopeScaling::llama3;
  rope.original_max_seq = 1000.0;  // wavelengths 6.3, 63, 628, 6283
  const auto llama = rotary_frequencies(8, rope);
  CHECK(llama[0] == plain[0]);
  CHECK(llama[1] == plain[1]);
  const double kept = (1000.0 / (2.0 * 3.141592653589793 / plain[2]) - 1.0) / 3.0;
  CHECK(std::fabs(llama[2] - plain[2] * ((1.0 - kept) / 4.0 + kept)) < 1e-15);
  CHECK(llama[3] == plain[3] / 4.0);
  rope.scaling = RopeScaling::yarn;
  rope.original_max_seq = 100.0;
  // b(32) = 8 ln(100 / (64 pi)) / (2 ln 10^4) < 0 and b(1) = 1.2: the ramp goes from pair 0 to pair 2
  const auto yarn = rotary_frequencies(8, rope);
  CHECK(yarn[0] == plain[0]);
  CHECK(std::fabs(yarn[1] - plain[1] * (0.5 + 0.5 / 4.0)) < 1e-15);
  CHECK(yarn[2] == plain[2] / 4.0);
  CHECK(std::fabs(rope.query_key_factor() - (0.1 * std::log(4.0) + 1.0)) < 1e-15);
  rope.attention_factor = 1.5;
  CHECK(rope.query_key_factor() == 1.5);
  CHECK(rotary_phases(4, 10000.0) == std::vector<std::uint32_t>{683565276u, 6835653u});  // 2^32 / (2 pi), and a hundredth
}

TEST_CASE("sinusoids: both orders, from any position, with either last frequency") {
  Sinusoids s;
  auto table = sinusoid_table(50, 6, s);
  const auto is = [&](std::size_t position, std::size_t column, double x) {
    CHECK(std::fabs(double{table[position * 6 + column]} - x) < 1e-7);
  };
  is(0, 0, 0.0), is(0, 1, 1.0);
  is(7, 0, std::sin(7.0)), is(7, 1, std::cos(7.0));
  is(49, 2, std::sin(49.0 * std::pow(1e4, -1.0 / 3.0))), is(49, 5, std::cos(49.0 * std::pow(1e4, -2.0 / 3.0)));
  s.order = SinusoidOrder::sines_first;
  s.first_position = 1;
  s.half_minus_one = true;
  table = sinusoid_table(50, 6, s);
  is(6, 0, std::sin(7.0)), is(6, 3, std::cos(7.0));
  is(48, 1, std::sin(49.0 * 1e-2)), is(48, 5, std::cos(49.0 * 1e-4));
}

TEST_CASE("biases of scores as integers: powers of two, to what the format allows") {
  const float kSlopes[] = {0.0f, 0.5f, 2.0f, 1e9f};
  CHECK(slopes_as_integers(kSlopes, 4) == std::vector<std::int32_t>{0, 3025551, 12102203, 2147483647});
  const float kBiases[] = {1.0f, -1.0f, 1e7f, -1e7f, 1e-5f};
  CHECK(biases_as_integers(kBiases, 5) == std::vector<std::int32_t>{1477, -1477, 8388608, -8388608, 0});
}
