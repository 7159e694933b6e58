// SPDX-License-Identifier: Apache-2.0
// fields.cpp: the checks behind each kind of field.
#include "quant/readers/fields.hpp"

#include <charconv>

namespace heed::quant {
namespace {

// The same under every locale: 0.5, 1e+12.
std::string plain(double x) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}

bool is_size(const Json& value, std::uint32_t low, std::uint32_t high) {
  return value.is_number_unsigned() && value.get<std::uint64_t>() >= low && value.get<std::uint64_t>() <= high;
}

std::string range(std::uint32_t low, std::uint32_t high) {
  return std::to_string(low) + " to " + std::to_string(high);
}

}  // namespace

void Fields::refuse(const char* name, const std::string& why) {
  if (error_) return;
  const std::string value = has(name) ? " " + printable(object_[name].dump()) : "";
  error_ = Error(path_ + name + value + " " + why);
}

std::uint32_t Fields::size(const char* name, std::uint32_t low, std::uint32_t high) {
  if (!has(name) && !error_) error_ = Error(path_ + name + " is missing");
  return size_or(name, low, low, high);
}

std::uint32_t Fields::size_or(const char* name, std::uint32_t fallback, std::uint32_t low, std::uint32_t high) {
  if (!has(name)) return fallback;
  if (is_size(object_[name], low, high)) return object_[name].get<std::uint32_t>();
  refuse(name, "is not a whole number from " + range(low, high));
  return low;
}

std::vector<std::uint32_t> Fields::sizes(const char* name, std::size_t most, std::uint32_t low, std::uint32_t high) {
  std::vector<std::uint32_t> result;
  if (!has(name)) return result;
  const Json& value = object_[name];
  bool good = value.is_array() && value.size() <= most;
  for (std::size_t i = 0; good && i < value.size(); ++i) {
    good = is_size(value[i], low, high);
    if (good) result.push_back(value[i].get<std::uint32_t>());
  }
  if (good) return result;
  refuse(name, "is not a list of at most " + std::to_string(most) + " whole numbers from " + range(low, high));
  return {};
}

double Fields::number_or(const char* name, double fallback, double low, double high) {
  if (!has(name)) return fallback;
  const Json& value = object_[name];
  if (value.is_number()) {
    const auto x = value.get<double>();
    if (x >= low && x <= high) return x;
  }
  refuse(name, "is not a number from " + plain(low) + " to " + plain(high));
  return fallback;
}

bool Fields::flag_or(const char* name, bool fallback) {
  if (!has(name)) return fallback;
  if (object_[name].is_boolean()) return object_[name].get<bool>();
  refuse(name, "is neither true nor false");
  return fallback;
}

std::string Fields::text(const char* name) {
  if (!has(name)) return {};
  if (object_[name].is_string()) return object_[name].get<std::string>();
  refuse(name, "is not a text");
  return {};
}

std::vector<std::string> Fields::texts(const char* name, std::size_t most) {
  std::vector<std::string> result;
  if (!has(name)) return result;
  const Json& value = object_[name];
  bool good = value.is_array() && value.size() <= most;
  for (std::size_t i = 0; good && i < value.size(); ++i) {
    good = value[i].is_string();
    if (good) result.push_back(value[i].get<std::string>());
  }
  if (good) return result;
  refuse(name, "is not a list of at most " + std::to_string(most) + " texts");
  return {};
}

const Json* Fields::object(const char* name) {
  if (!has(name)) return nullptr;
  if (object_[name].is_object()) return &object_[name];
  refuse(name, "is not an object");
  return nullptr;
}

void Fields::finish(const char* why, bool (*has_no_effect)(const std::string& name)) {
  for (auto member = object_.begin(); !error_ && member != object_.end(); ++member)
    if (!known_.count(member.key()) && !(has_no_effect && has_no_effect(member.key())))
      error_ = Error(path_ + printable(member.key()) + why);
}

}  // namespace heed::quant
