// SPDX-License-Identifier: Apache-2.0
// kernels_m0.cpp: the kernel table for ARMv6-M (Cortex-M0, M0+): rows of int8, floats by integers.
#include "runtime/one_rounding.hpp"

#include "platform/target.hpp"
#if defined(HEED_TABLE_CORTEX_M0)
#include "platform/cortex_m/registers.hpp"

#include "platform/cortex_m/attend.hpp"
#include "platform/cortex_m/m0/floats.hpp"
#include "platform/cortex_m/m0/products.hpp"
#include "platform/cortex_m/m0/queries.hpp"
#include "platform/cortex_m/m0/rows.hpp"
#include "platform/cortex_m/m0/scores.hpp"
#include "platform/cortex_m/matmul.hpp"
#include "platform/cortex_m/rows.hpp"
#include "platform/cortex_m/soft_float.hpp"
#include "platform/portable/products.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

using portable::PlainActivations;

// What cortex_m::Rows asks for, for heads.
struct Conversions {
  static std::uint32_t max_bits(const float* x, const float* gain, std::uint32_t n) {
    if (!gain) return thumb1::max_bits(x, n);
    std::uint32_t max = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::uint32_t m = magnitude_bits(x[i] * gain[i]);
      max = m > max ? m : max;
    }
    return max;
  }
  static std::int32_t to_s16(float x, const BlockFloat& b) {
    std::int16_t s;
    thumb1::convert(&s, &x, 1, b);
    return s;
  }
  static void convert(std::int16_t* to, const float* src, std::uint32_t n, const BlockFloat& b) {
    thumb1::convert(to, src, n, b);
  }
};
using Rows = cortex_m::Rows<Conversions>;

// Rows are converted in pieces of a group, or of this many elements.
constexpr std::uint32_t kPiece = 64, kLargestPiece = 256;

// Quantises row `index`, whose elements fill(s16, first, n) gives in pieces, `max` being the largest; returns the sum of
// squares of a row without groups.
template <class Fill>
std::int32_t quantize_row(const Activations& dst, std::uint32_t index, std::int32_t max, std::uint32_t groups,
                          Fill fill) {
  std::int8_t* const q = portable::activation_row(dst, index);
  const std::int32_t reciprocal = reciprocal_127(max);
  const std::uint32_t step = groups ? dst.group : kPiece;
  std::int16_t s[kBuiltFeatures.groups ? kLargestPiece : kPiece];
  std::int32_t squares = 0;
  for (std::uint32_t first = 0, g = index * groups; first < dst.cols; first += step, ++g) {
    const std::uint32_t n = dst.cols - first < step ? dst.cols - first : step;
    fill(s, first, n);
    int shift = 22;
    if (groups) {
      std::int32_t group_max = 0;
      for (std::uint32_t i = 0; i < n; ++i) group_max = magnitude(s[i]) > group_max ? magnitude(s[i]) : group_max;
      dst.exponents[g] = portable::group_exponent(group_max, max);
      shift = 19 + dst.exponents[g];
    }
    squares += thumb1::finish(q + first, s, n, reciprocal, shift);
  }
  portable::zero_tail(q, dst.cols);
  return squares;
}

__attribute__((noinline)) std::int32_t quantize_floats(const Activations& dst, std::uint32_t index, const float* src,
                                                       const float* gain, const BlockFloat& b, std::uint32_t groups) {
  return quantize_row(dst, index, b.max, groups, [&](std::int16_t* s, std::uint32_t first, std::uint32_t n) {
    if (!gain) return thumb1::convert(s, src + first, n, b);
    for (std::uint32_t i = 0; i < n; ++i) {
      const float x = src[first + i] * gain[first + i];
      thumb1::convert(s + i, &x, 1, b);
    }
  });
}

void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
  const BlockFloat b = cortex_m::block_of_max(thumb1::max_bits(src, dst.cols));
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  quantize_floats(dst, index, src, nullptr, b, dst.groups);
  dst.scales[index] = portable::row_scale(b.max, b.exponent, dst.groups != 0);
}

