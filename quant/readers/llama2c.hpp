// SPDX-License-Identifier: Apache-2.0
// llama2c.hpp: reads checkpoints of llama2.c (github.com/karpathy/llama2.c, export.py): the headerless float32 form
// that its run.c takes ("version 0") and the float32 form with a header ("version 1").
#pragma once
#include "quant/source.hpp"

namespace heed::quant {

// True when the bytes begin like a versioned llama2.c checkpoint, or like a headerless one with sane sizes.
bool is_llama2c(Span<const std::uint8_t> bytes);

// Fills `model` with views into its own `file`, which the caller has opened. The bytes are not trusted: every size is
// checked, and the file must be exactly as long as its header says.
Error read_llama2c(FloatModel& model);

// The same from memory that outlives the model.
Error read_llama2c(FloatModel& model, Span<const std::uint8_t> bytes);

}  // namespace heed::quant
