// SPDX-License-Identifier: Apache-2.0
// kernels_neon.cpp: the kernel table for Arm with NEON, 64-bit without the dot-product extension and 32-bit (ARMv7-A).
// Always built with -O2.
#include "runtime/one_rounding.hpp"

#if !defined(__ARM_NEON)
#error "kernels_neon.cpp needs NEON: on 32-bit Arm -march=armv7-a+neon"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_neon;
constexpr Kernels kernels_neon = simd::make_kernels<simd::NeonArch, simd::DotNeon>(traits::kNeon);

}  // namespace heed
