// SPDX-License-Identifier: Apache-2.0
// splitting_rules.hpp: the rules by which byte-level vocabularies cut texts into words, by the names that files have
// for them.
#pragma once
#include <string>

#include "runtime/tokenizer.hpp"

namespace heed::quant {

// The rule that a regular expression means, by its text: there are a handful of published ones, and some in several
// spellings. False where it is none of them.
bool splitting_rule_of_pattern(SplitRule& rule, const std::string& pattern);

// The rule that a GGUF file names in tokenizer.ggml.pre, and whether a word that is a piece is taken whole. False where
// the name is unknown, or has a rule that heed does not have.
bool splitting_rule_of_gguf(SplitRule& rule, bool& whole_words, const std::string& name);

}  // namespace heed::quant
