// SPDX-License-Identifier: Apache-2.0
// kernels_neon.cpp: the kernel table for AArch64 without the dot-product extension. Always built with -O2.
#if !defined(__aarch64__) || !defined(__ARM_NEON)
#error "kernels_neon.cpp needs AArch64"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_neon;
constexpr Kernels kernels_neon = simd::make_kernels<xsimd::neon64, simd::DotNeon>(traits::kNeon);

}  // namespace heed
