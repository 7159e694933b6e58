// SPDX-License-Identifier: Apache-2.0
// gguf_models.cpp: description first, whose stacks must be ones that an image can hold, then the tensors that they
// imply.
#include "quant/readers/gguf_models.hpp"

#include <algorithm>

#include "quant/feature_names.hpp"
#include "quant/readers/gguf_architectures.hpp"
#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

bool is_one_line(const std::string& text) {
  return !text.empty() &&
         std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
}

Error read_architecture(const GgufArchitecture*& found, const GgufMetadata& metadata) {
  std::string type, name;
  if (Error error = metadata.text_or(type, "general.type", "model")) return error;
  if (type != "model") return Error("general.type \"" + printable(type) + "\" is no model");
  if (Error error = metadata.text_or(name, "general.architecture", "")) return error;
  if (name.empty()) return Error("general.architecture is missing");
  found = find_architecture(name);
  if (found && found->describe) return {};
  return Error("general.architecture \"" + printable(name) + "\" is not supported" +
               (found ? std::string(": ") + found->why_not : " (" + architectures_read() + " are)"));
}

// Who made it and under which terms, where the file says so in one line. A name that is only the architecture's is
// none.
Error read_names(FloatModel& model, const GgufMetadata& metadata, const std::string& architecture) {
  if (Error error = metadata.text_or(model.name, "general.name", "")) return error;
  if (Error error = metadata.text_or(model.licence, "general.license", "")) return error;
  if (!is_one_line(model.name) || model.name == architecture) model.name.clear();
  if (!is_one_line(model.licence)) model.licence.clear();
  return {};
}

// kNoSourceToken where the file has none.
Error read_token(std::uint32_t& token, const GgufMetadata& metadata, const char* key, std::uint32_t vocab_size) {
  if (Error error = metadata.number_or(token, key, kNoSourceToken)) return error;
  if (token == kNoSourceToken || token < vocab_size) return {};
  return Error(std::string(key) + " " + std::to_string(token) + " is not below the vocabulary's " +
               std::to_string(vocab_size));
}

// A chat model ends its turn with a token of its own, and a text with EOS.
Error read_tokens(FloatModel& model, const GgufMetadata& metadata, const GgufDescription& d) {
  const StackConfig& c = model.config.main();
  if (c.input != Input::tokens) return {};
  if (Error error = read_token(model.bos, metadata, "tokenizer.ggml.bos_token_id", c.vocab_size)) return error;
  if (Error error = read_token(model.eos, metadata, "tokenizer.ggml.eos_token_id", c.vocab_size)) return error;
  if (c.use != Use::generate) return {};
  if (d.first_token != kNoSourceToken) {
    model.generation.first = {d.first_token};
    model.bos = d.first_token;
  }
  std::vector<std::uint32_t> endings;
  if (model.eos != kNoSourceToken) endings.push_back(model.eos);
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    std::uint32_t token = kNoSourceToken;
    if (Error error = read_token(token, metadata, key, c.vocab_size)) return error;
    if (token != kNoSourceToken && std::find(endings.begin(), endings.end(), token) == endings.end())
      endings.push_back(token);
  }
  // One alone is EOS.
  if (endings.size() > 1) model.generation.endings = endings;
  if (model.eos == kNoSourceToken && !endings.empty()) model.eos = endings[0];
  return {};
}

// Classes without names have none; other than one line each they are refused, since they stand in a list of lines.
Error read_classes(FloatModel& model, const GgufMetadata& metadata, const std::string& key, std::uint32_t n_outputs) {
  const GgufValue* list = metadata.find(key);
  if (!list) return {};
  if (!list->is_list || list->type != GgufType::text || list->count != n_outputs)
    return Error(key + " " + printable(*list) + " is no list of " + std::to_string(n_outputs) + " names");
  GgufTexts texts(*list);
  Span<const std::uint8_t> text;
  while (texts.next(text)) {
    model.classes.emplace_back(reinterpret_cast<const char*>(text.data()), text.size());
    if (!is_one_line(model.classes.back())) return Error(key + " has a name that is not one line");
  }
  return {};
}

// Frequencies of the main stack, divided by the file's factors if it has any.
void set_phases(FloatModel& model, const GgufDescription& d) {
  for (std::uint32_t i = 0; i < model.config.n_stacks; ++i) {
    const StackConfig& c = model.config.stacks[i];
    if (c.position != Position::rotary) continue;
    std::vector<double> frequencies = rotary_frequencies(c.rotary_dims, d.extras[i].rope);
    for (std::size_t pair = 0; pair < d.rope_factors.size(); ++pair) frequencies[pair] /= d.rope_factors[pair];
    model.rotary_phases[i] = rotary_phases(frequencies);
    if (c.local_rotary) model.local_rotary_phases[i] = rotary_phases(c.rotary_dims, d.extras[i].local_rope);
  }
}

Error check_described(const ModelConfig& config) {
  switch (check_config(config)) {
    case Status::ok: return {};
    case Status::feature_not_built: return Error(not_built(needs_of(config)));
    default: return Error("the model's sizes contradict each other or exceed the format's limits");
  }
}

}  // namespace

Error read_gguf(FloatModel& model, const GgufFile& file, const ReadOptions& options) {
  if (file.tensors().empty()) return Error("it has no tensors, so it is no model");
  const GgufMetadata& metadata = file.metadata();
  const GgufArchitecture* architecture = nullptr;
  if (Error error = read_architecture(architecture, metadata)) return error;
  model.format = std::string("GGUF ") + architecture->name;
  Error error;
  GgufFields in(metadata, architecture->name, error);
  GgufTensors tensors(model, file, error);
  GgufDescription d{in, tensors, error};
  architecture->describe(d);
  if (d.classes) in.has(d.classes);
  in.finish();
  if (error) return error;
  if (Error wrong = check_described(d.config)) return wrong;

  model.config = d.config;
  if (options.rope_theta != 0.0) d.x().rope.theta = options.rope_theta;
  model.rope_theta = d.x().rope.theta;
  set_phases(model, d);
  for (std::uint32_t i = 0; i < d.config.n_stacks; ++i) tensors.read(i, d.prefixes[i], d.extras[i]);
  tensors.finish();
  if (error) return error;
  if (d.final_gain_factor != 1.0) {
    const std::vector<double> factors(d.c().d_model, d.final_gain_factor);
    model.scale_rows(Role::final_gain, 0, d.config.n_stacks - 1, factors);
  }
  if (Error wrong = read_names(model, metadata, architecture->name)) return wrong;
  if (Error wrong = read_tokens(model, metadata, d)) return wrong;
  if (d.classes)
    if (Error wrong = read_classes(model, metadata, architecture->name + std::string(".") + d.classes, d.c().n_outputs))
      return wrong;
  return check(model);
}

Error read_gguf(FloatModel& model, const std::string& path, const ReadOptions& options) {
  GgufFile file;
  if (Error error = file.add(model.files[0].bytes())) return error.about(path);
  const std::vector<std::string> others = other_parts(path);
  if (others.size() + 1 != file.parts())
    return Error(path + ": it is the first of " + std::to_string(file.parts()) +
                 " parts, and its name does not say so " + "as in MODEL-00001-of-00003.gguf");
  for (const std::string& part : others) {
    Span<const std::uint8_t> bytes;
    if (Error error = model.open(bytes, part)) return error;
    if (Error error = file.add(bytes)) return error.about(part);
  }
  if (Error error = file.finish()) return error.about(path);
  return read_gguf(model, file, options).about(path);
}

}  // namespace heed::quant
