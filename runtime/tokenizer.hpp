// SPDX-License-Identifier: Apache-2.0
// tokenizer.hpp: text to tokens and back, from the tables of an image (SPEC.md, tokenizer section), in fixed memory.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/span.hpp"
#include "runtime/status.hpp"
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
inline constexpr std::uint32_t kTokenizerKnownFlags = 1;

inline constexpr std::uint32_t kTokenizerHeaderBytes = 64;
inline constexpr std::uint32_t kMaxPieceBytes = 255;
inline constexpr std::uint32_t kMaxVocabSize = (1u << 24) - 1;

struct EncodeOptions {
  bool add_bos = true;  // ignored when the vocabulary has no BOS
  bool add_eos = false;
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

  // Writes the tokens of `text`, any bytes at all, to `tokens` and their number to `n_tokens`.
  // `scratch`: scratch_bytes(text.size()) bytes aligned to 4; nothing of it is needed afterwards.
  // Fails with no_room (`n_tokens` = how many tokens it takes), text_not_expressible (`n_tokens` = offset of the first
  // byte of text without a token, or 0 when the space in front has none), misaligned, or bad_argument (scratch too
  // small, text of 2^27 bytes or more).
  // Time, for the worst text of t bytes and the worst vocabulary: 4 (t + 1) binary searches among the sorted pieces, each of
  // 1 + log2(vocab_size) comparisons, and (t + 1)(48 ceil(log16(t + 1)) + 3) looks at a pair's rank, so 99 per byte of a
  // hundred and 243 per byte of a million.
  Status encode(std::uint32_t& n_tokens, Span<const char> text, EncodeOptions options, Span<Token> tokens,
                Span<std::byte> scratch) const;

  // The most tokens that a text of this many bytes can give, BOS, EOS and the space in front included.
  static constexpr std::size_t max_tokens(std::size_t text_bytes) { return text_bytes + 3; }
  static constexpr std::size_t scratch_bytes(std::size_t text_bytes) {
    return (text_bytes + 1) * 8 + (text_bytes + 14) / 15 * 4;
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
  Piece piece(std::uint32_t token) const;
  std::uint32_t id_at(std::uint32_t position) const;
  std::uint32_t rank_at(std::uint32_t position) const;
  std::uint32_t find(Piece left, Piece right) const;
  bool is_byte(std::uint32_t token) const { return token - first_byte_ < byte_count_; }

  const std::uint8_t* offsets_ = nullptr;  // [vocab_size + 1], where each piece begins in pieces_
  const std::uint8_t* sorted_ = nullptr;   // [sorted_count], ids in the order of their pieces' bytes
  const std::uint8_t* ranks_ = nullptr;    // [sorted_count], of the token at the same place in sorted_
  const std::uint8_t* pieces_ = nullptr;
  std::uint32_t vocab_size_ = 0, sorted_count_ = 0, max_piece_bytes_ = 0;
  std::uint32_t first_byte_ = 0, byte_count_ = 0;
  Token bos_ = kNoToken, eos_ = kNoToken;
  bool prefix_space_ = false, wide_offsets_ = false, wide_ids_ = false;
};

// Checks every rule K1..K12 of SPEC.md; afterwards no text and no token can make the view read outside `section`.
// Fails with bad_tokenizer, or feature_not_built for a kind that this library does not know.
Status open(Tokenizer& tokenizer, Span<const std::uint8_t> section, std::uint32_t vocab_size);

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
