// SPDX-License-Identifier: Apache-2.0
// parallel.hpp: the hook through which a platform lends threads; it never changes a bit of a result.
#pragma once
#include <cstdint>

#include "runtime/features.hpp"

namespace heed {

// Calls task(argument, i) once for each i in [0, count), in any order and on any thread, and returns when all are
// done. `run` null means: in order, here. The threads round to nearest even: a session can ask that of the calling one only.
struct Parallel {
  void (*run)(void* context, std::uint32_t count, void (*task)(void* argument, std::uint32_t index), void* argument) =
      nullptr;
  void* context = nullptr;
  std::uint32_t threads = 1;  // more than kMaxParts are not used
  // Work below which nothing is split, in multiply-adds: some microseconds, against the price of waking a thread. 0
  // splits all.
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

// Work is cut into at most this many parts.
inline constexpr std::uint32_t kMaxParts = 64;

inline bool may_split(const Parallel& parallel) {
  return kBuiltFeatures.threads && parallel.run && parallel.threads > 1;
}

inline std::uint32_t usable_threads(const Parallel& parallel) {
  return parallel.threads < kMaxParts ? parallel.threads : kMaxParts;
}

// Several parts for each thread, so that one which falls behind leaves some to the others.
inline constexpr std::uint32_t kPartsPerThread = 4;

// What else costs time, in multiply-adds: a weight read from memory, an element of a norm or a gate.
inline constexpr std::uint32_t kWeightWork = 3, kElementWork = 64;

// How many parts to cut `items` into, which together are worth `work` multiply-adds.
inline std::uint32_t part_count(const Parallel& parallel, std::uint32_t items, std::uint64_t work) {
  if (!may_split(parallel) || items < 2 || work < parallel.threshold) return 1;
  const std::uint32_t threads = usable_threads(parallel);
  std::uint32_t most = threads < kMaxParts / kPartsPerThread ? threads * kPartsPerThread : kMaxParts;
  // A part is worth half the threshold or more, but each thread gets one.
  const std::uint64_t worth = parallel.threshold ? work / (parallel.threshold / 2 + 1) : most;
  if (worth < most) most = worth > threads ? static_cast<std::uint32_t>(worth) : threads;
  return items < most ? items : most;
}

// f(begin, end) for ranges that together are [0, items).
template <class F>
void for_each_range(const Parallel& parallel, std::uint32_t items, std::uint64_t work, F f) {
  if (!may_split(parallel)) return f(0u, items);
  const std::uint32_t parts = part_count(parallel, items, work);
  const auto cut = [items, parts](std::uint32_t part) {
    return static_cast<std::uint32_t>(std::uint64_t{items} * part / parts);
  };
  for_each_part(parallel, parts, [&](std::uint32_t part) { f(cut(part), cut(part + 1)); });
}

}  // namespace heed
