// SPDX-License-Identifier: Apache-2.0
// tokenizer_parts.hpp: what the kinds of tokenizers share inside. Included by runtime/tokenizer*.cpp only.
#pragma once
#include "runtime/features.hpp"
#include "runtime/tokenizer.hpp"
#include "runtime/tokenizer_tables.hpp"

namespace heed {

// Whether sections with a rules block are read at all.
inline constexpr bool kBuiltRules =
    kBuiltFeatures.byte_pairs || kBuiltFeatures.unigram || kBuiltFeatures.word_pieces || kBuiltFeatures.added_tokens;

// Of the places low .. high of a sorted list, whose entries are alike up to here, those that go on with `byte`.
// byte_at(i): how entry i goes on; -1 if it ends here, which only the first can.
template <class ByteAt>
void narrow_to(std::uint32_t& low, std::uint32_t& high, std::uint8_t byte, const ByteAt& byte_at) {
  const auto first = [&](int least) {
    std::uint32_t from = low, to = high;
    while (from < to) {
      const std::uint32_t middle = from + (to - from) / 2;
      if (byte_at(middle) < least) {
        from = middle + 1;
      } else {
        to = middle;
      }
    }
    return from;
  };
  low = first(byte);
  high = first(byte + 1);
}

// The places in the sorted list whose pieces begin with the same `depth` bytes.
struct Tokenizer::PieceRange {
  std::uint32_t low, high, depth;
};

// Where tokens go: counted to the end, written while there is room.
struct Tokenizer::Writer {
  Span<Token> tokens;
  std::uint32_t n = 0;
  std::uint32_t failed = 0;  // offset in the text that has no token
  bool after_unknown = false;

  void put(std::uint32_t token) {
    if (n < tokens.size()) tokens[n] = static_cast<Token>(token);
    ++n;
    after_unknown = false;
  }
  // Neighbours without a token become one unknown token.
  void put_unknown(Token unk) {
    if (!after_unknown) put(static_cast<std::uint32_t>(unk));
    after_unknown = true;
  }
};

// A stretch of text between added tokens.
struct Tokenizer::Segment {
  const std::uint8_t* text;
  std::size_t size;
  std::size_t offset;  // of it in the whole text
  bool begins, ends;   // a text
};

// SentencePiece's normaliser: the characters of a segment after the map, spaces put in front, collapsed and made visible.
struct Tokenizer::PieceText {
  PieceText(const Tokenizer& tokenizer, const Segment& segment);
  // The next character's bytes; false at the end. `at` is the offset of what it comes from.
  bool next();
  std::uint8_t bytes[4];
  std::uint32_t size = 0;
  std::size_t at = 0;

 private:
  bool take_space();

  const Tokenizer& t;
  const Segment& segment;
  std::size_t place = 0;  // in the segment
  const std::uint8_t* value = nullptr;
  std::uint32_t value_size = 0;
  std::uint32_t spaces = 0;  // that wait for a character behind them
  std::uint8_t waiting[4];    // the character behind them
  std::uint32_t kept = 0;    // its bytes, 0 = none
  bool after_space, collapse;
};

// The symbols of a text while they are merged. A symbol is a run of slots: its first one holds the token, its first and its
// last one the run's length, so that both neighbours are found without links. A tree over the slots knows the next pair:
// node k stands over nodes 16 k + 1 to 16 k + 16, its leaves are the slots, behind the inner nodes, and an inner node
// has the slot below it whose pair comes first. A merge changes three slots and the nodes above them.
struct Tokenizer::Merger {
  struct Slot {
    std::uint32_t token;
    std::uint32_t pair : 24;  // place in the sorted list of what this symbol and the next make together, or kNone
    std::uint32_t extent : 8;
  };
  static_assert(sizeof(Slot) == 8, "scratch_bytes counts on it");
  static_assert(kMaxPieceBytes < 256, "a run has no more slots than its piece has bytes");

  const Tokenizer& tokenizer;
  Slot* slots;          // [room]
  std::uint32_t* best;  // [inner], the slot below each inner node whose pair comes first
  std::uint32_t size = 0, inner = 0;

  // Over scratch of any size: as many slots as fit with their tree.
  static std::uint32_t room(std::size_t scratch_bytes);
  static Merger over(const Tokenizer& tokenizer, Span<std::byte> scratch);

  void append(std::uint32_t token) { slots[size++] = {token, tokenizer_tables::kNone, 1}; }
  // Appends a character's token, or its bytes' tokens. False when there is none; `failed` of its bytes had one.
  bool append_character(const char* bytes, std::uint32_t count, std::uint32_t& failed);
  // Merges until nothing more can be; the lowest rank first, of equals the first in the text.
  void merge();
  void put(Writer& writer) const;

 private:
  std::uint32_t rank(std::uint32_t slot) const;
  void find_pair(std::uint32_t slot);
  void choose(std::uint32_t node);
  void update(std::uint32_t slot);
};

}  // namespace heed
