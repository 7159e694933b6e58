// SPDX-License-Identifier: Apache-2.0
// tokenizer.hpp: text to tokens and back, from the tables of an image (SPEC.md, tokenizer section), in fixed memory.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/features.hpp"
#include "runtime/span.hpp"
#include "runtime/status.hpp"
#include "runtime/text_rules.hpp"
#include "runtime/token.hpp"

namespace heed {

// The section's kinds. Character and byte vocabularies are `merges` whose ranks all say "never".
enum class TokenizerKind : std::uint32_t {
  merges = 1,       // SentencePiece BPE as llama2.c runs it: characters, byte fallback, best-ranked neighbours merge
  byte_pairs = 2,   // byte-level BPE: words by a splitting rule, then bytes, then ranked pairs merge
  unigram = 3,      // SentencePiece unigram: the most probable pieces
  word_pieces = 4,  // WordPiece: words, then the longest piece from the left
};

// How byte_pairs cuts a text into words that never merge with each other (SPEC.md).
enum class SplitRule : std::uint32_t {
  none = 0,         // the text is one word
  gpt2 = 1,
  llama3 = 2,       // and cl100k: digits by three
  qwen2 = 3,        // the same, digits one by one
  gpt2_digits = 4,  // gpt2 between digits that stand alone: SmolLM, StarCoder
  bloom = 5,
};

// Bits of the section's flags.
inline constexpr std::uint32_t kTokenizerPrefixSpace = 1;  // text is encoded behind one space; decoding removes it
inline constexpr std::uint32_t kTokenizerHasRules = 2;     // a rules block stands behind the pieces
inline constexpr std::uint32_t kTokenizerKnownFlags = 3;
inline constexpr std::uint32_t kTokenizerWideRanks = 4;  // byte_pairs: ranks have four bytes, whatever ids have

// Bits of the rules block's flags.
inline constexpr std::uint32_t kRuleCollapseSpaces = 1;  // no space at the ends of a text, one between words
inline constexpr std::uint32_t kRuleVisibleSpace = 2;    // U+2581 in a text is a space
inline constexpr std::uint32_t kRuleWholeWords = 4;      // a word that is a piece is not merged
inline constexpr std::uint32_t kRuleCompose = 8;         // Unicode's form NFC first
inline constexpr std::uint32_t kRuleSecondType = 16;     // the second of two texts has token type 1
inline constexpr std::uint32_t kRuleTemplate = 32;       // the block says what stands around a text
inline constexpr std::uint32_t kRuleFreshText = 64;      // behind a special token in it, a text begins anew
inline constexpr std::uint32_t kRuleSplitHangul = 128;   // the map also takes Hangul syllables apart
inline constexpr std::uint32_t kKnownRules = 255;

// Bits of an added token, above its id's 24.
inline constexpr std::uint32_t kAddedSpecial = 1u << 24, kAddedStripLeft = 1u << 25, kAddedStripRight = 1u << 26;
inline constexpr std::uint32_t kAddedSingleWord = 1u << 27;

inline constexpr std::uint32_t kTokenizerHeaderBytes = 64;
inline constexpr std::uint32_t kTokenizerRulesBytes = 64;
inline constexpr float kLargestScore = 1e6f;  // unigram: of a piece, and its negative the least one
inline constexpr std::uint32_t kMaxWordCharacters = 100;  // word_pieces: a longer word is unknown
inline constexpr std::uint32_t kMaxPieceBytes = 255;
inline constexpr std::uint32_t kMaxVocabSize = (1u << 24) - 1;

struct EncodeOptions {
  bool add_bos = true;  // ignored when the vocabulary has no BOS
  bool add_eos = false;
  bool match_special = false;  // special tokens written in the text become themselves: for trusted text only
};

// A checked view of an image's tokenizer section, which must outlive it.
class Tokenizer {
 public:
  std::uint32_t vocab_size() const { return vocab_size_; }
  std::uint32_t max_piece_bytes() const { return max_piece_bytes_; }
  Token bos() const { return bos_; }  // kNoToken if there is none
  Token eos() const { return eos_; }
  // Whether a text is complete with this token, which was picked: EOS, or BOS, which begins another. It counts as
  // generated, has its place in the digest, and is neither printed nor fed back.
  bool ends_text(Token token) const { return token == eos_ || token == bos_; }
  bool prefix_space() const { return prefix_space_; }

