// SPDX-License-Identifier: Apache-2.0
// value_map.hpp: the two forms of a head's value map: value_up and value_down, or their product, which is d_model x
// d_model and undivided.
#pragma once
#include <cstdint>
#include <string>

#include "quant/source.hpp"
#include "quant/value_map_cost.hpp"

namespace heed::quant {

// Why a stack's maps cannot become undivided, for people; empty if they can.
std::string why_not_undivided(const StackConfig& config);

// Makes the maps of all layers undivided: the same function of the same model. Biases stay exact: what weighs the values
// sums to one, so value_up times the bias of value_down, and value_up's own bias in equal parts, are biases of the
// undivided maps. Precondition: why_not_undivided() is empty.
void make_undivided(FloatModel& model, std::uint32_t stack);

}  // namespace heed::quant
