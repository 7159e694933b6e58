// SPDX-License-Identifier: Apache-2.0
// tokenizer_tables.hpp: what a reader of vocabularies fills, and the tokenizer section of an image that is built from it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/token.hpp"
#include "runtime/tokenizer.hpp"

namespace heed::quant {

// `bytes` is what the token prints: spaces are spaces (SentencePiece's U+2581 is one), a byte token has exactly its byte, the
// pieces of byte_pairs are raw bytes and not the letters that stand for bytes in a file, those of word_pieces have no "##".
struct VocabPiece {
  std::string bytes;
  // merges: the higher, the earlier merged; at -1e10 and below, and NaN, never merged (as in llama2.c). A file with a list of
  // merges instead of scores: minus the number of the first one that makes the piece, never if none does.
  // unigram: the logarithm of the piece's probability. Others: unused.
  float score = 0.0f;
  bool control = false;    // never made from text, unless an AddedToken says so: BOS, EOS, unknown, tokens without a use
  bool continues = false;  // word_pieces: goes on with a word ("##ing"); others begin one
};

// A token that is found in the text itself, before anything else: special tokens (only where the caller of encode asks for it)
// and those that belong to every text ("user defined"). At each place the longest counts.
struct AddedToken {
  Token id = kNoToken;  // its text is the piece's bytes, which are not empty
  bool special = false;
  bool strip_left = false, strip_right = false;  // white space beside it vanishes
  bool single_word = false;                      // only where no letter, digit or underscore stands beside it
};

// byte_pairs: `left` and `right` side by side become the token whose bytes are theirs together. The earlier in the list, the
// earlier merged.
struct PieceMerge {
  Token left, right;
};

// What an encoded text has around it; of a pair of texts: before, first text, between, second text, after.
struct TextTemplate {
  std::vector<Token> before, between, after;
  bool second_type = false;  // the second text and what stands behind it have token type 1
};

struct Vocabulary {
  std::vector<VocabPiece> pieces;  // [vocab_size]; numbers that the file has no token for are empty control pieces
  bool prefix_space = false;       // merges, unigram, byte_pairs: a text is encoded behind one space ("add_dummy_prefix")
  Token bos = kNoToken, eos = kNoToken;
  std::uint32_t first_byte = 0;  // merges, unigram: token of byte 0
  std::uint32_t byte_count = 0;  // byte tokens from there on, one per byte; 0 = text without a token is unk, or refused

  TokenizerKind kind = TokenizerKind::merges;
  Token unk = kNoToken;  // what text without a token becomes; neighbours in one (SentencePiece), or one for a word (WordPiece)
  std::vector<AddedToken> added;
  // Where it differs from BOS in front, EOS behind, and EOS between two texts.
  bool has_template = false;
  TextTemplate text_template;
  // Behind a special token that is found in a text, the text begins anew: with the space in front, if there is one.
  bool fresh_text = false;

  // byte_pairs
  std::vector<PieceMerge> merges;
  SplitRule split = SplitRule::none;
  bool whole_words = false;  // a word that is a piece becomes it without merging ("ignore_merges")
  bool compose = false;      // NFC first

  // merges and unigram: SentencePiece's normaliser
  std::vector<std::uint8_t> charsmap;  // precompiled_charsmap as the file has it; empty = identity
  bool collapse_spaces = false;        // "remove_extra_whitespaces": none at the ends, one between words
  bool visible_space = false;          // U+2581 in the text is a space

  // word_pieces: BERT's normaliser
  bool clean_text = true;       // control characters vanish
  bool lower_case = false, strip_accents = false;
  bool split_cjk = true;        // "handle_chinese_chars": each ideograph is a word
};

// Writes the section's bytes (SPEC.md, tokenizer). Returns an empty string, or one line that says what does not fit.
// Of pieces with the same bytes, text gives the one with the lowest id.
std::string build_tokenizer_section(std::vector<std::uint8_t>& section, const Vocabulary& vocabulary);

// The bytes of a piece of a byte-level file ("Ġthe" is " the"): GPT-2's letters for bytes. False if another letter is in it.
bool from_byte_letters(std::string& bytes, const std::string& letters);

}  // namespace heed::quant
