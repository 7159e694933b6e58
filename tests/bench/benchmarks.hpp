// SPDX-License-Identifier: Apache-2.0
// benchmarks.hpp: what the benchmarks of products, attention and rows share: memory, and the report against the limits.
#pragma once
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/kernels.hpp"

namespace heed::bench {

// Memory with the alignment and the slack of any table, filled with bytes of a fixed sequence: random weights.
class Memory {
 public:
  explicit Memory(std::uint64_t bytes);
  template <class T>
  T* at() {
    return reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(bytes_.data()) + 63) / 64 * 64);
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

// n floats in -1..1.
std::vector<float> random_floats(std::size_t n);

// CPU time of this thread since it was made: what other programs take does not count.
class Stopwatch {
 public:
  Stopwatch() : start_(now()) {}
  double seconds() const { return now() - start_; }

 private:
  static double now();
  double start_;
};

// What one iteration does. Shares are of the multiplying instructions' peak on this table and of the speed at which a
// buffer as large as `working_set` is read, both measured in this run with examples/heed/limits.hpp.
struct Work {
  double macs = 0.0;
  double bytes = 0.0;             // read
  std::uint64_t working_set = 0;  // the bytes that all iterations together touch; 0 = `bytes`
};
void report(benchmark::State& state, const Kernels& kernels, const Stopwatch& stopwatch, const Work& work);

// "avx2/matvec/768x768"
void add(const Kernels& kernels, const std::string& name,
         void (*run)(benchmark::State&, const Kernels&, std::vector<std::uint32_t>),
         const std::vector<std::uint32_t>& sizes);

void add_products(const Kernels& kernels);
void add_attention(const Kernels& kernels);
void add_rows(const Kernels& kernels);

}  // namespace heed::bench
