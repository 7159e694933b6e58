// SPDX-License-Identifier: Apache-2.0
// memory_map.cpp: boxes from the beginning of the arena to its end; what lives by turns stands side by side.
#include "examples/heed/memory_map.hpp"

#include <algorithm>

#include "examples/heed/output.hpp"

namespace heed::tool {
namespace {

constexpr std::size_t kAddress = 15, kHalf = 30, kFull = 2 * kHalf + 1;

std::string right(const std::string& s, std::size_t width) {
  return s.size() < width ? std::string(width - s.size(), ' ') + s : s;
}

// "name          bytes", `width` wide.
std::string cell(const NamedSlice& s, std::size_t width) {
  const std::string name = " " + std::string(s.name), bytes = grouped(s.slice.bytes) + " ";
  return name + right(bytes, width - name.size());
}

std::string edge(std::uint64_t offset, bool split) {
  const std::string half(kHalf, '-');
  return right(grouped(offset), kAddress) + " +" + half + (split ? "+" : "-") + half + "+\n";
}

std::string row(const std::string& content) { return std::string(kAddress, ' ') + " |" + content + "|\n"; }

}  // namespace

MemoryMap memory_map(const Plan& p, std::uint32_t slack) {
  const AttentionPlan& a = p.attention;
  MemoryMap map;
  map.regions = {{"kv_cache", p.region(Region::kv_cache)},
                 {"scratch", p.region(Region::scratch)},
                 {"logits", p.region(Region::logits)}};
  map.always = {{"residual", p.residual},
                {"rotation", p.rotation},
                {"position", p.position},
                {"activations", p.activations}};
  map.attention = {{"query", a.query},           {"key", a.key},
                   {"value", a.value},           {"queries", a.queries},
                   {"numerators", a.numerators}, {"denominators", a.denominators},
                   {"references", a.references}};
  map.ffn = {{"gate", p.gate}, {"up", p.up}};
  for (auto* part : {&map.always, &map.attention, &map.ffn}) {  // without what this model does not have
    part->erase(std::remove_if(part->begin(), part->end(), [](const NamedSlice& s) { return s.slice.bytes == 0; }),
                part->end());
    for (NamedSlice& s : *part) s.slice.offset += p.scratch.offset;
  }
  map.always.insert(map.always.begin(), {"kv_cache", p.kv_cache});
  map.logits = {"logits", p.logits};
  map.slack = {p.arena_bytes - slack, slack};
  return map;
}

std::string draw(const MemoryMap& map) {
  std::string picture;
  for (const NamedSlice& s : map.always) picture += edge(s.slice.offset, false) + row(cell(s, kFull));
  picture += edge(map.attention.front().slice.offset, true);
  const auto header = [](const std::string& text) { return " " + text + std::string(kHalf - 1 - text.size(), ' '); };
  picture += row(header("attention layer") + "|" + header("feed-forward layer"));
  const std::size_t lines = std::max(map.attention.size(), map.ffn.size());
  for (std::size_t i = 0; i < lines; ++i) {
    const std::string blank(kHalf, ' ');
    picture += row((i < map.attention.size() ? cell(map.attention[i], kHalf) : blank) + "|" +
                   (i < map.ffn.size() ? cell(map.ffn[i], kHalf) : blank));
  }
  picture += edge(map.logits.slice.offset, true) + row(cell(map.logits, kFull));
  picture += edge(map.slack.offset, false);
  if (map.slack.bytes)
    picture += row(cell({"slack", map.slack}, kFull)) + edge(map.slack.offset + map.slack.bytes, false);
  return picture;
}

}  // namespace heed::tool
