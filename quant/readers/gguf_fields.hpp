// SPDX-License-Identifier: Apache-2.0
// gguf_fields.hpp: the keys of one architecture, read name by name; whatever is wrong is one sentence with the key and
// its value.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "quant/readers/gguf_metadata.hpp"

namespace heed::quant {

// Names are those behind "llama.". The first error is kept, and later reads give their fallbacks.
class GgufFields {
 public:
  // The metadata must outlive this.
  GgufFields(const GgufMetadata& metadata, std::string architecture, Error& error)
      : metadata_(metadata), prefix_(std::move(architecture) + "."), error_(error) {}

  bool has(const std::string& name);
  // "llama.rope.scaling.type "ntk" is ..."
  void refuse(const std::string& name, const std::string& why = "is not supported");

  // A whole number from `low` to `high`; without a fallback the key must be there. A list with one number for each
  // layer is that number if it has no other.
  std::uint32_t size(const std::string& name, std::uint32_t low, std::uint32_t high);
  std::uint32_t size_or(const std::string& name, std::uint32_t fallback, std::uint32_t low, std::uint32_t high);
  // Finite.
  double number_or(const std::string& name, double fallback, double low, double high);
  bool flag_or(const std::string& name, bool fallback);
  // A list of booleans; empty where the value is another, or missing.
  std::vector<bool> flags(const std::string& name);
  std::string text_or(const std::string& name, const std::string& fallback);

  // Refuses a value that would change what the model computes, in a way that heed has not: any but 0, or false.
  void only_zero(const std::string& name, const std::string& why = "is not supported");

  // Refuses a key of the architecture that nobody asked for and that is not known to change nothing. Keys outside of
  // the architecture's name are no hyperparameters: the format says so.
  void finish();

 private:
  const GgufValue* find(const std::string& name);
  bool number(std::uint32_t& x, const GgufValue& value) const;

  const GgufMetadata& metadata_;
  const std::string prefix_;
  Error& error_;
  std::set<std::string> known_;
};

}  // namespace heed::quant
