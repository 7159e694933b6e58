// SPDX-License-Identifier: Apache-2.0
// double_math_test.cpp: our own exp, log, tanh, erf, sine and cosine against libm.
#include "quant/double_math.hpp"

#include <cmath>

#include "tests/support/catch.hpp"

using namespace heed::quant;

TEST_CASE("exp_double is libm's to the last bits, and saturates") {
  double worst = 0.0;
  for (double x = -700.0; x < 700.0; x += 0.00737)
    worst = std::fmax(worst, std::fabs(exp_double(x) / std::exp(x) - 1.0));
  CHECK(worst < 1e-15);
  CHECK(exp_double(0.0) == 1.0);
  CHECK(exp_double(-1e300) == exp_double(-700.0));
  CHECK(exp_double(1e300) == exp_double(700.0));
}

TEST_CASE("tanh_double and erf_double are libm's to 1e-15, odd, and saturate") {
  double worst = 0.0;
  for (double x = -8.0; x < 8.0; x += 0.000737) {
    worst = std::fmax(worst, std::fabs(tanh_double(x) - std::tanh(x)));
    worst = std::fmax(worst, std::fabs(erf_double(x) - std::erf(x)));
  }
  CHECK(worst < 2e-15);
  CHECK(erf_double(0.0) == 0.0);
  CHECK(erf_double(-1.25) == -erf_double(1.25));
  CHECK(tanh_double(0.0) == 0.0);
  for (const double x : {1e3, 1e300}) {
    CHECK(tanh_double(x) == 1.0);
    CHECK(tanh_double(-x) == -1.0);
    CHECK(erf_double(x) == 1.0);
    CHECK(erf_double(-x) == -1.0);
  }
}

TEST_CASE("log_double is libm's to the last bits") {
  double worst = 0.0;
  for (double x = 1e-300; x < 1e300; x *= 1.0137)
    worst = std::fmax(worst, std::fabs(log_double(x) - std::log(x)) / std::fmax(1.0, std::fabs(std::log(x))));
  CHECK(worst < 1e-15);
  CHECK(log_double(1.0) == 0.0);
}

TEST_CASE("sin_cos_double of a phase is libm's to the last bits") {
  double worst = 0.0;
  for (std::uint64_t phase = 0; phase < std::uint64_t{1} << 32; phase += 99991) {
    const double x = static_cast<double>(phase) * (6.283185307179586 / 4294967296.0);
    const SinCosDouble got = sin_cos_double(static_cast<std::uint32_t>(phase));
    worst = std::fmax(worst, std::fmax(std::fabs(got.cosine - std::cos(x)), std::fabs(got.sine - std::sin(x))));
  }
  CHECK(worst < 2e-15);
  for (std::uint32_t quarter = 0; quarter < 4; ++quarter) {
    static constexpr double kCosine[4] = {1, 0, -1, 0}, kSine[4] = {0, 1, 0, -1};
    CHECK(sin_cos_double(quarter << 30).cosine == kCosine[quarter]);
    CHECK(sin_cos_double(quarter << 30).sine == kSine[quarter]);
  }
}

TEST_CASE("round_even ties to even") {
  CHECK(round_even(0.5) == 0.0);
  CHECK(round_even(1.5) == 2.0);
  CHECK(round_even(-2.5) == -2.0);
  CHECK(round_even(126.49999) == 126.0);
}
