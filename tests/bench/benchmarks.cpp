// SPDX-License-Identifier: Apache-2.0
// benchmarks.cpp: every kernel of every table that runs here, with its share of what this machine can do.
//
//   heed_benchmarks --benchmark_filter='avx2/matmul.*'
//
// Counters: macs/s and bytes/s; of_peak, the share of the table's multiplying instructions in registers; of_read, the
// share of the speed at which the same bytes are read. Names are TABLE/KERNEL/SIZES.
#include "tests/bench/benchmarks.hpp"

#include <ctime>
#include <map>

#include "examples/heed/limits.hpp"
#include "platform/select.hpp"

namespace heed::bench {
namespace {

constexpr std::uint64_t kLevels[] = {std::uint64_t{16} << 10, std::uint64_t{256} << 10, std::uint64_t{6} << 20,
                                     std::uint64_t{256} << 20};

double peak(const Kernels& kernels) {
  static std::map<const Kernels*, double> known;
  const auto [at, is_new] = known.emplace(&kernels, 0.0);
  if (is_new) at->second = tool::int8_peak({}, kernels.traits.name);
  return at->second;
}

double read_speed(const Kernels& kernels, std::uint64_t bytes) {
  static std::map<std::pair<const Kernels*, std::uint64_t>, double> known;
  const std::uint64_t size = bytes < 4096 ? 4096 : (bytes + 4095) / 4096 * 4096;
  const auto [at, is_new] = known.emplace(std::make_pair(&kernels, size), 0.0);
  if (is_new) at->second = tool::read_bandwidth({}, size, kernels.traits.name);
  return at->second;
}

std::string in_units(double x) { return std::to_string(static_cast<int>(x / 1e9 + 0.5)) + " G/s"; }

}  // namespace

Memory::Memory(std::uint64_t bytes) : bytes_(static_cast<std::size_t>(bytes) + 192) {
  std::uint32_t state = 1;
  for (std::uint8_t& b : bytes_) {
    state = state * 1664525u + 1013904223u;
    b = static_cast<std::uint8_t>(state >> 24);
    if (b == 0x80) b = 0;  // no weight is -128
  }
}

std::vector<float> random_floats(std::size_t n) {
  std::vector<float> x(n);
  std::uint32_t state = 7;
  for (float& f : x) {
    state = state * 1664525u + 1013904223u;
    f = static_cast<float>(static_cast<std::int32_t>(state)) * (1.0f / 2147483648.0f);
  }
  return x;
}

double Stopwatch::now() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void report(benchmark::State& state, const Kernels& kernels, const Stopwatch& stopwatch, const Work& work) {
  const double iterations_per_s = static_cast<double>(state.iterations()) / stopwatch.seconds();
  if (work.macs > 0.0) {
    state.counters["macs/s"] = work.macs * iterations_per_s;
    if (const double limit = peak(kernels)) state.counters["of_peak"] = work.macs * iterations_per_s / limit;
  }
  state.counters["bytes/s"] = work.bytes * iterations_per_s;
  const std::uint64_t touched = work.working_set ? work.working_set : static_cast<std::uint64_t>(work.bytes);
  if (const double limit = read_speed(kernels, touched))
    state.counters["of_read"] = work.bytes * iterations_per_s / limit;
}

void add(const Kernels& kernels, const std::string& name,
         void (*run)(benchmark::State&, const Kernels&, std::vector<std::uint32_t>),
         const std::vector<std::uint32_t>& sizes) {
  std::string full = std::string(kernels.traits.name) + "/" + name;
  for (std::size_t i = 0; i < sizes.size(); ++i) full += (i ? "x" : "/") + std::to_string(sizes[i]);
  benchmark::RegisterBenchmark(full.c_str(), run, std::ref(kernels), sizes);
}

}  // namespace heed::bench

int main(int argc, char** argv) {
  using namespace heed;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const Kernels* kernels : all_kernels()) {
    if (!is_runnable(*kernels)) continue;
    bench::add_products(*kernels);
    bench::add_attention(*kernels);
    bench::add_rows(*kernels);
    if (const double peak = bench::peak(*kernels))
      benchmark::AddCustomContext(std::string(kernels->traits.name) + " int8 peak", bench::in_units(peak));
  }
  for (const std::uint64_t bytes : bench::kLevels)
    benchmark::AddCustomContext("reads of " + std::to_string(bytes >> 10) + " KiB",
                                bench::in_units(bench::read_speed(best_kernels(), bytes)));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