  TokenizerKind kind() const { return kind_; }
  // What text without a token becomes; kNoToken: such text is refused. How often it did is a count of this token.
  Token unk() const { return unk_; }
  // How much more scratch and how many more tokens a byte of text may take than with `merges`: what scratch_bytes and
  // max_tokens are to be asked with. 1 without a rules block.
  std::uint32_t growth() const { return growth_; }
  // Whether the second text of a pair has token type 1.
  bool has_second_type() const { return (rule_flags_ & kRuleSecondType) != 0; }

  // Writes the tokens of `text`, any bytes at all, to `tokens` and their number to `n_tokens`.
  // `scratch`: scratch_bytes(text.size(), growth()) bytes aligned to 4; nothing of it is needed afterwards. With a rules
  // block fewer may do: what counts is the longest run that has to be seen at once, a word or less than that. word_pieces
  // need none.
  // Fails with no_room (`n_tokens` = how many tokens it takes), text_not_expressible (`n_tokens` = offset of the first
  // byte of text without a token, or 0 when the space in front has none), misaligned, or bad_argument (scratch too
  // small, text of 2^27 bytes or more).
  // Time, for the worst text of t bytes and the worst vocabulary of kind `merges`: 4 (t + 1) binary searches among the sorted
  // pieces, each of 1 + log2(vocab_size) comparisons, and (t + 1)(48 ceil(log16(t + 1)) + 3) looks at a pair's rank, so 99 per
  // byte of a hundred and 243 per byte of a million. Others: near-linear too (SPEC.md).
  Status encode(std::uint32_t& n_tokens, Span<const char> text, EncodeOptions options, Span<Token> tokens,
                Span<std::byte> scratch) const;

  // Two texts as one sequence, with what the model wants around and between them. The tokens from `n_first` on belong to the
  // second. `tokens` and `scratch`: what each text takes, together and the larger. Fails as encode; an offset counts in
  // `second` if n_first is not 0. feature_not_built without Feature::added_tokens.
  Status encode_pair(std::uint32_t& n_tokens, std::uint32_t& n_first, Span<const char> first, Span<const char> second,
                     Span<Token> tokens, Span<std::byte> scratch) const;

  // The most tokens that a text of this many bytes can give, what stands around it and the space in front included.
  static constexpr std::size_t max_tokens(std::size_t text_bytes, std::size_t growth = 1) {
    return text_bytes * growth + 3;
  }
  static constexpr std::size_t scratch_bytes(std::size_t text_bytes, std::size_t growth = 1) {
    return (text_bytes * growth + 1) * 8 + (text_bytes * growth + 14) / 15 * 4;
  }

  // The bytes that `token` stands for, inside the image; not necessarily whole characters. Behind BOS or kNoToken
  // (the beginning of a text) one leading space is left out if encoding had added it. Fails with bad_token.
  Status decode(Span<const char>& bytes, Token previous, Token token) const;

 private:
  friend Status open(Tokenizer&, Span<const std::uint8_t>, std::uint32_t);

  struct Merger;
  struct Piece {
    const std::uint8_t* bytes;
    std::uint32_t size;
  };
  struct PieceRange;
  struct Writer;
  struct Segment;
  struct PieceText;
  struct Words;
  struct BestPath;
  struct Found;

  Piece piece(std::uint32_t token) const;
  std::uint32_t id_at(std::uint32_t position) const;
  std::uint32_t rank_at(std::uint32_t position) const;
  std::uint32_t rank_of(std::uint32_t position, std::uint32_t left_size) const;
  std::uint32_t find(Piece left, Piece right) const;
  bool narrow(PieceRange& range, std::uint8_t byte) const;
  std::uint32_t token_of(const PieceRange& range) const;
  bool is_byte(std::uint32_t token) const { return token - first_byte_ < byte_count_; }
  bool may_merge(std::uint32_t token) const { return !is_byte(token) && static_cast<Token>(token) != unk_; }

  Status open_rules(const std::uint8_t* section, std::uint64_t used, std::size_t section_bytes);
  Status check_header(Span<const std::uint8_t> section, std::uint32_t vocab_size, std::uint64_t& used);
  bool tables_are_sound() const;
  bool around_is_sound() const;
  bool added_are_sound() const;
  bool merges_are_sound() const;
  bool scores_are_sound();

