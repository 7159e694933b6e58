// SPDX-License-Identifier: Apache-2.0
// kernels_m0.cpp: the kernel table for ARMv6-M (Cortex-M0, M0+): four rows share each load of an activation, the
// rest is portable's.
#include "platform/cortex_m/matmul.hpp"
#include "platform/portable/attend.hpp"
#include "platform/portable/exp2.hpp"
#include "platform/portable/products.hpp"
#include "platform/portable/rows.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

using portable::PlainActivations;

// sums[i] = dot of row i, `stride` bytes apart, with x.
template <class X>
__attribute__((noinline, optimize("O2"))) void dot4(std::int32_t* sums, const std::int8_t* w, std::uint32_t stride,
                                                    const X* x, std::uint32_t columns) {
  std::int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
  for (const X* const end = x + columns; x != end; ++x, ++w) {
    const std::int32_t v = *x;
    const std::int8_t* at = w;
    a0 += v * *at;
    at += stride;
    a1 += v * *at;
    at += stride;
    a2 += v * *at;
    at += stride;
    a3 += v * *at;
  }
  sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}

// The cache as rows: keys [slot, round_up(head_dim, 4)], values transposed [head_dim, capacity].
struct Core {
  static constexpr std::uint32_t kSegment = kMaxCols, kElementBytes = 1;

  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return static_cast<float>(sum) * (row_scale * x_scale);
  }
  static void dot4(std::int32_t* sums, const Tensor& rhs, std::uint32_t row, std::uint32_t column, const std::int8_t* x,
                   std::uint32_t columns) {
    const std::uint32_t stride = padded_cols(Layout::row, rhs.cols);
    heed::dot4(sums, rhs.weights + std::size_t{row} * stride + column, stride, x, columns);
  }
  static void scores(std::int32_t* dst, const Activations& queries, std::uint32_t index, const KvBlock& block,
                     std::uint32_t visible) {
    const std::uint32_t stride = round_up(block.head_dim, 4);
    for (std::uint32_t k = 0; k < visible; k += 4)
      heed::dot4(dst + k, block.keys + std::size_t{k} * stride, stride, portable::activation_row(queries, index),
                 stride);
  }
  static void weigh(float* numerators, const std::int16_t* folded, const KvBlock& block, std::uint32_t visible,
                    float keep, float add) {
    for (std::uint32_t d = 0, rows; d < block.head_dim; d += rows) {
      rows = block.head_dim - d >= 4 ? 4 : 1;  // of a rest, one row is read four times
      std::int32_t sums[4];
      heed::dot4(sums, block.values + std::size_t{d} * block.capacity, rows == 4 ? block.capacity : 0, folded, visible);
      for (std::uint32_t i = 0; i < rows; ++i)
        numerators[d + i] = portable::merge_numerator(numerators[d + i], sums[i], keep, add);
    }
  }
};

void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
               const KeyOffset& offset) {
  std::int8_t* row = dst.keys + std::size_t{slot} * round_up(dst.head_dim, 4);
  portable::store_key_with(dst, slot, src, rotation, offset, [=](std::uint32_t d, std::int8_t q) { row[d] = q; });
}

void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  std::int8_t* column = dst.values + slot;
  const std::uint32_t stride = dst.capacity;
  portable::store_value_with(dst, slot, src, [=](std::uint32_t d, std::int8_t q) { column[d * stride] = q; });
}

void attend_block(const AttentionSums& sums, const BlockQueries& queries, const KvBlock& block, std::uint16_t* weights,
                  std::int32_t* reference) {
  portable::attend_block<Core>(sums, queries, block, weights, reference, portable::kExp2.values);
}

}  // namespace

extern const Kernels kernels_cortex_m0;
const Kernels kernels_cortex_m0 = {
    traits::kCortexM0,
    portable::crc32c,
    portable::embed_from<Layout::row>,
    portable::quantize_s8r_f32<PlainActivations>,
    portable::norm_s8r_f32<PlainActivations>,
    portable::gate_s8r_f32<PlainActivations>,
    cortex_m::matmul<Core>,
    portable::query_s8r_f32<PlainActivations>,
    store_key,
    store_value,
    attend_block,
    portable::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed
