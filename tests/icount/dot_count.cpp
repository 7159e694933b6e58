// SPDX-License-Identifier: Apache-2.0
// dot_count.cpp: known numbers of int8 multiply-adds between the marks of icount_mark.hpp, for dot_count_test.sh, which
// compares them with the dot instructions executed.
//
//   dot_count TABLE    prints, for each region in order, the multiply-adds of products, of scores and of weighted values
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "platform/select.hpp"
#include "tests/icount/icount_mark.hpp"

using namespace heed;

namespace {

constexpr std::uint32_t kWidth = 768, kTokens = 64, kHeadDim = 64, kQueries = 4;

// Zeroed memory with the alignment and the slack of any table.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes + 192) {}
  template <class T>
  T* at() {
    return reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(bytes_.data()) + 63) / 64 * 64);
  }

 private:
  std::vector<unsigned char> bytes_;
};

void products(const Kernels& k) {
  Memory weights(kWidth * kWidth), scales(kWidth * 4), out(kTokens * kWidth * 4), row(kWidth * 4);
  Memory activations(static_cast<std::size_t>(activations_bytes(k.traits, kWidth, 0, kTokens)));
  for (std::uint32_t i = 0; i < kWidth * kWidth; ++i) weights.at<std::int8_t>()[i] = static_cast<std::int8_t>(i % 251 - 125);
  for (std::uint32_t i = 0; i < kWidth; ++i) {
    scales.at<float>()[i] = 0.01f;
    row.at<float>()[i] = static_cast<float>(i % 17) - 8.0f;
  }
  const Activations a = make_activations(activations.at<void>(), k.traits, kWidth, 0, kTokens);
  for (std::uint32_t t = 0; t < kTokens; ++t) k.quantize_s8r_f32(a, t, row.at<float>());
  Tensor w;
  w.weights = weights.at<std::int8_t>();
  w.scales = scales.at<float>();
  w.rows = w.cols = kWidth;
  w.layout = Layout::packed;
  for (const std::uint32_t n : {1u, kTokens}) {
    icount::start_region();
    k.matmul_f32_s8r_s8c(out.at<float>(), a, w, {n, 0, kWidth, kWidth, false});
    icount::stop_region();
    std::printf("%u 0 0\n", n * kWidth * kWidth);
  }
}

void attention(const Kernels& k) {
  Memory cache(kv_block_bytes(kBlockKeys, kHeadDim, kHeadDim)), row(kHeadDim * 4);
  Memory activations(static_cast<std::size_t>(activations_bytes(k.traits, kHeadDim, 0, kQueries)));
  Memory numerators(kQueries * kHeadDim * 4), denominators(kQueries * 4), references(kQueries * 4);
  const KvBlock b = make_kv_block(cache.at<void>(), kBlockKeys, kHeadDim, kHeadDim);
  for (std::uint32_t i = 0; i < kHeadDim; ++i) row.at<float>()[i] = static_cast<float>(i % 17) - 8.0f;
  for (std::uint32_t slot = 0; slot < kBlockKeys; ++slot) {
    k.store_key(b, slot, row.at<float>(), {nullptr, 0, false}, {nullptr, 0});
    k.store_value(b, slot, row.at<float>());
  }
  const Activations q = make_activations(activations.at<void>(), k.traits, kHeadDim, 0, kQueries);
  for (std::uint32_t i = 0; i < kQueries; ++i) k.query_s8r_f32(q, i, row.at<float>(), {nullptr, 0, false});
  const AttentionSums sums = {numerators.at<float>(), denominators.at<float>(), references.at<std::int32_t>()};
  for (const std::uint32_t n : {1u, kQueries}) {
    icount::start_region();
    k.attend_block(sums, {q, 0, n, n, kBlockKeys, kBlockKeys, 0.1f}, b, nullptr, nullptr);
    icount::stop_region();
    std::printf("0 %u %u\n", n * kBlockKeys * kHeadDim, n * kBlockKeys * kHeadDim);
  }
}

}  // namespace

int main(int argc, char* argv[]) {
  const Kernels* k = argc == 2 ? find_kernels(argv[1]) : nullptr;
  if (!k) {
    std::fprintf(stderr, "dot_count: no table '%s' here\n", argc == 2 ? argv[1] : "");
    return 2;
  }
  products(*k);
  attention(*k);
  return 0;
}
