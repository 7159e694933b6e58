// SPDX-License-Identifier: Apache-2.0
// kernels_sse2.cpp: the kernel table for every x86-64. Built with -march=x86-64, and always with -O2.
#include "runtime/one_rounding.hpp"

#if !defined(__SSE2__) || defined(__SSE3__)
#error "kernels_sse2.cpp needs -march=x86-64, and no more"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_sse2;
constexpr Kernels kernels_sse2 = simd::make_kernels<xsimd::sse2, simd::DotSse2>(traits::kSse2);

}  // namespace heed