void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
  if (kBuiltFeatures.layer_norm && weights.centred)
    return portable::layer_norm<PlainActivations>(dst, index, src, weights);
  BlockFloat b = cortex_m::block_of_max(thumb1::max_bits(src, dst.cols));
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  const std::int32_t squares = quantize_floats(dst, index, src, nullptr, b, 0);
  const float factor =
      portable::norm_factor(portable::row_scale(b.max, b.exponent, false), squares, dst.cols, weights.epsilon);
  if (weights.gain) b = cortex_m::block_of_max(Conversions::max_bits(src, weights.gain, dst.cols));
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  if (weights.gain || dst.groups) quantize_floats(dst, index, src, weights.gain, b, dst.groups);
  dst.scales[index] = activation_scale(portable::row_scale(b.max, b.exponent, dst.groups != 0) * factor);
}

// portable::gate_s8r_f32 in pieces.
__attribute__((optimize("O2"))) void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate,
                                                  const float* up, const std::uint16_t* factor) {
  const std::uint32_t n = dst.cols;
  const BlockFloat bg = cortex_m::block_of_max(thumb1::max_bits(gate, n));
  const BlockFloat bu = up ? cortex_m::block_of_max(thumb1::max_bits(up, n)) : BlockFloat{false, 15, 1.0f, 0};
  if (bg.zero || bu.zero) return portable::store_zero<PlainActivations>(dst, index);
  auto* const products = reinterpret_cast<std::int32_t*>(gate);  // in place: the floats are spent
  // To Q12: one of the shifts is 0.
  const int shift = bg.exponent - 3;
  const int to_left = shift < 0 ? 0 : shift > 16 ? 16 : shift, to_right = shift > 0 ? 0 : shift < -31 ? 31 : -shift;
  std::int32_t max = 0;
  for (std::uint32_t first = 0; first < n; first += kPiece) {
    std::int16_t a[kPiece], b[kPiece];
    const std::uint32_t m = n - first < kPiece ? n - first : kPiece;
    thumb1::convert(a, gate + first, m, bg);
    if (up) thumb1::convert(b, up + first, m, bu);
    for (std::uint32_t i = 0; i < m; ++i) {
      const std::int32_t g = a[i], sign = g >> 31;
      std::uint32_t t = static_cast<std::uint32_t>((g ^ sign) - sign) << to_left >> to_right;
      t = t > 65535 ? 65535 : t;
      const std::uint16_t* const at = factor + (t >> 8);
      const std::int32_t low = at[0];
      const std::int32_t f = low + (((at[1] - low) * static_cast<std::int32_t>(t & 255u) + 128) >> 8);
      std::int32_t h = (g * (f ^ (sign & 32767)) + (1 << 14)) >> 15;
      if (up) h *= b[i];
      products[first + i] = h;
      const std::int32_t size = magnitude(h);
      max = size > max ? size : max;
    }
  }
  if (max == 0) return portable::store_zero<PlainActivations>(dst, index);
  const int left = 15 - bit_length(static_cast<std::uint32_t>(max));
  const int right = left < 0 ? -left : 0, more = left < 0 ? 0 : left;
  max = (max >> right) << more;
  quantize_row(dst, index, max, dst.groups, [=](std::int16_t* s, std::uint32_t first, std::uint32_t m) {
    for (std::uint32_t i = 0; i < m; ++i)
      s[i] = static_cast<std::int16_t>(static_cast<std::uint32_t>(products[first + i] >> right) << more);
  });
  dst.scales[index] =
      activation_scale(portable::row_scale(max, bg.exponent + bu.exponent - 15 - left, dst.groups != 0));
}

