// SPDX-License-Identifier: Apache-2.0
// huggingface.hpp: reads a Hugging Face folder: config.json, model.safetensors or the files that its index names, and what stands
// beside them: generation_config.json, modules.json of sentence-transformers, a tokenizer.
#pragma once
#include "quant/source.hpp"

namespace heed::quant {

// Fills `model`, whose `files` map the tensors. Today's families are those of families/. What heed cannot run is refused by
// naming the field of config.json and its value, or the tensor. `tokenizer` becomes the folder where it has one.
Error read_huggingface(FloatModel& model, const std::string& folder);

// The same from the bytes of the two files; those of the tensors outlive the model.
Error read_huggingface(FloatModel& model, Span<const std::uint8_t> config_json, Span<const std::uint8_t> safetensors);

}  // namespace heed::quant
