// SPDX-License-Identifier: Apache-2.0
// hard_numbers.hpp: random floats that meet the borders of SPEC.md, part 2, often: 2^-40, 2^-50, 2^40, ties,
// powers of two, zeros, NaNs, outliers, saturation, and gates whose product leaves M = 32767 behind a negative one.
// Needs no library, so that boards use it too.
#pragma once
#include <cstddef>

#include "runtime/bits.hpp"
#include "tests/support/random.hpp"

namespace heed::differential {

using test::Random;

// 2^e, for -126 <= e <= 127.
inline float power(int e) { return float_of(static_cast<std::uint32_t>(e + 127) << 23); }

// -1 or 1
inline float sign(Random& random) { return random.below(2) ? 1.0f : -1.0f; }

// 1 <= mantissa < 2, often at an end.
inline float mantissa(Random& random) {
  switch (random.below(6)) {
    case 0: return 1.0f;
    case 1: return float_of(0x3FFFFFFFu);
    case 2: return float_of(0x3F800001u);
    default: return float_of(0x3F800000u | static_cast<std::uint32_t>(random.next() >> 41));
  }
}

// Of something that may be anything from 2^-40 to 2^40: often near an end, mostly not.
inline int hard_exponent(Random& random) {
  switch (random.below(8)) {
    case 0: return -40;
    case 1: return random.between(-40, -36);
    case 2: return random.between(36, 39);
    case 3: return random.between(-40, 39);
    default: return random.between(-8, 4);
  }
}

// A legal scale, gain, epsilon: a magnitude in [2^-40, 2^40].
inline float hard_magnitude(Random& random) {
  return random.below(24) == 0 ? power(40) : mantissa(random) * power(hard_exponent(random));
}

inline float special(Random& random) {
  constexpr std::uint32_t kBits[] = {0x7FC00000, 0xFFC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x00000001,
                                     0x80000000, 0x2B800000, 0x2B7FFFFF, 0x2B800001, 0xAB800000, 0x53800000, 0x53800001,
                                     0x54000000, 0xD3800000, 0x00800000, 0x7F800001, 0x26800000, 0x3F800000};
  return float_of(kBits[random.below(sizeof kBits / sizeof kBits[0])]);
}

// One vector in one of many manners. finite: no NaN and nothing infinite.
inline void fill(float* x, std::size_t n, Random& random, bool finite = false) {
  const float unit = mantissa(random) * power(hard_exponent(random));
  const std::uint32_t manner = random.below(16);
  const float two[2] = {sign(random) * unit, random.below(2) ? 0.0f : -unit * mantissa(random) * 0.5f};
  for (std::size_t i = 0; i < n; ++i) {
    const float u = random.uniform();
    switch (manner) {
      case 0: x[i] = u * power(random.between(-20, 3)) * unit; break;              // many magnitudes
      case 1: x[i] = random.below(16) == 0 ? u * unit * 900.0f : u * unit; break;  // outliers
      case 2: x[i] = sign(random) * unit; break;                                   // all as large
      case 3:
        x[i] = static_cast<float>(random.between(-65535, 65535)) * 0.5f * power(random.below(4) ? 0 : 1);
        break;  // ties
      case 4: x[i] = random.below(8) ? u * unit : 0.0f; break;
      case 5: x[i] = sign(random) * power(random.between(-6, 0)) * unit; break;  // powers of two, often
      case 6: x[i] = two[random.below(2)]; break;                                // two values
      case 7: x[i] = u * power(-38 - static_cast<int>(random.below(4))); break;  // about 2^-40
      case 8: x[i] = sign(random) * power(-40) * (random.below(3) ? 1.0f : u); break;
      case 9: x[i] = u * power(41); break;
      case 10: x[i] = sign(random) * power(random.between(39, 41)); break;
      case 11: x[i] = random.below(3) == 0 && !finite ? special(random) : u * unit; break;
      case 12: x[i] = 0.0f; break;
      case 13: x[i] = (random.below(2) ? 32767.0f : 32766.5f) * sign(random) * power(-15) * unit; break;
      case 14:
        x[i] = i == 0 ? -unit : unit * (1.0f - power(-14) * static_cast<float>(random.below(3)));
        break;  // lopsided
      default: x[i] = u * unit; break;
    }
  }
  if (manner == 12 && random.below(2) && n > 0) x[random.below(static_cast<std::uint32_t>(n))] = sign(random) * unit;
  if (!finite && random.below(40) == 0 && n > 0) x[random.below(static_cast<std::uint32_t>(n))] = special(random);
}

// One element of gate and up whose product, if no other is larger, leaves this M (2.5), shifted right with a rest.
struct Plant {
  int M, e_gate, e_up;
  float sign;          // of up
  bool less_by_shift;  // e_up falls by as many places as the product is shifted
};
// `activated(a, e)` is a * F(a). False when none was found.
template <class Activated>
bool plant_product(float& gate, float& up, Random& random, const Plant& plant, Activated activated) {
  for (int attempt = 0; attempt < 400; ++attempt) {
    const int a = random.between(16384, 32767);
    const std::int64_t h = activated(a, plant.e_gate);
    if (h <= 0) return false;
    for (int k = 0; k < 16; ++k) {
      const std::int64_t b = ((std::int64_t{plant.M} << k) / h) + 1;
      if (b < 16384 || b > 32767 || (h * b) >> k != plant.M) continue;
      gate = static_cast<float>(a) * power(plant.e_gate - 15);
      up = plant.sign * static_cast<float>(b) * power(plant.e_up - (plant.less_by_shift ? k : 0) - 15);
      return true;
    }
  }
  return false;
}

}  // namespace heed::differential
