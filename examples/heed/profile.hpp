// SPDX-License-Identifier: Apache-2.0
// profile.hpp: where the time of a session goes, by kernel.
#pragma once
#include <string>
#include <vector>

#include "runtime/kernels.hpp"

namespace heed::tool {

struct KernelTime {
  std::string name;
  double seconds = 0.0;
};

// The same table with a clock around each kernel of a forward pass. One at a time, for one thread. Reading the clock is
// not part of a kernel's time, but of the session's: it is in what is left when all kernels are added up.
Kernels timed_kernels(const Kernels& kernels);
void reset_kernel_times();
std::vector<KernelTime> kernel_times();  // those that were called, the longest first

}  // namespace heed::tool
