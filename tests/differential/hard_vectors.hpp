// SPDX-License-Identifier: Apache-2.0
// hard_vectors.hpp: vectors of hard_numbers.hpp.
#pragma once
#include <cmath>
#include <vector>

#include "tests/differential/hard_numbers.hpp"

namespace heed::differential {

inline std::vector<float> hard_vector(std::size_t n, Random& random, bool finite = false) {
  std::vector<float> x(n);
  fill(x.data(), n, random, finite);
  return x;
}

// A gain or a bias: what fill gives, as far as an image may hold it.
inline std::vector<float> legal_vector(std::size_t n, Random& random) {
  std::vector<float> x = hard_vector(n, random, true);
  const bool ordinary = random.below(2) != 0;
  for (float& v : x) {
    if (ordinary) v = sign(random) * (0.5f + random.uniform() * 0.25f);
    const float size = std::fabs(v);
    if (size != 0.0f && (size < power(-40) || size > power(40)))
      v = std::copysign(size < 1.0f ? power(-40) : power(40), v);
  }
  return x;
}

}  // namespace heed::differential