void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  portable::HeadS16 head;
  Rows::rotate_head(head, src, dst.cols, rotation);
  if (head.max == 0) return portable::store_zero<PlainActivations>(dst, index);
  portable::normalize_head(head, dst.cols);
  std::int8_t* const q = portable::activation_row(dst, index);
  thumb1::finish(q, head.values, dst.cols, reciprocal_127(head.max), 22);
  portable::zero_tail(q, dst.cols);
  dst.scales[index] = portable::row_scale(head.max, head.exponent, false);
}

// The cache as rows: keys [slot, round_up(head_dim, 4)], values transposed [value_dim, capacity].
struct Core : thumb1::Softmax {
  static constexpr std::uint32_t kSegment = kMaxCols, kElementBytes = 1, kKeyStep = 4;

  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return thumb1::scaled_sum(sum, row_scale, x_scale);
  }
  static void dot4(std::int32_t* sums, const Tensor& rhs, std::uint32_t row, std::uint32_t column, const std::int8_t* x,
                   std::uint32_t columns) {
    const std::uint32_t stride = padded_cols(Layout::row, rhs.cols);
    thumb1::dot4<1>(sums, rhs.weights + std::size_t{row} * stride + column, stride, x, columns);
  }
  static void scores(std::int32_t* dst, const Activations& queries, std::uint32_t index, const KvBlock& block,
                     std::uint32_t visible) {
    const std::uint32_t stride = round_up(block.head_dim, 4);
    thumb1::dot_rows(dst, block.keys, stride, portable::activation_row(queries, index), round_up(visible, 4));
  }
  template <std::uint32_t kTogether, class Weight>
  static void sum_values(std::int32_t* sums, const Weight* weights, const KvBlock& block, std::uint32_t n,
                         std::uint32_t first, std::uint32_t dims) {
    const std::int8_t* const values = block.values + std::size_t{first} * block.capacity;
    if constexpr (kTogether > 1) {
      thumb1::weigh_four(sums, weights, values, block.capacity, n, dims);
    } else {
      for (std::uint32_t d = 0, rows; d < dims; d += rows) {
        rows = dims - d >= 4 ? 4 : 1;  // of a rest, one row is read four times
        thumb1::dot4<2>(sums + d, values + std::size_t{d} * block.capacity, rows == 4 ? block.capacity : 0, weights, n);
      }
    }
  }
  template <std::uint32_t kTogether>
  static void join(float* to, const std::int32_t* sums, std::uint32_t n, const cortex_m::Join& join,
                   std::int32_t exponent) {
    if (join.first) return thumb1::first_sums<kTogether>(to, sums, n, join.add + exponent);
    const auto factor = [](std::int32_t e, std::int32_t more) { return e == cortex_m::kNothing ? 0.0f : pow2(e + more); };
    const float keep = factor(join.keep, 0), add = factor(join.add, exponent);
    for (const float* const end = to + n; to != end; ++to, sums += kTogether)
      *to = snap(cortex_m::times_power(*to, keep) + cortex_m::times_power(static_cast<float>(*sums), add));
  }

  static constexpr bool kTakesTwo = false;
  static constexpr std::uint32_t kPackedWords = 2 * thumb1::kPackedColumns;
  template <std::uint32_t kTogether>
  static void scores_together(std::int32_t* scores, const Activations& queries, std::uint32_t index,
                              const KvBlock& block, const std::uint32_t* visible, std::int32_t* packed) {
    const std::uint32_t columns = round_up(block.head_dim, 4);
    thumb1::dot_four(scores, block.keys, columns, portable::activation_row(queries, index), queries.value_stride,
                     visible[kTogether - 1], columns, packed);
  }
  template <std::uint32_t kTogether>
  static void scale_together(std::int32_t* scores, std::int32_t* maxima, const KvBlock& block,
                             const std::uint32_t* visible) {
    for (std::uint32_t i = 0; i < kTogether; ++i) maxima[i] = scale_scores<kTogether>(scores + i, block, visible[i]);
  }
};

