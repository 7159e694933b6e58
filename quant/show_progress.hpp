// SPDX-License-Identifier: Apache-2.0
// show_progress.hpp: how far a long computation is.
#pragma once
#include <functional>

namespace heed::quant {

// Is told the part of the work that is done, from 0 to 1, never less than before, by the thread that was called.
using ShowProgress = std::function<void(double share)>;

// A part of somebody's work, from one share of it to another.
inline ShowProgress part_of_progress(const ShowProgress& whole, double from, double to) {
  if (!whole) return nullptr;
  return [whole, from, to](double share) { whole(from + share * (to - from)); };
}

}  // namespace heed::quant
