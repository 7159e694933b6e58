// SPDX-License-Identifier: Apache-2.0
// parallel.hpp: the hook through which a platform lends threads; it never changes a bit of a result.
#pragma once
#include <cstdint>

#include "runtime/features.hpp"

namespace heed {

// Calls task(argument, i) once for each i in [0, count), in any order and on any thread, and returns when all are
// done. `run` null means: in order, here.
struct Parallel {
  void (*run)(void* context, std::uint32_t count, void (*task)(void* argument, std::uint32_t index), void* argument) =
      nullptr;
  void* context = nullptr;
  std::uint32_t threads = 1;  // more than kMaxParts are not used
  // Multiply-adds below which work is not split: some microseconds, against the price of waking a thread. 0 splits all.
  std::uint32_t threshold = 1u << 20;
};

// f(i) for each i in [0, count).
template <class F>
void for_each_part(const Parallel& parallel, std::uint32_t count, F f) {
  if (kBuiltFeatures.threads && parallel.run && count > 1) {
    parallel.run(
        parallel.context, count, [](void* argument, std::uint32_t i) { (*static_cast<F*>(argument))(i); }, &f);
  } else {
    for (std::uint32_t i = 0; i < count; ++i) f(i);
  }
}

// Work is cut into at most this many parts, so that items * parts fits 32 bits.
inline constexpr std::uint32_t kMaxParts = 64;

inline bool may_split(const Parallel& parallel) {
  return kBuiltFeatures.threads && parallel.run && parallel.threads > 1;
}

// How many parts to cut `items` into, each worth `macs_per_item` multiply-adds.
inline std::uint32_t part_count(const Parallel& parallel, std::uint32_t items, std::uint64_t macs_per_item) {
  if (!may_split(parallel) || items < 2) return 1;
  if (macs_per_item * items < parallel.threshold) return 1;
  const std::uint32_t most = parallel.threads < kMaxParts ? parallel.threads : kMaxParts;
  return items < most ? items : most;
}

}  // namespace heed
