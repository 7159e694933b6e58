// SPDX-License-Identifier: Apache-2.0
// pack.cpp: lossless, byte by byte; clarity before speed, since this runs once per model.
#include "quant/pack.hpp"

#include <cstring>

namespace heed::quant {

void pack(std::uint8_t* dst, const QuantizedMatrix& m, Layout layout) {
  const TensorBytes at = tensor_bytes(layout, m.rows, m.cols, m.group, !m.bias.empty());
  std::memset(dst, 0, static_cast<std::size_t>(at.total));
  for (std::uint32_t r = 0; r < m.rows; ++r)
    for (std::uint32_t c = 0; c < m.cols; ++c)
      set_weight(reinterpret_cast<std::int8_t*>(dst), layout, m.rows, m.cols, r, c, m.weights[std::size_t{r} * m.cols + c]);
  const std::uint32_t rows = padded_rows(layout, m.rows), groups = group_count(m.cols, m.group);
  for (std::uint32_t r = 0; r < rows; ++r) {
    const float scale = r < m.rows ? m.scales[r] : 1.0f;
    std::memcpy(dst + at.scales + 4 * std::size_t{r}, &scale, sizeof scale);
    if (!m.bias.empty() && r < m.rows) std::memcpy(dst + at.bias + 4 * std::size_t{r}, &m.bias[r], sizeof(float));
    for (std::uint32_t g = 0; g < groups; ++g)
      dst[at.multipliers + multiplier_index(layout, groups, r, g)] =
          r < m.rows ? m.multipliers[std::size_t{r} * groups + g] : std::uint8_t{1};
  }
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
