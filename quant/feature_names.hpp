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
// `more`: what else the program has to carry, such as the kinds of its tokenizers.
std::string define_for(const ModelConfig& config, const Features& more = kNoFeatures);

// Reads such a text: a named set, then +Feature::NAME or -Feature::NAME, or +NAME and -NAME. False for anything else.
bool parse_features(Features& set, const std::string& text);

// Why a build refuses a model with feature_not_built, as a sentence: "the model needs groups, gelu, which this build leaves
// out (-DHEED_FEATURES=...)", where the features are those of the build and these; "the model needs sinks, which this version
// does not carry".
std::string not_built(const Needs& needs, const Features& built = kBuiltFeatures);

}  // namespace heed::quant
