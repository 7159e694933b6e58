// SPDX-License-Identifier: Apache-2.0
// gguf_fields.cpp: which keys there are, and which change nothing.
#include "quant/readers/gguf_fields.hpp"

#include <algorithm>

#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

// What a model computes does not depend on these.
constexpr const char* kWithoutEffect[] = {
    "vocab_size",              // the rows of the embedding say it
    "tensor_data_layout",      // of the file that was converted
    "rope.scaling.finetuned",  // how the model came to be
};

}  // namespace

const GgufValue* GgufFields::find(const std::string& name) {
  known_.insert(prefix_ + name);
  return metadata_.find(prefix_ + name);
}

bool GgufFields::has(const std::string& name) { return find(name) != nullptr; }

void GgufFields::refuse(const std::string& name, const std::string& why) {
  if (error_) return;
  const GgufValue* value = find(name);
  error_ = Error(prefix_ + name + (value ? " " + printable(*value) : "") + " " + why);
}

std::uint32_t GgufFields::size(const std::string& name, std::uint32_t low, std::uint32_t high) {
  if (has(name)) return size_or(name, low, low, high);
  refuse(name, "is missing");
  return low;
}

std::uint32_t GgufFields::size_or(const std::string& name, std::uint32_t fallback, std::uint32_t low,
                                  std::uint32_t high) {
  const GgufValue* value = find(name);
  if (!value) return fallback;
  std::uint32_t x = 0;
  if (value->is_list && value->count != 0 && (value->type == GgufType::u32 || value->type == GgufType::i32)) {
    x = gguf_bits32(*value, 0);
    for (std::uint64_t i = 1; i < value->count; ++i)
      if (gguf_bits32(*value, i) != x) {
        refuse(name, "differs from layer to layer, which is not supported");
        return fallback;
      }
  } else if (metadata_.number_or(x, prefix_ + name, 0)) {
    x = high + 1;
  }
  if (x >= low && x <= high) return x;
  refuse(name, "is not a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return fallback;
}

double GgufFields::number_or(const std::string& name, double fallback, double low, double high) {
  if (!find(name)) return fallback;
  double x = 0.0;
  // Written so that a NaN is refused.
  if (!metadata_.real_or(x, prefix_ + name, fallback) && x >= low && x <= high) return x;
  refuse(name, "is not a number from " + Json(low).dump() + " to " + Json(high).dump());
  return fallback;
}

bool GgufFields::flag_or(const std::string& name, bool fallback) {
  bool x = fallback;
  known_.insert(prefix_ + name);
  if (metadata_.flag_or(x, prefix_ + name, fallback)) refuse(name, "is neither true nor false");
  return x;
}

std::vector<bool> GgufFields::flags(const std::string& name) {
  const GgufValue* value = find(name);
  std::vector<bool> x;
  if (value && value->is_list && value->type == GgufType::boolean)
    for (const std::uint8_t byte : value->bytes) x.push_back(byte != 0);
  return x;
}

std::string GgufFields::text_or(const std::string& name, const std::string& fallback) {
  std::string x;
  known_.insert(prefix_ + name);
  if (metadata_.text_or(x, prefix_ + name, fallback)) refuse(name, "is no text");
  return x;
}

void GgufFields::only_zero(const std::string& name, const std::string& why) {
  const GgufValue* value = find(name);
  if (!value) return;
  const bool is_zero =
      !value->is_list && value->type != GgufType::text &&
      std::all_of(value->bytes.begin(), value->bytes.end(), [](std::uint8_t byte) { return byte == 0; });
  if (!is_zero) refuse(name, why);
}

void GgufFields::finish() {
  for (const char* name : kWithoutEffect) known_.insert(prefix_ + name);
  for (const auto& [key, value] : metadata_.values()) {
    if (error_) return;
    if (key.compare(0, prefix_.size(), prefix_) == 0 && !known_.count(key))
      error_ = Error(printable(key) + " " + printable(value) + " is not supported");
  }
}

}  // namespace heed::quant
