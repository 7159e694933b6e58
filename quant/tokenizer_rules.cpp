// SPDX-License-Identifier: Apache-2.0
// tokenizer_rules.cpp: merges with their left parts, what stands around a text, added tokens, and the tables of characters.
#include "quant/tokenizer_rules.hpp"

#include <algorithm>
#include <unordered_map>

#include "quant/character_tables.hpp"

namespace heed::quant {

void put_number(std::vector<std::uint8_t>& out, std::uint32_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

void put_table(std::vector<std::uint8_t>& out, const std::vector<std::uint32_t>& values, bool wide) {
  for (std::uint32_t v : values) put_number(out, v, wide ? 4 : 2);
  while (out.size() % 4) out.push_back(0);
}

bool needs_rules(const Vocabulary& v) {
  // With all byte tokens there is no text for an unknown token.
  return v.kind != TokenizerKind::merges || (v.unk != kNoToken && v.byte_count < 256) || !v.added.empty() ||
         v.has_template || !v.charsmap.empty() || v.collapse_spaces || v.visible_space || v.fresh_text;
}

std::string check_rules(const Vocabulary& v) {
  const auto inside = [&](Token t) { return t >= 0 && static_cast<std::size_t>(t) < v.pieces.size(); };
  for (const AddedToken& added : v.added) {
    if (!inside(added.id) || v.pieces[static_cast<std::size_t>(added.id)].bytes.empty())
      return "an added token lies outside the vocabulary, or has no text";
  }
  const TextTemplate& around = v.text_template;
  for (const auto* list : {&around.before, &around.between, &around.after})
    for (Token t : *list)
      if (!inside(t)) return "a token that stands around texts lies outside the vocabulary";
  if (around.before.size() + around.after.size() > 2 || around.before.size() + around.between.size() + around.after.size() > 4)
    return "more than two tokens around a text, or than four around two, are not supported";
  if (v.kind == TokenizerKind::word_pieces && (v.unk == kNoToken || v.byte_count))
    return "WordPiece needs an unknown token and has no byte tokens";
  return {};
}

std::string build_merge_tables(MergeTables& tables, const Vocabulary& v, const std::vector<std::uint32_t>& sorted) {
  std::unordered_map<std::string, std::uint32_t> places;
  for (std::uint32_t i = 0; i < sorted.size(); ++i) places.emplace(v.pieces[sorted[i]].bytes, i);
  struct Way {
    std::uint32_t place, left, number;
  };
  std::vector<Way> ways;
  for (std::uint32_t i = 0; i < v.merges.size(); ++i) {
    const PieceMerge& merge = v.merges[i];
    for (Token t : {merge.left, merge.right}) {
      if (t < 0 || static_cast<std::size_t>(t) >= v.pieces.size() || v.pieces[static_cast<std::size_t>(t)].bytes.empty())
        return "merge " + std::to_string(i) + " is of a token that lies outside the vocabulary or has no text";
    }
    const std::string& left = v.pieces[static_cast<std::size_t>(merge.left)].bytes;
    const auto place = places.find(left + v.pieces[static_cast<std::size_t>(merge.right)].bytes);
    if (place == places.end()) return "merge " + std::to_string(i) + " makes a piece that is not in the vocabulary";
    ways.push_back({place->second, static_cast<std::uint32_t>(left.size()), i});
  }
  std::stable_sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) {
    return a.place != b.place ? a.place < b.place : a.left < b.left;
  });
  // Of the same merge the first one counts.
  ways.erase(std::unique(ways.begin(), ways.end(),
                         [](const Way& a, const Way& b) { return a.place == b.place && a.left == b.left; }),
             ways.end());

