// SPDX-License-Identifier: Apache-2.0
// calibration_inputs.hpp: sequences to measure a model on, from a safetensors file (SPEC.md 7.5).
#pragma once
#include <string>
#include <vector>

#include "quant/float_stack.hpp"

namespace heed::quant {

// Inputs of a stack, as many positions as it can have at most.
Error read_inputs(std::vector<FloatSequence>& sequences, const StackConfig& config, const std::string& path);

}  // namespace heed::quant
