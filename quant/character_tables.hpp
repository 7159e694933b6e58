// SPDX-License-Identifier: Apache-2.0
// character_tables.hpp: what a vocabulary's rules block knows of characters, from Unicode and from the normaliser's file.
#pragma once
#include "quant/character_map.hpp"
#include "quant/tokenizer_tables.hpp"

namespace heed::quant {

struct CharacterTables {
  std::vector<std::uint32_t> ranges;        // first code point, class << 21, changes << 23, combining class << 24
  std::vector<std::uint32_t> compositions;  // [n, 3]: first, second, composed
  CharacterMap map;
  std::uint32_t flags = 0;   // kRule... that follow from the tables
  std::uint32_t growth = 1;  // Tokenizer::growth
};

// Returns an empty string, or one line that says what does not fit.
std::string build_character_tables(CharacterTables& tables, const Vocabulary& vocabulary);

}  // namespace heed::quant
