// SPDX-License-Identifier: Apache-2.0
// vocabulary_parts.hpp: what all readers of tokenizer files do with the pieces they have read.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "quant/error.hpp"
#include "quant/readers/tokenizer_config.hpp"
#include "quant/tokenizer_tables.hpp"

namespace heed::quant {

// The value of a byte token's name, "<0x0A>"; -1 for any other text.
int byte_of_name(const std::string& name);

// The text with a space for each U+2581, which stands for one in SentencePiece's pieces.
std::string with_spaces(const std::string& piece);

// The piece of a name in a WordPiece vocabulary: "##ing" goes on with a word.
VocabPiece word_piece(const std::string& name);

// Pieces by their names in the file, each with the number of its token.
class PieceNames {
 public:
  // Makes room for `vocab_size` tokens, all empty control pieces.
  PieceNames(Vocabulary& vocabulary, std::uint32_t vocab_size);

  // Fails where the number is none of the model's tokens or is taken, or the name is, or is longer than a piece can be.
  Error add(std::uint32_t id, const std::string& name, VocabPiece piece);
  // kNoToken where there is none.
  Token find(const std::string& name) const;
  bool has(std::uint32_t id) const { return id < named_.size() && named_[id]; }
  std::size_t size() const { return ids_.size(); }

 private:
  Vocabulary& vocabulary_;
  std::vector<bool> named_;
  std::unordered_map<std::string, std::uint32_t> ids_;
};

// Finds the tokens of bytes, whose pieces are their names, and makes each piece the byte. They must be all 256 in a row
// or none.
Error place_byte_tokens(Vocabulary& vocabulary);

// BOS and EOS by their names in `config`; what it does not name stays as it is. Fails where a name is none of `names`.
Error place_bos_eos(Vocabulary& vocabulary, const PieceNames& names, const TokenizerConfig& config);

// BOS in front, EOS behind and between two texts, each where `add_bos` and `add_eos` say so and there is one.
void set_plain_template(Vocabulary& vocabulary, bool add_bos, bool add_eos);

// A file's number of tokens beside the model's: "it has 32100 tokens and the model 32000".
Error too_many_tokens(std::size_t tokens, std::uint32_t vocab_size);

}  // namespace heed::quant
