// SPDX-License-Identifier: Apache-2.0
// rows.cpp: what happens once per vector: embedding, norms, gates, quantisation, and the choice among the vocabulary.
#include <cstring>

#include "tests/bench/benchmarks.hpp"

namespace heed::bench {
namespace {

// One quantised vector and the floats that it comes from.
struct Row {
  Row(const Kernels& k, std::uint32_t n)
      : x(random_floats(n)),
        gain(n, 1.0f),
        memory(activations_bytes(k.traits, n, 0, 1)),
        quantised(make_activations(memory.at<void>(), k.traits, n, 0, 1)) {}
  std::vector<float> x, gain;
  Memory memory;
  Activations quantised;
};

void quantize(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  Row row(k, sizes[0]);
  const Stopwatch stopwatch;
  for (auto _ : state) {
    k.quantize_s8r_f32(row.quantised, 0, row.x.data());
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {0.0, 4.0 * sizes[0], 0});
}

template <bool kCentred>
void norm(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  Row row(k, sizes[0]);
  const NormWeights weights = {row.gain.data(), kCentred ? row.gain.data() : nullptr, 1e-5f, kCentred};
  const Stopwatch stopwatch;
  for (auto _ : state) {
    k.norm_s8r_f32(row.quantised, 0, row.x.data(), weights);
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {0.0, (kCentred ? 12.0 : 8.0) * sizes[0], 0});
}

void gate(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  Row row(k, sizes[0]);
  std::vector<std::uint16_t> factor(257);
  for (std::size_t i = 0; i < factor.size(); ++i) factor[i] = static_cast<std::uint16_t>(i * 127);
  std::vector<float> work = row.x;
  const Stopwatch stopwatch;
  for (auto _ : state) {
    std::memcpy(work.data(), row.x.data(), 4 * row.x.size());  // it is overwritten; this is timed, too
    k.gate_s8r_f32(row.quantised, 0, work.data(), row.x.data(), factor.data());
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {0.0, 8.0 * sizes[0], 0});
}

void embed(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::uint32_t cols = sizes[0], rows = 64;
  Memory weights(std::uint64_t{rows} * padded_cols(Layout::packed, cols));
  const std::vector<float> scales(rows, 0.01f);
  std::vector<float> out(cols + 16);
  Tensor w;
  w.weights = weights.at<std::int8_t>();
  w.scales = scales.data();
  w.rows = rows;
  w.cols = cols;
  w.layout = Layout::packed;
  std::uint32_t row = 0;
  const Stopwatch stopwatch;
  for (auto _ : state) {
    k.embed_f32_s8c(out.data(), w, row);
    row = (row + 1) % rows;
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {0.0, double(cols), 0});
}

void argmax(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::vector<float> x = random_floats(sizes[0]);
  const Stopwatch stopwatch;
  for (auto _ : state) benchmark::DoNotOptimize(k.argmax(x.data(), sizes[0]));
  report(state, k, stopwatch, {0.0, 4.0 * sizes[0], 0});
}

void sample_weights(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::vector<float> x = random_floats(sizes[0]);
  std::vector<std::uint32_t> weights(sizes[0]);
  const Stopwatch stopwatch;
  for (auto _ : state) {
    k.sample_weights(weights.data(), x.data(), sizes[0], 1.0f, 1.25f);
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {0.0, 4.0 * sizes[0], 8u * sizes[0]});
}

void crc32c(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  Memory data(sizes[0]);
  const Stopwatch stopwatch;
  for (auto _ : state) benchmark::DoNotOptimize(k.crc32c(0, data.at<std::uint8_t>(), sizes[0]));
  report(state, k, stopwatch, {0.0, double(sizes[0]), 0});
}

}  // namespace

void add_rows(const Kernels& k) {
  for (const std::uint32_t n : {64u, 288u, 768u, 2048u}) {
    add(k, "quantize", quantize, {n});
    add(k, "rms_norm", norm<false>, {n});
    add(k, "layer_norm", norm<true>, {n});
    add(k, "gate", gate, {n});
    add(k, "embed", embed, {n});
  }
  add(k, "argmax", argmax, {50000});
  add(k, "sample_weights", sample_weights, {50000});
  add(k, "crc32c", crc32c, {1u << 20});
}

}  // namespace heed::bench
