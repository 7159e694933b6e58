// SPDX-License-Identifier: Apache-2.0
// sentencepiece.hpp: the vocabulary of a SentencePiece model, BPE or unigram.
#pragma once
#include <cstdint>

#include "quant/error.hpp"
#include "quant/readers/sentencepiece_file.hpp"
#include "quant/readers/tokenizer_config.hpp"
#include "quant/tokenizer_tables.hpp"

namespace heed::quant {

// Reads tokenizer.model and its like. `config` may add tokens and says what BOS and EOS are called and where they
// stand; without it a BPE model has BOS in front. What the file asks for and heed does not do is refused in one line
// that names it. `vocab_size`, the model's, may be more than the file has.
Error read_sentencepiece(Vocabulary& vocabulary, Span<const std::uint8_t> file, const TokenizerConfig& config,
                         std::uint32_t vocab_size);

// The same of what a file says. BOS and EOS are found by name among the control pieces. The template is left alone.
Error place_sentencepiece(Vocabulary& vocabulary, class PieceNames& names, const SentencePieceFile& file);

}  // namespace heed::quant
