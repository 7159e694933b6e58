// SPDX-License-Identifier: Apache-2.0
// kernels_m3.cpp: the kernel table for ARMv7-M without the DSP extension (Cortex-M3): rows of int8, one multiply and
// add at a time.
#if !defined(__ARM_ARCH_PROFILE) || __ARM_ARCH_PROFILE != 'M' || __ARM_ARCH < 7
#error "kernels_m3.cpp needs -mcpu=cortex-m3 or larger"
#endif
#include "platform/cortex_m/attend.hpp"
#include "platform/cortex_m/matmul.hpp"
#include "platform/cortex_m/soft_float.hpp"
#include "platform/portable/products.hpp"
#include "platform/portable/rows.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

using portable::PlainActivations;

// One column of four rows: w points at row 0, whose load comes last and advances.
#define HEED_COLUMN(load_x)                  \
  load_x                                     \
  "ldrsb %[w1], [%[w], %[s]]\n\t"            \
  "ldrsb %[w2], [%[w], %[s], lsl #1]\n\t"    \
  "ldrsb %[w3], [%[w], %[s3]]\n\t"           \
  "ldrsb %[w0], [%[w]], #1\n\t"              \
  "mla %[a1], %[w1], %[xv], %[a1]\n\t"       \
  "mla %[a2], %[w2], %[xv], %[a2]\n\t"       \
  "mla %[a3], %[w3], %[xv], %[a3]\n\t"       \
  "mla %[a0], %[w0], %[xv], %[a0]\n\t"
#define HEED_ROWS(load_x)                                                                                       \
  "1:\n\t" HEED_COLUMN(load_x) HEED_COLUMN(load_x) HEED_COLUMN(load_x) HEED_COLUMN(load_x) "cmp %[x], %[end]\n\t" \
  "bne 1b"

// sums[i] = dot of row i (int8, `stride` bytes apart) with x (int8, or int16 with kWide); columns is a multiple of 4.
template <bool kWide>
__attribute__((noinline)) void dot4(std::int32_t* sums, const std::int8_t* w, std::uint32_t stride, const void* x,
                                    std::uint32_t columns) {
  std::int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, w0, w1, w2, w3, xv;
  const void* end = static_cast<const std::int8_t*>(x) + columns * (kWide ? 2 : 1);
  const std::uint32_t s3 = 3 * stride;
#define HEED_OPERANDS                                                                                               \
  [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [w] "+r"(w), [x] "+r"(x), [w0] "=&r"(w0),             \
      [w1] "=&r"(w1), [w2] "=&r"(w2), [w3] "=&r"(w3), [xv] "=&r"(xv)                                                \
      : [s] "r"(stride), [s3] "r"(s3), [end] "r"(end) : "cc", "memory"
  if constexpr (kWide)
    __asm__ volatile(HEED_ROWS("ldrsh %[xv], [%[x]], #2\n\t") : HEED_OPERANDS);
  else
    __asm__ volatile(HEED_ROWS("ldrsb %[xv], [%[x]], #1\n\t") : HEED_OPERANDS);
#undef HEED_OPERANDS
  sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}
#undef HEED_ROWS
#undef HEED_COLUMN

// The cache as rows: keys [slot, round_up(head_dim, 4)], values transposed [head_dim, capacity].
struct Core {
  static constexpr std::uint32_t kSegment = kMaxCols, kElementBytes = 1, kKeyStep = 4;
  static constexpr int kScoreShift = 0;

  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return cortex_m::scaled_sum(sum, row_scale, x_scale);
  }
  static void dot4(std::int32_t* sums, const Tensor& rhs, std::uint32_t row, std::uint32_t column, const std::int8_t* x,
                   std::uint32_t columns) {
    const std::uint32_t stride = padded_cols(Layout::row, rhs.cols);
    heed::dot4<false>(sums, rhs.weights + std::size_t{row} * stride + column, stride, x, columns);
  }
  static void scores(std::int32_t* dst, const Activations& queries, std::uint32_t index, const KvBlock& block,
                     std::uint32_t visible) {
    const std::uint32_t stride = round_up(block.head_dim, 4);
    for (std::uint32_t k = 0; k < visible; k += 4)
      heed::dot4<false>(dst + k, block.keys + std::size_t{k} * stride, stride,
                         portable::activation_row(queries, index), stride);
  }
  static void weigh(float* numerators, const std::int16_t* folded, const KvBlock& block, std::uint32_t visible,
                    float keep, float add) {
    for (std::uint32_t d = 0, rows; d < block.head_dim; d += rows) {
      rows = block.head_dim - d >= 4 ? 4 : 1;  // of a rest, one row is read four times
      std::int32_t sums[4];
      heed::dot4<true>(sums, block.values + std::size_t{d} * block.capacity, rows == 4 ? block.capacity : 0, folded,
                       round_up(visible, kKeyStep));
      for (std::uint32_t i = 0; i < rows; ++i)
        numerators[d + i] = snap(cortex_m::times_power(numerators[d + i], keep) +
                                 cortex_m::times_power(static_cast<float>(sums[i]), add));
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
  portable::store_value_with(dst, slot, src,
                             [=](std::uint32_t d, std::int8_t q) { column[std::size_t{d} * stride] = q; });
}

}  // namespace

extern const Kernels kernels_cortex_m3;
const Kernels kernels_cortex_m3 = {
    traits::kCortexM3,
    portable::crc32c,
    portable::embed_f32_s8c,
    portable::quantize_s8r_f32<PlainActivations>,
    portable::norm_s8r_f32<PlainActivations>,
    portable::gate_s8r_f32<PlainActivations>,
    cortex_m::matmul<Core>,
    portable::query_s8r_f32<PlainActivations>,
    store_key,
    store_value,
    cortex_m::attend_block<Core>,
    portable::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed
