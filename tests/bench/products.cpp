// SPDX-License-Identifier: Apache-2.0
// products.cpp: int8 products in the packed layout, of one token and of many, with row scales and with groups.
#include "tests/bench/benchmarks.hpp"

namespace heed::bench {
namespace {

// sizes: rows, columns, tokens, group (0 = one scale per row)
void product(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::uint32_t rows = sizes[0], cols = sizes[1], n = sizes[2], group = sizes[3];
  const TensorBytes bytes = tensor_bytes(Layout::packed, rows, cols, group, false);
  Memory image(bytes.total);
  auto* p = image.at<std::uint8_t>();
  Tensor w;
  w.weights = reinterpret_cast<const std::int8_t*>(p);
  w.scales = reinterpret_cast<const float*>(p + bytes.scales);
  w.rows = rows;
  w.cols = cols;
  w.group = static_cast<std::uint16_t>(group);
  w.layout = Layout::packed;
  const std::uint32_t padded = padded_rows(Layout::packed, rows);
  for (std::uint32_t r = 0; r < padded; ++r) reinterpret_cast<float*>(p + bytes.scales)[r] = 0.01f;
  if (group) {
    w.multipliers = p + bytes.multipliers;
    for (std::uint64_t i = 0; i < std::uint64_t{padded} * group_count(cols, group); ++i)
      p[bytes.multipliers + i] = static_cast<std::uint8_t>(1 + i % 15);
  }
  Memory vectors(activations_bytes(k.traits, cols, group, n));
  const Activations a = make_activations(vectors.at<void>(), k.traits, cols, group, n);
  const std::vector<float> x = random_floats(cols);
  for (std::uint32_t t = 0; t < n; ++t) k.quantize_s8r_f32(a, t, x.data());
  Memory out(std::uint64_t{n} * padded * 4);
  const Stopwatch stopwatch;
  for (auto _ : state) {
    k.matmul_f32_s8r_s8c(out.at<float>(), a, w, {n, 0, padded, padded, false});
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {double(rows) * cols * n, double(bytes.total), 0});
}

}  // namespace

void add_products(const Kernels& k) {
  if (!(k.traits.layouts & 1u << static_cast<unsigned>(Layout::packed))) return;
  constexpr std::uint32_t kShapes[][2] = {{64, 64},    {172, 64},   {288, 288},  {768, 288},   {768, 768},
                                          {2048, 768}, {768, 2048}, {1536, 576}, {32000, 288}, {32000, 768}};
  for (const auto& [rows, cols] : kShapes) {
    for (const std::uint32_t group : {0u, 64u}) {
      const std::string suffix = group ? "_groups" : "";
      add(k, "matvec" + suffix, product, {rows, cols, 1, group});
      if (rows < 32000)
        for (const std::uint32_t n : {4u, 17u, 64u}) add(k, "matmul" + suffix, product, {rows, cols, n, group});
    }
  }
}

}  // namespace heed::bench
