// SPDX-License-Identifier: Apache-2.0
// text_rules.cpp: looks characters up in the tables of an image, and checks these.
#include "runtime/one_rounding.hpp"

#include "runtime/text_rules.hpp"

#include "runtime/tokenizer_tables.hpp"

namespace heed {
namespace {

using tokenizer_tables::read_u32;

// A unit of the map's automaton: a node's header, then its edges in ascending order of their bytes.
constexpr bool is_node(std::uint32_t unit) { return unit & 1; }
constexpr std::uint32_t edge_count(std::uint32_t node) { return node >> 1 & 0xFF; }
constexpr std::uint32_t value_of(std::uint32_t node) { return node >> 9; }  // place + 1, 0 = none
constexpr std::uint8_t byte_of(std::uint32_t edge) { return static_cast<std::uint8_t>(edge >> 1); }
constexpr bool is_last(std::uint32_t edge) { return edge & 0x200; }      // its target is a value, and no node
constexpr std::uint32_t target_of(std::uint32_t edge) { return edge >> 10; }

}  // namespace

CharacterProperties TextRules::properties(std::uint32_t code) const {
  if (n_ranges_ == 0 || code >= utf8::kLimit) return {};
  std::uint32_t low = 0, high = n_ranges_;  // the last range that begins at or before `code`; the first one begins at 0
  while (high - low > 1) {
    const std::uint32_t middle = (low + high) / 2;
    if ((read_u32(ranges_ + std::size_t{middle} * 4) & 0x1FFFFF) <= code) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const std::uint32_t range = read_u32(ranges_ + std::size_t{low} * 4);
  return {static_cast<std::uint8_t>(range >> 21 & 3), (range >> 23 & 1) != 0, static_cast<std::uint8_t>(range >> 24)};
}

std::uint32_t TextRules::longest(const std::uint8_t*& value, std::uint32_t& value_size, const std::uint8_t* p,
                                 std::size_t size) const {
  std::uint32_t found = 0;
  if (n_units_ == 0) return 0;
  const auto unit = [&](std::uint32_t i) { return read_u32(units_ + std::size_t{i} * 4); };
  const auto take = [&](std::uint32_t place, std::uint32_t bytes) {
    found = bytes;
    value = values_ + place + 1;
    value_size = values_[place];
  };
  std::uint32_t node = 0;
  for (std::uint32_t i = 0; i < size; ++i) {
    std::uint32_t low = node + 1, high = low + edge_count(unit(node));
    const std::uint32_t behind = high;
    while (low < high) {
      const std::uint32_t middle = (low + high) / 2;
      if (byte_of(unit(middle)) < p[i]) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low == behind) return found;
    const std::uint32_t edge = unit(low);
    if (byte_of(edge) != p[i]) return found;
    if (is_last(edge)) {
      take(target_of(edge), i + 1);
      return found;
    }
    node = target_of(edge);
    if (value_of(unit(node))) take(value_of(unit(node)) - 1, i + 1);
  }
  return found;
}

std::uint32_t TextRules::composed(std::uint32_t first, std::uint32_t second) const {
  using namespace hangul;
  if (first - kLead < kLeads && second - kVowel < kVowels)
    return kSyllables + ((first - kLead) * kVowels + (second - kVowel)) * kTails;
  if (is_syllable(first) && (first - kSyllables) % kTails == 0 && second - kTail - 1 < kTails - 1)
    return first + (second - kTail);
  std::uint32_t low = 0, high = n_compositions_;
  while (low < high) {
    const std::uint32_t middle = (low + high) / 2;
    const std::uint8_t* entry = compositions_ + std::size_t{middle} * 12;
    const std::uint32_t a = read_u32(entry), b = read_u32(entry + 4);
    if (a == first && b == second) return read_u32(entry + 8);
    if (a < first || (a == first && b < second)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return 0;
}

bool TextRules::units_are_sound(std::uint32_t value_bytes) const {
  const auto unit = [&](std::uint32_t i) { return read_u32(units_ + std::size_t{i} * 4); };
  const auto is_value = [&](std::uint32_t place) {
    return place < value_bytes && values_[place] <= value_bytes - place - 1;
  };
  for (std::uint32_t i = 0; i < n_units_;) {
    const std::uint32_t node = unit(i), edges = edge_count(node);
    if (!is_node(node) || edges > n_units_ - i - 1) return false;
    if (value_of(node) && (i == 0 || !is_value(value_of(node) - 1))) return false;
    for (std::uint32_t e = i + 1; e <= i + edges; ++e) {
      const std::uint32_t edge = unit(e);
      if (is_node(edge) || (e > i + 1 && byte_of(edge) <= byte_of(unit(e - 1)))) return false;
      if (is_last(edge) ? !is_value(target_of(edge)) : target_of(edge) >= n_units_ || !is_node(unit(target_of(edge))))
        return false;
    }
    i += 1 + edges;
  }
  return true;
}

bool TextRules::open(const std::uint8_t* tables, std::uint32_t n_ranges, std::uint32_t n_units,
                     std::uint32_t n_compositions, std::uint32_t value_bytes) {
  ranges_ = tables;
  units_ = ranges_ + std::size_t{n_ranges} * 4;
  compositions_ = units_ + std::size_t{n_units} * 4;
  values_ = compositions_ + std::size_t{n_compositions} * 12;
  n_ranges_ = n_ranges;
  n_units_ = n_units;
  n_compositions_ = n_compositions;
  for (std::uint32_t i = 0; i < n_ranges; ++i) {
    const std::uint32_t code = read_u32(ranges_ + std::size_t{i} * 4) & 0x1FFFFF;
    if (i == 0 ? code != 0 : code <= (read_u32(ranges_ + std::size_t{i - 1} * 4) & 0x1FFFFF)) return false;
    if (code >= utf8::kLimit) return false;
  }
  if (!units_are_sound(value_bytes)) return false;
  std::uint64_t before = 0;
  for (std::uint32_t i = 0; i < n_compositions; ++i) {
    const std::uint8_t* entry = compositions_ + std::size_t{i} * 12;
    const std::uint64_t pair = std::uint64_t{read_u32(entry)} << 32 | read_u32(entry + 4);
    const std::uint32_t composed = read_u32(entry + 8);
    if (pair <= before || composed == 0 || composed >= utf8::kLimit) return false;
    before = pair;
  }
  return true;
}

bool DecomposedText::next(std::uint32_t& code) {
  for (;;) {
    if (value_size_) {
      const utf8::Character c = utf8::read(value_, value_size_);
      value_ += c.size;
      value_size_ -= c.size;
      code = c.code;
      return true;
    }
    if (n_jamo_) {
      code = jamo_[--n_jamo_];
      return true;
    }
    if (at_ == end_) return false;
    const utf8::Character c = utf8::read(at_, static_cast<std::size_t>(end_ - at_));
    if (split_hangul_ && hangul::is_syllable(c.code)) {
      const std::uint32_t index = c.code - hangul::kSyllables, tail = index % hangul::kTails;
      if (tail) jamo_[n_jamo_++] = static_cast<std::uint16_t>(hangul::kTail + tail);
      jamo_[n_jamo_++] = static_cast<std::uint16_t>(hangul::kVowel + index / hangul::kTails % hangul::kVowels);
      code = hangul::kLead + index / (hangul::kTails * hangul::kVowels);
      at_ += c.size;
      return true;
    }
    // Below U+0080 the map may have a say too: lower case. One character at a time: no key of it is longer.
    if (rules_->longest(value_, value_size_, at_, c.size) == c.size) {
      at_ += c.size;
      continue;  // a value may be empty
    }
    value_size_ = 0;
    at_ += c.size;
    code = c.code;
    return true;
  }
}

}  // namespace heed