// Longer rows may have sums that are not exact as floats.
constexpr std::uint32_t kShortCols = 1040;
constexpr std::uint32_t kRowsTogether = 16;

// Sums of n rows of one vector, `step` bytes apart, scaled to `out`.
void store(float* out, const std::int32_t* sums, std::uint32_t step, float x_scale, const Tensor& rhs, std::uint32_t row,
           std::uint32_t n, bool accumulate) {
  float y[kRowsTogether];
  const bool more = rhs.bias || accumulate;
  thumb1::store_rows(more ? y : out, sums, step, rhs.scales + row, x_scale, n);
  for (std::uint32_t i = 0; more && i < n; ++i) {
    if (rhs.bias) y[i] += rhs.bias[row + i];
    out[i] = accumulate ? out[i] + y[i] : y[i];
  }
}

// Rows of four tokens, and of one. Nothing is packed in place: activations may be shared.
__attribute__((noinline)) void multiply_four(float* dst, const Activations& lhs, std::uint32_t token, const Tensor& rhs,
                                             const MatmulRange& range, std::uint32_t cols) {
  const std::int8_t* const x = lhs.values + std::size_t{token} * lhs.value_stride;
  for (std::uint32_t row = range.row_begin, n; row < range.row_end; row += n) {
    n = range.row_end - row < kRowsTogether ? range.row_end - row : kRowsTogether;
    std::int32_t sums[4 * kRowsTogether], packed[2 * thumb1::kPackedColumns];
    thumb1::dot_four(sums, rhs.weights + std::size_t{row} * cols, cols, x, lhs.value_stride, n, cols, packed);
    for (std::uint32_t i = 0; i < 4; ++i)
      store(dst + std::size_t{i} * range.dst_stride + row, sums + i, 16, lhs.scales[token + i], rhs, row, n,
            range.accumulate);
  }
}

__attribute__((noinline)) void multiply_one(float* dst, const Activations& lhs, std::uint32_t token, const Tensor& rhs,
                                            const MatmulRange& range, std::uint32_t cols) {
  const std::int8_t* const x = lhs.values + std::size_t{token} * lhs.value_stride;
  for (std::uint32_t row = range.row_begin, n; row < range.row_end; row += n) {
    n = range.row_end - row < kRowsTogether ? range.row_end - row : kRowsTogether;
    std::int32_t sums[kRowsTogether];
    thumb1::dot_rows(sums, rhs.weights + std::size_t{row} * cols, cols, x, n);
    store(dst + row, sums, 4, lhs.scales[token], rhs, row, n, range.accumulate);
  }
}

void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  const std::uint32_t cols = padded_cols(Layout::row, rhs.cols);
  if (group_count(rhs.cols, rhs.group) || cols > kShortCols || cortex_m::has_zero_scale(lhs, range.n))
    return cortex_m::matmul<Core>(dst, lhs, rhs, range);
  for (std::uint32_t t = 0, n; t < range.n; t += n, dst += n * range.dst_stride) {
    n = kBuiltFeatures.speed && range.n - t >= 4 ? 4 : 1;
    if (n == 4)
      multiply_four(dst, lhs, t, rhs, range, cols);
    else
      multiply_one(dst, lhs, t, rhs, range, cols);
  }
}

void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t value_dim) {
  thumb1::multiply_sums(dst, numerators, 1.0f / denominator, value_dim);
}

}  // namespace

extern const Kernels kernels_cortex_m0;
const Kernels kernels_cortex_m0 = {
    traits::kCortexM0,
    portable::crc32c,
    portable::embed_from<Layout::row>,
    quantize_s8r_f32,
    norm_s8r_f32,
    kNormsToFloats ? portable::norm_f32_f32 : nullptr,
    gate_s8r_f32,
    matmul_f32_s8r_s8c,
    query_s8r_f32,
    Rows::store_key_row,
    Rows::store_value_column,
    cortex_m::attend_block<Core>,
    attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed

#endif
