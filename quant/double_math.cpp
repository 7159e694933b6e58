// SPDX-License-Identifier: Apache-2.0
// double_math.cpp: series in a written order, one rounding per operation.
#include "quant/double_math.hpp"

namespace heed::quant {

double log_double(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  auto exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  bits = (bits & 0xFFFFFFFFFFFFFu) | (std::uint64_t{1023} << 52);
  double m;
  std::memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh(s), |s| <= 0.1716.
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 0.0;
  for (int k = 21; k >= 1; k -= 2) p = p * z + 1.0 / k;
  const auto n = static_cast<double>(exponent);
  return n * 0x1.62e42fee00000p-1 + (2.0 * s * p + n * 0x1.a39ef35793c76p-33);
}

double tanh_double(double x) { return 1.0 - 2.0 / (exp_double(2.0 * x) + 1.0); }

double erf_double(double x) {
  const double size = x < 0.0 ? -x : x;
  if (!(size < 6.0)) return x < 0.0 ? -1.0 : 1.0;
  // 2/sqrt(pi) * exp(-x^2) * (x + 2 x^3 / 3 + 4 x^5 / 15 + ...), all of one sign (Abramowitz and Stegun, 7.1.6).
  double term = size, sum = size;
  for (int n = 1; term > sum * 1e-17; ++n) {
    term *= 2.0 * size * size / (2 * n + 1);
    sum += term;
  }
  const double y = 1.1283791670955126 * exp_double(-size * size) * sum;
  return x < 0.0 ? -y : y;
}

SinCosDouble sin_cos_double(std::uint32_t phase) {
  // To the nearest quarter turn, so that |x| <= pi/4.
  const std::uint32_t quarter = (phase + 0x20000000u) >> 30;
  const auto rest = static_cast<std::int32_t>(phase - (quarter << 30));
  const double x = rest * (6.283185307179586 / 4294967296.0), z = x * x;
  double s = 0.0, c = 0.0;
  for (int k = 16; k >= 2; k -= 2) c = (c + 1.0) * (-z / (k * (k - 1)));
  for (int k = 17; k >= 3; k -= 2) s = (s + 1.0) * (-z / (k * (k - 1)));
  c += 1.0;
  s = x * (s + 1.0);
  switch (quarter & 3u) {
    case 0: return {c, s};
    case 1: return {-s, c};
    case 2: return {-c, -s};
    default: return {s, -c};
  }
}

}  // namespace heed::quant
