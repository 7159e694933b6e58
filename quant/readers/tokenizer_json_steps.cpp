// SPDX-License-Identifier: Apache-2.0
// tokenizer_json_steps.cpp: steps as such, and the post_processor.
#include "quant/readers/tokenizer_json_steps.hpp"

namespace heed::quant {
namespace {

constexpr std::size_t kMaxTemplate = 64;  // tokens at one place

// Appends the ids that a template's special token stands for.
Error append_special(std::vector<Token>& tokens, const Json& post, const Json& special, std::uint32_t vocab_size) {
  const Json* ids = nullptr;
  if (special.is_object() && special.contains("id") && special["id"].is_string() && post.contains("special_tokens") &&
      post["special_tokens"].is_object()) {
    const auto found = post["special_tokens"].find(special["id"].get_ref<const std::string&>());
    if (found != post["special_tokens"].end() && found->is_object() && found->contains("ids")) ids = &(*found)["ids"];
  }
  if (!ids || !ids->is_array())
    return Error("post_processor has a template with " + shown(special) + ", which has no ids");
  for (const Json& id : *ids) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= vocab_size || tokens.size() == kMaxTemplate)
      return Error("post_processor has a template with " + shown(special) + ", whose ids do not fit");
    tokens.push_back(static_cast<Token>(id.get<std::uint32_t>()));
  }
  return {};
}

// The tokens in front of, between and behind the sequences A and B of `pieces`, each of which occurs once.
Error read_pieces(std::vector<Token> (&at)[3], bool& second_type, const Json& post, const char* name,
                  unsigned sequences, std::uint32_t vocab_size) {
  const Error refused("post_processor " + std::string(name) + " " + shown(post.contains(name) ? post[name] : Json()) +
                      " is not supported");
  if (!post.contains(name) || !post[name].is_array()) return refused;
  unsigned seen = 0;
  for (const Json& piece : post[name]) {
    if (!piece.is_object()) return refused;
    if (piece.contains("Sequence")) {
      const Json& sequence = piece["Sequence"];
      if (seen == sequences || !sequence.is_object() || sequence.value("id", Json()) != Json(seen == 0 ? "A" : "B"))
        return refused;
      const Json type = sequence.value("type_id", Json(0));
      if (type != Json(0) && (type != Json(1) || seen == 0)) return refused;
      second_type = type == Json(1);
      ++seen;
    } else if (!piece.contains("SpecialToken")) {
      return refused;
    } else if (Error error = append_special(at[seen], post, piece["SpecialToken"], vocab_size)) {
      return error;
    }
  }
  return seen == sequences ? Error() : refused;
}

Error read_processing(TextTemplate& text, const Json& post, std::uint32_t vocab_size) {
  std::vector<Token> single[3], pair[3];
  bool first_type = false;
  if (Error error = read_pieces(single, first_type, post, "single", 1, vocab_size)) return error;
  text.before = single[0];
  text.after = single[1];
  // A model of single texts may say nothing sensible about pairs; then the second text has what the first has.
  if (read_pieces(pair, text.second_type, post, "pair", 2, vocab_size)) {
    text.second_type = false;
    text.between = single[1];
    text.between.insert(text.between.end(), single[0].begin(), single[0].end());
    return {};
  }
  if (pair[0] != single[0] || pair[2] != single[1])
    return Error("post_processor pair " + shown(post["pair"]) +
                 " begins or ends otherwise than single, which is not supported");
  text.between = pair[1];
  return {};
}

// BertProcessing and RobertaProcessing: {"sep": [text, id], "cls": [text, id]}.
Error read_cls_sep(TextTemplate& text, const Json& post, std::size_t between, bool second_type,
                   std::uint32_t vocab_size) {
  Token tokens[2];
  std::size_t i = 0;
  for (const char* name : {"cls", "sep"}) {
    const Json token = post.value(name, Json());
    if (!token.is_array() || token.size() != 2 || !token[1].is_number_unsigned() ||
        token[1].get<std::uint64_t>() >= vocab_size)
      return Error("post_processor has no " + std::string(name) + " of the vocabulary");
    tokens[i++] = static_cast<Token>(token[1].get<std::uint32_t>());
  }
  text.before = {tokens[0]};
  text.after = {tokens[1]};
  text.between.assign(between, tokens[1]);
  text.second_type = second_type;
  return {};
}

}  // namespace

const Json* Steps::take(const char* type) {
  if (at_ == steps_.size() || steps_[at_]["type"] != type) return nullptr;
  return &steps_[at_++];
}

bool Steps::take(const Json& step) {
  if (at_ == steps_.size() || steps_[at_] != step) return false;
  ++at_;
  return true;
}

void Steps::ignore(const char* type) {
  while (take(type)) {
  }
}

Error Steps::finish() const { return at_ == steps_.size() ? Error() : refuse(steps_[at_]); }

Error Steps::refuse(const Json& step) const {
  return Error(std::string(name_) + " " + step["type"].get<std::string>() + " is not supported here: " + shown(step));
}

bool flag_of(const Json& object, const char* name, bool fallback) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

Error refuse_unless_off(const TokenizerJsonFile& file, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const Json value = file.model.value(name, Json());
    if (!value.is_null() && value != Json(false) && value != Json(0) && value != Json(""))
      return Error("model." + std::string(name) + " " + shown(value) + " is not supported");
  }
  return {};
}

Error read_template(Vocabulary& vocabulary, const TokenizerJsonFile& file) {
  const auto vocab_size = static_cast<std::uint32_t>(vocabulary.pieces.size());
  Steps steps("post_processor", file.post_processors);
  vocabulary.has_template = true;
  TextTemplate& text = vocabulary.text_template = {};
  steps.ignore("ByteLevel");  // it moves offsets, not tokens
  Error error;
  if (const Json* processing = steps.take("TemplateProcessing")) {
    error = read_processing(text, *processing, vocab_size);
  } else if (const Json* roberta = steps.take("RobertaProcessing")) {
    error = read_cls_sep(text, *roberta, 2, false, vocab_size);
  } else if (const Json* bert = steps.take("BertProcessing")) {
    error = read_cls_sep(text, *bert, 1, true, vocab_size);
  }
  if (error) return error;
  steps.ignore("ByteLevel");
  return steps.finish();
}

}  // namespace heed::quant
