// SPDX-License-Identifier: Apache-2.0
// fields.hpp: an object of JSON read name by name; whatever is wrong is one sentence with the name and its value.
#pragma once
#include <initializer_list>
#include <set>
#include <utility>
#include <vector>

#include "quant/readers/json.hpp"

namespace heed::quant {

// The first error of all objects that share `error` is kept, and later reads give their fallbacks. null counts as absent.
class Fields {
 public:
  // `path` stands in front of the names in errors, e.g. "stacks[1].". The object must outlive this.
  Fields(const Json& object, std::string path, Error& error) : object_(object), path_(std::move(path)), error_(error) {}

  bool has(const char* name) {
    known_.insert(name);
    return object_.contains(name) && !object_[name].is_null();
  }
  // Whether it is there, null or not.
  bool is_named(const char* name) { return known_.insert(name), object_.contains(name); }
  // Precondition of these two: has(name).
  const Json& value(const char* name) const { return object_[name]; }
  std::string path(const char* name) const { return path_ + name; }

  // "stacks[1].d_model 0 is not ..."
  void refuse(const char* name, const std::string& why);
  // Refuses a field that is there although it may not.
  void only_if(bool allowed, const char* name, const std::string& why) {
    if (has(name) && !allowed) refuse(name, why);
  }

  std::uint32_t size(const char* name, std::uint32_t low, std::uint32_t high);
  std::uint32_t size_or(const char* name, std::uint32_t fallback, std::uint32_t low, std::uint32_t high);
  std::vector<std::uint32_t> sizes(const char* name, std::size_t most, std::uint32_t low, std::uint32_t high);
  double number_or(const char* name, double fallback, double low, double high);
  bool flag_or(const char* name, bool fallback);
  std::string text(const char* name);  // empty if absent
  std::vector<std::string> texts(const char* name, std::size_t most);
  // An object, or null where there is none.
  const Json* object(const char* name);
  template <class Choice>
  using Names = std::initializer_list<std::pair<const char*, Choice>>;
  template <class Choice>
  Choice choice_or(const char* name, Choice fallback, Names<Choice> names) {
    if (!has(name)) return fallback;
    std::string all;
    for (const auto& [word, choice] : names) {
      if (object_[name] == word) return choice;
      all += (all.empty() ? "" : ", ") + std::string(word);
    }
    refuse(name, "is none of " + all);
    return fallback;
  }

  // Names that change nothing, whatever their value.
  void ignore(std::initializer_list<const char*> names) { known_.insert(names.begin(), names.end()); }
  // Refuses any other value than this one; absent is as good.
  void expect(const char* name, const Json& value) {
    if (has(name) && object_[name] != value) refuse(name, "is not supported");
  }

  // Refuses a name that nobody asked for, unless `has_no_effect` knows better.
  void finish(const char* why = " is no name of a description", bool (*has_no_effect)(const std::string& name) = nullptr);

 private:
  const Json& object_;
  std::string path_;
  Error& error_;
  std::set<std::string> known_;
};

}  // namespace heed::quant
