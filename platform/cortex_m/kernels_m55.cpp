// SPDX-License-Identifier: Apache-2.0
// kernels_m55.cpp: the kernel table for ARMv8.1-M with Helium (Cortex-M55, M85): sixteen multiplies per instruction.
//
// Hot loops are inline assembly with low-overhead branches, because GCC 12 finds neither these nor tail predication.
// Helium flushes denormal numbers; none can matter (SPEC.md 2.1). Division and square root are scalar.
#if !defined(__ARM_FEATURE_MVE) || !(__ARM_FEATURE_MVE & 2)
#error "kernels_m55.cpp needs a core with floating-point Helium, such as -mcpu=cortex-m55"
#endif
#include "platform/cortex_m/helium_attend.hpp"
#include "platform/cortex_m/helium_products.hpp"
#include "platform/cortex_m/helium_rows.hpp"
#include "platform/portable/products.hpp"
#include "platform/tables.hpp"

namespace heed {
namespace {

static_assert(traits::kCortexM55.slack >= 16, "loads reach behind a row");

void embed_f32_s8c(float* dst, const Tensor& rhs, std::uint32_t row) {
  const std::uint32_t groups = group_count(rhs.cols, rhs.group);
  if (groups) return portable::embed_from<Layout::block64>(dst, rhs, row);
  const std::uint32_t scale = bits_of(rhs.scales[row]), all = padded_cols(Layout::block64, rhs.cols);
  const std::size_t padded = padded_rows(Layout::block64, rhs.rows);
  for (std::uint32_t c = 0; c < rhs.cols; c += 64) {
    const std::uint32_t width = all - c < 64 ? all - c : 64, n = rhs.cols - c < 64 ? rhs.cols - c : 64;
    const std::int8_t* w = rhs.weights + c * padded + row * width;
    __asm__ volatile(
        "dlstp.32 lr, %[n]\n\t"
        "1:\n\t"
        "vldrb.s32 q0, [%[w]], #4\n\t"
        "vcvt.f32.s32 q0, q0\n\t"
        "vmul.f32 q0, q0, %[scale]\n\t"
        "vstrw.32 q0, [%[dst]], #16\n\t"
        "letp lr, 1b"
        : [dst] "+r"(dst), [w] "+l"(w)
        : [scale] "r"(scale), [n] "r"(n)
        : "lr", "q0", "memory");
  }
}

void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
               const KeyOffset& offset) {
  alignas(8) std::int8_t q[kMaxHeadDim];
  helium::quantize_key(q, dst, slot, src, rotation, offset);
  const std::uint32_t columns = round_up(dst.head_dim, 4);
  for (std::uint32_t c = 0; c < columns; c += 64) {
    const std::uint32_t width = columns - c < 64 ? columns - c : 64;
    auto* to = reinterpret_cast<std::uint32_t*>(dst.keys + std::size_t{c} * dst.capacity + slot * width);
    const auto* from = reinterpret_cast<const std::uint32_t*>(q + c);
    __asm__ volatile(
        "dls lr, %[n]\n\t"
        "1:\n\t"
        "ldr r12, [%[from]], #4\n\t"
        "str r12, [%[to]], #4\n\t"
        "le lr, 1b"
        : [to] "+r"(to), [from] "+r"(from)
        : [n] "r"(width / 4)
        : "r12", "lr", "memory");
  }
}

// Eight head dimensions go to two places, four rows of sixteen slots in each (helium::value_index).
void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  static constexpr std::uint16_t kRow[8] = {0, 16, 32, 48, 0, 16, 32, 48}, kUpper[8] = {0, 0, 0, 0, 1, 1, 1, 1};
  const uint16x8_t offsets =
      vmlaq_n_u16(vld1q_u16(kRow), vld1q_u16(kUpper), static_cast<std::uint16_t>(4 * dst.capacity));
  const std::uint32_t quads = dst.head_dim & ~3u;
  helium::quantize_value(dst, slot, src, [&](int16x8_t q, std::uint32_t d) {
    if (d + 8 <= quads) {
      vstrbq_scatter_offset_s16(dst.values + helium::value_index(dst, slot, d), offsets, q);
      return;
    }
    std::int16_t rest[8];
    vst1q_s16(rest, q);
    for (std::uint32_t i = 0; d + i < dst.head_dim; ++i)
      dst.values[helium::value_index(dst, slot, d + i)] = static_cast<std::int8_t>(rest[i]);
  });
}

}  // namespace

extern const Kernels kernels_cortex_m55;
const Kernels kernels_cortex_m55 = {
    traits::kCortexM55,
    portable::crc32c,
    embed_f32_s8c,
    helium::quantize_s8r_f32,
    helium::norm_s8r_f32,
    helium::gate_s8r_f32,
    helium::matmul_f32_s8r_s8c,
    helium::query_s8r_f32,
    store_key,
    store_value,
    helium::attend_block,
    helium::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed
