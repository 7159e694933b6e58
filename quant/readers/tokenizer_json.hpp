// SPDX-License-Identifier: Apache-2.0
// tokenizer_json.hpp: reads Hugging Face's tokenizer.json, where its steps together are one of the kinds that heed has.
#pragma once
#include <cstdint>

#include "quant/error.hpp"
#include "quant/readers/tokenizer_config.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// Reads byte-level BPE, SentencePiece BPE and unigram, and WordPiece. What a file says besides and heed does not do is
// refused in one line that names the step and its value. The bytes are not trusted. `config` says what BOS and EOS are
// called; `vocab_size`, the model's, may be more than the file has.
Error read_tokenizer_json(Vocabulary& vocabulary, Span<const std::uint8_t> file, const TokenizerConfig& config,
                          std::uint32_t vocab_size);

}  // namespace heed::quant
