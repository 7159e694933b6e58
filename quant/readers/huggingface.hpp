// SPDX-License-Identifier: Apache-2.0
// huggingface.hpp: reads a Hugging Face folder: config.json and model.safetensors.
#pragma once
#include "quant/source.hpp"

namespace heed::quant {

// Fills `model`, whose `files` map the tensors. Today's families: GPT2LMHeadModel. What heed cannot run is refused by
// naming the field of config.json and its value, or the tensor.
Error read_huggingface(FloatModel& model, const std::string& folder);

// The same from the bytes of the two files; those of the tensors outlive the model.
Error read_huggingface(FloatModel& model, Span<const std::uint8_t> config_json, Span<const std::uint8_t> safetensors);

}  // namespace heed::quant
