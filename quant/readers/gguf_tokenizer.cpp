// SPDX-License-Identifier: Apache-2.0
// gguf_tokenizer.cpp: the lists of a GGUF file in the form that the readers of the files they came from have.
#include "quant/readers/gguf_tokenizer.hpp"

#include <cstring>

#include "quant/readers/sentencepiece.hpp"
#include "quant/readers/splitting_rules.hpp"
#include "quant/readers/tokenizer_json_steps.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFFu;
constexpr char kWordBegin[] = "\xE2\x96\x81";  // U+2581

std::string text_of(Span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Lists {
  const GgufValue *tokens = nullptr, *scores = nullptr, *types = nullptr, *merges = nullptr;

  SentencePieceType type(std::uint64_t i) const {
    return types ? static_cast<SentencePieceType>(gguf_bits32(*types, i)) : SentencePieceType::normal;
  }
  float score(std::uint64_t i) const {
    if (!scores) return 0.0f;
    const std::uint32_t bits = gguf_bits32(*scores, i);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
};

Error find_list(const GgufValue*& list, const GgufMetadata& metadata, const char* key, GgufType type) {
  list = metadata.find(key);
  if (!list) return {};
  const bool integers = type == GgufType::i32 && list->type == GgufType::u32;
  if (list->is_list && (list->type == type || integers)) return {};
  return Error(std::string(key) + " is no list of " + (type == GgufType::text ? "texts" : "numbers"));
}

Error find_lists(Lists& lists, const GgufMetadata& metadata, std::uint32_t vocab_size) {
  if (Error error = find_list(lists.tokens, metadata, "tokenizer.ggml.tokens", GgufType::text)) return error;
  if (Error error = find_list(lists.scores, metadata, "tokenizer.ggml.scores", GgufType::f32)) return error;
  if (Error error = find_list(lists.types, metadata, "tokenizer.ggml.token_type", GgufType::i32)) return error;
  if (Error error = find_list(lists.merges, metadata, "tokenizer.ggml.merges", GgufType::text)) return error;
  if (!lists.tokens || lists.tokens->count == 0) return Error("it has no tokenizer.ggml.tokens");
  if (Error error = too_many_tokens(lists.tokens->count, vocab_size)) return error;
  for (auto [list, name] : {std::pair{lists.scores, "scores"}, {lists.types, "token_type"}})
    if (list && list->count != lists.tokens->count)
      return Error("tokenizer.ggml." + std::string(name) + " has " + std::to_string(list->count) + " entries for " +
                   std::to_string(lists.tokens->count) + " tokens");
  for (std::uint64_t i = 0; lists.types && i < lists.types->count; ++i) {
    const std::uint32_t type = gguf_bits32(*lists.types, i);
    if (type < 1 || type > 6)
      return Error("tokenizer.ggml.token_type has " + std::to_string(type) + ", which is none of 1 to 6");
  }
  return {};
}

// Ids of special tokens; kNone where the file has none.
struct SpecialIds {
  std::uint32_t bos, eos, unk, sep, cls;
};

Error read_ids(SpecialIds& ids, const GgufMetadata& metadata, std::uint64_t tokens) {
  struct Key {
    std::uint32_t* id;
    const char *key, *other;  // the key that older writers used
  };
  for (const Key& key : {Key{&ids.bos, "tokenizer.ggml.bos_token_id", nullptr},
                         {&ids.eos, "tokenizer.ggml.eos_token_id", nullptr},
                         {&ids.unk, "tokenizer.ggml.unknown_token_id", nullptr},
                         {&ids.sep, "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.separator_token_id"},
                         {&ids.cls, "tokenizer.ggml.cls_token_id", nullptr}}) {
    if (Error error = metadata.number_or(*key.id, key.key, kNone)) return error;
    if (*key.id == kNone && key.other)
      if (Error error = metadata.number_or(*key.id, key.other, kNone)) return error;
    if (*key.id != kNone && *key.id >= tokens)
      return Error(std::string(key.key) + " " + std::to_string(*key.id) + " is no token of the vocabulary");
  }
  return {};
}

Token token_or_none(std::uint32_t id) { return id == kNone ? kNoToken : static_cast<Token>(id); }

// ---- SentencePiece
// ----------------------------------------------------------------------------------------------------

// The bytes of a list of bytes.
Error read_charsmap(SentencePieceFile& file, const GgufMetadata& metadata) {
  const GgufValue* map = metadata.find("tokenizer.ggml.precompiled_charsmap");
  if (!map) return {};
  if (!map->is_list || (map->type != GgufType::u8 && map->type != GgufType::i8))
    return Error("tokenizer.ggml.precompiled_charsmap is no list of bytes");
  file.charsmap = map->bytes;
  return {};
}

Error read_sentencepiece_lists(Vocabulary& vocabulary, PieceNames& names, const GgufMetadata& metadata,
                               const Lists& lists, const SpecialIds& ids, bool unigram) {
  SentencePieceFile file;
  file.algorithm = unigram ? SentencePieceFile::Algorithm::unigram : SentencePieceFile::Algorithm::bpe;
  if (!lists.scores) return Error("it has no tokenizer.ggml.scores");
  if (Error error = metadata.flag_or(file.add_dummy_prefix, "tokenizer.ggml.add_space_prefix", true)) return error;
  if (Error error = metadata.flag_or(file.remove_extra_whitespaces, "tokenizer.ggml.remove_extra_whitespaces", unigram))
    return error;
  if (Error error = read_charsmap(file, metadata)) return error;
  GgufTexts texts(*lists.tokens);
  Span<const std::uint8_t> text;
  for (std::uint64_t i = 0; texts.next(text); ++i) {
    SentencePiece piece{text_of(text), lists.score(i), lists.type(i)};
    if (piece.score - piece.score != 0.0f) return Error("tokenizer.ggml.scores has one that is not a finite number");
    // Writers fill a vocabulary up with unused tokens; a BPE model knows none.
    if (!unigram && piece.type == SentencePieceType::unused) piece.type = SentencePieceType::control;
    if (i == ids.bos) file.bos_piece = piece.text;
    if (i == ids.eos) file.eos_piece = piece.text;
    file.pieces.push_back(std::move(piece));
  }
  return place_sentencepiece(vocabulary, names, file);
}

// ---- Byte-level BPE
// ---------------------------------------------------------------------------------------------------

Error read_byte_level_lists(Vocabulary& vocabulary, PieceNames& names, const GgufMetadata& metadata,
                            const Lists& lists) {
  std::string rule;
  if (Error error = metadata.text_or(rule, "tokenizer.ggml.pre", "")) return error;
  if (!splitting_rule_of_gguf(vocabulary.split, vocabulary.whole_words, rule))
    return Error("tokenizer.ggml.pre " + (rule.empty() ? "is missing" : printable(rule) + " is not supported"));
  vocabulary.kind = TokenizerKind::byte_pairs;
  vocabulary.compose = vocabulary.split == SplitRule::qwen2;
  if (Error error = metadata.flag_or(vocabulary.prefix_space, "tokenizer.ggml.add_space_prefix", false)) return error;
  if (!lists.merges) return Error("it has no tokenizer.ggml.merges");
  TokenizerJsonFile file;
  file.vocab_has_ids = true;
  GgufTexts tokens(*lists.tokens), merges(*lists.merges);
  Span<const std::uint8_t> text;
  for (std::uint32_t i = 0; tokens.next(text); ++i) file.vocab.push_back({text_of(text), 0.0, i});
  while (merges.next(text)) {
    const std::string merge = text_of(text);
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos || space + 1 == merge.size())
      return Error("tokenizer.ggml.merges has \"" + printable(merge) + "\", which is not a pair");
    file.merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  if (Error error = place_byte_level(vocabulary, names, file)) return error;
  for (std::uint32_t i = 0; i < lists.tokens->count; ++i) {
    const SentencePieceType type = lists.type(i);
    if (type == SentencePieceType::normal) continue;
    vocabulary.pieces[i].control = true;
    if (type != SentencePieceType::control && type != SentencePieceType::user_defined) continue;
    vocabulary.pieces[i].bytes = file.vocab[i].text;  // such names are texts as they are
    vocabulary.added.push_back({static_cast<Token>(i), type == SentencePieceType::control});
  }
  return {};
}

// ---- WordPiece
// --------------------------------------------------------------------------------------------------------

// Writers put U+2581 in front of what begins a word, take "##" away from what goes on with one, and leave "[CLS]" as it
// is.
Error read_wordpiece_lists(Vocabulary& vocabulary, PieceNames& names, const Lists& lists) {
  vocabulary.kind = TokenizerKind::word_pieces;
  bool has_capitals = false;
  GgufTexts tokens(*lists.tokens);
  Span<const std::uint8_t> bytes;
  for (std::uint32_t i = 0; tokens.next(bytes); ++i) {
    const std::string name = text_of(bytes);
    const bool begins = name.compare(0, 3, kWordBegin) == 0,
               whole = name.size() > 1 && name[0] == '[' && name.back() == ']';
    VocabPiece piece;
    piece.bytes = begins ? name.substr(3) : name;
    piece.continues = !begins && !whole;
    if (!whole)
      for (const char c : piece.bytes) has_capitals = has_capitals || (c >= 'A' && c <= 'Z');
    const SentencePieceType type = lists.type(i);
    piece.control =
        type == SentencePieceType::control || type == SentencePieceType::unknown || type == SentencePieceType::unused;
    if (whole && piece.control) vocabulary.added.push_back({static_cast<Token>(i), true});
    if (Error error = names.add(i, name, std::move(piece))) return error;
  }
  // The format does not say whether a text is made small; a vocabulary without a capital has no use for any.
  vocabulary.lower_case = vocabulary.strip_accents = !has_capitals;
  return {};
}

Error place_cls_sep(Vocabulary& vocabulary, const SpecialIds& ids) {
  const Token cls = token_or_none(ids.cls == kNone ? ids.bos : ids.cls),
              sep = token_or_none(ids.sep == kNone ? ids.eos : ids.sep);
  vocabulary.unk = token_or_none(ids.unk);
  if (vocabulary.unk == kNoToken) return Error("it has no tokenizer.ggml.unknown_token_id");
  if (cls == kNoToken || sep == kNoToken) return Error("it has no tokenizer.ggml.cls_token_id or seperator_token_id");
  vocabulary.bos = cls;
  vocabulary.eos = sep;
  set_plain_template(vocabulary, true, true);
  vocabulary.text_template.second_type = true;
  return {};
}

Error read_template_flags(Vocabulary& vocabulary, const GgufMetadata& metadata, const SpecialIds& ids, bool add_bos,
                          bool add_eos) {
  if (ids.bos != kNone) vocabulary.bos = token_or_none(ids.bos);
  if (ids.eos != kNone) vocabulary.eos = token_or_none(ids.eos);
  if (Error error = metadata.flag_or(add_bos, "tokenizer.ggml.add_bos_token", add_bos)) return error;
  if (Error error = metadata.flag_or(add_eos, "tokenizer.ggml.add_eos_token", add_eos)) return error;
  set_plain_template(vocabulary, add_bos, add_eos);
  return {};
}

}  // namespace

Error read_gguf_tokenizer(Vocabulary& vocabulary, TokenizerConfig& config, const GgufMetadata& metadata,
                          std::uint32_t vocab_size) {
  vocabulary = {};
  std::string model;
  Lists lists;
  SpecialIds ids{};
  if (Error error = metadata.text_or(model, "tokenizer.ggml.model", "")) return error;
  if (Error error = metadata.text_or(config.chat_template, "tokenizer.chat_template", "")) return error;
  if (model.empty()) return Error("it has no vocabulary (tokenizer.ggml.model)");
  if (Error error = find_lists(lists, metadata, vocab_size)) return error;
  if (Error error = read_ids(ids, metadata, lists.tokens->count)) return error;
  PieceNames names(vocabulary, vocab_size);
  if (model == "llama" || model == "t5") {
    const bool unigram = model == "t5";
    if (Error error = read_sentencepiece_lists(vocabulary, names, metadata, lists, ids, unigram)) return error;
    return read_template_flags(vocabulary, metadata, ids, !unigram, unigram);
  }
  if (model == "gpt2") {
    if (Error error = read_byte_level_lists(vocabulary, names, metadata, lists)) return error;
    return read_template_flags(vocabulary, metadata, ids, vocabulary.whole_words, false);
  }
  if (model == "bert") {
    if (Error error = read_wordpiece_lists(vocabulary, names, lists)) return error;
    return place_cls_sep(vocabulary, ids);
  }
  return Error("tokenizer.ggml.model " + printable(model) + " is not supported");
}

}  // namespace heed::quant
