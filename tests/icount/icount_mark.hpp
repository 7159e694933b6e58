// SPDX-License-Identifier: Apache-2.0
// Marks regions of a program for the instruction-counting QEMU plugin beside this file.
#pragma once

namespace heed::icount {

// Each mark is one instruction that does nothing and that compilers do not emit, so it may stay in a benchmark on hardware.
// Between the two marks of an empty region no instruction is counted.
__attribute__((always_inline)) inline void start_region() {
#if defined(__aarch64__)
  __asm__ volatile("mov x9, x9" ::: "memory");
#elif defined(__arm__)
  __asm__ volatile("mov r9, r9" ::: "memory");
#elif defined(__x86_64__)
  __asm__ volatile("movq %%r9, %%r9" ::: "memory");
#endif
}

__attribute__((always_inline)) inline void stop_region() {
#if defined(__aarch64__)
  __asm__ volatile("mov x10, x10" ::: "memory");
#elif defined(__arm__)
  __asm__ volatile("mov r10, r10" ::: "memory");
#elif defined(__x86_64__)
  __asm__ volatile("movq %%r10, %%r10" ::: "memory");
#endif
}

}  // namespace heed::icount
