// SPDX-License-Identifier: Apache-2.0
// select.cpp: CPU features to a kernel table; the only place that asks a CPU what it is.
#include "platform/select.hpp"

#include <cstring>

#if (defined(__aarch64__) || defined(__arm__)) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace heed {

#if defined(HEED_SINGLE_TABLE)

extern const Kernels HEED_SINGLE_TABLE;
const Kernels& best_kernels() { return HEED_SINGLE_TABLE; }

#else

// One line per table here and one in kTables: that is all a new instruction set needs.
extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_sse2;
extern const Kernels kernels_avx2;
extern const Kernels kernels_avxvnni;
extern const Kernels kernels_avx512vnni;
#elif defined(__aarch64__)
extern const Kernels kernels_neon;
extern const Kernels kernels_dotprod;
extern const Kernels kernels_i8mm;
#elif defined(__arm__)
extern const Kernels kernels_neon;
#endif

namespace {

struct Entry {
  const Kernels* kernels;
  bool (*runs)();
};

bool always() { return true; }

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2"); }
bool has_avxvnni() {  // clang 14 has no name for it
  unsigned a, b, c, d;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4) != 0;
}
bool has_avx512vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
bool has_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
bool has_i8mm() { return has_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }
#elif defined(__arm__)
bool has_neon() { return (getauxval(AT_HWCAP) & HWCAP_NEON) != 0; }
#endif

constexpr Entry kTables[] = {
    {&kernels_portable, always},
#if defined(__x86_64__)
    {&kernels_sse2, always},
    {&kernels_avx2, has_avx2},
    {&kernels_avxvnni, has_avxvnni},
    {&kernels_avx512vnni, has_avx512vnni},
#elif defined(__aarch64__)
    {&kernels_neon, always},
    {&kernels_dotprod, has_dotprod},
    {&kernels_i8mm, has_i8mm},
#elif defined(__arm__)
    {&kernels_neon, has_neon},
#endif
};
constexpr std::size_t kCount = sizeof kTables / sizeof kTables[0];

struct List {
  const Kernels* kernels[kCount];
};
constexpr List make_list() {
  List list{};
  for (std::size_t i = 0; i < kCount; ++i) list.kernels[i] = kTables[i].kernels;
  return list;
}
constexpr List kList = make_list();

}  // namespace

Span<const Kernels* const> all_kernels() { return {kList.kernels, kCount}; }

bool is_runnable(const Kernels& kernels) {
  for (const Entry& e : kTables)
    if (e.kernels == &kernels) return e.runs();
  return false;
}

const Kernels& best_kernels() {
  for (std::size_t i = kCount; i-- > 0;)
    if (kTables[i].runs()) return *kTables[i].kernels;
  return kernels_portable;
}

const Kernels* find_kernels(const char* name) {
  for (const Entry& e : kTables)
    if (std::strcmp(e.kernels->traits.name, name) == 0) return e.runs() ? e.kernels : nullptr;
  return nullptr;
}

#endif

}  // namespace heed
