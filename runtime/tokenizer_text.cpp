// SPDX-License-Identifier: Apache-2.0
// tokenizer_text.cpp: a text with a rules block: finds added tokens in it, normalises what is between, and merges it.
#include "runtime/one_rounding.hpp"

#include "runtime/tokenizer_parts.hpp"

namespace heed {

using tokenizer_tables::read_u32;

// An added token in a text: the stretch that it takes the place of.
struct Tokenizer::Found {
  std::size_t begin, end;
  std::uint32_t entry;  // id and bits; meaningless where begin is the end of the text
};

namespace {

constexpr std::uint32_t kVisibleSpace = 0x2581;
constexpr std::uint32_t kReplacement = 0xFFFD;

// The character that ends at `at`; `at` > 0.
utf8::Character read_before(const std::uint8_t* text, std::size_t at) {
  for (std::uint32_t size = 4; size > 1; --size) {
    if (size > at) continue;
    const utf8::Character c = utf8::read(text + at - size, size);
    if (c.size == size) return c;
  }
  return utf8::read(text + at - 1, 1);
}

}  // namespace

// The longest added token that the text at `found.begin` begins with.
bool Tokenizer::match_added(Found& found, const std::uint8_t* text, std::size_t size, bool match_special) const {
  const std::size_t begin = found.begin;
  std::uint32_t low = 0, high = n_added_;
  bool any = false;
  for (std::uint32_t depth = 0; low < high; ++depth) {
    const Piece shortest = added_text(low);
    const std::uint32_t entry = added(low);
    if (depth && shortest.size == depth && (match_special || !(entry & kAddedSpecial))) {
      const std::size_t end = begin + depth;
      const bool alone = !(entry & kAddedSingleWord) ||
                         ((begin == 0 || !is_word(read_before(text, begin).code)) &&
                          (end == size || !is_word(utf8::read(text + end, size - end).code)));
      if (alone) {
        any = true;
        found.end = end;
        found.entry = entry;
      }
    }
    if (begin + depth == size) break;
    const auto byte_at = [&](std::uint32_t i) {
      const Piece p = added_text(i);
      return p.size > depth ? static_cast<int>(p.bytes[depth]) : -1;
    };
    narrow_to(low, high, text[begin + depth], byte_at);
  }
  return any;
}

Tokenizer::Found Tokenizer::find_added(const Segment& rest, bool match_special) const {
  Found found{n_added_ ? 0 : rest.size, rest.size, 0};
  while (found.begin < rest.size && !match_added(found, rest.text, rest.size, match_special)) ++found.begin;
  if (found.begin == rest.size) return found;
  if (found.entry & kAddedStripLeft) {
    while (found.begin > 0) {
      const utf8::Character c = read_before(rest.text, found.begin);
      if (!is_space(c.code)) break;
      found.begin -= c.size;
    }
  }
  if (found.entry & kAddedStripRight) {
    while (found.end < rest.size) {
      const utf8::Character c = utf8::read(rest.text + found.end, rest.size - found.end);
      if (!is_space(c.code)) break;
      found.end += c.size;
    }
  }
  return found;
}

Status Tokenizer::encode_text(Writer& writer, Span<const char> text, bool match_special,
                              Span<std::byte> scratch) const {
  if (reinterpret_cast<std::uintptr_t>(scratch.data()) % alignof(Merger::Slot)) return Status::misaligned;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  Segment segment{bytes, text.size(), 0, true, true};
  for (;;) {
    const Found found = find_added(segment, match_special);
    const bool last = found.begin == segment.size;
    const bool fresh = !last && found.entry & kAddedSpecial && rule_flags_ & kRuleFreshText;
    const Segment before{segment.text, found.begin, segment.offset, segment.begins, last || fresh};
    const Status status = encode_segment(writer, before, scratch);
    if (status != Status::ok || last) return status;
    writer.put(found.entry & 0xFFFFFF);
    segment = {segment.text + found.end, segment.size - found.end, segment.offset + found.end, fresh, true};
  }
}

Status Tokenizer::encode_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const {
  if (segment.size == 0) return Status::ok;
  if constexpr (kBuiltFeatures.byte_pairs) {
    if (kind_ == TokenizerKind::byte_pairs) return byte_pair_segment(writer, segment, scratch);
  }
  if constexpr (kBuiltFeatures.unigram) {
    if (kind_ == TokenizerKind::unigram) return unigram_segment(writer, segment, scratch);
  }
  if constexpr (kBuiltFeatures.word_pieces) {
    if (kind_ == TokenizerKind::word_pieces) return word_segment(writer, segment);
  }
  if constexpr (kBuiltFeatures.added_tokens) return merge_segment(writer, segment, scratch);
  return Status::feature_not_built;
}

Status Tokenizer::merge_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const {
  Merger merger = Merger::over(*this, scratch);
  const std::uint32_t room = Merger::room(scratch.size());
  PieceText text(*this, segment);
  while (text.next()) {
    if (room - merger.size < text.size) return Status::bad_argument;
    std::uint32_t failed;
    const std::uint32_t size = merger.size;
    if (merger.append_character(reinterpret_cast<const char*>(text.bytes), text.size, failed)) continue;
    merger.size = size;
    if (unk_ == kNoToken) {
      writer.failed = static_cast<std::uint32_t>(text.at);
      return Status::text_not_expressible;
    }
    merger.append(static_cast<std::uint32_t>(unk_));
  }
  merger.merge();
  merger.put(writer);
  return Status::ok;
}

Status Tokenizer::encode_pair(std::uint32_t& n_tokens, std::uint32_t& n_first, Span<const char> first,
                              Span<const char> second, Span<Token> tokens, Span<std::byte> scratch) const {
  n_tokens = n_first = 0;
  if constexpr (kBuiltFeatures.added_tokens) {
    Writer writer{tokens};
    put_around(writer, 0);
    for (std::uint32_t i = 0; i < 2; ++i) {
      std::uint32_t n = 0;
      const Span<Token> rest = writer.n < tokens.size() ? tokens.subspan(writer.n, tokens.size() - writer.n) : Span<Token>();
      const Status status = encode(n, i ? second : first, {false, false, false}, rest, scratch);
      if (status != Status::ok && status != Status::no_room) {
        n_tokens = n;
        return status;
      }
      writer.n += n;
      put_around(writer, 1 + i);
      if (i == 0) n_first = writer.n;
    }
    n_tokens = writer.n;
    return writer.n <= tokens.size() ? Status::ok : Status::no_room;
  }
  return Status::feature_not_built;
}

Tokenizer::PieceText::PieceText(const Tokenizer& tokenizer, const Segment& s)
    : t(tokenizer), segment(s), after_space(s.begins && (tokenizer.rule_flags_ & kRuleCollapseSpaces)),
      collapse((tokenizer.rule_flags_ & kRuleCollapseSpaces) != 0) {
  if (s.begins && tokenizer.prefix_space_) spaces = 1;
}

// A space that waits; at the end of a text those that would be collapsed are none.
bool Tokenizer::PieceText::take_space() {
  --spaces;
  bytes[0] = ' ';
  size = 1;
  return true;
}

bool Tokenizer::PieceText::next() {
  if (kept && spaces) return take_space();
  while (!kept) {
    const bool mapped = value_size != 0;
    if (!mapped && place == segment.size) return spaces && !(collapse && segment.ends) && take_space();
    utf8::Character c;
    if (mapped) {
      c = utf8::read(value, value_size);
      value += c.size;
      value_size -= c.size;
    } else {
      const std::uint8_t* p = segment.text + place;
      at = segment.offset + place;
      if (kBuiltFeatures.unigram) {
        const std::uint32_t key = t.rules_.longest(value, value_size, p, segment.size - place);
        place += key;
        if (key) continue;
        value_size = 0;
      }
      c = utf8::read(p, segment.size - place);
      place += c.size;
    }
    if (c.code == ' ') {
      if (!after_space) ++spaces;
      after_space = collapse;
      continue;
    }
    after_space = false;
    if (c.code == kVisibleSpace && t.rule_flags_ & kRuleVisibleSpace) {
      ++spaces;
      continue;
    }
    const bool replaced = c.code >= utf8::kLimit && t.kind_ == TokenizerKind::unigram;
    kept = utf8::write(waiting, replaced ? kReplacement : c.code);
  }
  if (spaces) return take_space();
  for (std::uint32_t i = 0; i < kept; ++i) bytes[i] = waiting[i];
  size = kept;
  kept = 0;
  return true;
}

}  // namespace heed
