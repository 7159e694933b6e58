// SPDX-License-Identifier: Apache-2.0
// feature_names.cpp: features as words.
#include "quant/feature_names.hpp"

namespace heed::quant {
namespace {

struct NamedSet {
  const char* name;
  Features set;
};
// To write a set from; the first of those that take as few words.
const NamedSet kOffered[] = {{"kLlamaFeatures", kLlamaFeatures},
                             {"kGpt2Features", kGpt2Features},
                             {"kNoFeatures", kNoFeatures},
                             {"kDecoderFeatures", kDecoderFeatures},
                             {"kAllFeatures", kAllFeatures}};
const NamedSet kKnown[] = {{"kAllFeatures", kAllFeatures},
                           {"kNoFeatures", kNoFeatures},
                           {"kDecoderFeatures", kDecoderFeatures},
                           {"kLlamaFeatures", kLlamaFeatures},
                           {"kGpt2Features", kGpt2Features}};

}  // namespace

std::vector<std::string> names_of(const Features& set) {
  std::vector<std::string> names;
  for (const NamedFeature& f : kFeatureTable)
    if (set.*f.member) names.push_back(f.name);
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text;
}

Features program_features(const ModelConfig& config) {
  const Features needed = required_features(config) + Feature::speed;
  return config.main().use == Use::generate ? needed + Feature::sampling : needed;
}

namespace {

// A set as it stands behind -DHEED_FEATURES=.
std::string fewest_words(const Features& wanted) {
  std::string best;
  std::size_t fewest = 2 * kFeatureCount;
  for (const NamedSet& base : kOffered) {
    const std::vector<std::string> more = names_of(wanted - base.set), less = names_of(base.set - wanted);
    if (more.size() + less.size() >= fewest) continue;
    fewest = more.size() + less.size();
    best = base.name;
    for (const std::string& name : more) best += "+Feature::" + name;
    for (const std::string& name : less) best += "-Feature::" + name;
  }
  return best;
}

}  // namespace

std::string define_for(const ModelConfig& config, const Features& more) {
  return fewest_words(program_features(config) + more);
}

bool parse_features(Features& set, const std::string& text) {
  std::size_t at = text.find_first_of("+-");
  const std::string base = text.substr(0, at);
  bool known = false;
  for (const NamedSet& s : kKnown)
    if (base == s.name) set = s.set, known = true;
  while (known && at != std::string::npos) {
    const bool add = text[at] == '+';
    const std::size_t end = text.find_first_of("+-", at + 1);
    std::string name = text.substr(at + 1, end == std::string::npos ? end : end - at - 1);
    if (name.rfind("Feature::", 0) == 0) name.erase(0, 9);
    known = false;
    for (const NamedFeature& f : kFeatureTable)
      if (name == f.name) set.*f.member = add, known = true;
    at = end;
  }
  return known;
}

std::string not_built(const Needs& needs, const Features& built) {
  std::vector<std::string> never;
  if (needs.sinks) never.push_back("sinks");
  if (needs.four_bit_weights) never.push_back("weights of four bits");
  if (!never.empty()) return "the model needs " + joined(never) + ", which this version does not carry";
  const Features missing = needs.features - built;
  if (!is_empty(missing))
    return "the model needs " + joined(names_of(missing)) +
           ", which this build leaves out (-DHEED_FEATURES=" + fewest_words(built + needs.features) + ")";
  // A value of a field that the stack has no use for (SPEC.md, C20).
  return "the model's description contradicts itself in a part that this build leaves out";
}

}  // namespace heed::quant
