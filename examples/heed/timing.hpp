// SPDX-License-Identifier: Apache-2.0
// timing.hpp: the most instructions of one step as a formula of its position, for each core whose operations were counted.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/config.hpp"

namespace heed::tool {

// What tests/firmware/timing.py measures. Every number is a coefficient of a term of timing.cpp.
inline constexpr int kWidths = 8, kRagged = 16;
enum VectorOperation { kEmbed, kQuantise, kNorm, kNormGain, kLayerNorm, kLayerNormGain, kGate, kGateAlone, kVectorOperations };

struct HeadCosts {  // of one head of a width
  double query[2];                // one, part that rotates
  double key[3];                  // one, part that rotates, with an offset
  double value, finish;
  double attend[8];               // one call, query, query and key, behind the first block: call, query; with an odd
                                  // number of queries: call, key, behind the first block
  double ragged[kRagged - 1];     // per query, when the keys of a block are k = 1.. more than a multiple of 16
};

// The builds that were counted: features that change the kernels themselves, each with all others, which only add.
inline constexpr std::uint8_t kUnrolledBuild = 1, kSpeedBuild = 2, kSmallBuild = 4, kAnyBuild = 7;

struct CoreCosts {
  const char* core;
  std::uint8_t builds;            // of those above that have these counts
  double margin_percent;          // by which whole steps of random models exceeded the sums of these costs, and a reserve
  double data_percent;            // how far counts of one position differ between texts, at most
  std::uint32_t panel;            // rows that a product takes together
  double vectors[kVectorOperations][6];
  double product[3][14];           // written, added, written with a bias
  double turn[2];
  HeadCosts heads[kWidths];
  double rest[7];                 // Session::step between the operations
};

// The most instructions of Session::step at position p (from 0), which sees p + 1 keys:
//   constant + per_key * (p + 1) + per_block * (p / 64) + ragged[(p + 1) % 16]
struct StepFormula {
  double constant = 0.0, per_key = 0.0, per_block = 0.0;
  double ragged[kRagged] = {};    // never negative; [0] is 0 on cores that take 16 keys at a time
  double data_percent = 0.0;
  double at(std::uint32_t position) const {
    return constant + per_key * (position + 1) + per_block * (position / 64) + ragged[(position + 1) % kRagged];
  }
};

// Whether a core was counted.
bool has_costs(const std::string& core);
// What of a model was not counted, so that no number of instructions can be promised: anything but plain decoders, and
// groups along a row. Empty where all of it was.
Features uncounted_features(const ModelConfig& config);
// For a build with these features, or for any build if that is null. False when the model has a part that was not counted, or
// the core was not.
bool step_formula(StepFormula& formula, const std::string& core, const Features* features, const ModelConfig& config,
                  Layout layout);

}  // namespace heed::tool
