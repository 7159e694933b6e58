// SPDX-License-Identifier: Apache-2.0
// gguf_tokenizer.hpp: the vocabulary that a GGUF file carries in its metadata.
#pragma once
#include <cstdint>

#include "quant/error.hpp"
#include "quant/readers/gguf_metadata.hpp"
#include "quant/readers/tokenizer_config.hpp"
#include "quant/tokenizer_tables.hpp"

namespace heed::quant {

// Reads tokenizer.ggml.*: the kinds llama and t5 (SentencePiece), gpt2 (byte-level BPE by the splitting rule that the
// file names) and bert (WordPiece). Others are refused by name. `config` gets the chat template and the names of BOS
// and EOS.
Error read_gguf_tokenizer(Vocabulary& vocabulary, TokenizerConfig& config, const GgufMetadata& metadata,
                          std::uint32_t vocab_size);

}  // namespace heed::quant
