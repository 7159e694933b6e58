// SPDX-License-Identifier: Apache-2.0
// llama2c_tokenizer.hpp: reads the tokenizer.bin that llama2.c keeps beside its checkpoints.
#pragma once
#include <cstdint>
#include <string>

#include "quant/tokenizer_tables.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// The file: u32 length of the longest piece, then for each token f32 score, i32 length, bytes; little-endian. It does
// not say how many tokens there are: `vocab_size` comes from the model, and the file must have exactly as many.
// Tokens 0, 1, 2 are unknown, BOS and EOS; byte tokens, where there are any, stand from token 3 on as "<0x00>"...
// Returns an empty string, or one line that says what is wrong; `vocabulary` is unspecified then.
std::string read_llama2c_tokenizer(Vocabulary& vocabulary, Span<const std::uint8_t> file, std::uint32_t vocab_size);

}  // namespace heed::quant
