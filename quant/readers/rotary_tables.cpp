// SPDX-License-Identifier: Apache-2.0
// rotary_tables.cpp: guesses theta from one entry and believes it when all entries agree.
#include "quant/readers/rotary_tables.hpp"

#include <charconv>
#include <cmath>
#include <cstring>

#include "quant/double_math.hpp"

namespace heed::quant {
namespace {

// How far entries are off in float32, and after they were kept in bfloat16 (half a step below 1); and what float32
// rounds away of an angle.
constexpr double kFloatError = 5e-6, kBfloatError = 2e-3, kAngleError = 4e-7;

class Tables {
 public:
  Tables(const std::uint8_t* cosines, const std::uint8_t* sines, std::uint32_t positions, std::uint32_t dims)
      : cosines_(cosines), sines_(sines), positions_(positions), dims_(dims), pairs_(dims / 2) {}

  bool all_zero() const {
    for (std::size_t i = 0; i < std::size_t{positions_} * pairs_; ++i)
      if (load(cosines_, i) != 0.0 || load(sines_, i) != 0.0) return false;
    return true;
  }

  // Whether the runtime's rotation with these phases is the tables', as far as floats can say.
  bool agree(double theta, double entry_error) const {
    const std::vector<std::uint32_t> phases = rotary_phases(dims_, theta);
    for (std::uint32_t position = 0; position < positions_; ++position) {
      for (std::uint32_t i = 0; i < pairs_; ++i) {
        const SinCosDouble expected = sin_cos_double(position * phases[i]);  // whole turns fall off
        const double angle = position * (phases[i] * (6.283185307179586 / 4294967296.0));
        const double room = entry_error + kAngleError * angle;
        const std::size_t at = std::size_t{position} * pairs_ + i;
        // Written so that a NaN differs.
        if (!(std::fabs(load(cosines_, at) - expected.cosine) <= room)) return false;
        if (!(std::fabs(load(sines_, at) - expected.sine) <= room)) return false;
      }
    }
    return true;
  }

  // From the slowest pair at position 1, whose angle depends on theta most; 0 where it says nothing.
  double guess() const {
    if (positions_ < 2 || pairs_ < 2) return 0.0;
    const std::size_t at = 2 * std::size_t{pairs_} - 1;
    const double angle = std::atan2(load(sines_, at), load(cosines_, at));
    if (!(angle > 0.0) || angle >= 1.0) return 0.0;
    const double log_theta = -log_double(angle) * dims_ / (2.0 * (pairs_ - 1));
    return log_theta < 60.0 ? exp_double(log_theta) : 0.0;
  }

 private:
  static double load(const std::uint8_t* table, std::size_t i) {
    float value;
    std::memcpy(&value, table + 4 * i, sizeof value);
    return static_cast<double>(value);
  }

  const std::uint8_t *cosines_, *sines_;
  std::uint32_t positions_, dims_, pairs_;
};

// libm's last digits do not reach the result.
double rounded(double x, int digits) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, x, std::chars_format::scientific, digits - 1).ptr;
  std::from_chars(text, end, x);
  return x;
}

}  // namespace

Error find_theta(double& theta, const std::uint8_t* cosines, const std::uint8_t* sines, std::uint32_t positions,
                 std::uint32_t dims) {
  const Tables tables(cosines, sines, positions, dims);
  theta = kUsualTheta;
  if (tables.all_zero()) return {};
  const double guess = tables.guess();
  for (const double entry_error : {kFloatError, kBfloatError}) {
    theta = kUsualTheta;
    if (tables.agree(theta, entry_error)) return {};
    for (int digits = 1; digits <= 7 && guess > 0.0; ++digits) {
      theta = rounded(guess, digits);
      if (theta > 1.0 && tables.agree(theta, entry_error)) return {};
    }
  }
  return Error(
      "its rotary tables are those of no theta, so heed would run another model (scaled positions are not read); "
      "--rope-theta T leaves them aside");
}

}  // namespace heed::quant
