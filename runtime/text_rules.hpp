// SPDX-License-Identifier: Apache-2.0
// text_rules.hpp: what a tokenizer's image knows of characters: classes, replacements, composition (SPEC.md 3.1, rules block).
// The runtime itself has no table of Unicode.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/status.hpp"
#include "runtime/utf8.hpp"

namespace heed {

// Of byte_pairs; word_pieces has names of its own for the same numbers.
enum class CharacterClass : std::uint8_t { other = 0, letter = 1, number = 2, space = 3 };
enum class WordClass : std::uint8_t { part = 0, vanishes = 1, alone = 2, space = 3 };

struct CharacterProperties {
  std::uint8_t kind;       // CharacterClass or WordClass
  bool changes;            // composition may change it, or what stands in front of it
  std::uint8_t combining;  // canonical combining class
};

class TextRules {
 public:
  CharacterProperties properties(std::uint32_t code) const;
  // Bytes at p [size] of the longest key of the map that they begin with, 0 if none; its value in `value` [value_size].
  std::uint32_t longest(const std::uint8_t*& value, std::uint32_t& value_size, const std::uint8_t* p,
                        std::size_t size) const;
  // What the two compose to, 0 if nothing. Hangul is computed.
  std::uint32_t composed(std::uint32_t first, std::uint32_t second) const;
  bool has_map() const { return n_units_ != 0; }
  bool has_ranges() const { return n_ranges_ != 0; }

  // Tables one behind the other at `tables`, of sizes that the section has been found to have. False unless they keep their rules.
  bool open(const std::uint8_t* tables, std::uint32_t n_ranges, std::uint32_t n_units, std::uint32_t n_compositions,
            std::uint32_t value_bytes);
  static constexpr std::uint64_t bytes(std::uint64_t n_ranges, std::uint64_t n_units, std::uint64_t n_compositions,
                                       std::uint64_t value_bytes) {
    return 4 * (n_ranges + n_units + 3 * n_compositions) + value_bytes;
  }

 private:
  bool units_are_sound(std::uint32_t value_bytes) const;

  const std::uint8_t* ranges_ = nullptr;        // [n_ranges] u32: first code point, class, changes, combining class
  const std::uint8_t* units_ = nullptr;         // [n_units] u32, the map's automaton
  const std::uint8_t* compositions_ = nullptr;  // [n_compositions, 3] u32: first, second, composed; ascending
  const std::uint8_t* values_ = nullptr;        // of the map: a byte that says how many, then the bytes
  std::uint32_t n_ranges_ = 0, n_units_ = 0, n_compositions_ = 0;
};

// Hangul syllables, which Unicode composes by arithmetic (3.12).
namespace hangul {
inline constexpr std::uint32_t kSyllables = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTail = 0x11A7;
inline constexpr std::uint32_t kLeads = 19, kVowels = 21, kTails = 28, kCount = kLeads * kVowels * kTails;
constexpr bool is_syllable(std::uint32_t code) { return code - kSyllables < kCount; }
}  // namespace hangul

// The characters of a text, one by one, decomposed: by the map, and Hangul by arithmetic if asked for. Copying keeps the place.
class DecomposedText {
 public:
  DecomposedText(const TextRules& rules, const std::uint8_t* text, std::size_t size, bool split_hangul)
      : rules_(&rules), at_(text), end_(text + size), split_hangul_(split_hangul) {}
  // The next code point, or utf8::kLimit + byte; false at the end.
  bool next(std::uint32_t& code);
  // Bytes of the source that are not begun; between its characters only.
  const std::uint8_t* at() const { return at_; }
  bool between() const { return value_size_ == 0 && n_jamo_ == 0; }

 private:
  const TextRules* rules_;
  const std::uint8_t *at_, *end_;
  const std::uint8_t* value_ = nullptr;
  std::uint32_t value_size_ = 0;
  std::uint16_t jamo_[2] = {};  // the last first
  std::uint8_t n_jamo_ = 0;
  bool split_hangul_;
};

}  // namespace heed
