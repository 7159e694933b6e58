// SPDX-License-Identifier: Apache-2.0
// cpu_count.hpp: how many CPUs this process may use, which in a container, or under taskset, is fewer than there are.
#pragma once
#include <cstdint>

namespace heed {

// The CPUs of the process's affinity mask; at least 1.
std::uint32_t affinity_cpus();

// The CPUs that a cgroup's quota of CPU time amounts to, rounded up: the smallest of its own and those of the groups
// above it, versions 1 and 2; 0 if there is none. `root`: in front of /proc/self/cgroup and /sys/fs/cgroup, for tests.
std::uint32_t cgroup_cpus(const char* root = "");

// The smaller of both; at least 1.
std::uint32_t available_cpus();

}  // namespace heed
