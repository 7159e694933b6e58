// SPDX-License-Identifier: Apache-2.0
// profile.cpp: a wrapper per entry of the kernel table; the clock is read before and after.
#include "examples/heed/profile.hpp"

#include <algorithm>
#include <chrono>

namespace heed::tool {
namespace {

using Clock = std::chrono::steady_clock;

enum Entry { kEmbed, kQuantize, kNorm, kGate, kMatmul, kQuery, kStoreKey, kStoreValue, kAttend, kFinish, kEntries };
constexpr const char* kNames[kEntries] = {"embedding", "quantise",   "norm",        "gate",   "products",
                                          "query",     "store key", "store value", "attend", "finish heads"};

Kernels timed;  // the original entries
bool called[kEntries];
Clock::duration times[kEntries], clock_cost;

template <class Function, class... Arguments>
void time(Entry entry, Function function, Arguments&&... arguments) {
  const auto start = Clock::now();
  function(arguments...);
  times[entry] += Clock::now() - start - clock_cost;
  called[entry] = true;
}

// What two readings in a row differ by, at the least.
Clock::duration cost_of_clock() {
  Clock::duration least = std::chrono::seconds(1);
  for (int i = 0; i < 1000; ++i) {
    const auto start = Clock::now();
    least = std::min(least, Clock::now() - start);
  }
  return least;
}

}  // namespace

Kernels timed_kernels(const Kernels& kernels) {
  timed = kernels;
  clock_cost = cost_of_clock();
  Kernels k = kernels;
  k.embed_f32_s8c = [](auto... a) { time(kEmbed, timed.embed_f32_s8c, a...); };
  k.quantize_s8r_f32 = [](const Activations& dst, auto... a) { time(kQuantize, timed.quantize_s8r_f32, dst, a...); };
  k.norm_s8r_f32 = [](const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
    time(kNorm, timed.norm_s8r_f32, dst, index, src, weights);
  };
  k.norm_f32_f32 = [](float* dst, const float* src, std::uint32_t n, const NormWeights& weights) {
    time(kNorm, timed.norm_f32_f32, dst, src, n, weights);
  };
  k.gate_s8r_f32 = [](const Activations& dst, auto... a) { time(kGate, timed.gate_s8r_f32, dst, a...); };
  k.matmul_f32_s8r_s8c = [](float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
    time(kMatmul, timed.matmul_f32_s8r_s8c, dst, lhs, rhs, range);
  };
  k.query_s8r_f32 = [](const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
    time(kQuery, timed.query_s8r_f32, dst, index, src, rotation);
  };
  k.store_key = [](const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                   const KeyOffset& offset) { time(kStoreKey, timed.store_key, dst, slot, src, rotation, offset); };
  k.store_value = [](const KvBlock& dst, auto... a) { time(kStoreValue, timed.store_value, dst, a...); };
  k.attend_block = [](const AttentionSums& sums, const BlockQueries& queries, const KvBlock& block,
                      std::uint16_t* weights, std::int32_t* reference) {
    time(kAttend, timed.attend_block, sums, queries, block, weights, reference);
  };
  k.attend_finish = [](auto... a) { time(kFinish, timed.attend_finish, a...); };
  return k;
}

void reset_kernel_times() {
  for (bool& was : called) was = false;
  for (Clock::duration& t : times) t = {};
}

std::vector<KernelTime> kernel_times() {
  std::vector<KernelTime> all;
  for (int i = 0; i < kEntries; ++i)
    if (called[i]) all.push_back({kNames[i], std::chrono::duration<double>(times[i]).count()});
  std::sort(all.begin(), all.end(), [](const KernelTime& a, const KernelTime& b) { return a.seconds > b.seconds; });
  return all;
}

}  // namespace heed::tool
