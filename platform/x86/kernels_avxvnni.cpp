// SPDX-License-Identifier: Apache-2.0
// kernels_avxvnni.cpp: the kernel table for x86-64 with AVX2 and AVX-VNNI. Only this file is built with
// -mavx2 -mavxvnni, and always with -O2.
#include "runtime/one_rounding.hpp"

#if !defined(__AVX2__) || !defined(__AVXVNNI__)
#error "kernels_avxvnni.cpp needs -mavx2 -mavxvnni"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_avxvnni;
constexpr Kernels kernels_avxvnni =
    simd::make_kernels<xsimd::avx2, simd::DotVnni<simd::Ymm<simd::Vex>>>(traits::kAvxVnni);

}  // namespace heed
