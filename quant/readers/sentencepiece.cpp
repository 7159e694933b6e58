// SPDX-License-Identifier: Apache-2.0
// sentencepiece.cpp: see the header.
#include "quant/readers/sentencepiece.hpp"

#include <algorithm>

#include "quant/readers/json.hpp"
#include "quant/readers/vocabulary_parts.hpp"

namespace heed::quant {
namespace {

Error check_supported(const SentencePieceFile& file) {
  using Algorithm = SentencePieceFile::Algorithm;
  if (file.algorithm == Algorithm::word || file.algorithm == Algorithm::character)
    return Error("trainer_spec.model_type " + std::to_string(static_cast<int>(file.algorithm)) +
                 " (words or characters) is not supported");
  if (file.whitespace_as_suffix) return Error("trainer_spec.treat_whitespace_as_suffix true is not supported");
  if (!file.escape_whitespaces) return Error("normalizer_spec.escape_whitespaces false is not supported");
  if (file.denormalizes) return Error("denormalizer_spec has rules, which is not supported");
  for (const SentencePiece& piece : file.pieces)
    if (file.algorithm == Algorithm::bpe && piece.type == SentencePieceType::unused)
      return Error("piece " + printable(piece.text) + " is unused, which is not supported in a BPE model");
  return {};
}

// One piece as token `id`.
Error place_piece(Vocabulary& vocabulary, PieceNames& names, const SentencePieceFile& file, std::uint32_t id) {
  const SentencePiece& from = file.pieces[id];
  VocabPiece piece;
  piece.bytes = with_spaces(from.text);
  piece.score = from.score;
  piece.control = from.type != SentencePieceType::normal;
  const auto token = static_cast<Token>(id);
  switch (from.type) {
    case SentencePieceType::unknown:
      if (vocabulary.unk != kNoToken) return Error("piece " + printable(from.text) + " is a second unknown token");
      vocabulary.unk = token;
      piece.bytes = file.unk_surface;
      break;
    case SentencePieceType::control: vocabulary.added.push_back({token, true}); break;
    case SentencePieceType::user_defined: vocabulary.added.push_back({token, false}); break;
    case SentencePieceType::byte:
      if (byte_of_name(from.text) < 0) return Error("piece " + printable(from.text) + " is the name of no byte");
      break;
    case SentencePieceType::normal:
    case SentencePieceType::unused: break;
  }
  // What looks like a byte and is none would be taken for one.
  if (from.type != SentencePieceType::byte && byte_of_name(piece.bytes) >= 0)
    return Error("piece " + printable(from.text) + " has the name of a byte and is none");
  return names.add(id, from.text, std::move(piece));
}

// A token of tokenizer_config.json, beyond the file's pieces or one of them.
Error place_added(Vocabulary& vocabulary, PieceNames& names, std::uint32_t id,
                  const TokenizerConfig::AddedToken& token) {
  if (token.text.empty()) return Error("added token " + std::to_string(id) + " has no text");
  const Token known = names.find(token.text);
  if (known == kNoToken) {
    VocabPiece piece;
    piece.bytes = token.text;
    piece.control = true;
    if (Error error = names.add(id, token.text, std::move(piece))) return error;
  } else if (static_cast<std::uint32_t>(known) != id) {
    return Error("added token " + printable(token.text) + " is " + std::to_string(id) + " in one file and " +
                 std::to_string(known) + " in another");
  }
  const auto same = std::find_if(vocabulary.added.begin(), vocabulary.added.end(),
                                 [&](const AddedToken& added) { return added.id == static_cast<Token>(id); });
  const AddedToken added{static_cast<Token>(id), token.special, token.lstrip, token.rstrip, token.single_word};
  if (same != vocabulary.added.end()) {
    *same = added;
  } else if (static_cast<Token>(id) != vocabulary.unk) {
    vocabulary.added.push_back(added);
    vocabulary.pieces[id].control = true;
  }
  return {};
}

// Classes of transformers whose tokens have the numbers of the file's pieces, and which of BOS and EOS they add by
// themselves.
struct Class {
  const char* name;
  bool add_bos, add_eos;
};
constexpr Class kClasses[] = {
    {"LlamaTokenizer", true, false},  {"LlamaTokenizerFast", true, false}, {"CodeLlamaTokenizer", true, false},
    {"GemmaTokenizer", true, false},  {"GemmaTokenizerFast", true, false}, {"T5Tokenizer", false, true},
    {"T5TokenizerFast", false, true}, {"MT5Tokenizer", false, true},
};

Error place_template(Vocabulary& vocabulary, const TokenizerConfig& config) {
  bool add_bos = vocabulary.kind == TokenizerKind::merges, add_eos = false;
  if (!config.tokenizer_class.empty()) {
    const auto* known = std::find_if(std::begin(kClasses), std::end(kClasses),
                                     [&](const Class& c) { return config.tokenizer_class == c.name; });
    if (known == std::end(kClasses))
      return Error("tokenizer_class " + printable(config.tokenizer_class) +
                   " may number tokens otherwise than this file; give its tokenizer.json");
    add_bos = known->add_bos;
    add_eos = known->add_eos;
  }
  set_plain_template(vocabulary, said_or(config.add_bos, add_bos), said_or(config.add_eos, add_eos));
  return {};
}

}  // namespace

Error place_sentencepiece(Vocabulary& vocabulary, PieceNames& names, const SentencePieceFile& file) {
  if (Error error = check_supported(file)) return error;
  vocabulary.kind =
      file.algorithm == SentencePieceFile::Algorithm::bpe ? TokenizerKind::merges : TokenizerKind::unigram;
  // Programs that find special tokens in a text encode what is between them as texts of their own.
  vocabulary.prefix_space = vocabulary.fresh_text = file.add_dummy_prefix;
  vocabulary.collapse_spaces = file.remove_extra_whitespaces;
  vocabulary.visible_space = true;
  vocabulary.charsmap.assign(file.charsmap.begin(), file.charsmap.end());
  for (std::uint32_t id = 0; id < file.pieces.size(); ++id)
    if (Error error = place_piece(vocabulary, names, file, id)) return error;
  if (Error error = place_byte_tokens(vocabulary)) return error;
  if (file.byte_fallback && vocabulary.byte_count == 0)
    return Error("trainer_spec.byte_fallback is true and no piece is a byte");
  // The library knows both by these names, and only where they are control pieces.
  for (auto [name, token] : {std::pair{&file.bos_piece, &vocabulary.bos}, {&file.eos_piece, &vocabulary.eos}}) {
    const Token found = names.find(*name);
    if (found != kNoToken && file.pieces[static_cast<std::size_t>(found)].type == SentencePieceType::control)
      *token = found;
  }
  return {};
}

Error read_sentencepiece(Vocabulary& vocabulary, Span<const std::uint8_t> bytes, const TokenizerConfig& config,
                         std::uint32_t vocab_size) {
  vocabulary = {};
  SentencePieceFile file;
  if (Error error = read_sentencepiece_file(file, bytes)) return error;
  if (Error error = too_many_tokens(file.pieces.size(), vocab_size)) return error;
  PieceNames names(vocabulary, vocab_size);
  if (Error error = place_sentencepiece(vocabulary, names, file)) return error;
  for (const auto& [id, token] : config.added_tokens)
    if (Error error = place_added(vocabulary, names, id, token)) return error;
  if (Error error = place_bos_eos(vocabulary, names, config)) return error;
  return place_template(vocabulary, config);
}

}  // namespace heed::quant
