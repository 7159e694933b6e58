// SPDX-License-Identifier: Apache-2.0
// exp2.hpp: the 256-entry form of 2^-x, multiplied out at compile time; tables with vector lookups use the factors.
#pragma once
#include "platform/portable/attend.hpp"

namespace heed::portable {

constexpr Exp2Table make_exp2_table() {
  Exp2Table t{};
  for (int i = 0; i < 256; ++i)
    t.values[i] = static_cast<std::uint16_t>(2 * ((kExp2High[i >> 4] * kExp2Low[i & 15] + (1 << 14)) >> 15));
  return t;
}
inline constexpr Exp2Table kExp2 = make_exp2_table();

}  // namespace heed::portable
