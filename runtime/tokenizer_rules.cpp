// SPDX-License-Identifier: Apache-2.0
// tokenizer_rules.cpp: the rules block of a tokenizer section: checks it and looks things up in it.
#include "runtime/one_rounding.hpp"

#include "runtime/bits.hpp"
#include "runtime/tokenizer_parts.hpp"

namespace heed {

using tokenizer_tables::kNever;
using tokenizer_tables::kNone;
using tokenizer_tables::read_u32;

namespace {

constexpr std::uint32_t kAnyLeft = 0, kSeveralLeft = 255;  // of the table of left parts
constexpr std::uint32_t kMostBefore = 2, kMostAround = 4;  // max_tokens counts on them

// Which flags of the block a kind may have.
constexpr std::uint32_t known_rules(TokenizerKind kind) {
  constexpr std::uint32_t kAll = kRuleSecondType | kRuleTemplate | kRuleFreshText;
  switch (kind) {
    case TokenizerKind::byte_pairs: return kAll | kRuleWholeWords | kRuleCompose;
    case TokenizerKind::word_pieces: return kAll | kRuleSplitHangul;
    default: return kAll | kRuleCollapseSpaces | kRuleVisibleSpace;
  }
}

}  // namespace

// K13 to K22.
Status Tokenizer::open_rules(const std::uint8_t* s, std::uint64_t used, std::size_t section_bytes) {
  const std::uint64_t begin = (used + 3) / 4 * 4;
  if (section_bytes < begin + kTokenizerRulesBytes) return Status::bad_tokenizer;  // K13
  for (std::uint64_t i = used; i < begin; ++i)
    if (s[i]) return Status::bad_tokenizer;  // K9
  const std::uint8_t* block = s + static_cast<std::size_t>(begin);
  const auto field = [&](std::uint32_t i) { return read_u32(block + std::size_t{i} * 4); };
  rule_flags_ = field(0);
  unk_ = static_cast<Token>(field(1));
  split_ = static_cast<SplitRule>(field(2));
  growth_ = field(3);
  n_added_ = field(7);
  n_more_ = field(8);
  const std::uint32_t n_ranges = field(9), n_units = field(10), value_bytes = field(11), n_compositions = field(12);
  if (rule_flags_ & ~known_rules(kind_) || field(13) || field(14) || field(15)) return Status::bad_tokenizer;  // K14
  if (unk_ != kNoToken && (static_cast<std::uint32_t>(unk_) >= vocab_size_ || is_byte(static_cast<std::uint32_t>(unk_))))
    return Status::bad_tokenizer;  // K15
  for (std::uint32_t i = 0; unk_ != kNoToken && i < sorted_count_; ++i)
    if (static_cast<Token>(id_at(i)) == unk_) return Status::bad_tokenizer;  // K15
  if (kind_ == TokenizerKind::word_pieces && (unk_ == kNoToken || byte_count_)) return Status::bad_tokenizer;  // K15
  if (field(2) > static_cast<std::uint32_t>(SplitRule::bloom) || (field(2) && kind_ != TokenizerKind::byte_pairs))
    return Status::bad_tokenizer;                                           // K16
  if (growth_ == 0 || growth_ > 255) return Status::bad_tokenizer;          // K16
  for (std::uint32_t i = 0; i < 3; ++i) {
    if (field(4 + i) > kMostAround) return Status::bad_tokenizer;  // K17
    n_around_[i] = static_cast<std::uint8_t>(field(4 + i));
  }
  const std::uint32_t n_around = n_around_[0] + n_around_[1] + n_around_[2];
  const bool pairs = kBuiltFeatures.byte_pairs && kind_ == TokenizerKind::byte_pairs;
  if (n_added_ > vocab_size_ || (n_more_ && !pairs)) return Status::bad_tokenizer;  // K18, K19
  const std::uint64_t total = begin + kTokenizerRulesBytes + 4 * (std::uint64_t{n_around} + n_added_) +
                              8 * std::uint64_t{n_more_} +
                              TextRules::bytes(n_ranges, n_units, n_compositions, value_bytes) +
                              (pairs ? sorted_count_ : 0);
  if (section_bytes != total) return Status::bad_tokenizer;  // K13

  around_ = block + kTokenizerRulesBytes;
  const std::uint8_t* tables = more(n_more_);
  if (!rules_.open(tables, n_ranges, n_units, n_compositions, value_bytes)) return Status::bad_tokenizer;  // K20, K21
  if (pairs) left_ = s + static_cast<std::size_t>(total - sorted_count_);
  has_rules_ = true;
  if (!around_is_sound() || !added_are_sound()) return Status::bad_tokenizer;
  if (pairs && !merges_are_sound()) return Status::bad_tokenizer;
  if (kBuiltFeatures.unigram && kind_ == TokenizerKind::unigram && !scores_are_sound()) return Status::bad_tokenizer;
  return Status::ok;
}

// K17.
bool Tokenizer::around_is_sound() const {
  const std::uint32_t before = n_around_[0], between = n_around_[1], behind = n_around_[2];
  if (!(rule_flags_ & kRuleTemplate)) return before + between + behind == 0;
  if (before + behind > kMostBefore || before + between + behind > kMostAround) return false;
  for (std::uint32_t i = 0; i < before + between + behind; ++i)
    if (read_u32(around_ + std::size_t{i} * 4) >= vocab_size_) return false;
  return true;
}

std::uint32_t Tokenizer::added(std::uint32_t i) const {
  return read_u32(around_ + (std::size_t{n_around_[0]} + n_around_[1] + n_around_[2] + i) * 4);
}

const std::uint8_t* Tokenizer::more(std::uint32_t i) const {
  return around_ + (std::size_t{n_around_[0]} + n_around_[1] + n_around_[2] + n_added_) * 4 + std::size_t{i} * 8;
}

Tokenizer::Piece Tokenizer::added_text(std::uint32_t i) const {
  Piece p = piece(added(i) & 0xFFFFFF);
  // Words print behind a space, also those that are found by themselves.
  if (kind_ == TokenizerKind::word_pieces && p.size && p.bytes[0] == ' ') ++p.bytes, --p.size;
  return p;
}

// K18.
bool Tokenizer::added_are_sound() const {
  Piece before{pieces_, 0};
  for (std::uint32_t i = 0; i < n_added_; ++i) {
    const std::uint32_t entry = added(i);
    if ((entry & 0xFFFFFF) >= vocab_size_ || entry >> 28) return false;
    if (is_byte(entry & 0xFFFFFF)) return false;
    const Piece p = added_text(i);
    std::uint32_t same = 0;
    while (same < p.size && same < before.size && p.bytes[same] == before.bytes[same]) ++same;
    if (same == p.size || (same < before.size && p.bytes[same] < before.bytes[same])) return false;
    before = p;
  }
  return true;
}

// K19.
bool Tokenizer::merges_are_sound() const {
  std::uint64_t before = 0;
  for (std::uint32_t i = 0; i < n_more_; ++i) {
    const std::uint32_t key = read_u32(more(i));
    const std::uint32_t place = key & 0xFFFFFF, left = key >> 24;
    if (place >= sorted_count_ || left_[place] != kSeveralLeft || left == 0 || left >= piece(id_at(place)).size) return false;
    const std::uint64_t order = (std::uint64_t{place} << 8 | left) + 1;
    if (order <= before) return false;
    before = order;
  }
  return true;
}

// K22; and what a character without a piece costs: SentencePiece's penalty below the least probable piece.
bool Tokenizer::scores_are_sound() {
  float least = 0.0f;
  for (std::uint32_t i = 0; i < sorted_count_; ++i) {
    const float score = float_of(read_u32(ranks_ + std::size_t{i} * 4));
    if (!(score >= -kLargestScore && score <= kLargestScore)) return false;
    if (i == 0 || score < least) least = score;
  }
  unknown_score_ = least - 10.0f;
  return true;
}

// Of the pair of a left part of this size and a right part, which together are the piece at `position`.
std::uint32_t Tokenizer::rank_of(std::uint32_t position, std::uint32_t left_size) const {
  const std::uint32_t left = left_[position];
  if (left != kSeveralLeft) return left == kAnyLeft || left == left_size ? rank_at(position) : kNever;
  std::uint32_t low = 0, high = n_more_;
  const std::uint64_t wanted = std::uint64_t{position} << 8 | left_size;
  while (low < high) {
    const std::uint32_t middle = (low + high) / 2;
    const std::uint8_t* entry = more(middle);
    const std::uint64_t key = std::uint64_t{read_u32(entry) & 0xFFFFFF} << 8 | read_u32(entry) >> 24;
    if (key == wanted) return read_u32(entry + 4);
    if (key < wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return kNever;
}

// Keeps the places whose pieces go on with `byte`; false if there are none.
bool Tokenizer::narrow(PieceRange& range, std::uint8_t byte) const {
  const auto byte_at = [&](std::uint32_t i) {
    const Piece p = piece(id_at(i));
    return p.size > range.depth ? static_cast<int>(p.bytes[range.depth]) : -1;
  };
  narrow_to(range.low, range.high, byte, byte_at);
  ++range.depth;
  return range.low < range.high;
}

// The token whose piece is exactly the bytes of the range, or kNone.
std::uint32_t Tokenizer::token_of(const PieceRange& range) const {
  if (range.low >= range.high) return kNone;
  const std::uint32_t id = id_at(range.low);
  return piece(id).size == range.depth ? id : kNone;
}

void Tokenizer::put_around(Writer& writer, std::uint32_t which) const {
  if (!(rule_flags_ & kRuleTemplate)) {
    const Token token = which == 0 ? bos_ : eos_;
    if (token != kNoToken) writer.put(static_cast<std::uint32_t>(token));
    return;
  }
  std::uint32_t i = 0;
  for (std::uint32_t w = 0; w < which; ++w) i += n_around_[w];
  for (std::uint32_t end = i + n_around_[which]; i < end; ++i) writer.put(read_u32(around_ + std::size_t{i} * 4));
}

bool Tokenizer::is_space(std::uint32_t code) const {
  if (rules_.has_ranges()) return rules_.properties(code).kind == static_cast<std::uint8_t>(CharacterClass::space);
  return code == ' ' || code - 9 < 5;
}

bool Tokenizer::is_word(std::uint32_t code) const {
  if (code < 0x80) return code - '0' < 10 || (code | 0x20) - 'a' < 26 || code == '_';
  if (kind_ != TokenizerKind::byte_pairs || !rules_.has_ranges()) return code < utf8::kLimit;
  const std::uint8_t kind = rules_.properties(code).kind;
  return kind == static_cast<std::uint8_t>(CharacterClass::letter) ||
         kind == static_cast<std::uint8_t>(CharacterClass::number);
}

}  // namespace heed