  tables.ranks.assign(sorted.size(), kNeverMerged);
  tables.left.assign(sorted.size(), 0);
  std::vector<Way> several;
  for (std::size_t begin = 0, end; begin < ways.size(); begin = end) {
    end = begin + 1;
    while (end < ways.size() && ways[end].place == ways[begin].place) ++end;
    const Way& way = ways[begin];
    const std::string& piece = v.pieces[sorted[way.place]].bytes;
    std::size_t possible = 0;
    for (std::size_t i = 1; i < piece.size(); ++i) possible += places.count(piece.substr(0, i)) && places.count(piece.substr(i));
    std::uint32_t first = way.number;
    for (std::size_t i = begin; i < end; ++i) first = std::min(first, ways[i].number);
    if (end - begin > 1 && end - begin == possible) {  // tiktoken's rule: what the parts are does not matter
      tables.ranks[way.place] = first;
    } else if (end - begin == 1) {
      tables.ranks[way.place] = first;
      tables.left[way.place] = static_cast<std::uint8_t>(way.left);
    } else {
      tables.ranks[way.place] = first;
      tables.left[way.place] = 255;
      several.insert(several.end(), ways.begin() + static_cast<std::ptrdiff_t>(begin), ways.begin() + static_cast<std::ptrdiff_t>(end));
    }
  }
  // Numbers without gaps, so that they fit two bytes if they can.
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t rank : tables.ranks)
    if (rank != kNeverMerged) numbers.push_back(rank);
  for (const Way& way : several) numbers.push_back(way.number);
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  const auto dense = [&](std::uint32_t number) {
    return static_cast<std::uint32_t>(std::lower_bound(numbers.begin(), numbers.end(), number) - numbers.begin());
  };
  for (std::uint32_t& rank : tables.ranks)
    if (rank != kNeverMerged) rank = dense(rank);
  for (const Way& way : several) {
    tables.more.push_back(way.place | way.left << 24);
    tables.more.push_back(dense(way.number));
  }
  tables.n_ranks = static_cast<std::uint32_t>(numbers.size());
  return {};
}

std::string append_rules(std::vector<std::uint8_t>& section, const Vocabulary& v, const MergeTables& merges) {
  CharacterTables characters;
  if (std::string refused = build_character_tables(characters, v); !refused.empty()) return refused;
  MapTables map;
  if (std::string refused = build_map_tables(map, characters.map); !refused.empty()) return refused;

  std::uint32_t flags = characters.flags;
  if (v.collapse_spaces) flags |= kRuleCollapseSpaces;
  if (v.visible_space) flags |= kRuleVisibleSpace;
  if (v.whole_words) flags |= kRuleWholeWords;
  if (v.text_template.second_type) flags |= kRuleSecondType;
  if (v.has_template) flags |= kRuleTemplate;
  if (v.fresh_text) flags |= kRuleFreshText;

  // In ascending order of the bytes that are looked for, which are never a word's space.
  std::vector<AddedToken> added = v.added;
  const auto text_of = [&](const AddedToken& a) { return v.pieces[static_cast<std::size_t>(a.id)].bytes; };
  std::stable_sort(added.begin(), added.end(), [&](const AddedToken& a, const AddedToken& b) { return text_of(a) < text_of(b); });
  added.erase(std::unique(added.begin(), added.end(),
                          [&](const AddedToken& a, const AddedToken& b) { return text_of(a) == text_of(b); }),
              added.end());

  while (section.size() % 4) section.push_back(0);
  const TextTemplate none, &around = v.has_template ? v.text_template : none;
  const auto number = [&](std::size_t value) { put_number(section, static_cast<std::uint32_t>(value), 4); };
  const std::size_t block = section.size();
  number(flags);
  number(static_cast<std::uint32_t>(v.unk));
  number(static_cast<std::uint32_t>(v.split));
  number(characters.growth);
  number(around.before.size());
  number(around.between.size());
  number(around.after.size());
  number(added.size());
  number(merges.more.size() / 2);
  number(characters.ranges.size());
  number(map.units.size());
  number(map.values.size());
  number(characters.compositions.size() / 3);
  section.resize(block + kTokenizerRulesBytes, 0);
  for (const auto* list : {&around.before, &around.between, &around.after})
    for (Token t : *list) number(static_cast<std::uint32_t>(t));
  for (const AddedToken& a : added) {
    number(static_cast<std::uint32_t>(a.id) | (a.special ? kAddedSpecial : 0) | (a.strip_left ? kAddedStripLeft : 0) |
           (a.strip_right ? kAddedStripRight : 0) | (a.single_word ? kAddedSingleWord : 0));
  }
  using Numbers = std::vector<std::uint32_t>;
  for (const Numbers* table : std::initializer_list<const Numbers*>{&merges.more, &characters.ranges, &map.units,
                                                                    &characters.compositions})
    for (std::uint32_t value : *table) number(value);
  section.insert(section.end(), map.values.begin(), map.values.end());
  section.insert(section.end(), merges.left.begin(), merges.left.end());
  return {};
}

}  // namespace heed::quant
