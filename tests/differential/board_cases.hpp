// SPDX-License-Identifier: Apache-2.0
// board_cases.hpp: what the host's program and the board's have to agree on.
#pragma once
#include <cstdint>

namespace heed::differential {

inline constexpr std::uint32_t kBoardMagic = 0x68646367u;
inline constexpr std::uint32_t kBoardImageBytes = 512 * 1024, kBoardArenaBytes = 512 * 1024;
// Inputs and rows of one stretch, and floats of its feature vectors.
inline constexpr std::uint32_t kBoardInputs = 256, kBoardFloats = 16384;

}  // namespace heed::differential
