// SPDX-License-Identifier: Apache-2.0
// kv_cache.hpp: int8 keys and values of every layer, in blocks of 64 positions; the one place that indexes them.
#pragma once
#include "runtime/kernels.hpp"

namespace heed {

struct KvShape {
  std::uint32_t n_kv_heads = 0, head_dim = 0, max_seq = 0;
  std::uint32_t align = 16;  // of each block, traits.alignment

  constexpr std::uint32_t blocks() const { return (max_seq + kBlockKeys - 1) / kBlockKeys; }
  constexpr std::uint32_t capacity(std::uint32_t block) const {
    const std::uint32_t left = max_seq - block * kBlockKeys;
    return left >= kBlockKeys ? kBlockKeys : round_up(left, kKeyGranule);
  }
  constexpr std::uint32_t full_block_bytes() const { return round_up(kv_block_bytes(kBlockKeys, head_dim, head_dim), align); }
  // All blocks of one head, then of the next head.
  constexpr std::uint64_t head_bytes() const {
    return std::uint64_t{blocks() - 1} * full_block_bytes() +
           round_up(kv_block_bytes(capacity(blocks() - 1), head_dim, head_dim), align);
  }
  constexpr std::uint64_t layer_bytes() const { return head_bytes() * n_kv_heads; }
};

// One layer's cache. [n_kv_heads, blocks] of KvBlock
struct KvCache {
  KvShape shape;
  std::byte* base = nullptr;
  std::size_t head_bytes = 0, block_bytes = 0;  // of the shape, because each block asks for them

  KvCache() = default;
  KvCache(const KvShape& s, std::byte* memory)
      : shape(s), base(memory), head_bytes(static_cast<std::size_t>(s.head_bytes())), block_bytes(s.full_block_bytes()) {}

  KvBlock block(std::uint32_t kv_head, std::uint32_t index) const {
    return make_kv_block(base + head_bytes * kv_head + block_bytes * index, shape.capacity(index), shape.head_dim,
                         shape.head_dim);
  }

  // To the block as many bytes further on, of equal capacity: the same one of the next head, or the next full one.
  static void advance(KvBlock& b, std::size_t bytes) {
    b.keys += bytes;
    b.values += bytes;
    b.key_mantissas += bytes;
    b.key_exponents += bytes;
    b.key_exponent_maxima += bytes;
    b.value_exponents += bytes;
    b.value_exponent_maxima += bytes;
  }
};

}  // namespace heed
