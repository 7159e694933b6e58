// SPDX-License-Identifier: Apache-2.0
// character_map.hpp: the map of a rules block (SPEC.md 3.1): strings that stand for others, as an automaton, and where they come
// from: SentencePiece's precompiled charsmap, or Unicode's decompositions.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace heed::quant {

// From a string of UTF-8 that is not empty to what takes its place.
using CharacterMap = std::map<std::string, std::string>;

struct MapTables {
  std::vector<std::uint32_t> units;
  std::string values;
};

// The smallest automaton: alike ends of keys are shared. Returns an empty string, or one line that says what does not fit.
std::string build_map_tables(MapTables& tables, const CharacterMap& map);

// Reads precompiled_charsmap: its length, a double array of Darts-clone, and the values that this points to, each ended by 0.
// Returns an empty string, or one line that says what is wrong with it. What it allocates is bounded: at most 2^20 entries.
std::string read_charsmap(CharacterMap& map, const std::vector<std::uint8_t>& charsmap);

// How many times as many bytes as its own the longest value of a key has, rounded up; at least 1.
std::uint32_t growth_of(const CharacterMap& map);

std::string utf8_of(std::uint32_t code);

}  // namespace heed::quant
