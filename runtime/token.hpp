// SPDX-License-Identifier: Apache-2.0
// token.hpp: what a vocabulary entry is called everywhere.
#pragma once
#include <cstdint>

namespace heed {

using Token = std::int32_t;
inline constexpr Token kNoToken = -1;  // "there is none": no BOS in this vocabulary, nothing before the first token

}  // namespace heed
