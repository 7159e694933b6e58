// SPDX-License-Identifier: Apache-2.0
// gguf_tensors.hpp: the tensors of a stack out of a GGUF file, by the names that all architectures share.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "quant/readers/described_stack.hpp"
#include "quant/readers/gguf.hpp"
#include "quant/source.hpp"

namespace heed::quant {

class GgufTensors {
 public:
  // All must outlive this. The first error is kept.
  GgufTensors(FloatModel& model, const GgufFile& file, Error& error) : model_(model), file_(file), error_(error) {}

  // By the whole name, without marking it as used.
  const GgufTensor* find(const std::string& name) const { return file_.find(name); }
  bool has(const std::string& name) const { return find(name) != nullptr; }
  // The first size of a matrix: 0, and an error, where there is none.
  std::uint32_t rows_of(const std::string& name, std::uint32_t most);

  // StackConfig::biases of a stack whose tensors' names begin with `prefix` ("", "enc.", "dec."): which biases the file
  // has for the first layer and for the output. c.gated must be known.
  std::uint32_t biases(const StackConfig& c, const std::string& prefix) const;
  // Numbers that the file may have for each pair of dimensions that rotates: what its frequency is divided by.
  std::vector<float> rope_factors(std::uint32_t pairs);

  // Fills a stack of the model. Precondition: model.config is one that an image can hold.
  void read(std::uint32_t stack, const std::string& prefix, const StackExtras& extras);
  // Refuses tensors that nobody asked for: a part of the model that nobody would run.
  void finish();

 private:
  using Shape = std::vector<std::uint64_t>;
  // Rows first to first + rows of a tensor that has `all` rows.
  struct Part {
    std::uint32_t first, all;
  };

  std::string name_of(Role role, std::uint32_t layer, const std::string& prefix) const;
  Part part_of(const StackConfig& c, const TensorSlot& slot, const std::string& name) const;
  StoredTensor tensor(const StackConfig& c, const TensorSlot& slot, const std::string& name, const StackExtras& extras);
  StoredTensor take(const std::string& name, const Shape& shape);

  FloatModel& model_;
  const GgufFile& file_;
  Error& error_;
  std::set<std::string> taken_;
};

}  // namespace heed::quant
