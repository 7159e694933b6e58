// SPDX-License-Identifier: Apache-2.0
// tokenizer_json_models.cpp: one function for each kind of model. The combinations of steps are those that published
// models have; each is the kind's one rule in other words.
#include <algorithm>

#include "quant/readers/base64.hpp"
#include "quant/readers/splitting_rules.hpp"
#include "quant/readers/tokenizer_json_steps.hpp"

namespace heed::quant {
namespace {

constexpr char kVisibleSpace[] = "\xE2\x96\x81";  // U+2581
constexpr float kNeverMerged = -1e30f;

// {"type": "Replace"}, from a text or, with `key` "Regex", a pattern.
Json replace(const char* from, const char* to, const char* key = "String") {
  return {{"type", "Replace"}, {"pattern", {{key, from}}}, {"content", to}};
}

Error read_vocab_ids(const TokenizerJsonFile& file) {
  return file.vocab_has_ids || file.vocab.empty() ? Error() : Error("model.vocab has scores in place of ids");
}

// unk_token by its text; none where the file names none.
Error place_unk(Vocabulary& vocabulary, const PieceNames& names, const TokenizerJsonFile& file) {
  const Json unk = file.model.value("unk_token", Json());
  if (unk.is_null() || unk == Json("")) return {};
  if (unk.is_string()) vocabulary.unk = names.find(unk.get<std::string>());
  if (vocabulary.unk == kNoToken) return Error("model.unk_token " + shown(unk) + " is no token of the vocabulary");
  vocabulary.pieces[static_cast<std::size_t>(vocabulary.unk)].control = true;
  return {};
}

// ---- Byte-level BPE
// ---------------------------------------------------------------------------------------------------

// {"type": "Split"} by a regular expression that is known. Removing all but the matches is the same as isolating them,
// since the patterns leave nothing between two matches.
Error read_split(SplitRule& rule, const Json& split) {
  const Json pattern = split.value("pattern", Json());
  const bool invert = flag_of(split, "invert", false);
  if (!pattern.is_object() || !pattern.contains("Regex") || !pattern["Regex"].is_string() ||
      split.value("behavior", Json()) != Json(invert ? "Removed" : "Isolated"))
    return Error("pre_tokenizer Split is not supported here: " + shown(split));
  if (splitting_rule_of_pattern(rule, pattern["Regex"].get<std::string>())) return {};
  return Error("pre_tokenizer Split has the pattern " + shown(pattern["Regex"]) + ", which is none of the known ones");
}

Error read_splitting(Vocabulary& vocabulary, const TokenizerJsonFile& file) {
  Steps steps("pre_tokenizer", file.pre_tokenizers);
  const Json* digits = steps.take("Digits");
  const Json* split = steps.take("Split");
  const Json* byte_level = steps.take("ByteLevel");
  if (Error error = steps.finish()) return error;
  if (!byte_level) return Error("pre_tokenizer has no ByteLevel at its end");
  vocabulary.prefix_space = vocabulary.fresh_text = flag_of(*byte_level, "add_prefix_space", true);
  const bool own_pattern = flag_of(*byte_level, "use_regex", true);
  if (digits && (!flag_of(*digits, "individual_digits", false) || split || !own_pattern)) return steps.refuse(*digits);
  if (split && own_pattern) return steps.refuse(*split);
  if (split) return read_split(vocabulary.split, *split);
  vocabulary.split = digits ? SplitRule::gpt2_digits : own_pattern ? SplitRule::gpt2 : SplitRule::none;
  return {};
}

// The numbers of a merge's halves and of what they make.
struct MergeIds {
  Token left, right, merged;
};

Error find_merge(MergeIds& ids, const PieceNames& names, const TokenizerJsonFile::Merge& merge) {
  ids = {names.find(merge.left), names.find(merge.right), names.find(merge.left + merge.right)};
  if (ids.left != kNoToken && ids.right != kNoToken && ids.merged != kNoToken) return {};
  return Error("model.merges has \"" + printable(merge.left + " " + merge.right) +
               "\", whose halves or whole are no tokens of the vocabulary");
}

}  // namespace

Error read_byte_level(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file) {
  vocabulary.kind = TokenizerKind::byte_pairs;
  Steps normalizers("normalizer", file.normalizers);
  vocabulary.compose = normalizers.take("NFC") != nullptr;
  if (Error error = normalizers.finish()) return error;
  if (Error error = read_splitting(vocabulary, file)) return error;
  Steps decoders("decoder", file.decoders);
  decoders.ignore("ByteLevel");
  if (Error error = decoders.finish()) return error;
  if (Error error =
          refuse_unless_off(file, {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}))
    return error;
  vocabulary.whole_words = flag_of(file.model, "ignore_merges", false);
  if (Error error = read_vocab_ids(file)) return error;
  if (Error error = place_byte_level(vocabulary, names, file)) return error;
  return place_unk(vocabulary, names, file);
}

Error place_byte_level(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file) {
  for (const TokenizerJsonFile::Entry& entry : file.vocab) {
    VocabPiece piece;
    // A name that spells no bytes cannot come from text; it is an added token's or has no use.
    piece.control = !from_byte_letters(piece.bytes, entry.text);
    if (piece.control) piece.bytes = entry.text;
    if (Error error = names.add(entry.id, entry.text, std::move(piece))) return error;
  }
  vocabulary.merges.reserve(file.merges.size());
  for (const TokenizerJsonFile::Merge& merge : file.merges) {
    MergeIds ids{};
    if (Error error = find_merge(ids, names, merge)) return error;
    vocabulary.merges.push_back({ids.left, ids.right});
  }
  return {};
}

// ---- SentencePiece
// ----------------------------------------------------------------------------------------------------
namespace {

// Metaspace puts a visible space for each space, and one in front of the text; some files say so by a normalizer.
Error read_metaspace(Vocabulary& vocabulary, const Json& metaspace) {
  const Json scheme = metaspace.value("prepend_scheme", Json());
  if (metaspace.value("replacement", Json()) != Json(kVisibleSpace) ||
      (!scheme.is_null() && scheme != Json("always") && scheme != Json("first") && scheme != Json("never")))
    return Error("pre_tokenizer Metaspace is not supported here: " + shown(metaspace));
  vocabulary.prefix_space = scheme.is_null() ? flag_of(metaspace, "add_prefix_space", true) : scheme != Json("never");
  vocabulary.fresh_text = vocabulary.prefix_space && scheme != Json("first");
  return {};
}

// Visible spaces to spaces, names of bytes to bytes, and the first space away if one was put there.
Error read_decoder(const Vocabulary& vocabulary, const TokenizerJsonFile& file) {
  Steps steps("decoder", file.decoders);
  if (steps.take("Metaspace")) return steps.finish();
  steps.take(replace(kVisibleSpace, " "));
  steps.ignore("ByteFallback");
  steps.ignore("Fuse");
  const bool strips = steps.take({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  if (Error error = steps.finish()) return error;
  if (strips != vocabulary.prefix_space)
    return Error(
        std::string("decoder ") +
        (strips ? "strips a first space that nobody puts there" : "keeps the space that is put in front of a text") +
        ", which is not supported");
  return {};
}

// Where a list has the merges that make one piece.
struct MergesOf {
  std::uint32_t token, first, last, count;
};

// In the order of their first merges.
Error find_merges(std::vector<MergesOf>& pieces, const PieceNames& names, const TokenizerJsonFile& file,
                  std::size_t vocab_size) {
  constexpr std::uint32_t kNone = 0xFFFFFFFFu;
  std::vector<std::uint32_t> place(vocab_size, kNone);
  for (std::uint32_t i = 0; i < file.merges.size(); ++i) {
    MergeIds ids{};
    if (Error error = find_merge(ids, names, file.merges[i])) return error;
    const auto token = static_cast<std::uint32_t>(ids.merged);
    if (place[token] == kNone) {
      place[token] = static_cast<std::uint32_t>(pieces.size());
      pieces.push_back({token, i, i, 0});
    }
    pieces[place[token]].last = i;
    ++pieces[place[token]].count;
  }
  return {};
}

// Whether a text is one character again and again.
bool is_run(const std::string& text) {
  std::size_t size = 1;
  while (size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) ++size;
  return text.compare(size, std::string::npos, text, 0, text.size() - size) == 0;
}

// A piece merges from any two pieces that make it, so the list must have all these pairs.
Error check_all_pairs(const MergesOf& merges, const std::string& piece, const PieceNames& names) {
  std::uint32_t possible = 0;
  for (std::size_t i = 1; i < piece.size(); ++i) {
    if ((static_cast<unsigned char>(piece[i]) & 0xC0) == 0x80) continue;
    if (names.find(piece.substr(0, i)) != kNoToken && names.find(piece.substr(i)) != kNoToken) ++possible;
  }
  if (possible == merges.count) return {};
  return Error("model.merges has " + std::to_string(merges.count) + " of the " + std::to_string(possible) +
               " pairs that make " + printable(piece) + ", which is not supported without ByteLevel");
}

// The section ranks pieces and not pairs, so those of one piece must stand together; lists that were made from a
// SentencePiece model have them so. Runs of a character share one score there and their pairs stand mingled, longest
// first: they share a rank, since of equals the first in the text merges, which grows a run from its beginning as that
// order does.
Error rank_by_merges(Vocabulary& vocabulary, const PieceNames& names, const TokenizerJsonFile& file) {
  for (VocabPiece& piece : vocabulary.pieces) piece.score = kNeverMerged;
  std::vector<MergesOf> pieces;
  if (Error error = find_merges(pieces, names, file, vocabulary.pieces.size())) return error;
  std::uint32_t rank = 0, end = 0;  // of the pieces whose merges stand mingled
  bool runs = true;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const MergesOf& of = pieces[i];
    const std::string text = file.merges[of.first].left + file.merges[of.first].right;
    const bool mingled = i > 0 && of.first <= end, run = is_run(text);
    if (mingled && !(runs && run))
      return Error("model.merges has the pairs of " + printable(text) +
                   " among those of another piece, which is not supported without ByteLevel");
    runs = run;
    rank = mingled ? rank : of.first;
    end = std::max(mingled ? end : 0, of.last);
    vocabulary.pieces[of.token].score = -static_cast<float>(rank);
    if (Error error = check_all_pairs(of, text, names)) return error;
  }
  return {};
}

}  // namespace

Error read_sentencepiece_bpe(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file) {
  vocabulary.kind = TokenizerKind::merges;
  vocabulary.visible_space = true;
  Steps normalizers("normalizer", file.normalizers);
  vocabulary.prefix_space = normalizers.take({{"type", "Prepend"}, {"prepend", kVisibleSpace}});
  vocabulary.fresh_text = vocabulary.prefix_space;
  const bool replaces = normalizers.take(replace(" ", kVisibleSpace));
  if (Error error = normalizers.finish()) return error;
  Steps steps("pre_tokenizer", file.pre_tokenizers);
  const Json* metaspace = replaces ? nullptr : steps.take("Metaspace");
  if (metaspace) {
    if (flag_of(*metaspace, "split", true)) return steps.refuse(*metaspace);
    if (Error error = read_metaspace(vocabulary, *metaspace)) return error;
  }
  // No space is left that it could split at.
  if (replaces)
    steps.take(
        {{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}, {"invert", false}});
  if (Error error = steps.finish()) return error;
  if (!replaces && !metaspace) return Error("neither normalizer nor pre_tokenizer is one of a known kind of BPE");
  if (Error error = read_decoder(vocabulary, file)) return error;
  if (Error error =
          refuse_unless_off(file, {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"}))
    return error;
  if (Error error = read_vocab_ids(file)) return error;
  for (const TokenizerJsonFile::Entry& entry : file.vocab) {
    VocabPiece piece;
    piece.bytes = with_spaces(entry.text);
    if (Error error = names.add(entry.id, entry.text, std::move(piece))) return error;
  }
  if (Error error = rank_by_merges(vocabulary, names, file)) return error;
  if (Error error = place_unk(vocabulary, names, file)) return error;
  return flag_of(file.model, "byte_fallback", false) ? place_byte_tokens(vocabulary) : Error();
}

namespace {

// Precompiled rules of characters, and what makes several spaces one.
Error read_unigram_normalizer(Vocabulary& vocabulary, const TokenizerJsonFile& file) {
  Steps steps("normalizer", file.normalizers);
  if (const Json* precompiled = steps.take("Precompiled")) {
    const Json map = precompiled->value("precompiled_charsmap", Json());
    if (!map.is_string() || !from_base64(vocabulary.charsmap, map.get_ref<const std::string&>()))
      return Error("normalizer Precompiled has no precompiled_charsmap in base64");
  }
  bool strips = false;
  for (const bool left : {false, true})
    strips = strips || steps.take({{"type", "Strip"}, {"strip_left", left}, {"strip_right", true}});
  const bool joins = steps.take(replace(" {2,}", kVisibleSpace, "Regex")) || steps.take(replace(" {2,}", " ", "Regex"));
  if (strips && joins) vocabulary.collapse_spaces = true;
  // Without the strip, the steps keep a space at the end of a text, which SentencePiece does not.
  if (strips != joins)
    return Error("normalizer has one of Strip and Replace \" {2,}\" without the other, which is not supported");
  return steps.finish();
}

}  // namespace

Error read_unigram(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file) {
  vocabulary.kind = TokenizerKind::unigram;
  vocabulary.visible_space = true;
  if (Error error = read_unigram_normalizer(vocabulary, file)) return error;
  Steps steps("pre_tokenizer", file.pre_tokenizers);
  if (steps.take("WhitespaceSplit")) vocabulary.collapse_spaces = true;
  const Json* metaspace = steps.take("Metaspace");
  if (Error error = steps.finish()) return error;
  if (!metaspace) return Error("pre_tokenizer has no Metaspace");
  if (Error error = read_metaspace(vocabulary, *metaspace)) return error;
  const bool splits = flag_of(*metaspace, "split", true) || vocabulary.collapse_spaces;
  if (Error error = read_decoder(vocabulary, file)) return error;
  if (file.vocab_has_ids) return Error("model.vocab has ids in place of scores");
  for (std::size_t i = 0; i < file.vocab.size(); ++i) {
    const TokenizerJsonFile::Entry& entry = file.vocab[i];
    VocabPiece piece;
    piece.bytes = with_spaces(entry.text);
    piece.score = static_cast<float>(entry.score);
    if (piece.score - piece.score != 0.0f)
      return Error("model.vocab has a score for " + printable(entry.text) + " that is not a finite number");
    // Words are cut in front of each space, so a piece with one further on is never used.
    piece.control = splits && piece.bytes.find(' ', 1) != std::string::npos;
    if (Error error = names.add(static_cast<std::uint32_t>(i), entry.text, std::move(piece))) return error;
  }
  const Json unk = file.model.value("unk_id", Json());
  if (!unk.is_null()) {
    if (!unk.is_number_unsigned() || unk.get<std::uint64_t>() >= file.vocab.size())
      return Error("model.unk_id " + shown(unk) + " is no token of the vocabulary");
    vocabulary.unk = static_cast<Token>(unk.get<std::uint32_t>());
    vocabulary.pieces[static_cast<std::size_t>(vocabulary.unk)].control = true;
  }
  return flag_of(file.model, "byte_fallback", false) ? place_byte_tokens(vocabulary) : Error();
}

// ---- WordPiece
// --------------------------------------------------------------------------------------------------------

Error read_wordpiece(Vocabulary& vocabulary, PieceNames& names, const TokenizerJsonFile& file) {
  vocabulary.kind = TokenizerKind::word_pieces;
  Steps normalizers("normalizer", file.normalizers);
  const Json* bert = normalizers.take("BertNormalizer");
  if (Error error = normalizers.finish()) return error;
  if (!bert) return Error("normalizer is not BertNormalizer, as WordPiece needs it");
  vocabulary.clean_text = flag_of(*bert, "clean_text", true);
  vocabulary.split_cjk = flag_of(*bert, "handle_chinese_chars", true);
  vocabulary.lower_case = flag_of(*bert, "lowercase", true);
  vocabulary.strip_accents = flag_of(*bert, "strip_accents", vocabulary.lower_case);
  Steps steps("pre_tokenizer", file.pre_tokenizers);
  const bool splits = steps.take("BertPreTokenizer") != nullptr;
  if (Error error = steps.finish()) return error;
  if (!splits) return Error("pre_tokenizer is not BertPreTokenizer, as WordPiece needs it");
  Steps decoders("decoder", file.decoders);
  decoders.ignore("WordPiece");
  if (Error error = decoders.finish()) return error;

  const Json prefix = file.model.value("continuing_subword_prefix", Json("##"));
  const Json longest = file.model.value("max_input_chars_per_word", Json(100));
  if (prefix != Json("##")) return Error("model.continuing_subword_prefix " + shown(prefix) + " is not supported");
  if (longest != Json(100)) return Error("model.max_input_chars_per_word " + shown(longest) + " is not supported");
  if (Error error = read_vocab_ids(file)) return error;
  for (const TokenizerJsonFile::Entry& entry : file.vocab)
    if (Error error = names.add(entry.id, entry.text, word_piece(entry.text))) return error;
  if (Error error = place_unk(vocabulary, names, file)) return error;
  return vocabulary.unk == kNoToken ? Error("model.unk_token is missing, which WordPiece needs") : Error();
}

}  // namespace heed::quant
