// SPDX-License-Identifier: Apache-2.0
// splitting_rules.cpp: see the header. Spellings of one rule in a row cut every text alike: possessive quantifiers only
// save a matcher's time, and what `\s+$` or a single `\s` takes the branches beside it would take as well.
#include "quant/readers/splitting_rules.hpp"

namespace heed::quant {
namespace {

struct Pattern {
  SplitRule rule;
  const char* text;
};

constexpr Pattern kPatterns[] = {
    {SplitRule::gpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitRule::gpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitRule::gpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))"},
    {SplitRule::gpt2, R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitRule::gpt2, R"('(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s)"},
    {SplitRule::llama3,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitRule::llama3,
     R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s)"},
    {SplitRule::llama3,
     R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"},
    {SplitRule::qwen2,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitRule::bloom, R"( ?[^(\s|[.,!?…。，、।۔،])]+)"},
};

struct GgufName {
  const char* name;
  SplitRule rule;
  bool whole_words;
};

constexpr GgufName kGgufNames[] = {
    {"gpt-2", SplitRule::gpt2, false},
    {"phi-2", SplitRule::gpt2, false},
    {"olmo", SplitRule::gpt2, false},
    {"mpt", SplitRule::gpt2, false},
    {"roberta-bpe", SplitRule::gpt2, false},
    {"llama-bpe", SplitRule::llama3, true},
    {"llama3", SplitRule::llama3, true},
    {"llama-v3", SplitRule::llama3, true},
    {"dbrx", SplitRule::llama3, false},
    {"smaug-bpe", SplitRule::llama3, false},
    {"qwen2", SplitRule::qwen2, false},
    {"stablelm2", SplitRule::qwen2, false},
    {"deepseek-r1-qwen", SplitRule::qwen2, false},
    {"smollm", SplitRule::gpt2_digits, false},
    {"starcoder", SplitRule::gpt2_digits, false},
    {"refact", SplitRule::gpt2_digits, false},
    {"command-r", SplitRule::gpt2_digits, false},
    {"codeshell", SplitRule::gpt2_digits, false},
    {"bloom", SplitRule::bloom, false},
};

}  // namespace

bool splitting_rule_of_pattern(SplitRule& rule, const std::string& pattern) {
  for (const Pattern& known : kPatterns) {
    if (pattern != known.text) continue;
    rule = known.rule;
    return true;
  }
  return false;
}

bool splitting_rule_of_gguf(SplitRule& rule, bool& whole_words, const std::string& name) {
  for (const GgufName& known : kGgufNames) {
    if (name != known.name) continue;
    rule = known.rule;
    whole_words = known.whole_words;
    return true;
  }
  return false;
}

}  // namespace heed::quant
