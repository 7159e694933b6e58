// SPDX-License-Identifier: Apache-2.0
// random.hpp: numbers that are the same on every host and in every library.
#pragma once
#include <cstdint>

namespace heed::test {

// splitmix64
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // 0 <= result < n, n > 0.
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(((next() >> 32) * n) >> 32); }
  // low <= result <= high
  int between(int low, int high) { return low + static_cast<int>(below(static_cast<std::uint32_t>(high - low + 1))); }
  // -1 <= result < 1
  float uniform() { return static_cast<float>(static_cast<std::int32_t>(next() >> 40) - (1 << 23)) / 8388608.0f; }
  // About normal, mean 0 and deviation 1: the sum of 12 uniform numbers.
  float normal() {
    std::int64_t sum = 0;
    for (int i = 0; i < 12; ++i) sum += static_cast<std::int64_t>(next() >> 40) - (1 << 23);
    return static_cast<float>(sum) / 16777216.0f;
  }

 private:
  std::uint64_t state_;
};

}  // namespace heed::test
