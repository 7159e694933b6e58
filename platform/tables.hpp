// SPDX-License-Identifier: Apache-2.0
// tables.hpp: the traits of every kernel table that exists, so that any machine can plan for any other.
#pragma once
#include "runtime/kernels.hpp"

namespace heed::traits {

constexpr std::uint8_t eats(Layout a) { return static_cast<std::uint8_t>(1u << static_cast<unsigned>(a)); }
inline constexpr std::uint8_t kEatsAll = 15;

// name, layouts, preferred layout, bytes per prepared activation, alignment, slack, tokens per prefill chunk; and of hosts
// tokens and row blocks of a tile, row blocks side by side; whether first sums are stored
inline constexpr KernelTraits kPortable = {"portable", kEatsAll, Layout::packed, 1, 16, 0, 64};
inline constexpr KernelTraits kSse2 = {"sse2", eats(Layout::packed), Layout::packed, 1, 16, 16, 64, 8, 3, 8};
inline constexpr KernelTraits kAvx2 = {"avx2", eats(Layout::packed), Layout::packed, 1, 64, 64, 64, 8, 3, 8};
inline constexpr KernelTraits kAvxVnni = {"avxvnni", eats(Layout::packed), Layout::packed, 1, 64, 64, 64, 8, 3, 8};
inline constexpr KernelTraits kAvx512Vnni = {"avx512vnni", eats(Layout::packed), Layout::packed, 1, 64, 64, 64, 8, 3, 8};
inline constexpr KernelTraits kNeon = {"neon", eats(Layout::packed), Layout::packed, 1, 16, 16, 64, 8, 3, 8};
inline constexpr KernelTraits kDotprod = {"dotprod", eats(Layout::packed), Layout::packed, 1, 16, 16, 64, 8, 3, 8};
inline constexpr KernelTraits kI8mm = {"i8mm", eats(Layout::packed), Layout::packed, 1, 16, 32, 64, 8, 3, 8};
// Plain C++ as boards have it: one layout, and prefills of few tokens, which take less memory.
inline constexpr KernelTraits kPortableRow = {"portable-row", eats(Layout::row), Layout::row, 1, 8, 0, 4};
inline constexpr KernelTraits kCortexM0 = {"cortex-m0", eats(Layout::row), Layout::row, 1, 8, 0, 4};
inline constexpr KernelTraits kCortexM3 = {"cortex-m3", eats(Layout::row), Layout::row, 2, 8, 0, 4};
inline constexpr KernelTraits kCortexM4 = {"cortex-m4", eats(Layout::pair), Layout::pair, 2, 8, 16, 4};
inline constexpr KernelTraits kCortexM55 = {"cortex-m55", eats(Layout::block64), Layout::block64, 1, 8, 16, 4, 1, 1, 1, true};

inline constexpr const KernelTraits* kAll[] = {&kPortable, &kSse2, &kAvx2, &kAvxVnni, &kAvx512Vnni, &kNeon,
                                               &kDotprod, &kI8mm,
                                               &kPortableRow, &kCortexM0, &kCortexM3, &kCortexM4, &kCortexM55};

// Cores that run another one's table, by the names that -mcpu takes.
struct CoreTable {
  const char* core;
  const KernelTraits* traits;
};
inline constexpr CoreTable kOtherCores[] = {
    {"cortex-m0plus", &kCortexM0},   {"cortex-m1", &kCortexM0},       {"cortex-m23", &kCortexM0},
    {"cortex-m4+nofp", &kCortexM3},  {"cortex-m7+nofp", &kCortexM3},  {"cortex-m33+nodsp", &kCortexM3},
    {"cortex-m33+nofp", &kCortexM3}, {"cortex-m7", &kCortexM4},       {"cortex-m33", &kCortexM4},
    {"cortex-m35p", &kCortexM4},     {"cortex-m85", &kCortexM55}};

constexpr bool same_name(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}

// The traits of a table or of a core's table; null if the name is neither.
constexpr const KernelTraits* find(const char* name) {
  for (const KernelTraits* t : kAll)
    if (same_name(t->name, name)) return t;
  for (const CoreTable& c : kOtherCores)
    if (same_name(c.core, name)) return c.traits;
  return nullptr;
}

}  // namespace heed::traits
