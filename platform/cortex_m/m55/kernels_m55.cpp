// SPDX-License-Identifier: Apache-2.0
// kernels_m55.cpp: the kernel table for ARMv8.1-M with Helium (Cortex-M55, M85): sixteen multiplies per instruction.
//
// Hot loops are inline assembly with low-overhead branches, because GCC 12 finds neither these nor tail predication.
// Helium flushes denormal numbers; none can matter (SPEC.md 2.1). Division and square root are scalar.
#include "runtime/one_rounding.hpp"

#include "platform/target.hpp"
#if defined(HEED_TABLE_CORTEX_M55)
#include "platform/cortex_m/registers.hpp"

#include "platform/cortex_m/m55/attend.hpp"
#include "platform/cortex_m/m55/gate.hpp"
#include "platform/cortex_m/m55/heads.hpp"
#include "platform/cortex_m/m55/products.hpp"
#include "platform/cortex_m/m55/rows.hpp"
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

}  // namespace

extern const Kernels kernels_cortex_m55;
const Kernels kernels_cortex_m55 = {
    traits::kCortexM55,
    portable::crc32c,
    embed_f32_s8c,
    helium::quantize_s8r_f32,
    helium::norm_s8r_f32,
    kNormsToFloats ? portable::norm_f32_f32 : nullptr,
    helium::gate_s8r_f32,
    helium::matmul_f32_s8r_s8c,
    helium::query_s8r_f32,
    helium::store_key,
    helium::store_value,
    helium::attend_block,
    helium::attend_finish,
    portable::argmax,
    portable::sample_weights,
};

}  // namespace heed

#endif
