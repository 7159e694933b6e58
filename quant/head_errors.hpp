// SPDX-License-Identifier: Apache-2.0
// head_errors.hpp: what int8 makes of the queries, keys and values that attention works on.
#pragma once
#include "quant/calibration.hpp"

namespace heed::quant {

// rms of (int8 - float) / rms of float over the samples of all layers, rounded as SPEC.md 2.7 does; keys less the mean that
// is taken from them, which softmax does not see. 0 where there are none.
double head_error(const StackConfig& config, const StackCalibration& seen, HeadRole heads, bool key_offset);

}  // namespace heed::quant
