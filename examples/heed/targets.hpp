// SPDX-License-Identifier: Apache-2.0
// targets.hpp: the names that --target takes: kernel tables, and cores that run another core's table.
#pragma once
#include <string>
#include <vector>

#include "platform/tables.hpp"

namespace heed::tool {

inline std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const KernelTraits* t : traits::kAll) names.push_back(t->name);
  for (const traits::CoreTable& c : traits::kOtherCores) names.push_back(c.core);
  return names;
}

}  // namespace heed::tool
