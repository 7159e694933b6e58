// SPDX-License-Identifier: Apache-2.0
// tokenizer_json_file.cpp: see the header; the two long lists go to vectors as they come.
#include "quant/readers/tokenizer_json_file.hpp"

#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

constexpr int kMaxDepth = 12;
constexpr std::size_t kMaxMerges = std::size_t{1} << 24;
constexpr std::size_t kMaxAddedTokens = 1u << 16;

bool is_id(const Json& value) { return value.is_number_unsigned() && value.get<std::uint64_t>() < kMaxVocabSize; }

Error take_vocab(TokenizerJsonFile& file, std::string& name, Json& value) {
  if (file.vocab.size() == kMaxVocabSize) return Error("model.vocab has more than 2^24 - 1 entries");
  TokenizerJsonFile::Entry entry;
  const bool has_id = is_id(value);
  if (has_id) {
    entry.text = std::move(name);
    entry.id = value.get<std::uint32_t>();
  } else {
    if (!value.is_array() || value.size() != 2 || !value[0].is_string() || !value[1].is_number())
      return Error("model.vocab has the entry " + printable(name.empty() ? "" : name + ": ") + shown(value) +
                   ", which is neither an id nor a text with its score");
    entry.text = std::move(value[0].get_ref<std::string&>());
    entry.score = value[1].get<double>();
  }
  if (file.vocab.empty()) file.vocab_has_ids = has_id;
  if (file.vocab_has_ids != has_id) return Error("model.vocab has entries of two kinds");
  file.vocab.push_back(std::move(entry));
  return {};
}

// Two texts in a list, or one with a space between its halves, which are not empty and have none.
Error take_merge(TokenizerJsonFile& file, const std::string&, Json& value) {
  if (file.merges.size() == kMaxMerges) return Error("model.merges has more than 2^24 entries");
  TokenizerJsonFile::Merge merge;
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    merge = {std::move(value[0].get_ref<std::string&>()), std::move(value[1].get_ref<std::string&>())};
  } else if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos)
      merge = {text.substr(0, space), text.substr(space + 1)};
  }
  if (merge.left.empty() || merge.right.empty())
    return Error("model.merges has the entry " + shown(value) + ", which is not a pair");
  file.merges.push_back(std::move(merge));
  return {};
}

Error read_added_token(TokenizerJsonFile::AddedToken& token, const Json& value) {
  if (!value.is_object() || !value.contains("id") || !is_id(value["id"]) || !value.contains("content") ||
      !value["content"].is_string())
    return Error("added_tokens has the entry " + shown(value) + ", which has no id or no content");
  token.id = value["id"].get<std::uint32_t>();
  token.text = value["content"].get<std::string>();
  for (auto [flag, name] : {std::pair{&token.special, "special"},
                            {&token.single_word, "single_word"},
                            {&token.lstrip, "lstrip"},
                            {&token.rstrip, "rstrip"},
                            {&token.normalized, "normalized"}}) {
    if (!value.contains(name)) continue;
    if (!value[name].is_boolean())
      return Error("added_tokens has the entry " + shown(value) + ", whose " + name + " is neither true nor false");
    *flag = value[name].get<bool>();
  }
  return {};
}

// Appends `value` to `steps`, or what a Sequence consists of. `list` is the name that the file has for a Sequence's
// steps.
Error flatten(std::vector<Json>& steps, Json& value, const std::string& name, const char* list) {
  if (value.is_null()) return {};
  if (!value.is_object() || !value.contains("type") || !value["type"].is_string())
    return Error(name + " " + shown(value) + " has no type");
  if (value["type"] != "Sequence") {
    steps.push_back(std::move(value));
    return {};
  }
  if (!value.contains(list) || !value[list].is_array()) return Error(name + " is a Sequence without " + list);
  // Depth is bounded by the parser.
  for (Json& step : value[list])
    if (Error error = flatten(steps, step, name, list)) return error;
  return {};
}

}  // namespace

std::string shown(const Json& value) { return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace)); }

Error read_tokenizer_json_file(TokenizerJsonFile& result, Span<const std::uint8_t> file) {
  result = {};
  const JsonRows rows[] = {
      {"model", "vocab", [&](std::string& name, Json& value) { return take_vocab(result, name, value); }},
      {"model", "merges", [&](std::string& name, Json& value) { return take_merge(result, name, value); }}};
  Json json;
  if (Error error = parse_json(json, file, kMaxDepth, rows)) return error;
  if (!json.contains("model") || !json["model"].is_object())
    return Error("it has no model, so it is no tokenizer.json");
  if (json.contains("added_tokens") && !json["added_tokens"].is_null()) {
    const Json& tokens = json["added_tokens"];
    if (!tokens.is_array() || tokens.size() > kMaxAddedTokens)
      return Error("added_tokens is not a list of at most " + std::to_string(kMaxAddedTokens));
    for (const Json& token : tokens) {
      result.added_tokens.emplace_back();
      if (Error error = read_added_token(result.added_tokens.back(), token)) return error;
    }
  }
  result.model = std::move(json["model"]);
  struct Step {
    const char *name, *list;
    std::vector<Json>* steps;
  };
  for (const Step& step : {Step{"normalizer", "normalizers", &result.normalizers},
                           {"pre_tokenizer", "pretokenizers", &result.pre_tokenizers},
                           {"post_processor", "processors", &result.post_processors},
                           {"decoder", "decoders", &result.decoders}})
    if (json.contains(step.name))
      if (Error error = flatten(*step.steps, json[step.name], step.name, step.list)) return error;
  return {};
}

}  // namespace heed::quant
