// SPDX-License-Identifier: Apache-2.0
// calibration_inputs.hpp: sequences to measure a model on, from a safetensors file (SPEC.md 7.5) or a text.
#pragma once
#include <string>
#include <vector>

#include "quant/float_stack.hpp"

namespace heed::quant {

// Inputs of a stack, as many positions as it can have at most.
Error read_inputs(std::vector<FloatSequence>& sequences, const StackConfig& config, const std::string& path);

// Whether a file holds such inputs and no text.
bool are_inputs(Span<const std::uint8_t> bytes);

// Tokens of a text, by the tokenizer section of the model's first stack: of a stack that generates pieces as long as its context, each behind
// what its texts begin with; else each line is a sequence. At most kMostTexts; what is longer than the context is cut.
inline constexpr std::size_t kMostTexts = 256;
Error read_texts(std::vector<FloatSequence>& sequences, const FloatModel& model, Span<const std::uint8_t> tokenizer,
                 const std::string& path);

}  // namespace heed::quant
