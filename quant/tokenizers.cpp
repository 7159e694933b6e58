// SPDX-License-Identifier: Apache-2.0
// tokenizers.cpp: reads a vocabulary, builds its tables, and opens them as the runtime will.
#include "quant/tokenizers.hpp"

#include "quant/readers/characters.hpp"
#include "quant/readers/tokenizer_folder.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

Error read_vocabulary(Vocabulary& vocabulary, const std::string& tokenizer, std::uint32_t vocab_size) {
  if (is_character_vocabulary(tokenizer)) return read_characters(vocabulary, tokenizer, vocab_size);
  TokenizerConfig config;
  return read_tokenizer(vocabulary, config, tokenizer, vocab_size);
}

Error build_tokenizer(std::vector<std::uint8_t>& section, Vocabulary& vocabulary, const std::string& path,
                      std::uint32_t vocab_size) {
  if (Error error = read_vocabulary(vocabulary, path, vocab_size)) return error;
  if (const std::string refused = build_tokenizer_section(section, vocabulary); !refused.empty())
    return Error(path + ": " + refused);
  Tokenizer tokenizer;
  const Status status = open(tokenizer, {section.data(), section.size()}, vocab_size);
  return status == Status::ok ? Error() : Error(path + ": " + to_string(status));
}

}  // namespace

Error build_tokenizers(Tokenizers& sections, FloatModel& model, const std::string& tokenizer,
                       const std::string& source_tokenizer) {
  const StackConfig &main = model.config.main(), &source = model.config.source();
  const bool source_reads = model.config.n_stacks == 2 && source.input == Input::tokens;
  const bool main_reads = main.input == Input::tokens;
  if (!source_tokenizer.empty() && !source_reads) return Error(source_tokenizer + ": the model has no source of tokens");
  if (!tokenizer.empty() && !main_reads && !source_reads) return Error(tokenizer + ": the model reads no tokens");
  Vocabulary vocabulary;
  if (main_reads && !tokenizer.empty()) {
    if (Error error = build_tokenizer(sections.main, vocabulary, tokenizer, main.vocab_size)) return error;
    static_assert(kNoSourceToken == static_cast<std::uint32_t>(kNoToken));
    // A list of characters says which it has; a file that names none leaves the model's.
    const bool all = is_character_vocabulary(tokenizer);
    if (model.generation.first.empty() && (all || vocabulary.bos != kNoToken))
      model.bos = static_cast<std::uint32_t>(vocabulary.bos);
    if (model.generation.endings.empty() && (all || vocabulary.eos != kNoToken))
      model.eos = static_cast<std::uint32_t>(vocabulary.eos);
    if (source_reads && source_tokenizer.empty() && source.vocab_size != main.vocab_size)
      return Error("the source has " + std::to_string(source.vocab_size) + " tokens and the text behind it " +
                   std::to_string(main.vocab_size) + ", so it needs a tokenizer of its own (source_tokenizer)");
  }
  const std::string& of_source = source_tokenizer.empty() && !main_reads ? tokenizer : source_tokenizer;
  if (!source_reads || of_source.empty()) return {};
  return build_tokenizer(sections.source, vocabulary, of_source, source.vocab_size);
}

}  // namespace heed::quant
