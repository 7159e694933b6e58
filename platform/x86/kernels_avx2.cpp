// SPDX-License-Identifier: Apache-2.0
// kernels_avx2.cpp: the kernel table for x86-64 with AVX2. Only this file is built with -mavx2, and always with -O2.
#include "runtime/one_rounding.hpp"

#ifndef __AVX2__
#error "kernels_avx2.cpp needs -mavx2"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_avx2;
constexpr Kernels kernels_avx2 = simd::make_kernels<xsimd::avx2, simd::DotAvx2>(traits::kAvx2);

}  // namespace heed
