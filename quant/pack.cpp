// SPDX-License-Identifier: Apache-2.0
// pack.cpp: lossless; columns that lie behind each other are copied at once.
#include "quant/pack.hpp"

#include <algorithm>
#include <cstring>

namespace heed::quant {

void pack_rows(std::uint8_t* dst, const std::int8_t* weights, Layout layout, std::uint32_t rows, std::uint32_t cols,
               std::uint32_t first, std::uint32_t n) {
  const bool block64 = layout == Layout::block64, pair = layout == Layout::pair;
  // Columns that lie behind each other.
  const std::uint32_t run = layout == Layout::row ? cols : block64 ? 64 : 4, base = block64 ? first : 0;
  for (std::uint32_t r = 0; r < n; ++r) {
    const std::int8_t* row = weights + std::size_t{r} * cols;
    for (std::uint32_t c = 0; c < cols; c += run) {
      std::uint8_t* to = dst + weight_index(layout, rows, cols, base + r, c);
      std::memcpy(to, row + c, std::min(run, cols - c));
      // The odd byte of a pair absorbs the borrow of a negative even one.
      for (int odd = 1; pair && odd < 4; odd += 2) to[odd] = static_cast<std::uint8_t>(to[odd] - (to[odd - 1] >> 7));
    }
  }
}

std::vector<std::uint8_t> pack_rest(Layout layout, std::uint32_t cols, std::uint32_t group, const std::vector<float>& scales,
                                    const std::vector<std::uint8_t>& multipliers, const std::vector<float>& bias) {
  const auto n = static_cast<std::uint32_t>(scales.size());
  const TensorBytes at = tensor_bytes(layout, n, cols, group, !bias.empty());
  const std::uint32_t rows = padded_rows(layout, n), groups = group_count(cols, group);
  std::vector<std::uint8_t> bytes(at.total - at.scales, 0);
  for (std::uint32_t r = 0; r < rows; ++r) {
    const float scale = r < n ? scales[r] : 1.0f;
    std::memcpy(&bytes[4 * std::size_t{r}], &scale, sizeof scale);
    if (!bias.empty() && r < n) std::memcpy(&bytes[at.bias - at.scales + 4 * std::size_t{r}], &bias[r], sizeof(float));
    for (std::uint32_t g = 0; g < groups; ++g)
      bytes[at.multipliers - at.scales + multiplier_index(layout, groups, r, g)] =
          r < n ? multipliers[std::size_t{r} * groups + g] : std::uint8_t{1};
  }
  return bytes;
}

void pack(std::uint8_t* dst, const QuantizedMatrix& m, Layout layout) {
  const TensorBytes at = tensor_bytes(layout, m.rows, m.cols, m.group, !m.bias.empty());
  std::memset(dst, 0, at.scales);
  pack_rows(dst, m.weights.data(), layout, m.rows, m.cols, 0, m.rows);
  const std::vector<std::uint8_t> rest = pack_rest(layout, m.cols, m.group, m.scales, m.multipliers, m.bias);
  std::memcpy(dst + at.scales, rest.data(), rest.size());
}

Tensor view(const std::uint8_t* packed, const QuantizedMatrix& shape, Layout layout) {
  const TensorBytes at = tensor_bytes(layout, shape.rows, shape.cols, shape.group, !shape.bias.empty());
  Tensor t;
  t.weights = reinterpret_cast<const std::int8_t*>(packed);
  t.scales = reinterpret_cast<const float*>(packed + at.scales);
  if (!shape.bias.empty()) t.bias = reinterpret_cast<const float*>(packed + at.bias);
  if (shape.group) t.multipliers = packed + at.multipliers;
  t.rows = shape.rows;
  t.cols = shape.cols;
  t.group = static_cast<std::uint16_t>(shape.group);
  t.layout = layout;
  return t;
}

QuantizedMatrix unpack(const Tensor& t) {
  QuantizedMatrix m;
  m.rows = t.rows;
  m.cols = t.cols;
  m.group = t.group;
  const std::uint32_t groups = group_count(t.cols, t.group);
  m.weights.resize(std::size_t{t.rows} * t.cols);
  m.multipliers.resize(std::size_t{t.rows} * groups);
  m.scales.assign(t.scales, t.scales + t.rows);
  if (t.bias) m.bias.assign(t.bias, t.bias + t.rows);
  for (std::uint32_t r = 0; r < t.rows; ++r) {
    for (std::uint32_t c = 0; c < t.cols; ++c)
      m.weights[std::size_t{r} * t.cols + c] = static_cast<std::int8_t>(weight_at(t, r, c));
    for (std::uint32_t g = 0; g < groups; ++g)
      m.multipliers[std::size_t{r} * groups + g] = t.multipliers[multiplier_index(t.layout, groups, r, g)];
  }
  return m;
}

}  // namespace heed::quant
