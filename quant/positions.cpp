// SPDX-License-Identifier: Apache-2.0
// positions.cpp: the published formulas, in double.
#include "quant/positions.hpp"

#include <algorithm>

#include "quant/double_math.hpp"

namespace heed::quant {
namespace {

constexpr double kTwoPi = 6.283185307179586;
constexpr double kLog2E = 1.4426950408889634;

double clamp_to_unit(double x) { return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x; }

// For |x| < 2^51.
double floor_double(double x) {
  const double r = round_even(x);
  return r > x ? r - 1.0 : r;
}

// YaRN: pairs that turn often enough over the original context keep their frequency, slow ones are interpolated.
double yarn_share(std::uint32_t i, std::uint32_t dims, const Rope& rope) {
  const auto pair_of = [&](double turns) {
    return dims * log_double(rope.original_max_seq / (turns * kTwoPi)) / (2.0 * log_double(rope.theta));
  };
  double low = floor_double(pair_of(rope.beta_fast)), high = -floor_double(-pair_of(rope.beta_slow));
  low = low < 0.0 ? 0.0 : low;
  high = high > dims - 1.0 ? dims - 1.0 : high;
  if (high == low) high += 0.001;
  return clamp_to_unit((i - low) / (high - low));
}

}  // namespace

double Rope::query_key_factor() const {
  if (scaling != RopeScaling::yarn) return 1.0;
  return attention_factor > 0.0 ? attention_factor : 0.1 * log_double(factor) + 1.0;
}

std::vector<double> rotary_frequencies(std::uint32_t dims, const Rope& rope) {
  std::vector<double> frequencies(dims / 2);
  double log_theta = log_double(rope.theta);
  if (rope.scaling == RopeScaling::ntk) log_theta += log_double(rope.factor) * dims / (dims - 2.0);
  for (std::uint32_t i = 0; i < frequencies.size(); ++i) {
    const double f = exp_double(-2.0 * i / dims * log_theta);
    switch (rope.scaling) {
      case RopeScaling::none:
      case RopeScaling::ntk: frequencies[i] = f; break;
      case RopeScaling::linear: frequencies[i] = f / rope.factor; break;
      case RopeScaling::yarn: {
        const double share = yarn_share(i, dims, rope);
        frequencies[i] = (1.0 - share) * f + share * (f / rope.factor);
        break;
      }
      case RopeScaling::llama3: {
        const double wavelength = kTwoPi / f, length = rope.original_max_seq;
        if (wavelength < length / rope.high_freq_factor) {
          frequencies[i] = f;
        } else if (wavelength > length / rope.low_freq_factor) {
          frequencies[i] = f / rope.factor;
        } else {
          const double kept =
              (length / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
          frequencies[i] = (1.0 - kept) * f / rope.factor + kept * f;
        }
        break;
      }
    }
  }
  return frequencies;
}

std::vector<std::uint32_t> rotary_phases(std::uint32_t dims, const Rope& rope) {
  return rotary_phases(rotary_frequencies(dims, rope));
}

std::vector<std::uint32_t> rotary_phases(const std::vector<double>& frequencies) {
  std::vector<std::uint32_t> phases;
  for (const double f : frequencies)
    phases.push_back(static_cast<std::uint32_t>(round_even(f * (4294967296.0 / kTwoPi))));
  return phases;
}

std::vector<std::uint32_t> rotary_phases(std::uint32_t dims, double theta) {
  Rope rope;
  rope.theta = theta;
  return rotary_phases(dims, rope);
}

std::vector<float> sinusoid_table(std::uint32_t max_seq, std::uint32_t d_model, const Sinusoids& s) {
  const std::uint32_t half = d_model / 2;
  const double steps = s.half_minus_one ? half - 1.0 : half, log_theta = log_double(s.theta);
  std::vector<float> table(std::size_t{max_seq} * d_model);
  for (std::uint32_t i = 0; i < half; ++i) {
    const double turns = exp_double(-(i / steps) * log_theta) / kTwoPi;
    const std::size_t sine = s.order == SinusoidOrder::sines_first ? i : 2 * std::size_t{i};
    const std::size_t cosine = s.order == SinusoidOrder::sines_first ? sine + half : sine + 1;
    for (std::uint32_t p = 0; p < max_seq; ++p) {
      const double angle = turns * (static_cast<double>(p) + s.first_position);
      const double phase = (angle - floor_double(angle)) * 4294967296.0;
      const SinCosDouble at = sin_cos_double(static_cast<std::uint32_t>(static_cast<std::uint64_t>(round_even(phase))));
      table[std::size_t{p} * d_model + sine] = static_cast<float>(at.sine);
      table[std::size_t{p} * d_model + cosine] = static_cast<float>(at.cosine);
    }
  }
  return table;
}

std::vector<float> alibi_slopes(std::uint32_t n_heads) {
  std::uint32_t power = 1;
  while (power * 2 <= n_heads) power *= 2;
  constexpr double kLn2 = 0.6931471805599453;
  std::vector<float> slopes;
  for (std::uint32_t h = 0; h < power; ++h)
    slopes.push_back(static_cast<float>(exp_double(-8.0 * (h + 1) / power * kLn2)));
  for (std::uint32_t j = 0; j < n_heads - power; ++j)
    slopes.push_back(static_cast<float>(exp_double(-4.0 * (2 * j + 1) / power * kLn2)));
  return slopes;
}

std::uint32_t relative_bucket(std::int64_t distance, std::uint32_t buckets, std::uint32_t max_distance, bool two_way) {
  const std::uint32_t side = two_way ? buckets / 2 : buckets, exact = side / 2;
  const std::uint32_t first = two_way && distance < 0 ? side : 0;
  const std::int64_t away = distance >= 0 ? distance : two_way ? -distance : 0;
  if (away < exact) return first + static_cast<std::uint32_t>(away);
  const double steps = log_double(static_cast<double>(away) / exact) /
                       log_double(static_cast<double>(max_distance) / exact) * (side - exact);
  const double whole = round_even(steps);
  const double rest = whole - steps;
  const double far = exact + ((rest < 0.0 ? -rest : rest) < 1e-6 ? whole : floor_double(steps));
  return first + (far < side - 1.0 ? static_cast<std::uint32_t>(far) : side - 1);
}

std::uint32_t relative_distances(std::uint32_t buckets, std::uint32_t max_distance, bool two_way,
                                 std::uint32_t max_seq) {
  const std::uint32_t last = (two_way ? buckets / 2 : buckets) - 1;
  std::uint32_t m = 0;
  while (m + 1 < max_seq && relative_bucket(m, buckets, max_distance, two_way) < last) ++m;
  return two_way ? 2 * m + 1 : m + 1;
}

std::vector<float> spread_buckets(const float* table, std::uint32_t n_heads, std::uint32_t buckets,
                                  std::uint32_t max_distance, bool two_way, std::uint32_t n_distances) {
  std::vector<float> biases(std::size_t{n_heads} * n_distances);
  const std::int64_t middle = two_way ? (n_distances - 1) / 2 : 0;
  for (std::uint32_t i = 0; i < n_distances; ++i) {
    const std::size_t bucket = relative_bucket(std::int64_t{i} - middle, buckets, max_distance, two_way);
    for (std::uint32_t h = 0; h < n_heads; ++h) biases[std::size_t{h} * n_distances + i] = table[bucket * n_heads + h];
  }
  return biases;
}

namespace {

std::vector<std::int32_t> as_integers(const float* x, std::size_t n, double scale, double limit) {
  std::vector<std::int32_t> integers(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double v = x[i] * kLog2E * scale;
    integers[i] = static_cast<std::int32_t>(round_even(v < -limit ? -limit : v > limit ? limit : v));
  }
  return integers;
}

}  // namespace

std::vector<std::int32_t> slopes_as_integers(const float* slopes, std::size_t n) {
  return as_integers(slopes, n, 4194304.0, 2147483647.0);
}

std::vector<std::int32_t> biases_as_integers(const float* biases, std::size_t n) {
  return as_integers(biases, n, 1024.0, 8388608.0);
}

}  // namespace heed::quant
