// SPDX-License-Identifier: Apache-2.0
// description.hpp: a safetensors file and the JSON that says what its tensors are (SPEC.md, part 7).
#pragma once
#include <string>

#include "quant/source.hpp"

namespace heed::quant {

// Neither is trusted: every field has its range, every tensor its shape, and what the converter makes of them (tables of
// positions, of distances) is bounded. The model keeps views of `safetensors`, which must outlive it, and none of
// the description; paths of tokenizers are as they stand there. Refusals begin with the name of the file that is at
// fault, then the field and its value, or the tensor.
Error read_description(FloatModel& model, Span<const std::uint8_t> description, Span<const std::uint8_t> safetensors,
                       const std::string& description_name = "the description",
                       const std::string& weights_name = "the weights");

}  // namespace heed::quant
