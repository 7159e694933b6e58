// SPDX-License-Identifier: Apache-2.0
// layer_norm.hpp: layer norm in plain C++, compiled once with the baseline's flags; the host's vector tables call it.
#pragma once
#include "runtime/kernels.hpp"

namespace heed::portable {

// As Kernels::norm_s8r_f32 with `centred`, for tables whose activations are plain int8; writes no sums.
void layer_norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights);

}  // namespace heed::portable
