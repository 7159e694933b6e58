// SPDX-License-Identifier: Apache-2.0
// described_stack.hpp: one stack of a description (SPEC.md 7.2 and 7.4).
#pragma once
#include "quant/positions.hpp"
#include "quant/readers/json.hpp"
#include "runtime/config.hpp"

namespace heed::quant {

// What a stack's JSON says that its StackConfig does not hold.
struct StackExtras {
  Rope rope, local_rope;
  Sinusoids sinusoids;
  bool sinusoidal = false, gain_plus_one = false;
  std::uint32_t position_offset = 0;
  std::vector<float> slopes;
  std::uint32_t buckets = 0, max_distance = 0;  // of relative positions; 0 = a bias for each distance
};

// Fields of a stack have their ranges, and where they depend on each other the one that is wrong is named.
// `json` is an object, stack `stack` of `n_stacks`; d_source is the first one's d_model, for the second. The first error
// is kept in `error`, and the results are unspecified then.
void read_stack(StackConfig& config, StackExtras& extras, const Json& json, std::uint32_t stack, std::uint32_t n_stacks,
                std::uint32_t d_source, Error& error);

}  // namespace heed::quant
