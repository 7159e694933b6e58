// SPDX-License-Identifier: Apache-2.0
// value_map.hpp: the two forms of a head's value map: value_up and value_down, or their product, which is d_model x
// d_model and undivided.
#pragma once
#include <cstdint>
#include <string>

#include "quant/source.hpp"

namespace heed::quant {

// Multiply-adds of the values of one position in one layer, its share of the source's keys and values included.
struct ValueMapCost {
  std::uint64_t factors = 0, undivided = 0;
  std::uint64_t keys_seen = 0;  // of self-attention, on average over a sequence of max_seq
};
// Precondition: the stack's value map is `factors`. With cross-attention the source has `source_positions`.
ValueMapCost value_map_cost(const StackConfig& config, std::uint32_t source_positions);

// Why a stack's maps cannot become undivided, for people; empty if they can.
std::string why_not_undivided(const StackConfig& config);

// Makes the maps of all layers undivided: the same function of the same model. Biases stay exact: what weighs the values
// sums to one, so value_up times the bias of value_down, and value_up's own bias in equal parts, are biases of the
// undivided maps. Precondition: why_not_undivided() is empty.
void make_undivided(FloatModel& model, std::uint32_t stack);

}  // namespace heed::quant
