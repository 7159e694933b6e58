// SPDX-License-Identifier: Apache-2.0
// kernels_m4.cpp: the kernel table for ARMv7E-M and ARMv8-M with the DSP extension (Cortex-M4, M7, M33): two multiplies
// per instruction.
#include "runtime/one_rounding.hpp"

#include "platform/target.hpp"
#if defined(HEED_TABLE_CORTEX_M4)
#include "platform/cortex_m/registers.hpp"

#include "platform/cortex_m/m4/attend.hpp"
#include "platform/cortex_m/m4/gate.hpp"
#include "platform/cortex_m/m4/heads.hpp"
#include "platform/cortex_m/matmul.hpp"
#include "platform/portable/products.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

// Grouped rows whose sums take 64 bits.
struct WideCore {
  static constexpr std::uint32_t kSegment = pair::kSegment, kElementBytes = 2;

  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return static_cast<float>(sum) * (row_scale * x_scale);
  }
  // Of at most 256 columns. Sums of one group with multipliers and exponents of 1 and 0.
  static void dot4(std::int32_t* sums, const Tensor& rhs, std::uint32_t row, std::uint32_t column, const std::int8_t* x,
                   std::uint32_t columns) {
    const std::int8_t* w = rhs.weights + std::size_t{row} * padded_cols(Layout::pair, rhs.cols) + 4 * column;
    for (int r = 0; r < 4; ++r, w += 4) {
      sums[r] = 0;
      for (std::uint32_t c = 0; c < columns; c += 4) {
        const auto h = reinterpret_cast<const pair::Word*>(w + 4 * c)[0];
        const auto* at = reinterpret_cast<const pair::Word*>(x + 2 * c);
        sums[r] = __smlad(static_cast<int16x2_t>(h), static_cast<int16x2_t>(at[0]), sums[r]);
        sums[r] = __smlad(__sxtb16(static_cast<int8x4_t>(h)), static_cast<int16x2_t>(at[1]), sums[r]);
      }
      sums[r] >>= 8;
    }
  }
};

void matmul_f32_s8r_s8c(float* dst, const Activations& lhs, const Tensor& rhs, const MatmulRange& range) {
  if (kBuiltFeatures.groups && rhs.group && padded_cols(Layout::pair, rhs.cols) > kGroupedColsInS32)
    return cortex_m::matmul<WideCore>(dst, lhs, rhs, range);
  pair::multiply(dst, lhs, rhs, range);
}

void embed_f32_s8c(float* dst, const Tensor& rhs, std::uint32_t row) {
  const auto* at =
      reinterpret_cast<const std::int16_t*>(rhs.weights + std::size_t{row & ~3u} * padded_cols(Layout::pair, rhs.cols)) +
      row % 4 * 2;
  const std::uint32_t groups = group_count(rhs.cols, rhs.group);
  for (std::uint32_t c = 0; c < rhs.cols; ++c) {
    const std::int16_t both = at[(c & ~3u) * 2 + (c >> 1 & 1)];
    std::int32_t w = c & 1 ? (both + 128) >> 8 : static_cast<std::int8_t>(both);
    if (groups) w *= rhs.multipliers[multiplier_index(Layout::pair, groups, row, c / rhs.group)];
    dst[c] = static_cast<float>(w) * rhs.scales[row];
  }
}

}  // namespace

extern const Kernels kernels_cortex_m4;
const Kernels kernels_cortex_m4 = {
    traits::kCortexM4,
    portable::crc32c,
    embed_f32_s8c,
    pair::quantize_s8r_f32,
    pair::norm_s8r_f32,
    kNormsToFloats ? portable::norm_f32_f32 : nullptr,
    pair::gate_s8r_f32,
    matmul_f32_s8r_s8c,
    pair::query_s8r_f32,
    pair::store_key,
    pair::store_value,
    pair::attend_block,
    pair::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed

#endif
