// SPDX-License-Identifier: Apache-2.0
// character_tables.cpp: classes as ranges, decompositions and lower case as a map, compositions as pairs.
#include "quant/character_tables.hpp"

#include <algorithm>
#include <set>

#include "quant/unicode.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF;
bool is_surrogate(std::uint32_t code) { return code >= kFirstSurrogate && code <= kLastSurrogate; }
bool is_syllable(std::uint32_t code) { return code >= 0xAC00 && code < 0xAC00 + 11172; }

// One entry for each stretch of alike characters. properties(code): the bits above the code point.
template <class Properties>
std::vector<std::uint32_t> ranges_of(const Properties& properties) {
  std::vector<std::uint32_t> ranges;
  for (std::uint32_t code = 0; code < unicode::kLimit; ++code) {
    const std::uint32_t bits = properties(code);
    if (ranges.empty() || (ranges.back() & ~0x1FFFFFu) != bits) ranges.push_back(bits | code);
  }
  return ranges;
}

// Of byte_pairs' splitting rules: \p{L}, \p{N}, \s.
CharacterClass class_of(std::uint32_t code) {
  if (unicode::is_white_space(code)) return CharacterClass::space;
  const char category = unicode::category(code)[0];
  return category == 'L' ? CharacterClass::letter : category == 'N' ? CharacterClass::number : CharacterClass::other;
}

constexpr std::uint32_t class_bits(std::uint32_t kind) { return kind << 21; }
constexpr std::uint32_t kChanges = 1u << 23;

void build_byte_pairs(CharacterTables& tables, const Vocabulary& v) {
  std::set<std::uint32_t> composed, seconds;
  if (v.compose) {
    for (const unicode::Composition& c : unicode::compositions()) {
      tables.compositions.insert(tables.compositions.end(), {c.first, c.second, c.composed});
      composed.insert(c.composed);
      seconds.insert(c.second);
    }
    for (std::uint32_t code = 0x1161; code < 0x1176; ++code) seconds.insert(code);  // vowels and tails of Hangul
    for (std::uint32_t code = 0x11A8; code < 0x11C3; ++code) seconds.insert(code);
    tables.flags |= kRuleCompose;
  }
  tables.ranges = ranges_of([&](std::uint32_t code) {
    std::uint32_t bits = class_bits(static_cast<std::uint32_t>(class_of(code)));
    if (!v.compose || is_surrogate(code)) return bits;
    bool changes = seconds.count(code) != 0;
    if (const auto parts = unicode::decomposed(code); !is_syllable(code) && (parts.size() > 1 || parts[0] != code)) {
      std::string value;
      for (std::uint32_t part : parts) value += utf8_of(part);
      tables.map[utf8_of(code)] = value;
      changes = changes || !composed.count(code);
    }
    return bits | (changes ? kChanges : 0) | std::uint32_t{unicode::combining_class(code)} << 24;
  });
  if (v.compose) tables.growth = growth_of(tables.map);
}

// BERT's ideographs, each of which is a word: those of its published code, whose third extension begins where the second ends.
bool is_ideograph(std::uint32_t code) {
  constexpr std::uint32_t kRanges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                                          {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  for (const auto& range : kRanges)
    if (code >= range[0] && code <= range[1]) return true;
  return false;
}

WordClass word_class_of(std::uint32_t code, const Vocabulary& v) {
  if (code == '\t' || code == '\n' || code == '\r' || unicode::category(code)[0] == 'Z') return WordClass::space;
  const std::string category = unicode::category(code);
  if (v.clean_text && (code == 0xFFFD || category[0] == 'C')) return WordClass::vanishes;
  if (category[0] == 'P' || (code < 0x80 && code > ' ' && category[0] != 'L' && category[0] != 'N' && category != "Cc"))
    return WordClass::alone;
  if (v.split_cjk && is_ideograph(code)) return WordClass::alone;
  return WordClass::part;
}

void build_word_pieces(CharacterTables& tables, const Vocabulary& v) {
  std::size_t growth = 1;
  tables.ranges = ranges_of([&](std::uint32_t code) {
    const WordClass kind = word_class_of(code, v);
    if (kind != WordClass::vanishes && !is_surrogate(code) && (v.lower_case || v.strip_accents) &&
        !(v.strip_accents && is_syllable(code))) {
      std::vector<std::uint32_t> codes = v.lower_case ? unicode::lower_case(code) : std::vector<std::uint32_t>{code};
      if (v.strip_accents) {
        std::vector<std::uint32_t> bare;
        for (std::uint32_t c : codes)
          for (std::uint32_t part : unicode::decomposed(c))
            if (unicode::category(part) != "Mn") bare.push_back(part);
        codes = bare;
      }
      if (codes != std::vector<std::uint32_t>{code}) {
        const std::string key = utf8_of(code);
        std::string& value = tables.map[key];
        for (std::uint32_t c : codes) value += utf8_of(c);
        growth = std::max(growth, (codes.size() + key.size() - 1) / key.size());
      }
    }
    return class_bits(static_cast<std::uint32_t>(kind));
  });
  if (v.strip_accents) tables.flags |= kRuleSplitHangul;
  tables.growth = static_cast<std::uint32_t>(growth);
}

}  // namespace

std::string build_character_tables(CharacterTables& tables, const Vocabulary& v) {
  bool strips = false;
  for (const AddedToken& added : v.added) strips = strips || added.strip_left || added.strip_right;
  const bool of_bytes = v.kind == TokenizerKind::byte_pairs && (v.split != SplitRule::none || v.compose || strips);
  const bool of_words = v.kind == TokenizerKind::word_pieces;
  if ((of_bytes || of_words || strips) && !unicode::is_known())
    return "this heed was built without utf8proc, which tables of characters come from";
  if (of_bytes) build_byte_pairs(tables, v);
  if (of_words) build_word_pieces(tables, v);
  if (v.kind == TokenizerKind::merges || v.kind == TokenizerKind::unigram) {
    if (strips) {
      tables.ranges = ranges_of([](std::uint32_t code) {
        return class_bits(static_cast<std::uint32_t>(unicode::is_white_space(code) ? CharacterClass::space : CharacterClass::other));
      });
    }
    if (!v.charsmap.empty()) {
      if (std::string refused = read_charsmap(tables.map, v.charsmap); !refused.empty()) return refused;
    }
    tables.growth = growth_of(tables.map);
    if (v.kind == TokenizerKind::unigram) {
      tables.growth = std::max(tables.growth, 3u);  // U+FFFD in the place of one byte
      tables.growth += tables.growth / 8 + 2;       // nine bytes a place instead of eight, and one place more than there are bytes
    }
  }
  return tables.growth <= 255 ? std::string() : "the normaliser makes a text more than 255 times as long";
}

}  // namespace heed::quant
