// SPDX-License-Identifier: Apache-2.0
// description.cpp: the JSON first, whose stacks must be ones that an image can hold, then the tensors that they imply.
#include "quant/readers/description.hpp"

#include <algorithm>

#include "quant/feature_names.hpp"
#include "quant/readers/described_stack.hpp"
#include "quant/readers/described_tensors.hpp"
#include "quant/readers/fields.hpp"

namespace heed::quant {
namespace {

constexpr std::size_t kMaxDescriptionBytes = 1u << 20;
constexpr int kMaxDepth = 8;
constexpr std::size_t kMaxListedTokens = 65536, kMaxClasses = 1u << 16;

bool is_one_line(const std::string& text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 32 || c == 127;
  });
}

void read_generation(FloatModel& model, Fields& in, Error& error) {
  const Json* json = in.object("generation");
  if (!json) return;
  const StackConfig& c = model.config.main();
  if (c.use != Use::generate) in.refuse("generation", "stands beside a stack that does not generate");
  Fields g(*json, "generation.", error);
  const std::uint32_t last = c.vocab_size ? c.vocab_size - 1 : 0;
  model.generation.first = g.sizes("first", std::min<std::size_t>(c.max_seq, kMaxListedTokens), 0, last);
  model.generation.suppressed = g.sizes("suppressed", kMaxListedTokens, 0, last);
  model.generation.endings = g.sizes("endings", kMaxListedTokens, 0, last);
  g.finish();
}

Error read_json(FloatModel& model, StackExtras* extras, const Json& json) {
  Error error;
  Fields in(json, "", error);
  if (in.size("heed", 2, 2) != 2 || error) return error;
  model.name = in.text("name");
  model.licence = in.text("licence");
  model.tokenizer = in.text("tokenizer");
  model.source_tokenizer = in.text("source_tokenizer");
  for (const auto& [name, text] : {std::pair{"name", model.name}, std::pair{"licence", model.licence}})
    if (in.has(name) && !is_one_line(text)) in.refuse(name, "is not one line of text");
  if (!in.has("stacks")) in.refuse("stacks", "is missing");
  if (error) return error;
  const Json& stacks = in.value("stacks");
  if (!stacks.is_array() || stacks.empty() || stacks.size() > 2 || !stacks[0].is_object() ||
      !stacks[stacks.size() - 1].is_object()) {
    in.refuse("stacks", "is not a list of one or two objects");
    return error;
  }
  const auto n_stacks = static_cast<std::uint32_t>(stacks.size());
  StackConfig configs[2];  // also in a build that holds one
  Needs needs;
  for (std::uint32_t i = 0; i < n_stacks && !error; ++i) {
    read_stack(configs[i], extras[i], stacks[i], i, n_stacks, configs[0].d_model, error);
    needs.add(configs[i]);
  }
  if (error) return error;
  if (n_stacks > kMaxStacks) return Error(not_built(needs));
  model.config = ModelConfig{};
  model.config.n_stacks = n_stacks;
  std::copy_n(configs, n_stacks, model.config.stacks);
  switch (check_config(model.config)) {
    case Status::ok: break;
    case Status::feature_not_built: return Error(not_built(needs));
    default: return Error("the stacks contradict themselves");
  }
  const StackConfig &main = model.config.main(), &source = model.config.source();
  in.only_if(main.input == Input::tokens || (model.config.n_stacks == 2 && source.input == Input::tokens), "tokenizer",
             "stands beside stacks that read no tokens");
  in.only_if(model.config.n_stacks == 2 && source.input == Input::tokens, "source_tokenizer",
             "stands beside a source that reads no tokens");
  model.classes = in.texts("classes", kMaxClasses);
  in.only_if(main.output == Output::logits, "classes", "stands beside an output of vectors");
  if (in.has("classes") && (model.classes.size() != main.n_outputs ||
                            !std::all_of(model.classes.begin(), model.classes.end(), is_one_line)))
    in.refuse("classes", "is not a list of " + std::to_string(main.n_outputs) + " names of one line each, as n_outputs says");
  read_generation(model, in, error);
  if (const Json* names = in.object("tensors"))
    for (auto name = names->begin(); !error && name != names->end(); ++name)
      if (!name->is_string()) error = Error("tensors: " + printable(name.key()) + " has no name as its value");
  in.finish();
  return error;
}

}  // namespace

Error read_description(FloatModel& model, Span<const std::uint8_t> description, Span<const std::uint8_t> safetensors,
                       const std::string& description_name, const std::string& weights_name) {
  if (description.size() > kMaxDescriptionBytes) return Error(description_name + ": longer than 1 MiB");
  Json json;
  if (Error error = parse_json(json, description, kMaxDepth)) return error.about(description_name);
  StackExtras extras[2];
  if (Error error = read_json(model, extras, json)) return error.about(description_name);

  SafeTensors tensors;
  if (Error error = tensors.open(safetensors)) return error.about(weights_name);
  Error error;
  const auto names = json.find("tensors");
  TensorReader in(model, tensors, names != json.end() && names->is_object() ? &*names : nullptr, error);
  for (std::uint32_t i = 0; i < model.config.n_stacks && !error; ++i) {
    const StackConfig& c = model.config.stacks[i];
    if (c.position == Position::rotary) model.rotary_phases[i] = rotary_phases(c.rotary_dims, extras[i].rope);
    if (c.local_rotary) model.local_rotary_phases[i] = rotary_phases(c.rotary_dims, extras[i].local_rope);
    in.read(i, extras[i]);
  }
  if (!error)
    if (Error unused = in.check_names()) return unused.about(description_name);
  in.finish();
  if (error) return error.about(weights_name);
  model.rope_theta = extras[model.config.n_stacks - 1].rope.theta;
  model.format = "description";
  model.bos = model.generation.first.empty() ? kNoSourceToken : model.generation.first[0];
  model.eos = model.generation.endings.empty() ? kNoSourceToken : model.generation.endings[0];
  return check(model).about(weights_name);
}

}  // namespace heed::quant
