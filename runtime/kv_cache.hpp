// SPDX-License-Identifier: Apache-2.0
// kv_cache.hpp: int8 keys and values of every layer, in blocks of 64 positions; the one place that indexes them.
#pragma once
#include "runtime/kernels.hpp"

namespace heed {

// Of one layer.
struct KvShape {
  std::uint32_t n_kv_heads = 0, head_dim = 0, max_seq = 0;
  std::uint32_t align = 16;     // of each block, traits.alignment
  std::uint32_t value_dim = 0;  // feature undivided_values: of a value head; 0 = head_dim
  // Feature windows: so many blocks are kept, whole ones, and block b takes the bytes of block b - ring; 0 = all of max_seq.
  std::uint32_t ring = 0;

  constexpr std::uint32_t width_of_values() const {
    return kBuiltFeatures.undivided_values && value_dim ? value_dim : head_dim;
  }
  constexpr bool is_ring() const { return kBuiltFeatures.windows && ring != 0; }
  constexpr std::uint32_t blocks() const { return is_ring() ? ring : (max_seq + kBlockKeys - 1) / kBlockKeys; }
  constexpr std::uint32_t capacity(std::uint32_t block) const {
    const std::uint32_t left = max_seq - block * kBlockKeys;
    return is_ring() || left >= kBlockKeys ? kBlockKeys : round_up(left, kKeyGranule);
  }
  constexpr std::uint32_t block_bytes(std::uint32_t block) const {
    return round_up(kv_block_bytes(capacity(block), head_dim, width_of_values()), align);
  }
  // All blocks of one head, then of the next head.
  constexpr std::uint64_t head_bytes() const {
    return std::uint64_t{blocks() - 1} * whole_block_bytes() + block_bytes(blocks() - 1);
  }
  constexpr std::uint64_t layer_bytes() const { return head_bytes() * n_kv_heads; }
  constexpr std::uint32_t whole_block_bytes() const {
    return round_up(kv_block_bytes(kBlockKeys, head_dim, width_of_values()), align);
  }
};

// Blocks that hold what a chunk's positions see through a window, wherever the chunk begins; 0 where all of max_seq takes no
// more.
constexpr std::uint32_t ring_of(std::uint32_t window, std::uint32_t chunk, std::uint32_t max_seq) {
  const std::uint32_t ring = (window + chunk - 2 + kBlockKeys - 1) / kBlockKeys + 1;
  return ring < (max_seq + kBlockKeys - 1) / kBlockKeys ? ring : 0;
}

// One layer's cache. [n_kv_heads, blocks] of KvBlock
struct KvCache {
  KvShape shape;
  std::byte* base = nullptr;
  std::size_t head_bytes = 0, block_bytes = 0;  // of the shape, because each block asks for them

  KvCache() = default;
  KvCache(const KvShape& s, std::byte* memory)
      : shape(s), base(memory), head_bytes(static_cast<std::size_t>(s.head_bytes())), block_bytes(s.whole_block_bytes()) {}

  // Positions 64 * index to 64 * index + 63, which are kept.
  KvBlock block(std::uint32_t kv_head, std::uint32_t index) const {
    if (shape.is_ring()) index %= shape.ring;
    return make_kv_block(base + head_bytes * kv_head + block_bytes * index, shape.capacity(index), shape.head_dim,
                         shape.width_of_values());
  }

  // To the same block of the next head.
  void advance(KvBlock& b) const {
    b.keys += head_bytes;
    b.values += head_bytes;
    b.key_mantissas += head_bytes;
    b.key_exponents += head_bytes;
    b.key_exponent_maxima += head_bytes;
    b.value_exponents += head_bytes;
    b.value_exponent_maxima += head_bytes;
  }
};

}  // namespace heed
