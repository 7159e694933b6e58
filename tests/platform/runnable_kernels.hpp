// SPDX-License-Identifier: Apache-2.0
// runnable_kernels.hpp: the kernel tables of this build that the CPU under the test can run, portable first.
#pragma once
#include <vector>

#include "runtime/kernels.hpp"

namespace heed {

extern const Kernels kernels_portable;
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512vnni;
extern const Kernels kernels_neon;

inline std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> tables = {&kernels_portable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) tables.push_back(&kernels_avx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    tables.push_back(&kernels_avx512vnni);
#elif defined(__aarch64__)
  tables.push_back(&kernels_neon);
#endif
  return tables;
}

}  // namespace heed
