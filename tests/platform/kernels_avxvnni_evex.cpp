// SPDX-License-Identifier: Apache-2.0
// kernels_avxvnni_evex.cpp: the AVX-VNNI table with vpdpbusd in AVX-512's encoding, for CPUs that know no other. Only the
// encoding differs. Built with -mavx2.
#include "platform/simd/table.hpp"

namespace heed {

extern const Kernels kernels_avxvnni_evex;
constexpr KernelTraits kTraits = {
    "avxvnni in AVX-512's encoding", traits::kAvxVnni.layouts,   traits::kAvxVnni.preferred, 1,
    traits::kAvxVnni.alignment,      traits::kAvxVnni.slack, traits::kAvxVnni.default_chunk,
    traits::kAvxVnni.tile_tokens,    traits::kAvxVnni.tile_blocks,   traits::kAvxVnni.stream_blocks};
constexpr Kernels kernels_avxvnni_evex =
    simd::make_kernels<xsimd::avx2, simd::DotVnni<simd::Ymm<simd::Evex>>>(kTraits);

}  // namespace heed
