// SPDX-License-Identifier: Apache-2.0
// float_math.hpp: sums and activations of the float reference.
#pragma once
#include <cstdint>
#include <cstring>

#include "runtime/config.hpp"

namespace heed::quant {

// Sums run in 16 lanes, added pairwise at the end: fast without a compiler that may reorder them, and the same
// everywhere. GCC and Clang turn the vector type into whatever the target has.
inline constexpr std::uint32_t kLanes = 16;
using FourFloats = float __attribute__((vector_size(16)));

inline FourFloats four(const float* p) {
  FourFloats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline float dot(const float* a, const float* b, std::uint32_t n) {
  FourFloats s0{}, s1{}, s2{}, s3{};
  std::uint32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    s0 += four(a + i) * four(b + i);
    s1 += four(a + i + 4) * four(b + i + 4);
    s2 += four(a + i + 8) * four(b + i + 8);
    s3 += four(a + i + 12) * four(b + i + 12);
  }
  float rest = 0.0f;
  for (; i < n; ++i) rest += a[i] * b[i];
  const FourFloats sum = (s0 + s2) + (s1 + s3);
  return ((sum[0] + sum[2]) + (sum[1] + sum[3])) + rest;
}

float activate(Activation activation, float x);

}  // namespace heed::quant
