// SPDX-License-Identifier: Apache-2.0
// tokenizer_config.hpp: what Hugging Face's tokenizer_config.json and special_tokens_map.json say beside a vocabulary.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "quant/error.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// A choice that a file may leave to whoever reads it.
enum class Said : std::uint8_t { nothing, no, yes };

inline bool said_or(Said said, bool fallback) { return said == Said::nothing ? fallback : said == Said::yes; }

struct TokenizerConfig {
  // Texts of tokens; empty where the file names none.
  std::string bos, eos, unk, sep, cls, pad, mask;
  Said add_bos = Said::nothing, add_eos = Said::nothing, add_prefix_space = Said::nothing;
  Said do_lower_case = Said::nothing, strip_accents = Said::nothing, tokenize_chinese_chars = Said::nothing;
  std::string tokenizer_class;  // such as LlamaTokenizer
  std::string chat_template;    // Jinja, as it is; of several the one named "default"

  // Tokens that the file adds to a vocabulary or explains, by id.
  struct AddedToken {
    std::string text;
    bool special = false, single_word = false, lstrip = false, rstrip = false, normalized = false;
  };
  std::map<std::uint32_t, AddedToken> added_tokens;
};

// Reads tokenizer_config.json; members that say nothing about tokens are passed over. Fails where one that does has
// another type than it should, naming it and its value. Its text is not trusted.
Error read_tokenizer_config(TokenizerConfig& config, Span<const std::uint8_t> file);

// Reads special_tokens_map.json, for names of tokens that `config` does not have yet.
Error read_special_tokens_map(TokenizerConfig& config, Span<const std::uint8_t> file);

}  // namespace heed::quant
