// SPDX-License-Identifier: Apache-2.0
// calibration.hpp: what the float model does on a text that it writes itself; the quantiser needs no other data.
#pragma once
#include <cstdint>
#include <vector>

#include "quant/float_reference.hpp"

namespace heed::quant {

struct Calibration {
  std::vector<std::uint32_t> tokens;       // sampled at temperature 1, beginning with BOS; several texts without one
  std::vector<double> key_means;           // [n_layers, n_kv_heads, head_dim], after rotation
  std::uint32_t samples = 0;               // positions, evenly spaced, whose vectors were kept
  std::vector<float> inputs[kSiteCount];   // [n_layers (1 at unembed_in), samples, cols], before gain and bias
};

// The same on every host. Takes 256 positions, 64 for models above 50 million parameters, fewer if the context is
// shorter. A model without BOS writes at least four texts, which begin with tokens spread over its vocabulary, and as
// many as give those positions.
Calibration calibrate(const FloatModel& model);

}  // namespace heed::quant
