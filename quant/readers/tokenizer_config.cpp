// SPDX-License-Identifier: Apache-2.0
// tokenizer_config.cpp: see the header.
#include "quant/readers/tokenizer_config.hpp"

#include "quant/readers/json.hpp"
#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

constexpr int kMaxDepth = 12;  // tool descriptions and image processors nest; nothing of them is read

Error is_no(const std::string& name, const Json& value, const char* what) {
  return Error(name + " " + printable(value.dump(-1, ' ', false, Json::error_handler_t::replace)) + " is no " + what);
}

const Json* member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// A token is a text, or an object whose content is one.
Error read_token(std::string& text, const Json& object, const char* name) {
  const Json* value = member(object, name);
  if (!value || !text.empty()) return {};
  const Json* content = value->is_object() ? member(*value, "content") : value;
  if (!content || !content->is_string()) return is_no(name, *value, "token");
  text = content->get<std::string>();
  return {};
}

Error read_tokens(TokenizerConfig& config, const Json& object) {
  struct Name {
    const char* name;
    std::string TokenizerConfig::*text;
  };
  for (const Name& token : {Name{"bos_token", &TokenizerConfig::bos},
                            {"eos_token", &TokenizerConfig::eos},
                            {"unk_token", &TokenizerConfig::unk},
                            {"sep_token", &TokenizerConfig::sep},
                            {"cls_token", &TokenizerConfig::cls},
                            {"pad_token", &TokenizerConfig::pad},
                            {"mask_token", &TokenizerConfig::mask}})
    if (Error error = read_token(config.*token.text, object, token.name)) return error;
  return {};
}

Error read_flag(Said& said, const Json& object, const char* name) {
  const Json* value = member(object, name);
  if (!value) return {};
  if (!value->is_boolean()) return is_no(name, *value, "boolean");
  said = value->get<bool>() ? Said::yes : Said::no;
  return {};
}

Error read_flag(bool& flag, const Json& object, const char* name) {
  Said said = Said::nothing;
  if (Error error = read_flag(said, object, name)) return error;
  flag = said == Said::yes;
  return {};
}

Error read_text(std::string& text, const Json& object, const char* name) {
  const Json* value = member(object, name);
  if (!value) return {};
  if (!value->is_string()) return is_no(name, *value, "text");
  text = value->get<std::string>();
  return {};
}

// One template, or a list of {"name", "template"}.
Error read_chat_template(std::string& text, const Json& object) {
  const Json* value = member(object, "chat_template");
  if (!value || !value->is_array()) return read_text(text, object, "chat_template");
  for (const Json& one : *value) {
    std::string name, of_it;
    if (!one.is_object()) return is_no("chat_template", *value, "text");
    if (Error error = read_text(name, one, "name")) return error.about("chat_template");
    if (Error error = read_text(of_it, one, "template")) return error.about("chat_template");
    if (name == "default" || text.empty()) text = of_it;
  }
  return {};
}

// The decimal number of a token; false for anything else.
bool read_id(std::uint32_t& id, const std::string& digits) {
  id = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9' || id > kMaxVocabSize) return false;
    id = id * 10 + static_cast<std::uint32_t>(c - '0');
  }
  return !digits.empty() && id < kMaxVocabSize;
}

Error read_added_tokens(TokenizerConfig& config, const Json& object) {
  const Json* tokens = member(object, "added_tokens_decoder");
  if (!tokens) return {};
  if (!tokens->is_object()) return is_no("added_tokens_decoder", *tokens, "object");
  for (auto item = tokens->begin(); item != tokens->end(); ++item) {
    const std::string name = "added_tokens_decoder." + printable(item.key());
    std::uint32_t id = 0;
    const Json& value = item.value();
    if (!read_id(id, item.key()) || !value.is_object()) return is_no(name, value, "added token");
    TokenizerConfig::AddedToken token;
    if (Error error = read_token(token.text, value, "content")) return error.about(name);
    for (auto [flag, key] : {std::pair{&token.special, "special"},
                             {&token.single_word, "single_word"},
                             {&token.lstrip, "lstrip"},
                             {&token.rstrip, "rstrip"},
                             {&token.normalized, "normalized"}})
      if (Error error = read_flag(*flag, value, key)) return error.about(name);
    config.added_tokens[id] = std::move(token);
  }
  return {};
}

}  // namespace

Error read_tokenizer_config(TokenizerConfig& config, Span<const std::uint8_t> file) {
  config = {};
  Json json;
  if (Error error = parse_json(json, file, kMaxDepth)) return error;
  if (Error error = read_tokens(config, json)) return error;
  struct Name {
    const char* name;
    Said TokenizerConfig::*said;
  };
  for (const Name& flag : {Name{"add_bos_token", &TokenizerConfig::add_bos},
                           {"add_eos_token", &TokenizerConfig::add_eos},
                           {"add_prefix_space", &TokenizerConfig::add_prefix_space},
                           {"do_lower_case", &TokenizerConfig::do_lower_case},
                           {"strip_accents", &TokenizerConfig::strip_accents},
                           {"tokenize_chinese_chars", &TokenizerConfig::tokenize_chinese_chars}})
    if (Error error = read_flag(config.*flag.said, json, flag.name)) return error;
  if (Error error = read_text(config.tokenizer_class, json, "tokenizer_class")) return error;
  if (Error error = read_chat_template(config.chat_template, json)) return error;
  return read_added_tokens(config, json);
}

Error read_special_tokens_map(TokenizerConfig& config, Span<const std::uint8_t> file) {
  Json json;
  if (Error error = parse_json(json, file, kMaxDepth)) return error;
  return read_tokens(config, json);
}

}  // namespace heed::quant
