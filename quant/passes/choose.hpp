// SPDX-License-Identifier: Apache-2.0
// choose.hpp: which passes a model gains by.
#pragma once
#include <functional>

#include "quant/passes/pass.hpp"

namespace heed::quant {

// A model and what calibration saw of it. Movable.
struct SeenModel {
  FloatModel model;
  Calibration seen;
};

// A pass and the stack that it is for.
struct StackPass {
  const Pass* pass;
  std::uint32_t stack;
};
// All that are valid, in the order in which they are applied.
std::vector<StackPass> passes_for(const ModelConfig& config);

// The model behind some passes, in their order. `original` must outlive it.
SeenModel apply_passes(const SeenModel& original, const std::vector<StackPass>& passes);

// All passes together must bring the distance between int8 and float below this part of what it was, or none is applied: what
// gains less is left as it is, byte by byte.
inline constexpr double kPassesMustGain = 0.85;
// Leaving one out must raise it to this many times what all have, or more; one that costs the runtime something, to more.
inline constexpr double kPassMustGain = 1.0, kCostlyPassMustGain = 1.1;

// Quantises a model and says how far it is from the float model; infinity where no image can hold it.
using Distance = std::function<double(const SeenModel& model)>;
// The passes to apply, none where they do not improve `before`, the distance without any, enough.
std::vector<StackPass> choose_passes(const SeenModel& original, double before, const Distance& distance);

}  // namespace heed::quant
