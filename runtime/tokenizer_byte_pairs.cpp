// SPDX-License-Identifier: Apache-2.0
// tokenizer_byte_pairs.cpp: byte-level BPE: cuts a text into words as GPT-2 and its successors do, and merges each by itself.
#include "runtime/one_rounding.hpp"

#include "runtime/composed_text.hpp"
#include "runtime/tokenizer_parts.hpp"

namespace heed {

using tokenizer_tables::kNone;

// The splitting rules' regular expressions as a machine that reads one character at a time. What it has read of the word that it
// is in stands in the merger's slots, a byte in each.
struct Tokenizer::Words {
  enum class State : std::uint8_t {
    nothing,
    letters,
    numbers,
    mark,          // one character that is neither letter, number nor space, without a space in front
    others,        // several, or one behind a space
    line_ends,     // behind these
    apostrophe,    // a mark that may begin 's, 't, 're, 've, 'm, 'll, 'd
    contraction,   // and r, v or l behind it
    spaces,
  };

  const Tokenizer& t;
  Writer& writer;
  Merger merger;
  std::uint32_t room;
  SplitRule rule;
  State state = State::nothing;
  std::uint32_t numbers = 0;    // digits of this word
  std::uint32_t last = 0;       // bytes of the last of the spaces
  std::uint32_t line_end = 0;   // bytes up to the last line end among the spaces
  Status status = Status::ok;

  bool is_late() const { return rule == SplitRule::llama3 || rule == SplitRule::qwen2; }

  // The first `count` bytes are a word; the others stay.
  bool cut(std::uint32_t count) {
    if (count == 0) return true;
    const std::uint32_t rest = merger.size - count;
    merger.size = count;
    if (!put_word()) return false;
    for (std::uint32_t i = 0; i < rest; ++i) merger.slots[i].token = merger.slots[count + i].token;
    merger.size = rest;
    return true;
  }

  bool put_word() {
    if (t.rule_flags_ & kRuleWholeWords && merger.size <= t.max_piece_bytes_) {
      PieceRange range{0, t.sorted_count_, 0};
      for (std::uint32_t i = 0; i < merger.size; ++i)
        if (!t.narrow(range, static_cast<std::uint8_t>(merger.slots[i].token))) break;
      const std::uint32_t token = range.depth == merger.size ? t.token_of(range) : kNone;
      if (token != kNone) {
        writer.put(token);
        return true;
      }
    }
    for (std::uint32_t i = 0; i < merger.size; ++i) {
      const auto byte = static_cast<std::uint8_t>(merger.slots[i].token);
      const std::uint32_t position = t.find({&byte, 1}, {&byte, 0});
      if (position == kNone && t.unk_ == kNoToken) {
        status = Status::text_not_expressible;
        return false;
      }
      merger.slots[i] = {position == kNone ? static_cast<std::uint32_t>(t.unk_) : t.id_at(position), kNone, 1};
    }
    merger.merge();
    merger.put(writer);
    return true;
  }

  bool append(std::uint32_t code) {
    std::uint8_t bytes[4];
    const std::uint32_t size = utf8::write(bytes, code);
    if (room - merger.size < size) {
      status = Status::bad_argument;
      return false;
    }
    for (std::uint32_t i = 0; i < size; ++i) merger.slots[merger.size++].token = bytes[i];
    last = size;
    return true;
  }

  CharacterClass class_of(std::uint32_t code) const {
    return static_cast<CharacterClass>(t.rules_.properties(code).kind);
  }

  // Neither of these is in the same word as what stands before it.
  bool begin(std::uint32_t code, CharacterClass kind) {
    if (!cut(merger.size) || !append(code)) return false;
    line_end = 0;
    numbers = 1;
    switch (kind) {
      case CharacterClass::letter: state = State::letters; break;
      case CharacterClass::number: state = State::numbers; break;
      case CharacterClass::other: state = code == '\'' ? State::apostrophe : State::mark; break;
      case CharacterClass::space: return note_space(code);
    }
    return true;
  }

  bool note_space(std::uint32_t code) {
    state = State::spaces;
    if (is_late() && (code == '\r' || code == '\n')) line_end = merger.size;
    return true;
  }

  bool go_on(std::uint32_t code, State next) {
    state = next;
    return append(code);
  }

  // The end of the text, or what counts as one.
  bool finish() {
    if (state == State::contraction && !is_late() && !cut(1)) return false;
    if (state == State::spaces && !cut(line_end)) return false;
    state = State::nothing;
    return cut(merger.size);
  }

