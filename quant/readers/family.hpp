// SPDX-License-Identifier: Apache-2.0
// family.hpp: what the readers of single families share. A family is one small file behind a function that fits its
// `architectures`; huggingface.cpp lists them.
#pragma once
#include "quant/readers/json.hpp"
#include "quant/readers/safetensors.hpp"
#include "quant/source.hpp"

namespace heed::quant {

// What config.json says, read field by field; the first thing that is wrong is kept and all later reads give defaults.
class ConfigReader {
 public:
  explicit ConfigReader(const Json& json) : json_(json) {}
  // A number from `low` to `high`; without a default the field must be there. null counts as absent.
  std::uint32_t size(const char* name, std::uint32_t low, std::uint32_t high);
  std::uint32_t size_or(const char* name, std::uint32_t fallback, std::uint32_t low, std::uint32_t high);
  float number_or(const char* name, float fallback);
  bool flag_or(const char* name, bool fallback);
  std::string text_or(const char* name, const char* fallback);
  bool has(const char* name) const { return json_.contains(name) && !json_[name].is_null(); }
  void refuse(const char* name, const std::string& why = "is not supported");
  const Error& error() const { return error_; }

 private:
  const Json& json_;
  Error error_;
};

// GPT-2: layer norm with bias, learned positions, biases on every matrix, no gate.
Error read_gpt2(FloatModel& model, const Json& config, const SafeTensors& tensors);

}  // namespace heed::quant
