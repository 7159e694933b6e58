// SPDX-License-Identifier: Apache-2.0
// model_folder.cpp: one file of tensors or many, and the modules of sentence-transformers.
#include "quant/readers/model_folder.hpp"

#include <algorithm>
#include <filesystem>
#include <map>

namespace heed::quant {
namespace {

constexpr std::size_t kMaxIndexBytes = 16u << 20, kMaxModulesBytes = 1u << 16;
constexpr std::size_t kMaxShards = 1024;

// Beside the index, in its folder and not elsewhere.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.size() < 256 &&
         std::none_of(name.begin(), name.end(), [](char c) { return c == '/' || c == '\\' || c == ':' || (c >= 0 && c < 32); });
}

Error read_index(std::map<std::string, std::string>& file_of, const std::string& path) {
  SourceFile file;
  if (Error error = file.open(path)) return error;
  if (file.bytes().size() > kMaxIndexBytes) return Error("longer than 16 MiB");
  Json json;
  if (Error error = parse_json(json, file.bytes(), 8)) return error;
  if (!json.contains("weight_map") || !json["weight_map"].is_object()) return Error("it has no weight_map");
  for (const auto& item : json["weight_map"].items()) {
    if (!item.value().is_string() || !is_plain_name(item.value().get_ref<const std::string&>()))
      return Error("weight_map." + printable(item.key()) + " " + printable(item.value().dump()) + " is no file beside it");
    file_of[item.key()] = item.value().get<std::string>();
  }
  return file_of.empty() ? Error("its weight_map is empty") : Error();
}

Error open_shards(SafeTensors& tensors, FloatModel& model, const std::string& folder, const std::string& index) {
  std::map<std::string, std::string> file_of;
  if (Error error = read_index(file_of, index)) return error.about(index);
  std::set<std::string> names;
  for (const auto& [tensor, name] : file_of) names.insert(name);
  if (names.size() > kMaxShards) return Error(index + ": more than " + std::to_string(kMaxShards) + " files");
  for (const std::string& name : names)
    if (!is_file(folder + "/" + name)) return Error(index + ": " + printable(name) + ", one of its files, is missing");
  std::map<std::string, SafeTensors> shards;
  for (const std::string& name : names) {
    Span<const std::uint8_t> bytes;
    if (Error error = model.open(bytes, folder + "/" + name)) return error;
    if (Error error = tensors.add(bytes)) return error.about(folder + "/" + name);
    if (Error error = shards[name].open(bytes)) return error.about(folder + "/" + name);
  }
  for (const auto& [tensor, name] : file_of)
    if (!shards[name].find(tensor)) return Error(folder + "/" + name + ": tensor " + printable(tensor) + " is missing");
  return {};
}

// A folder without safetensors, by what it has instead.
Error without_safetensors(const std::string& folder) {
  struct Other {
    const char *ending, *what;
  };
  static constexpr char kProgram[] = "PyTorch files are programs and are not read; save the model as safetensors";
  static constexpr Other kOthers[] = {
      {".bin.index.json", kProgram}, {".bin", kProgram}, {".pt", kProgram}, {".pth", kProgram}, {".ckpt", kProgram},
      {".h5", "TensorFlow files are not read; save the model as safetensors"},
      {".msgpack", "Flax files are not read; save the model as safetensors"},
      {".onnx", "ONNX files are not read; save the model as safetensors"},
      {".gguf", "give this file itself, not its folder"},
      {".safetensors", "not the name of a model's weights, model.safetensors; of an adapter (LoRA), merge it into its model "
                       "and save that"}};
  std::vector<std::string> names;
  std::error_code code;
  for (std::filesystem::directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code))
    names.push_back(entry->path().filename().string());
  std::sort(names.begin(), names.end());
  for (const Other& other : kOthers) {
    const std::string ending = other.ending;
    for (const std::string& name : names)
      if (name.size() > ending.size() && name.compare(name.size() - ending.size(), ending.size(), ending) == 0)
        return Error(folder + "/" + printable(name) + ": " + other.what);
  }
  return Error(folder + "/model.safetensors: no such file");
}