  bool push(std::uint32_t code) {
    if (rule == SplitRule::none) return append(code);
    if (rule == SplitRule::bloom) return push_bloom(code);
    const CharacterClass kind = class_of(code);
    if (rule == SplitRule::gpt2_digits && kind == CharacterClass::number)
      return finish() && append(code) && finish();
    switch (state) {
      case State::nothing: break;
      case State::letters:
        if (kind == CharacterClass::letter) return append(code);
        break;
      case State::numbers: {
        const std::uint32_t most = rule == SplitRule::llama3 ? 3 : rule == SplitRule::qwen2 ? 1 : ~0u;
        if (kind == CharacterClass::number && numbers < most) {
          ++numbers;
          return append(code);
        }
        break;
      }
      case State::apostrophe:
      case State::contraction:
      case State::mark:
        return push_behind_mark(code, kind);
      case State::others:
        if (kind == CharacterClass::other) return append(code);
        if (is_late() && (code == '\r' || code == '\n')) return go_on(code, State::line_ends);
        break;
      case State::line_ends:
        if (code == '\r' || code == '\n') return append(code);
        break;
      case State::spaces: return push_behind_spaces(code, kind);
    }
    return begin(code, kind);
  }

  // 's, 't, 'm, 'd at once; 're, 've, 'll in two steps.
  bool push_behind_mark(std::uint32_t code, CharacterClass kind) {
    std::uint32_t letter = code;
    if (is_late()) letter = code == 0x17F ? 's' : code < 0x80 ? code | 0x20 : code;  // without regard to case
    if (state == State::apostrophe && kind == CharacterClass::letter) {
      if (letter == 's' || letter == 't' || letter == 'm' || letter == 'd') {
        if (!append(code)) return false;
        state = State::nothing;
        return cut(merger.size);
      }
      if (letter == 'r' || letter == 'v' || letter == 'l') return go_on(code, State::contraction);
    }
    if (state == State::contraction) {
      std::uint32_t before = merger.slots[1].token;
      if (is_late()) before |= 0x20;
      if (letter == (before == 'l' ? 'l' : 'e') && kind == CharacterClass::letter) {
        if (!append(code)) return false;
        state = State::nothing;
        return cut(merger.size);
      }
      // A mark in front of letters, which later rules keep together.
      if (!is_late() && !cut(1)) return false;
      state = State::letters;
      return push(code);
    }
    if (is_late() && kind == CharacterClass::letter) return go_on(code, State::letters);
    if (kind == CharacterClass::other) return go_on(code, State::others);
    if (is_late() && (code == '\r' || code == '\n')) return go_on(code, State::line_ends);
    return begin(code, kind);
  }

  // All but the last space are a word; that one goes with what follows, where the rule says so.
  bool push_behind_spaces(std::uint32_t code, CharacterClass kind) {
    if (kind == CharacterClass::space) return append(code) && note_space(code);
    const std::uint32_t width = last;
    if (!cut(line_end)) return false;
    if (merger.size && !cut(merger.size - width)) return false;
    if (merger.size == 0) return begin(code, kind);
    const bool is_blank = merger.slots[0].token == ' ';
    if (kind == CharacterClass::letter && (is_blank || is_late())) return go_on(code, State::letters);
    if (kind == CharacterClass::number && is_blank && !is_late()) return go_on(code, State::numbers);
    if (kind == CharacterClass::other && is_blank) return go_on(code, State::others);
    return begin(code, kind);
  }

  // Words without white space and without these marks, each behind at most one space; what is between them is a word too.
  bool push_bloom(std::uint32_t code) {
    constexpr std::uint16_t kMarks[] = {'(', '|', ')', '.', ',', '!', '?', 0x2026, 0x3002, 0xFF0C, 0x3001, 0x964, 0x6D4, 0x60C};
    bool word = class_of(code) != CharacterClass::space;
    for (std::uint32_t mark : kMarks) word = word && code != mark;
    if (word && state == State::spaces && !cut(merger.size - (merger.slots[merger.size - 1].token == ' '))) return false;
    if (!word && state == State::letters && !cut(merger.size)) return false;
    return go_on(code, word ? State::letters : State::spaces);
  }
};

Status Tokenizer::byte_pair_segment(Writer& writer, const Segment& segment, Span<std::byte> scratch) const {
  Words words{*this, writer, Merger::over(*this, scratch), Merger::room(scratch.size()), split_};
  if (segment.begins && prefix_space_ && segment.text[0] != ' ' && !words.push(' ')) return words.status;
  bool whole;
  if (rule_flags_ & kRuleCompose) {
    whole = ComposedText(rules_, segment.text, segment.size).each([&](std::uint32_t code) { return words.push(code); });
  } else {
    whole = true;
    for (std::size_t at = 0; whole && at < segment.size;) {
      const utf8::Character c = utf8::read(segment.text + at, segment.size - at);
      at += c.size;
      whole = words.push(c.code);
    }
  }
  if (!whole || !words.finish()) {
    writer.failed = static_cast<std::uint32_t>(segment.offset);
    return words.status;
  }
  return Status::ok;
}

}  // namespace heed
