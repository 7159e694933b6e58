// SPDX-License-Identifier: Apache-2.0
// double_math.hpp: exp, log, tanh, erf, sine and cosine with the same bits on every host, which libm does not promise.
#pragma once
#include <cstdint>
#include <cstring>

namespace heed::quant {

// Round to nearest even, for |x| < 2^51.
inline double round_even(double x) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  return (x + kMagic) - kMagic;
}

// Relative error below 1e-15 for -700 <= x <= 700; beyond, x counts as that bound.
inline double exp_double(double x) {
  constexpr double kMagic = 6755399441055744.0;
  x = x > -700.0 ? x : -700.0;
  x = x < 700.0 ? x : 700.0;
  const double t = x * 1.4426950408889634 + kMagic;
  const double n = t - kMagic;
  const double r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;  // ln 2 in two parts
  double p = 1.0 / 6227020800.0;  // Taylor: |r| <= 0.347, the next term is below 1e-17
  constexpr double kFactors[12] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0,
                                   1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,     1.0 / 120.0,
                                   1.0 / 24.0,        1.0 / 6.0,        0.5,             1.0};
  for (const double factor : kFactors) p = p * r + factor;
  p = p * r + 1.0;
  std::uint64_t bits, power;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&power, &t, sizeof power);
  bits += power << 52;
  std::memcpy(&p, &bits, sizeof p);
  return p;
}

// Absolute errors below 1e-15.
double tanh_double(double x);
double erf_double(double x);

// Natural logarithm of a normal x > 0; absolute error below 1e-15 near 1, relative elsewhere.
double log_double(double x);

struct SinCosDouble {
  double cosine, sine;
};
// Of a phase of 2^32 per turn.
SinCosDouble sin_cos_double(std::uint32_t phase);

}  // namespace heed::quant
