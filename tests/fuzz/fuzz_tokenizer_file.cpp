// SPDX-License-Identifier: Apache-2.0
// fuzz_tokenizer_file.cpp: any bytes as a file of a tokenizer: refused with one sentence, or a section that opens and
// encodes. Input: u8 kind of file in three bits, 128 = sections with tables of all characters, too, which take some
// time; u16 length of a tokenizer_config.json (of merges.txt for vocab.json); that text; the file.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "quant/readers/gguf_tokenizer.hpp"
#include "quant/readers/sentencepiece.hpp"
#include "quant/readers/tokenizer_json.hpp"
#include "quant/readers/vocabulary_files.hpp"

namespace {

using namespace heed;
using namespace heed::quant;

constexpr std::uint32_t kVocabSize = 512;
constexpr char kText[] = "  <s>Ab\xC3\xA9 \xE2\x96\x81 12 it's\n\xFF<x> ";

void require(bool condition) {
  if (!condition) std::abort();
}

// One line, whatever names the file has.
bool refused(const Error& error) {
  require(error.sentence().find('\n') == std::string::npos);
  return static_cast<bool>(error);
}

Error read(Vocabulary& vocabulary, std::uint8_t kind, Span<const std::uint8_t> beside, Span<const std::uint8_t> file) {
  TokenizerConfig config;
  GgufMetadata metadata;
  if (kind != 3 && refused(read_tokenizer_config(config, beside))) config = {};
  switch (kind) {
    case 0: return read_tokenizer_json(vocabulary, file, config, kVocabSize);
    case 1: return read_sentencepiece(vocabulary, file, config, kVocabSize);
    case 2: return read_vocab_txt(vocabulary, file, config, kVocabSize);
    case 3: return read_vocab_json(vocabulary, file, beside, config, kVocabSize);
    default: break;
  }
  if (Error error = metadata.open(file)) return error;
  require(metadata.end() <= file.size());
  return read_gguf_tokenizer(vocabulary, config, metadata, kVocabSize);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const Span<const std::uint8_t> input{data + 3, size - 3};
  const std::size_t wanted = data[1] | std::size_t{data[2]} << 8, split = wanted < input.size() ? wanted : input.size();
  Vocabulary vocabulary;
  if (refused(read(vocabulary, data[0] & 7, input.subspan(0, split), input.subspan(split, input.size() - split))))
    return 0;
  require(vocabulary.pieces.size() == kVocabSize);
  const bool has_tables = vocabulary.kind == TokenizerKind::byte_pairs || vocabulary.kind == TokenizerKind::word_pieces;
  if (has_tables && !(data[0] & 128)) return 0;
  std::vector<std::uint8_t> section;
  const std::string why = build_tokenizer_section(section, vocabulary);
  require(why.find('\n') == std::string::npos);
  if (!why.empty()) return 0;
  Tokenizer tokenizer;
  require(open(tokenizer, {section.data(), section.size()}, kVocabSize) == Status::ok);
  const std::size_t bytes = sizeof kText - 1, scratch_bytes = Tokenizer::scratch_bytes(bytes);
  const std::unique_ptr<std::uint32_t[]> scratch(new std::uint32_t[scratch_bytes / 4 + 1]);
  std::vector<Token> tokens(Tokenizer::max_tokens(bytes));
  std::uint32_t n = 0;
  const Status status = tokenizer.encode(n, {kText, bytes}, {}, {tokens.data(), tokens.size()},
                                         {reinterpret_cast<std::byte*>(scratch.get()), scratch_bytes});
  require(status == Status::ok || status == Status::text_not_expressible);
  return 0;
}
