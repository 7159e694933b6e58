// SPDX-License-Identifier: Apache-2.0
// probes.hpp: sequences on which int8 is held against the float model.
#pragma once
#include <cstdint>
#include <vector>

#include "quant/float_reference.hpp"
#include "quant/statistics.hpp"

namespace heed::quant {

// A sequence, and what the float model makes of it.
struct Probe {
  FloatSequence source;         // of two stacks
  FloatSequence sequence;       // of the main stack; a text has one token more than rows: the last one is only predicted
  std::uint32_t unscored = 0;   // rows of a text that predict how every text begins
  std::vector<float> rows;      // [n, width], logits or vectors
  std::uint32_t n = 0;
};

struct ProbeOptions {
  std::uint64_t seed = 1;
  std::uint32_t positions = 0;  // about so many in all, those of sources included; of sequences that pool, four times as many
  // Sequences of the first stack, of which every second one is taken from `first_input` on; none = made up.
  const std::vector<FloatSequence>* inputs = nullptr;
  std::uint32_t first_input = 0;
};

// Texts that a stack which generates writes itself at temperature 1, each until it ends or as long as the context, at most
// kLongestProbe; or the given ones. Others read the given sequences, or tokens at random or vectors of normal numbers. Keys of the main
// stack's self-attention are shown to `keys`, if not null. The same on every host.
inline constexpr std::uint32_t kLongestProbe = 2048;
std::vector<Probe> make_probes(const FloatModel& model, const ProbeOptions& options, ChannelStatistics* keys = nullptr);

// A sequence that a stack can read, of about n positions: tokens at random or vectors of normal numbers.
class Generator;
FloatSequence random_sequence(const StackConfig& config, std::uint32_t n, Generator& generator);
// Positions of a stack's input that give `positions` of the stack.
std::uint32_t inputs_for(const StackConfig& config, std::uint32_t positions);

}  // namespace heed::quant
