// SPDX-License-Identifier: Apache-2.0
// Measures how deep the stack has been: fills the unused part with a pattern and later looks how much of it is left.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
extern std::uint32_t heed_stack_limit[];  // lowest address of the stack; from the linker script
extern std::uint32_t heed_stack_top[];    // one past its highest address
}

namespace heed::stack_paint {

constexpr std::uint32_t kPattern = 0x5AFEC0DE;

// The stack reserved by the linker script.
inline std::size_t size_bytes() {
  return reinterpret_cast<std::uintptr_t>(heed_stack_top) - reinterpret_cast<std::uintptr_t>(heed_stack_limit);
}

// In use where this is called. Inlined, so that it has no frame of its own.
__attribute__((always_inline)) inline std::size_t used_bytes() {
  std::uintptr_t pointer;
  __asm__ volatile("mov %0, sp" : "=r"(pointer));
  return reinterpret_cast<std::uintptr_t>(heed_stack_top) - pointer;
}

// Fills everything below the caller's frame, which forgets earlier peaks. Interrupts must be off or bring their own stack.
__attribute__((always_inline)) inline void paint() {
  std::uintptr_t pointer;
  __asm__ volatile("mov %0, sp" : "=r"(pointer));
  // Volatile, or the loop becomes a call to memset, which would write over its own frame.
  for (volatile std::uint32_t* word = heed_stack_limit; reinterpret_cast<std::uintptr_t>(word) < pointer; ++word)
    *word = kPattern;
}

// The deepest use since the last paint(), counted from the top of the stack, so main's own frame is included. Equal to
// size_bytes() if the stack was full or overflowed.
inline std::size_t peak_bytes() {
  const volatile std::uint32_t* word = heed_stack_limit;
  while (word != heed_stack_top && *word == kPattern) ++word;
  return reinterpret_cast<std::uintptr_t>(heed_stack_top) - reinterpret_cast<std::uintptr_t>(word);
}

}  // namespace heed::stack_paint
