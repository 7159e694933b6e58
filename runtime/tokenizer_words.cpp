// SPDX-License-Identifier: Apache-2.0
// tokenizer_words.cpp: WordPiece: words by white space and punctuation, then the longest piece from the left.
#include "runtime/one_rounding.hpp"

#include "runtime/tokenizer_parts.hpp"

namespace heed {

using tokenizer_tables::kNone;

namespace {

// The characters of a segment after cleaning and the map. Copying keeps the place, so that a word is read again instead of kept.
struct WordText {
  const TextRules* rules;
  const std::uint8_t *at, *end;
  bool split_hangul;
  DecomposedText inner;  // the character that is being handed out

  struct Next {
    std::uint32_t code;
    WordClass kind;
  };

  WordText(const TextRules& r, const std::uint8_t* text, std::size_t size, bool hangul)
      : rules(&r), at(text), end(text + size), split_hangul(hangul), inner(r, text, 0, hangul) {}

  WordClass class_of(std::uint32_t code) const { return static_cast<WordClass>(rules->properties(code).kind); }

  bool next(Next& c) {
    for (;;) {
      if (inner.next(c.code)) {
        c.kind = class_of(c.code);
        // What vanishes is said by the text's own characters.
        if (c.kind == WordClass::vanishes) c.kind = WordClass::part;
        return true;
      }
      if (at == end) return false;
      const utf8::Character own = utf8::read(at, static_cast<std::size_t>(end - at));
      const std::uint8_t* begin = at;
      at += own.size;
      // A byte that is no character's would be U+FFFD, which cleaning takes away.
      const WordClass kind = own.code < utf8::kLimit ? class_of(own.code) : WordClass::vanishes;
      if (kind == WordClass::vanishes) continue;
      inner = DecomposedText(*rules, begin, own.size, split_hangul);
    }
  }
};

}  // namespace

Status Tokenizer::word_segment(Writer& writer, const Segment& segment) const {
  WordText text(rules_, segment.text, segment.size, (rule_flags_ & kRuleSplitHangul) != 0);
  const std::uint32_t unk = static_cast<std::uint32_t>(unk_);
  // Bytes from `from` on: a first one that is a space where a word begins, as its pieces are kept.
  const auto longest = [&](WordText& from, std::uint32_t& left, bool begins) {
    PieceRange range{0, sorted_count_, 0};
    std::uint32_t token = kNone;
    WordText reader = from;
    if (begins && !narrow(range, ' ')) return kNone;
    for (std::uint32_t n = 1, rest = left; n <= rest; ++n) {
      WordText::Next c;
      (void)reader.next(c);
      std::uint8_t bytes[4];
      const std::uint32_t size = utf8::write(bytes, c.code);
      for (std::uint32_t i = 0; i < size; ++i)
        if (!narrow(range, bytes[i])) return token;
      const std::uint32_t found = token_of(range);
      if (found == kNone) continue;
      token = found;
      from = reader;
      left = rest - n;
    }
    return token;
  };

  WordText::Next c;
  for (WordText word = text; text.next(c); word = text) {
    if (c.kind == WordClass::space) continue;
    std::uint32_t count = 1;
    for (WordText ahead = text; c.kind == WordClass::part && ahead.next(c) && c.kind == WordClass::part; ++count)
      text = ahead;
    const std::uint32_t before = writer.n;
    bool known = count <= kMaxWordCharacters;
    for (bool begins = true; known && count; begins = false) {
      const std::uint32_t token = longest(word, count, begins);
      known = token != kNone;
      if (known) writer.put(token);
    }
    if (known) continue;
    writer.n = before;
    writer.put(unk);
  }
  return Status::ok;
}

}  // namespace heed