  Status encode_plain(std::uint32_t& n_tokens, Span<const char> text, EncodeOptions options, Span<Token> tokens,
                      Span<std::byte> scratch) const;
  Status encode_text(Writer& writer, Span<const char> text, bool match_special, Span<std::byte> scratch) const;
  Status encode_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const;
  Status merge_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const;
  Status byte_pair_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const;
  Status unigram_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const;
  Status word_segment(Writer& writer, const Segment& segment) const;
  Found find_added(const Segment& rest, bool match_special) const;
  bool match_added(Found& found, const std::uint8_t* text, std::size_t size, bool match_special) const;
  std::uint32_t added(std::uint32_t i) const;
  const std::uint8_t* more(std::uint32_t i) const;
  Piece added_text(std::uint32_t i) const;
  bool is_space(std::uint32_t code) const;
  bool is_word(std::uint32_t code) const;
  void put_around(Writer& writer, std::uint32_t which) const;

  const std::uint8_t* offsets_ = nullptr;  // [vocab_size + 1], where each piece begins in pieces_
  const std::uint8_t* sorted_ = nullptr;   // [sorted_count], ids in the order of their pieces' bytes
  const std::uint8_t* ranks_ = nullptr;    // [sorted_count], of the token at the same place in sorted_
  const std::uint8_t* pieces_ = nullptr;
  std::uint32_t vocab_size_ = 0, sorted_count_ = 0, max_piece_bytes_ = 0;
  std::uint32_t first_byte_ = 0, byte_count_ = 0;
  Token bos_ = kNoToken, eos_ = kNoToken, unk_ = kNoToken;
  bool prefix_space_ = false, wide_offsets_ = false, wide_ids_ = false, wide_ranks_ = false;
  // Of the rules block; nothing without one.
  bool has_rules_ = false;
  std::uint8_t n_around_[3] = {};  // tokens before, between and behind texts
  TokenizerKind kind_ = TokenizerKind::merges;
  SplitRule split_ = SplitRule::none;
  std::uint32_t rule_flags_ = 0, growth_ = 1, n_added_ = 0, n_more_ = 0;
  float unknown_score_ = 0.0f;             // unigram
  const std::uint8_t* around_ = nullptr;   // [before + between + behind] s32
  // Behind those added [n_added] u32: id and bits, in ascending order of their texts; and more [n_more] u32, u32: place in sorted_
  // and size of the left part, rank.
  const std::uint8_t* left_ = nullptr;     // byte_pairs: [sorted_count], bytes of the left part that merges into the piece
  TextRules rules_;
};

// Checks every rule K1..K22 of SPEC.md; afterwards no text and no token can make the view read outside `section`.
// Fails with bad_tokenizer, or feature_not_built for a kind that this library does not know.
Status open(Tokenizer& tokenizer, Span<const std::uint8_t> section, std::uint32_t vocab_size);

// What a section asks of a build, whether this one has it or not; nothing for bytes that are no section.
Features required_features(Span<const std::uint8_t> section);

// Turns tokens into text as they come and hands out whole, valid UTF-8 characters only: the beginning of a character
// waits for its rest, and what can never become one is replaced by U+FFFD (each longest possible beginning by one,
// as Unicode recommends). Whoever wants the raw bytes uses Tokenizer::decode.
class StreamDecoder {
 public:
  StreamDecoder() = default;
  // To go on behind a token whose text is already out, such as the last one of a prompt.
  explicit StreamDecoder(Token previous) : previous_(previous) {}

  // Writes `n_bytes` bytes to `out`, which must hold out_bytes(tokenizer); possibly none.
  // Fails with bad_token, or no_room when `out` could be too small for this token; the decoder is unchanged then.
  Status push(std::uint32_t& n_bytes, const Tokenizer& tokenizer, Token token, Span<char> out);
  static std::size_t out_bytes(const Tokenizer& tokenizer) { return 3 * (tokenizer.max_piece_bytes() + 1); }

  // At the end of a text: what still waits can no longer become a character. Writes 0 or 3 bytes.
  std::uint32_t flush(char (&out)[3]);

 private:
  Token previous_ = kNoToken;
  std::uint8_t held_[3] = {};  // the beginning of a character
  std::uint8_t held_count_ = 0;
};

}  // namespace heed
