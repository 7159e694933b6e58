// SPDX-License-Identifier: Apache-2.0
// vocabulary_files.hpp: vocabularies that are lists in files: BERT's vocab.txt, GPT-2's vocab.json with merges.txt.
#pragma once
#include <cstdint>

#include "quant/error.hpp"
#include "quant/readers/tokenizer_config.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// Reads a WordPiece vocabulary, one token a line, the first is token 0. Lower-casing and the like are `config`'s, else
// those of BERT uncased; so are the names of [UNK], [CLS] and [SEP]. The bytes are not trusted.
Error read_vocab_txt(Vocabulary& vocabulary, Span<const std::uint8_t> file, const TokenizerConfig& config,
                     std::uint32_t vocab_size);

// Reads a byte-level vocabulary, an object of names and ids, and its merges, one pair a line behind an optional
// "#version". The splitting rule is that of `config`'s class, else GPT-2's; a class with another one is refused by
// name. Not trusted either.
Error read_vocab_json(Vocabulary& vocabulary, Span<const std::uint8_t> vocab, Span<const std::uint8_t> merges,
                      const TokenizerConfig& config, std::uint32_t vocab_size);

}  // namespace heed::quant
