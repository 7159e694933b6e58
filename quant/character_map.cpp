// SPDX-License-Identifier: Apache-2.0
// character_map.cpp: builds the automaton from the leaves up, and unpacks double arrays.
#include "quant/character_map.hpp"

#include <algorithm>
#include <memory>

#include "runtime/utf8.hpp"

namespace heed::quant {
namespace {

constexpr std::size_t kMostEntries = std::size_t{1} << 20;
constexpr std::uint32_t kMostPlaces = 1u << 22;  // 22 bits hold a node's place, and a value's

// Keys in ascending order become nodes: what is behind the common beginning of two neighbours is finished.
class Builder {
 public:
  explicit Builder(MapTables& tables) : tables_(tables) {}

  bool build(const CharacterMap& map) {
    std::vector<Node> path(1);
    std::string before;
    for (const auto& [key, value] : map) {
      std::size_t same = 0;
      while (same < key.size() && same < before.size() && key[same] == before[same]) ++same;
      if (!finish(path, before, same)) return false;
      path.resize(key.size() + 1);
      path.back().value = place_of(value) + 1;
      before = key;
    }
    if (!finish(path, before, 0)) return false;
    // The root stands first: the places of all others are behind it.
    return place_root(path[0]);
  }

 private:
  struct Node {
    std::uint32_t value = 0;           // its place + 1
    std::vector<std::uint32_t> edges;  // as units, but for the root's shift
  };

  std::uint32_t place_of(const std::string& value) {
    const auto [at, is_new] = values_.emplace(value, static_cast<std::uint32_t>(tables_.values.size()));
    if (is_new) {
      tables_.values.push_back(static_cast<char>(value.size()));
      tables_.values += value;
    }
    return at->second;
  }

  // Nodes of the path deeper than `depth` become units, and edges of those above them.
  bool finish(std::vector<Node>& path, const std::string& key, std::size_t depth) {
    while (path.size() > depth + 1) {
      const Node& node = path.back();
      const std::uint32_t byte = static_cast<std::uint8_t>(key[path.size() - 2]);
      std::uint32_t edge = byte << 1;
      if (node.edges.empty()) {
        edge |= 0x200u | (node.value - 1) << 10;
      } else {
        edge |= place(node) << 10;
      }
      if (tables_.units.size() >= kMostPlaces - 257 || tables_.values.size() >= kMostPlaces) return false;
      path.pop_back();
      path.back().edges.push_back(edge);
    }
    return true;
  }

  std::uint32_t place(const Node& node) {
    std::vector<std::uint32_t> units{1u | static_cast<std::uint32_t>(node.edges.size()) << 1 | node.value << 9};
    units.insert(units.end(), node.edges.begin(), node.edges.end());
    const auto [at, is_new] = nodes_.emplace(units, static_cast<std::uint32_t>(tables_.units.size()));
    if (is_new) tables_.units.insert(tables_.units.end(), units.begin(), units.end());
    return at->second;
  }

  bool place_root(const Node& root) {
    const std::uint32_t shift = static_cast<std::uint32_t>(root.edges.size()) + 1;
    if (tables_.units.size() + shift >= kMostPlaces) return false;
    const auto move = [&](std::uint32_t unit) { return (unit & 1) || (unit & 0x200) ? unit : unit + (shift << 10); };
    std::vector<std::uint32_t> all{1u | (shift - 1) << 1};
    for (std::uint32_t unit : root.edges) all.push_back(move(unit));
    for (std::uint32_t unit : tables_.units) all.push_back(move(unit));
    tables_.units = std::move(all);
    return true;
  }

  MapTables& tables_;
  std::map<std::string, std::uint32_t> values_;
  std::map<std::vector<std::uint32_t>, std::uint32_t> nodes_;
};

std::uint32_t read_u32(const std::vector<std::uint8_t>& bytes, std::size_t at) {
  return bytes[at] | std::uint32_t{bytes[at + 1]} << 8 | std::uint32_t{bytes[at + 2]} << 16 |
         std::uint32_t{bytes[at + 3]} << 24;
}

}  // namespace

std::string build_map_tables(MapTables& tables, const CharacterMap& map) {
  tables = {};
  if (map.empty()) return {};
  for (const auto& [key, value] : map) {
    if (key.empty() || key.size() > 255 || value.size() > 255) return "a normaliser's entry is empty or longer than 255 bytes";
  }
  return Builder(tables).build(map) ? std::string() : "the normaliser has too many entries";
}

std::string read_charsmap(CharacterMap& map, const std::vector<std::uint8_t>& charsmap) {
  map.clear();
  const char* const kBroken = "precompiled_charsmap is broken";
  if (charsmap.size() < 4) return kBroken;
  const std::size_t array_bytes = read_u32(charsmap, 0);
  if (array_bytes % 4 || array_bytes == 0 || array_bytes > charsmap.size() - 4) return kBroken;
  const std::size_t n_units = array_bytes / 4, values = 4 + array_bytes;
  const auto unit = [&](std::size_t i) { return read_u32(charsmap, 4 + 4 * i); };
  // A unit: the offset of its children (bits 10 to 30, times 256 if bit 9 is set), whether a value is among them (bit 8), and the
  // byte that leads here.
  struct Step {
    std::size_t node;
    std::string key;
  };
  std::vector<Step> open{{0, {}}};
  for (std::size_t steps = 0; !open.empty(); ++steps) {
    if (steps > 2 * kMostEntries) return "precompiled_charsmap has more than 2^21 nodes";
    const Step step = std::move(open.back());
    open.pop_back();
    const std::uint32_t u = unit(step.node);
    const std::size_t children = step.node ^ ((u >> 10) << ((u & 0x200) >> 6));
    if (u & 0x100) {
      if (children >= n_units) return kBroken;
      const std::size_t at = values + (unit(children) & 0x7FFFFFFF);
      const auto end = at < charsmap.size() ? std::find(charsmap.begin() + static_cast<std::ptrdiff_t>(at), charsmap.end(), 0)
                                            : charsmap.end();
      if (end == charsmap.end()) return kBroken;
      map[step.key] = std::string(charsmap.begin() + static_cast<std::ptrdiff_t>(at), end);
      if (map.size() > kMostEntries) return "precompiled_charsmap has more than 2^20 entries";
    }
    for (std::size_t byte = 1; byte < 256; ++byte) {
      const std::size_t child = children ^ byte;
      if (child >= n_units || child == 0 || (unit(child) & 0x800000FF) != byte) continue;
      if (step.key.size() >= 64 || open.size() > kMostEntries) return kBroken;
      open.push_back({child, step.key + static_cast<char>(byte)});
    }
  }
  return {};
}

std::uint32_t growth_of(const CharacterMap& map) {
  std::size_t growth = 1;
  for (const auto& [key, value] : map) growth = std::max(growth, (value.size() + key.size() - 1) / key.size());
  return static_cast<std::uint32_t>(growth);
}

std::string utf8_of(std::uint32_t code) {
  std::uint8_t bytes[4] = {};
  const std::uint32_t size = utf8::write(bytes, code);
  return std::string(reinterpret_cast<const char*>(bytes), size);
}

}  // namespace heed::quant
