// SPDX-License-Identifier: Apache-2.0
// calibration.hpp: what the float model does on inputs that it makes up itself, or that somebody gave.
#pragma once
#include <cstdint>
#include <vector>

#include "quant/float_reference.hpp"
#include "quant/show_progress.hpp"
#include "quant/statistics.hpp"

namespace heed::quant {

struct SiteSamples {
  std::uint32_t n = 0;   // vectors of each layer
  std::vector<float> x;  // [n_layers (1 where a site is not in the layers), n, cols], before gain and bias
};

struct StackCalibration {
  std::vector<double> key_means;        // [n_layers, n_kv_heads, head_dim], after rotation
  std::vector<double> cross_key_means;  // the same of cross-attention
  std::vector<double> whole_key_means;  // as key_means, over texts as long as the context; or none
  SiteSamples sites[kSiteCount];
  // Of all positions, behind norm and rotation; what w_down reads.
  ChannelStatistics heads[kHeadsCount], inner;
  SiteSamples heads_seen[kHeadsCount];  // some of these heads, all layers: [n_layers, n, heads * dimensions]

  // Those that there are of self-attention, or of cross-attention.
  std::vector<std::vector<double>*> means_of_keys(bool cross) {
    if (cross) return {&cross_key_means};
    return {&key_means, &whole_key_means};
  }
};

struct Calibration {
  std::vector<std::uint32_t> tokens;   // of a stack that generates: what was sampled
  std::uint32_t positions = 0;         // of the main stack, of all sequences together
  std::uint32_t source_positions = 0;  // the same of the first of two
  bool given = false;                  // by the caller, not made up
  StackCalibration stacks[kMaxStacks];
};

// The same on every host. Takes about 256 positions, 64 for models above 50 million parameters, fewer if the context is
// shorter; keeps 16, or 4, vectors of each site, evenly spaced.
// A stack that generates writes a text at temperature 1, which begins with BOS, or with the tokens that the model's
// generation begins with. Without those it writes at least four texts, which begin with tokens spread over its
// vocabulary, and as many as give those positions; or it reads as many of the texts in `inputs`. Others, and the source of two
// stacks, read `inputs`; where there are none, tokens at random or vectors of independent normal numbers. `inputs` that the
// first stack cannot read are left out.
Calibration calibrate(const FloatModel& model, const std::vector<FloatSequence>& inputs = {},
                      const ShowProgress& progress = nullptr);

}  // namespace heed::quant
