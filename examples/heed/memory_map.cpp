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

StackMap stack_map(const StackPlan& p, const Plan& whole, bool two) {
  const AttentionPlan& a = p.attention;
  StackMap map;
  map.always = {{"residual", p.residual},       {"rotation", p.rotation}, {"local_rotation", p.local_rotation},
                {"position", p.position},       {"frames", p.frames},     {"convolved", p.convolved},
                {"pooled", p.pooled},           {"dense", p.dense},       {"heads", p.heads},
                {"activations", p.activations}, {"kept", p.kept},         {"change", p.change}};
  map.attention = {{"query", a.query},           {"key", a.key},
                   {"value", a.value},           {"queries", a.queries},
                   {"numerators", a.numerators}, {"denominators", a.denominators},
                   {"references", a.references}, {"score_bias", a.score_bias}};
  map.ffn = {{"gate", p.gate}, {"up", p.up}};
  for (auto* part : {&map.always, &map.attention, &map.ffn})
    for (NamedSlice& s : *part) s.slice.offset += whole.scratch.offset;
  std::vector<NamedSlice> kept{{"kv_cache", p.cache}, {"sequence", p.sequence}};
  if (two) kept.insert(kept.begin(), {"cross_cache", whole.cross_cache});
  for (NamedSlice& s : kept) s.slice.offset += whole.kv_cache.offset;
  map.always.insert(map.always.begin(), kept.begin(), kept.end());
  for (auto* part : {&map.always, &map.attention, &map.ffn}) {  // without what this model does not have
    part->erase(std::remove_if(part->begin(), part->end(), [](const NamedSlice& s) { return s.slice.bytes == 0; }),
                part->end());
    // Buffers that one model has and another has not may stand in any order.
    std::stable_sort(part->begin(), part->end(),
                     [](const NamedSlice& x, const NamedSlice& y) { return x.slice.offset < y.slice.offset; });
  }
  return map;
}

}  // namespace

MemoryMap memory_map(const Plan& p, const ModelConfig& config) {
  const bool two = config.n_stacks == 2;
  MemoryMap map;
  map.regions = {{"kv_cache", p.region(Region::kv_cache)},
                 {"scratch", p.region(Region::scratch)},
                 {"logits", p.region(Region::logits)}};
  if (two) map.stacks.push_back(stack_map(p.source, p, two));
  map.stacks.push_back(stack_map(p, p, two));
  map.logits = {"logits", p.logits};
  map.slack = {p.arena_bytes - p.slack, p.slack};
  return map;
}

std::string draw(const MemoryMap& map) {
  std::string picture;
  for (const StackMap& stack : map.stacks) {
    const bool is_source = map.stacks.size() == 2 && &stack == &map.stacks[0];
    if (map.stacks.size() == 2) picture += is_source ? "while the source is encoded\n" : "\nand then\n";
    for (const NamedSlice& s : stack.always) picture += edge(s.slice.offset, false) + row(cell(s, kFull));
    picture += edge(stack.attention.front().slice.offset, true);
    const auto header = [](const std::string& text) { return " " + text + std::string(kHalf - 1 - text.size(), ' '); };
    picture += row(header("attention layer") + "|" + header("feed-forward layer"));
    const std::size_t lines = std::max(stack.attention.size(), stack.ffn.size());
    for (std::size_t i = 0; i < lines; ++i) {
      const std::string blank(kHalf, ' ');
      picture += row((i < stack.attention.size() ? cell(stack.attention[i], kHalf) : blank) + "|" +
                     (i < stack.ffn.size() ? cell(stack.ffn[i], kHalf) : blank));
    }
    picture += edge(map.logits.slice.offset, true);
    if (is_source) continue;
    picture += row(cell(map.logits, kFull)) + edge(map.slack.offset, false);
    if (map.slack.bytes)
      picture += row(cell({"slack", map.slack}, kFull)) + edge(map.slack.offset + map.slack.bytes, false);
  }
  return picture;
}

}  // namespace heed::tool
