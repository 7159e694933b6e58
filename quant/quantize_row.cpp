// SPDX-License-Identifier: Apache-2.0
// quantize_row.cpp: all in double, several numbers at a time, in a written order of sums. Billions of weights go through it.
#include "quant/quantize_row.hpp"

#include <algorithm>
#include <cstring>

#include "quant/double_math.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

// Four numbers at a time, as two vectors of two: what every 64-bit host has registers for.
constexpr std::size_t kLanes = 4;
using Doubles = double __attribute__((vector_size(16)));
using Integers = std::int64_t __attribute__((vector_size(16)));

Doubles load(const double* p) {
  Doubles v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
Doubles all(double x) { return Doubles{x, x}; }
Doubles larger(Doubles a, Doubles b) { return a > b ? a : b; }
Doubles magnitudes(Doubles v) { return reinterpret_cast<Doubles>(reinterpret_cast<Integers>(v) & INT64_MAX); }
double sum_of(Doubles a, Doubles b) {
  const Doubles sum = a + b;
  return sum[0] + sum[1];
}

// The largest magnitude of n numbers.
double largest(const double* x, std::size_t n) {
  Doubles a = all(0.0), b = a;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    a = larger(magnitudes(load(x + i)), a);
    b = larger(magnitudes(load(x + i + 2)), b);
  }
  a = larger(a, b);
  double most = std::max(a[0], a[1]);
  for (; i < n; ++i) most = std::max(most, x[i] < 0.0 ? -x[i] : x[i]);
  return most;
}

// round_even(x / step) in -127..127. Behind the addition that rounds, the integer is what the lowest bits hold.
void divide(std::int8_t* q, const double* x, std::size_t n, double step) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52, as in round_even
  const auto rounded = [step](const double* p) {
    Doubles v = load(p) / all(step);
    v = v > 127.0 ? all(127.0) : v;
    v = v < -127.0 ? all(-127.0) : v;
    return reinterpret_cast<Integers>(v + all(kMagic));
  };
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Integers a = rounded(x + i), b = rounded(x + i + 2);
    q[i] = static_cast<std::int8_t>(a[0]);
    q[i + 1] = static_cast<std::int8_t>(a[1]);
    q[i + 2] = static_cast<std::int8_t>(b[0]);
    q[i + 3] = static_cast<std::int8_t>(b[1]);
  }
  for (; i < n; ++i) q[i] = static_cast<std::int8_t>(round_even(std::clamp(x[i] / step, -127.0, 127.0)));
}

void add_errors(SquaredError& sum, const std::int8_t* q, const double* x, std::size_t n, double step) {
  Doubles error[2] = {all(0.0), all(0.0)}, reference[2] = {all(0.0), all(0.0)};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t half = 0; half < 2; ++half) {
      const std::int8_t* integers = q + i + 2 * half;
      const Doubles exact = load(x + i + 2 * half);
      const Doubles off = Doubles{static_cast<double>(integers[0]), static_cast<double>(integers[1])} * all(step) - exact;
      error[half] += off * off;
      reference[half] += exact * exact;
    }
  }
  sum.error += sum_of(error[0], error[1]);
  sum.reference += sum_of(reference[0], reference[1]);
  for (; i < n; ++i) {
    const double off = q[i] * step - x[i];
    sum.error += off * off;
    sum.reference += x[i] * x[i];
  }
}

}  // namespace

double SquaredError::relative() const { return reference > 0.0 ? __builtin_sqrt(error / reference) : 0.0; }

float RowQuantizer::quantize(std::int8_t* q, std::uint8_t* multipliers, const float* weights, const float* gain) {
  const std::size_t cols = gained_.size(), width = group_ ? group_ : cols;
  double* x = gained_.data();
  if (gain)
    for (std::size_t c = 0; c < cols; ++c) x[c] = double{weights[c]} * gain[c];
  else
    for (std::size_t c = 0; c < cols; ++c) x[c] = weights[c];
  const auto scale = static_cast<float>(largest(x, cols) / (group_ ? 127.0 * 15.0 : 127.0));
  if (!(scale >= kSmallest)) {
    std::memset(q, 0, cols);
    for (std::size_t first = 0; group_ && first < cols; first += width) *multipliers++ = 1;
    return 1.0f;
  }
  for (std::size_t first = 0; first < cols; first += width) {
    const std::size_t n = std::min(width, cols - first);
    double step = scale;
    if (group_) {
      // Half a step of slack: the largest weight then still rounds to 127.
      const double most = largest(x + first, n);
      std::uint8_t multiplier = 1;
      while (multiplier < 15 && most > 127.5 * multiplier * scale) ++multiplier;
      *multipliers++ = multiplier;
      step = multiplier * step;
    }
    divide(q + first, x + first, n, step);
  }
  return scale;
}

SquaredError RowQuantizer::error(const std::int8_t* q, const std::uint8_t* multipliers, float scale) const {
  const std::size_t cols = gained_.size(), width = group_ ? group_ : cols;
  SquaredError sum;
  for (std::size_t first = 0; first < cols; first += width)
    add_errors(sum, q + first, &gained_[first], std::min(width, cols - first),
               group_ ? double{scale} * *multipliers++ : double{scale});
  return sum;
}

}  // namespace heed::quant
