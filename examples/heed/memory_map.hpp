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

struct MemoryMap {
  std::vector<NamedSlice> regions;    // by their offset in the one block, with the bytes each needs alone
  // Buffers, by their offset in the one block.
  std::vector<NamedSlice> always;     // live all the time
  std::vector<NamedSlice> attention;  // the same bytes by turns
  std::vector<NamedSlice> ffn;
  NamedSlice logits;
  Slice slack;  // readable bytes behind the last buffer
};

MemoryMap memory_map(const Plan& plan, std::uint32_t slack);
// Several lines.
std::string draw(const MemoryMap& map);

}  // namespace heed::tool
