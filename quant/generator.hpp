// SPDX-License-Identifier: Apache-2.0
// generator.hpp: chance that is the same on every host.
#pragma once
#include <cstdint>
#include <vector>

#include "quant/double_math.hpp"

namespace heed::quant {

// SplitMix64 (Steele, Lea and Flood, 2014).
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : state_(seed) {}

  double uniform() {  // in [0, 1)
    state_ += 0x9E3779B97F4A7C15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1p-53;
  }
  // Box and Muller, 1958.
  float normal() {
    const double radius = __builtin_sqrt(-2.0 * log_double(1.0 - uniform()));
    return static_cast<float>(radius * sin_cos_double(static_cast<std::uint32_t>(uniform() * 4294967296.0)).cosine);
  }
  // An index by its probability; the probabilities sum to one.
  std::uint32_t pick(const std::vector<double>& p) {
    const double u = uniform();
    double sum = 0.0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      sum += p[i];
      if (u < sum) return static_cast<std::uint32_t>(i);
    }
    return static_cast<std::uint32_t>(p.size() - 1);
  }

 private:
  std::uint64_t state_;
};

}  // namespace heed::quant
