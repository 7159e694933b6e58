// SPDX-License-Identifier: Apache-2.0
// llama2c.hpp: reads checkpoints of llama2.c (github.com/karpathy/llama2.c, export.py): the headerless float32 form
// that its run.c takes ("version 0") and the float32 form with a header ("version 1").
#pragma once
#include "quant/source.hpp"

namespace heed::quant {

// True when the bytes begin like a versioned llama2.c checkpoint, or like a headerless one with sane sizes.
bool is_llama2c(Span<const std::uint8_t> bytes);

// Fills `model` with views into the first of its own `files`, which the caller has opened. The bytes are not trusted: every size is
// checked, and the file must be exactly as long as its header says. The rotation is that of the tables in a version 0
// (tables of zeros count as none), else of theta 10000, unless the options say another; llama2.c's own run.c always
// takes 10000.
Error read_llama2c(FloatModel& model, const ReadOptions& options = {});

// The same from memory that outlives the model.
Error read_llama2c(FloatModel& model, Span<const std::uint8_t> bytes, const ReadOptions& options = {});

}  // namespace heed::quant
