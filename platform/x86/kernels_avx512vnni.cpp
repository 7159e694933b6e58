// SPDX-License-Identifier: Apache-2.0
// kernels_avx512vnni.cpp: the kernel table for x86-64 with AVX-512 and its VNNI. Only this file is built with
// -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mavx512vnni (xsimd 14 insists on cd), and always with -O2.
#include "runtime/one_rounding.hpp"

#if !defined(__AVX512F__) || !defined(__AVX512CD__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || \
    !defined(__AVX512VL__) || !defined(__AVX512VNNI__)
#error "kernels_avx512vnni.cpp needs -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mavx512vnni"
#endif
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_avx512vnni;
constexpr Kernels kernels_avx512vnni =
    simd::make_kernels<xsimd::avx512f, simd::DotVnni<simd::Zmm>>(traits::kAvx512Vnni);

}  // namespace heed
