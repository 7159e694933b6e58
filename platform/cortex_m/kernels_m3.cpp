// SPDX-License-Identifier: Apache-2.0
// kernels_m3.cpp: the kernel table for ARMv7-M without the DSP extension (Cortex-M3): rows of int8, one multiply and
// add at a time.
#if !defined(__ARM_ARCH_PROFILE) || __ARM_ARCH_PROFILE != 'M' || __ARM_ARCH < 7
#error "kernels_m3.cpp needs -mcpu=cortex-m3 or larger"
#endif
#include "platform/cortex_m/attend.hpp"
#include "platform/cortex_m/matmul.hpp"
#include "platform/cortex_m/rows.hpp"
#include "platform/cortex_m/soft_float.hpp"
#include "platform/portable/products.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

// Prepared activations are s16, as weights of values are, so that one loop multiplies both.
constexpr std::uint32_t kElementBytes = 2;
static_assert(traits::kCortexM3.activation_element_bytes == kElementBytes, "platform/tables.hpp");

struct Conversions : cortex_m::Armv7Loops {
  // By integers: there is no FPU. The power of two leaves at least one bit behind the point; what is 2^40 or more
  // saturates, and goes through the library's floats.
  static std::int32_t to_s16(float x, const BlockFloat& b) {
    if (b.exponent > 40) return heed::to_s16(x, b.to_s16_scale);
    const std::uint32_t u = bits_of(x), mantissa = u << 8 | 0x80000000u;
    const std::int32_t shift = b.exponent + 143 - static_cast<std::int32_t>(u >> 23 & 255);
    std::uint32_t q = mantissa, behind = mantissa, t;
    __asm__(
        "rsb %[t], %[shift], #32\n\t"
        "lsr %[q], %[q], %[shift]\n\t"  // by 17 at least; from 33 on, and for a NaN, all becomes 0
        "lsl %[behind], %[behind], %[t]\n\t"
        "and %[t], %[q], #1\n\t"
        "add %[behind], %[behind], %[t]\n\t"
        "cmp %[behind], #0x80000000\n\t"
        "it hi\n\t"
        "addhi %[q], %[q], #1\n\t"
        "usat %[q], #15, %[q]"
        : [q] "+r"(q), [behind] "+r"(behind), [t] "=&r"(t)
        : [shift] "r"(shift)
        : "cc");
    const std::int32_t sign = static_cast<std::int32_t>(bits_of(x)) >> 31;
    return (static_cast<std::int32_t>(q) ^ sign) - sign;
  }

  static void convert(std::int16_t* to, const float* src, std::uint32_t n, const BlockFloat& b) {
    for (std::uint32_t i = 0; i < n; ++i) to[i] = static_cast<std::int16_t>(to_s16(src[i], b));
  }

  // s16 to int8 values; returns the sum of the squares.
  static std::int32_t finish(std::int16_t* row, std::uint32_t n, std::int32_t reciprocal) {
    std::int32_t squares = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::int32_t q = quantize_s16(row[i], reciprocal >> 10);
      row[i] = static_cast<std::int16_t>(q);
      squares += q * q;
    }
    return squares;
  }
};
using Rows = cortex_m::Rows<Conversions>;

// One column of four rows: w points at row 0, whose load comes last and advances.
#define HEED_COLUMN                       \
  "ldrsh %[xv], [%[x]], #2\n\t"           \
  "ldrsb %[w1], [%[w], %[s]]\n\t"         \
  "ldrsb %[w2], [%[w], %[s], lsl #1]\n\t" \
  "ldrsb %[w3], [%[w], %[s3]]\n\t"        \
  "ldrsb %[w0], [%[w]], #1\n\t"           \
  "mla %[a1], %[w1], %[xv], %[a1]\n\t"    \
  "mla %[a2], %[w2], %[xv], %[a2]\n\t"    \
  "mla %[a3], %[w3], %[xv], %[a3]\n\t"    \
  "mla %[a0], %[w0], %[xv], %[a0]\n\t"
#define HEED_FOUR_COLUMNS HEED_COLUMN HEED_COLUMN HEED_COLUMN HEED_COLUMN

// sums[i] = dot of row i, `stride` bytes apart, with x; columns is a multiple of 4. An odd four enters in the middle.
__attribute__((noinline)) void dot4(std::int32_t* sums, const std::int8_t* w, std::uint32_t stride, const void* x,
                                    std::uint32_t columns) {
  std::int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, w0, w1, w2, w3 = static_cast<std::int32_t>(columns), xv;
  const void* end = static_cast<const std::int8_t*>(x) + columns * kElementBytes;
  __asm__ volatile("lsrs %[w3], %[w3], #3\n\tbcs 2f\n\t1:\n\t" HEED_FOUR_COLUMNS "2:\n\t" HEED_FOUR_COLUMNS
                   "cmp %[x], %[end]\n\tbne 1b"
                   : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [w] "+r"(w), [x] "+r"(x),
                     [w0] "=&r"(w0), [w1] "=&r"(w1), [w2] "=&r"(w2), [w3] "+r"(w3), [xv] "=&r"(xv)
                   : [s] "r"(stride), [s3] "r"(3 * stride), [end] "r"(end)
                   : "cc", "memory");
  sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}
#undef HEED_FOUR_COLUMNS
#undef HEED_COLUMN

// The cache as rows: keys [slot, round_up(head_dim, 4)], values transposed [head_dim, capacity].
struct Core : cortex_m::Armv7Softmax<0> {
  static constexpr std::uint32_t kSegment = kMaxCols, kElementBytes = heed::kElementBytes, kKeyStep = 4;

  static float scaled_sum(std::int32_t sum, float row_scale, float x_scale) {
    return cortex_m::scaled_sum(sum, row_scale, x_scale);
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
      heed::dot4(sums, block.values + std::size_t{d} * block.capacity, rows == 4 ? block.capacity : 0, folded,
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
  Rows::store_key(dst, slot, src, rotation, offset,
                  [=](std::uint32_t d, std::int32_t q) { row[d] = static_cast<std::int8_t>(q); });
}

void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  std::int8_t* column = dst.values + slot;
  const std::uint32_t stride = dst.capacity;
  Rows::store_value(dst, slot, src,
                    [=](std::uint32_t d, std::int32_t q) { column[d * stride] = static_cast<std::int8_t>(q); });
}

}  // namespace

extern const Kernels kernels_cortex_m3;
const Kernels kernels_cortex_m3 = {
    traits::kCortexM3,
    portable::crc32c,
    portable::embed_from<Layout::row>,
    Rows::quantize_s8r_f32,
    Rows::norm_s8r_f32,
    Rows::gate_s8r_f32,
    cortex_m::matmul<Core>,
    Rows::query_s8r_f32,
    store_key,
    store_value,
    cortex_m::attend_block<Core>,
    portable::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed
