// SPDX-License-Identifier: Apache-2.0
// tokenizer_json_steps.hpp: the parts that tokenizer_json.cpp is made of.
#pragma once
#include "quant/readers/tokenizer_json_file.hpp"
#include "quant/readers/vocabulary_parts.hpp"

namespace heed::quant {

// Goes through the steps of one kind; each one that is taken counts as understood, and the first that is not is
// refused.
class Steps {
 public:
  // `name` as the file has it, such as "normalizer".
  Steps(const char* name, const std::vector<Json>& steps) : name_(name), steps_(steps) {}

  // The next step if it has this type, else null.
  const Json* take(const char* type);
  // Whether the next step is exactly this one.
  bool take(const Json& step);
  // Passes over those of the type that come next.
  void ignore(const char* type);
  // The first step that is left is refused with its value.
  Error finish() const;
  Error refuse(const Json& step) const;

 private:
  const char* name_;
  const std::vector<Json>& steps_;
  std::size_t at_ = 0;
};

// A flag of an object; the fallback where it is missing or no flag.
bool flag_of(const Json& object, const char* name, bool fallback);
// Refuses a member of the model that is there and is none of null, false, 0, "": "model.dropout 0.1 is not supported".
Error refuse_unless_off(const TokenizerJsonFile& file, std::initializer_list<const char*> names);

// The pieces and merges of a byte-level vocabulary, whose entries have ids.
Error place_byte_level(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file);

// Each reads normalizer, pre_tokenizer, model and decoder of one kind. Added tokens are not yet in.
Error read_byte_level(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file);
Error read_sentencepiece_bpe(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file);
Error read_unigram(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file);
Error read_wordpiece(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file);

// Reads the post_processor into the template.
Error read_template(Vocabulary& vocabulary, const TokenizerJsonFile& file);

// The vocabulary of what a file says, from this format or another one: kind, added tokens, template, BOS and EOS.
Error read_steps(Vocabulary& vocabulary, const TokenizerJsonFile& file, const TokenizerConfig& config,
                 std::uint32_t vocab_size);

}  // namespace heed::quant
