// SPDX-License-Identifier: Apache-2.0
// tokenizer_json.cpp: which kind a file is of, its added tokens, and what is in front of and behind a text.
#include "quant/readers/tokenizer_json.hpp"

#include <algorithm>

#include "quant/readers/tokenizer_json_steps.hpp"

namespace heed::quant {
namespace {

using Reader = Error (*)(Vocabulary&, PieceNames&, const TokenizerJsonFile&);

bool has_step(const std::vector<Json>& steps, const char* type) {
  return std::any_of(steps.begin(), steps.end(), [&](const Json& step) { return step["type"] == type; });
}

// Old files leave the model's type out; their lists tell.
Error reader_of(Reader& reader, const TokenizerJsonFile& file) {
  Json type = file.model.value("type", Json());
  if (type.is_null())
    type = !file.vocab_has_ids ? "Unigram" : file.model.contains("max_input_chars_per_word") ? "WordPiece" : "BPE";
  if (type == "BPE") {
    reader = has_step(file.pre_tokenizers, "ByteLevel") ? read_byte_level : read_sentencepiece_bpe;
  } else if (type == "Unigram") {
    reader = read_unigram;
  } else if (type == "WordPiece") {
    reader = read_wordpiece;
  } else {
    return Error("model.type " + shown(type) + " is not supported");
  }
  return {};
}

// An added token is in the vocabulary already, or has a number of its own.
Error read_added_token(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile::AddedToken& token) {
  if (token.text.empty()) return Error("added_tokens has an empty text as token " + std::to_string(token.id));
  Token id = names.find(token.text);
  if (id == kNoToken) {
    VocabPiece piece;
    piece.control = true;
    if (Error error = names.add(token.id, token.text, std::move(piece))) return error.about("added_tokens");
    id = static_cast<Token>(token.id);
  } else if (static_cast<std::uint32_t>(id) != token.id) {
    return Error("added_tokens has " + printable(token.text) + " as " + std::to_string(token.id) + ", model.vocab as " +
                 std::to_string(id));
  }
  if (token.text.size() > kMaxPieceBytes) return Error("added_tokens has a text of more than 255 bytes");
  VocabPiece& piece = vocabulary.pieces[static_cast<std::size_t>(id)];
  piece.bytes = token.text;
  piece.control = true;
  piece.continues = false;
  vocabulary.added.push_back({id, token.special, token.lstrip, token.rstrip, token.single_word});
  return {};
}

}  // namespace

Error read_steps(Vocabulary& vocabulary, const TokenizerJsonFile& file, const TokenizerConfig& config,
                 std::uint32_t vocab_size) {
  vocabulary = {};
  if (file.vocab.empty()) return Error("model.vocab is missing or empty");
  if (Error error = too_many_tokens(file.vocab.size(), vocab_size)) return error;
  Reader reader = nullptr;
  if (Error error = reader_of(reader, file)) return error;
  PieceNames names(vocabulary, vocab_size);
  if (Error error = reader(vocabulary, names, file)) return error;
  for (const TokenizerJsonFile::AddedToken& token : file.added_tokens)
    if (Error error = read_added_token(vocabulary, names, token)) return error;
  if (Error error = read_template(vocabulary, file)) return error;
  TextTemplate& text = vocabulary.text_template;
  // Whisper's decoder begins with these tokens (the model's generation list has them); a text as such has nothing
  // around it.
  if (!text.before.empty() && text.before.front() == names.find("<|startoftranscript|>")) text = {};
  if (!text.before.empty()) vocabulary.bos = text.before.front();
  if (!text.after.empty()) vocabulary.eos = text.after.back();
  if (Error error = place_bos_eos(vocabulary, names, config)) return error;
  // transformers makes the template of Llama's class from these two, whatever the file says.
  if (config.tokenizer_class.find("Llama") != std::string::npos && config.add_bos != Said::nothing)
    set_plain_template(vocabulary, said_or(config.add_bos, true), said_or(config.add_eos, false));
  return {};
}

Error read_tokenizer_json(Vocabulary& vocabulary, Span<const std::uint8_t> bytes, const TokenizerConfig& config,
                          std::uint32_t vocab_size) {
  TokenizerJsonFile file;
  if (Error error = read_tokenizer_json_file(file, bytes)) return error;
  return read_steps(vocabulary, file, config, vocab_size);
}

}  // namespace heed::quant
