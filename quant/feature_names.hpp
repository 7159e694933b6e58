// SPDX-License-Identifier: Apache-2.0
// feature_names.hpp: features (runtime/features.hpp) as words: what an image needs, the line that builds a firmware with it, and
// why a build refuses it.
#pragma once
#include <string>
#include <vector>

#include "runtime/config.hpp"

namespace heed::quant {

std::vector<std::string> names_of(const Features& set);
std::string joined(const std::vector<std::string>& words);  // "a, b"

// The smallest set with which a program runs the model: what the model needs, sampling where it generates, and the faster
// kernels. A program that needs less leaves out the last two.
Features program_features(const ModelConfig& config);
// That set in the fewest words, as it stands behind -DHEED_FEATURES=: "kLlamaFeatures", "kGpt2Features+Feature::groups".
std::string define_for(const ModelConfig& config);

// Reads such a text: a named set, then +Feature::NAME or -Feature::NAME, or +NAME and -NAME. False for anything else.
bool parse_features(Features& set, const std::string& text);

// What this build, or every build of this version, lacks for the model: "groups, gelu (-DHEED_FEATURES=...)", "an encoder";
// empty when nothing is missing.
std::string missing_for(const ModelConfig& config);

}  // namespace heed::quant
