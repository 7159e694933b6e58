// SPDX-License-Identifier: Apache-2.0
// value_map_cost.hpp: what either form of a stack's value maps costs. Beside value_map.hpp so that a firmware can ask it too
// (tests/firmware/value_maps.cpp counts both forms and holds the instructions against it).
#pragma once
#include <cstdint>

#include "runtime/config.hpp"

namespace heed::quant {

// Of the values of one position in one layer, its share of the source's keys and values included, in multiply-adds.
struct ValueMapCost {
  std::uint64_t factors = 0, undivided = 0;
  std::uint64_t keys_seen = 0;  // of self-attention, on average over a sequence of max_seq
};

// What else takes as many instructions as so many multiply-adds, on Cortex-M4 and M0 (DESIGN.md, What the converter decides):
// adding an element of a head's output to the sum over the heads, and preparing value_up's product.
inline constexpr std::uint64_t kSumCost = 16, kValueUpCost = 600;

constexpr std::uint64_t average_keys_seen(const StackConfig& c) {
  std::uint64_t sum = 0;
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {  // a window cuts what most of them see
    const std::uint64_t all = c.mask == Mask::causal ? (c.max_seq + 1) / 2 : c.max_seq;
    const std::uint64_t reach = c.mask == Mask::causal ? c.window : 2 * std::uint64_t{c.window} - 1;
    sum += c.sees_all(layer) || all < reach ? all : reach;
  }
  return sum / c.n_layers;
}

// Precondition: the stack's value map is `factors`. With cross-attention the source has `source_positions`.
constexpr ValueMapCost value_map_cost(const StackConfig& c, std::uint32_t source_positions) {
  const std::uint64_t heads = c.n_heads, kv_heads = c.n_kv_heads, dims = c.head_dim, d = c.d_model;
  ValueMapCost cost;
  cost.keys_seen = average_keys_seen(c);
  // Values, what weighs them, and what brings them to the residual stream: a product, or a sum over the heads.
  cost.factors = kv_heads * dims * d + cost.keys_seen * heads * dims + heads * dims * d + kValueUpCost;
  cost.undivided = kv_heads * d * d + cost.keys_seen * heads * d + kSumCost * heads * d;
  if (c.cross_attention) {
    const std::uint64_t share = std::uint64_t{source_positions} * kv_heads * c.d_source / c.max_seq;
    cost.factors += share * dims + source_positions * heads * dims + heads * dims * d + kValueUpCost;
    cost.undivided += share * d + source_positions * heads * d + kSumCost * heads * d;
  }
  return cost;
}

}  // namespace heed::quant
