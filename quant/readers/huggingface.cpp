// SPDX-License-Identifier: Apache-2.0
// huggingface.cpp: finds the files, and the family that the configuration names.
#include "quant/readers/huggingface.hpp"

#include <filesystem>

#include "quant/readers/family.hpp"

namespace heed::quant {
namespace {

constexpr std::size_t kMaxConfigBytes = 1u << 20;

bool exists(const std::string& path) {
  std::error_code code;
  return std::filesystem::exists(path, code);
}

Error open_tensors(FloatModel& model, Span<const std::uint8_t>& bytes, const std::string& folder) {
  const std::string path = folder + "/model.safetensors";
  if (exists(path)) return model.open(bytes, path);
  if (exists(path + ".index.json"))
    return Error(path + ".index.json: models in several files are not read yet; save the model in one");
  if (exists(folder + "/pytorch_model.bin"))
    return Error(folder +
                 "/pytorch_model.bin: PyTorch files are programs and are not read; save the model as safetensors");
  return Error(path + ": no such file");
}

}  // namespace

void ConfigReader::refuse(const char* name, const std::string& why) {
  if (error_) return;
  const std::string value = json_.contains(name) ? " " + printable(json_[name].dump()) : "";
  error_ = Error(std::string(name) + value + " " + why);
}

std::uint32_t ConfigReader::size(const char* name, std::uint32_t low, std::uint32_t high) {
  if (!has(name)) {
    if (!error_) error_ = Error(std::string(name) + " is missing");
    return low;
  }
  return size_or(name, low, low, high);
}

std::uint32_t ConfigReader::size_or(const char* name, std::uint32_t fallback, std::uint32_t low, std::uint32_t high) {
  if (!has(name)) return fallback;
  const Json& value = json_[name];
  if (value.is_number_unsigned() && value.get<std::uint64_t>() >= low && value.get<std::uint64_t>() <= high)
    return value.get<std::uint32_t>();
  refuse(name, "is not a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return fallback;
}

float ConfigReader::number_or(const char* name, float fallback) {
  if (!has(name)) return fallback;
  const Json& value = json_[name];
  const auto x = value.is_number() ? static_cast<float>(value.get<double>()) : 0.0f;
  if (in_range(x)) return x;
  refuse(name, "is not a number from 2^-40 to 2^40");
  return fallback;
}

bool ConfigReader::flag_or(const char* name, bool fallback) {
  if (!has(name)) return fallback;
  if (json_[name].is_boolean()) return json_[name].get<bool>();
  refuse(name, "is neither true nor false");
  return fallback;
}

std::string ConfigReader::text_or(const char* name, const char* fallback) {
  if (!has(name)) return fallback;
  if (json_[name].is_string()) return json_[name].get<std::string>();
  refuse(name, "is not a text");
  return fallback;
}

Error read_huggingface(FloatModel& model, Span<const std::uint8_t> config_json, Span<const std::uint8_t> safetensors) {
  Json config;
  if (Error error = parse_json(config, config_json, 32)) return error.about("config.json");
  if (!config.contains("architectures") || !config["architectures"].is_array() || config["architectures"].size() != 1 ||
      !config["architectures"][0].is_string())
    return Error("config.json: architectures is not a list of one name");
  const auto architecture = config["architectures"][0].get<std::string>();
  if (config.contains("quantization_config"))
    return Error("config.json: quantization_config: quantised models are not read; give the float model");
  Error (*read)(FloatModel&, const Json&, const SafeTensors&) = nullptr;
  if (architecture == "GPT2LMHeadModel") read = read_gpt2;
  if (!read)
    return Error("config.json: architectures [\"" + printable(architecture) +
                 "\"] is not supported (GPT2LMHeadModel is)");
  SafeTensors tensors;
  if (Error error = tensors.open(safetensors)) return error.about("model.safetensors");
  model.format = "Hugging Face " + architecture;
  return read(model, config, tensors);
}

Error read_huggingface(FloatModel& model, const std::string& folder) {
  const std::string path = folder + "/config.json";
  if (!exists(path)) return Error(folder + ": a folder without config.json is no Hugging Face model");
  SourceFile config;
  if (Error error = config.open(path)) return error;
  if (config.bytes().size() > kMaxConfigBytes) return Error(path + ": longer than 1 MiB");
  Span<const std::uint8_t> tensors;
  if (Error error = open_tensors(model, tensors, folder)) return error;
  return read_huggingface(model, config.bytes(), tensors).about(folder);
}

}  // namespace heed::quant
