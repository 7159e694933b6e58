// SPDX-License-Identifier: Apache-2.0
// products.hpp: integer products and the sampler's rows in plain C++; the slow, general form that eats every layout.
#pragma once
#include "runtime/kernels.hpp"
#include "runtime/numerics.hpp"

namespace heed::portable {

inline std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t bytes) {
  // By nibbles: 64 bytes of table. Reflected polynomial 0x82F63B78.
  static constexpr std::uint32_t kTable[16] = {
      0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
      0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75};
  const auto* p = static_cast<const std::uint8_t*>(data);
  crc = ~crc;
  for (std::size_t i = 0; i < bytes; ++i) {
    crc ^= p[i];
    crc = (crc >> 4) ^ kTable[crc & 15u];
    crc = (crc >> 4) ^ kTable[crc & 15u];
  }
  return ~crc;
}

inline void embed_f32_s8c(float* dst, const Tensor& rhs, std::uint32_t row) {
  const float scale = rhs.scales[row];
  const std::uint32_t groups = group_count(rhs.cols, rhs.group);
  for (std::uint32_t c = 0; c < rhs.cols; ++c) {
    std::int32_t w = weight_at(rhs, row, c);
    if (groups) w *= rhs.multipliers[multiplier_index(rhs.layout, groups, row, c / rhs.group)];
    dst[c] = static_cast<float>(w) * scale;
  }
}

// The same for a table that eats one layout, whose code then is all that a board pays for.
template <Layout kLayout>
void embed_from(float* dst, const Tensor& rhs, std::uint32_t row) {
  Tensor only = rhs;
  only.layout = kLayout;
  embed_f32_s8c(dst, only, row);
}

// sum over groups of multiplier * 2^exponent * dot, exact. Long grouped rows need the 64 bits.
inline std::int64_t dot_row(const Activations& lhs, std::uint32_t token, const Tensor& rhs, std::uint32_t row) {
  const std::int8_t* x = lhs.values + std::size_t{token} * lhs.value_stride;
  const std::uint32_t groups = group_count(rhs.cols, rhs.group);
  if (groups == 0) {
    std::int32_t sum = 0;
    for (std::uint32_t c = 0; c < rhs.cols; ++c) sum += x[c] * weight_at(rhs, row, c);
    return sum;
  }
  std::int64_t total = 0;
  for (std::uint32_t g = 0; g < groups; ++g) {
    const std::uint32_t last = (g + 1) * rhs.group < rhs.cols ? (g + 1) * rhs.group : rhs.cols;
    std::int32_t sum = 0;
    for (std::uint32_t c = g * rhs.group; c < last; ++c) sum += x[c] * weight_at(rhs, row, c);
    const std::int32_t factor = rhs.multipliers[multiplier_index(rhs.layout, groups, row, g)]
                                << lhs.exponents[std::size_t{token} * lhs.groups + g];
    total += std::int64_t{sum} * factor;
  }
  return total;
}

// Correctly rounded float of a sum of products.
inline float float_of_sum(std::int64_t sum) { return static_cast<float>(sum); }

inline void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  for (std::uint32_t t = 0; t < range.n; ++t) {
    float* out = dst + std::size_t{t} * range.dst_stride;
    for (std::uint32_t r = range.row_begin; r < range.row_end; ++r) {
      const float scale = rhs.scales[r] * lhs.scales[t];
      float y = float_of_sum(dot_row(lhs, t, rhs, r)) * scale;
      if (rhs.bias) y += rhs.bias[r];
      out[r] = range.accumulate ? out[r] + y : y;
    }
  }
}

inline std::uint32_t argmax(const float* logits, std::uint32_t n) {
  std::uint32_t best = 0;
  float value = logits[0] == logits[0] ? logits[0] : -3.402823466e38f;
  for (std::uint32_t i = 1; i < n; ++i) {
    if (logits[i] > value) {
      value = logits[i];
      best = i;
    }
  }
  return best;
}

inline void sample_weights(std::uint32_t* weights, const float* logits, std::uint32_t n, float max,
                           float inverse_temperature) {
  if (!kBuiltFeatures.sampling) return;  // nobody calls it, but the table points to it
  for (std::uint32_t i = 0; i < n; ++i) {
    const float x = (logits[i] - max) * inverse_temperature;
    weights[i] = bits_of(exp_f32(x) * 4194304.0f + 8388608.0f) & 0x7FFFFFu;
  }
}

}  // namespace heed::portable
