// SPDX-License-Identifier: Apache-2.0
// square_root.cpp: a correctly rounded square root in integers, for cores without a floating-point unit.
#include "runtime/one_rounding.hpp"

#include "runtime/numerics.hpp"

namespace heed {

// The root of mantissa * 2^k has 25 bits (24 and a rounding bit); the remainder says whether the rest is zero,
// which it never is exactly half way: an odd 25-bit root squared would need more bits than the mantissa has.
float square_root_in_integers(float x) {
  const std::uint32_t u = bits_of(x);
  const int biased = static_cast<int>(u >> 23);
  std::uint32_t mantissa = (u & 0x7FFFFFu) | 0x800000u;
  const int exponent = biased - 127;
  if (exponent & 1) mantissa <<= 1;  // the value is mantissa * 2^-23 * 2^(even exponent)
  // Digit by digit: 25 result bits from mantissa * 2^25.
  std::uint32_t root = 0, remainder = 0;
  std::uint32_t high = mantissa << 7;  // 25 bits, left-aligned in 32
  for (int i = 0; i < 25; ++i) {
    remainder = (remainder << 2) | (high >> 30);
    high <<= 2;
    const std::uint32_t trial = (root << 2) | 1u;
    root <<= 1;
    if (remainder >= trial) {
      remainder -= trial;
      root |= 1u;
    }
  }
  root = (root + 1u) >> 1;
  return float_of(root + (static_cast<std::uint32_t>((exponent - (exponent & 1)) / 2 + 126) << 23));
}

#if defined(__arm__) && !defined(__ARM_FP)
float square_root(float x) { return square_root_in_integers(x); }
#endif

}  // namespace heed
