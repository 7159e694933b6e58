// SPDX-License-Identifier: Apache-2.0
// kernels_dotprod.cpp: the kernel table for AArch64 with the dot-product extension. Only this file is built with
// -march=armv8.2-a+dotprod, and always with -O2.
#include "runtime/one_rounding.hpp"

#if !defined(__aarch64__) || !defined(__ARM_FEATURE_DOTPROD)
#error "kernels_dotprod.cpp needs -march=armv8.2-a+dotprod"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_dotprod;
constexpr Kernels kernels_dotprod = simd::make_kernels<simd::NeonArch, simd::DotDotprod>(traits::kDotprod);

}  // namespace heed
