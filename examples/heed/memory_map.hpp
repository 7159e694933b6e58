// SPDX-License-Identifier: Apache-2.0
// memory_map.hpp: a plan's slices by name, and the picture of the arena that they share.
#pragma once
#include <string>
#include <vector>

#include "runtime/plan.hpp"

namespace heed::tool {

struct NamedSlice {
  const char* name;
  Slice slice;
};

// What lives while one stack runs, by offset in the one block.
struct StackMap {
  std::vector<NamedSlice> always;     // live all the time
  std::vector<NamedSlice> attention;  // the same bytes by turns
  std::vector<NamedSlice> ffn;
};

struct MemoryMap {
  std::vector<NamedSlice> regions;  // by their offset in the one block, with the bytes each needs alone
  std::vector<StackMap> stacks;     // of two, the first one runs in the same bytes, before the second
  NamedSlice logits;
  Slice slack;  // readable bytes behind the last buffer
};

MemoryMap memory_map(const Plan& plan, const ModelConfig& config);
// Several lines; of two stacks a picture for each.
std::string draw(const MemoryMap& map);

}  // namespace heed::tool
