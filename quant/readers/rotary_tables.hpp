// SPDX-License-Identifier: Apache-2.0
// rotary_tables.hpp: which theta a checkpoint's tables of cosines and sines are those of.
#pragma once
#include "quant/source.hpp"

namespace heed::quant {

// `cosines` and `sines` are [positions, dims / 2] of the angles position * theta^(-2 i / dims), at any alignment.
// Gives a theta of at most seven digits with which heed's own rotation agrees at every entry; kUsualTheta where it does
// or where all entries are 0, which is how files without tables look. Fails when there is no such theta.
Error find_theta(double& theta, const std::uint8_t* cosines, const std::uint8_t* sines, std::uint32_t positions,
                 std::uint32_t dims);

}  // namespace heed::quant
