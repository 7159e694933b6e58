// SPDX-License-Identifier: Apache-2.0
// kernels_i8mm.cpp: the kernel table for AArch64 with int8 matrix multiplication. Only this file is built with
// -march=armv8.2-a+dotprod+i8mm, and always with -O2.
#include "runtime/one_rounding.hpp"

#if !defined(__aarch64__) || !defined(__ARM_FEATURE_DOTPROD) || !defined(__ARM_FEATURE_MATMUL_INT8)
#error "kernels_i8mm.cpp needs -march=armv8.2-a+dotprod+i8mm"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_i8mm;
constexpr Kernels kernels_i8mm = simd::make_kernels<simd::NeonArch, simd::DotI8mm>(traits::kI8mm);

}  // namespace heed
