// SPDX-License-Identifier: Apache-2.0
// bits.hpp: floats as the integers they are stored as; what public headers ask of floats goes through here, so that a
// consumer's own floating-point flags cannot change it.
#pragma once
#include <cstdint>

namespace heed {

constexpr std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }
constexpr float float_of(std::uint32_t u) { return __builtin_bit_cast(float, u); }

// 2^-40 <= x <= 2^40; false for a NaN.
constexpr bool in_range(float x) { return bits_of(x) >= 0x2B800000u && bits_of(x) <= 0x53800000u; }

}  // namespace heed
