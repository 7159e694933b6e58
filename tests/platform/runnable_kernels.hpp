// SPDX-License-Identifier: Apache-2.0
// runnable_kernels.hpp: the kernel tables of this build that the CPU under the test can run, portable first.
#pragma once
#include <vector>

#include "platform/select.hpp"

namespace heed {

inline std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> tables;
  for (const Kernels* k : all_kernels())
    if (is_runnable(*k)) tables.push_back(k);
  return tables;
}

}  // namespace heed
