// SPDX-License-Identifier: Apache-2.0
// profile.hpp: where the time of a session goes, by kernel.
#pragma once
#include <string>
#include <vector>

#include "runtime/kernels.hpp"

namespace heed::tool {

struct KernelTime {
  std::string name;
  std::uint64_t calls = 0;
  double seconds = 0.0;
};

// The same table with a clock around each kernel of a forward pass, and with product and attention by phase of use. One
// at a time, for one thread; a call costs some 20 nanoseconds more, which are not part of its time.
Kernels timed_kernels(const Kernels& kernels);
void reset_kernel_times();
std::vector<KernelTime> kernel_times();  // those that were called, the longest first

}  // namespace heed::tool