Error read_pooling(SentenceModules& modules, const std::string& path) {
  Json json;
  if (Error error = read_json_file(json, path, kMaxModulesBytes)) return error;
  Error error;
  Fields in(json, path + ": ", error);
  in.ignore({"word_embedding_dimension", "embedding_dimension", "include_prompt"});
  const char* kModes[] = {"pooling_mode_cls_token",        "pooling_mode_mean_tokens", "pooling_mode_max_tokens",
                          "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"};
  std::string chosen = in.text("pooling_mode");  // as newer files say it
  const char* field = "pooling_mode";
  for (const char* mode : kModes) {
    if (!in.flag_or(mode, false)) continue;
    if (!chosen.empty()) in.refuse(mode, "stands beside " + chosen + "; one kind of pooling is supported");
    chosen = std::string(mode).substr(sizeof "pooling_mode_" - 1);
    field = mode;
  }
  if (chosen == "mean_tokens" || chosen == "mean")
    modules.pooling = Pooling::mean;
  else if (chosen == "cls_token" || chosen == "cls")
    modules.pooling = Pooling::first;
  else if (chosen == "lasttoken")
    modules.pooling = Pooling::last;
  else
    in.refuse(field, chosen.empty() ? "is missing" : "is not supported");
  in.finish(" is not supported");
  return error;
}

}  // namespace

bool is_file(const std::string& path) {
  std::error_code code;
  return std::filesystem::exists(path, code);
}

Error read_json_file(Json& json, const std::string& path, std::size_t max_bytes) {
  SourceFile file;
  if (Error error = file.open(path)) return error;
  if (file.bytes().size() > max_bytes) return Error(path + ": longer than " + std::to_string(max_bytes >> 10) + " KiB");
  return parse_json(json, file.bytes(), 32).about(path);
}

Error open_tensors(SafeTensors& tensors, FloatModel& model, const std::string& folder) {
  const std::string path = folder + "/model.safetensors", index = path + ".index.json";
  if (!is_file(path)) return is_file(index) ? open_shards(tensors, model, folder, index) : without_safetensors(folder);
  Span<const std::uint8_t> bytes;
  if (Error error = model.open(bytes, path)) return error;
  return tensors.open(bytes).about(path);
}

Error read_sentence_modules(SentenceModules& modules, const std::string& folder) {
  const std::string path = folder + "/modules.json";
  if (!is_file(path)) return {};
  SourceFile file;
  if (Error error = file.open(path)) return error;
  if (file.bytes().size() > kMaxModulesBytes) return Error(path + ": longer than 64 KiB");
  // A list, where our parser wants an object.
  const std::string text = "{\"modules\":" + std::string(file.bytes().begin(), file.bytes().end()) + "}";
  Json json;
  if (Error error = parse_json(json, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, 8))
    return error.about(path);
  if (json.size() != 1 || !json["modules"].is_array()) return Error(path + ": not a list of modules");
  for (const Json& module : json["modules"]) {
    if (!module.is_object() || !module.contains("type") || !module["type"].is_string() || !module.contains("path") ||
        !module["path"].is_string())
      return Error(path + ": a module has no type or no path");
    const auto type = module["type"].get<std::string>(), at = module["path"].get<std::string>();
    const std::string kind = type.substr(type.rfind('.') == std::string::npos ? 0 : type.rfind('.') + 1);
    if (kind == "Transformer") {
      if (!at.empty()) return Error(path + ": the path " + printable(at) + " of a transformer is not supported");
    } else if (kind == "Pooling" && modules.pooling == Pooling::every && is_plain_name(at)) {
      if (Error error = read_pooling(modules, folder + "/" + at + "/config.json")) return error;
    } else if (kind == "Normalize" && modules.pooling != Pooling::every) {
      modules.unit_length = true;
    } else {
      return Error(path + ": type " + printable(module["type"].dump()) + " is not supported there");
    }
  }
  if (modules.pooling == Pooling::every) return Error(path + ": no pooling");
  modules.present = true;
  const std::string limits = folder + "/sentence_bert_config.json";
  if (!is_file(limits)) return {};
  if (Error error = read_json_file(json, limits, kMaxModulesBytes)) return error;
  Error error;
  Fields in(json, limits + ": ", error);
  modules.max_seq = in.size_or("max_seq_length", 0, 1, 1u << 20);
  return error;
}

}  // namespace heed::quant
