// SPDX-License-Identifier: Apache-2.0
// described_tensors.hpp: the tensors that a description implies, out of a safetensors file (SPEC.md 7.3).
#pragma once
#include <set>
#include <string>
#include <vector>

#include "quant/readers/described_stack.hpp"
#include "quant/readers/safetensors.hpp"
#include "quant/source.hpp"

namespace heed::quant {

// Multiplies what makes the dimensions of queries and keys that rotate: rows of their matrices, or the gains and biases of
// their norm, which forgets what the matrices do. Nothing happens for tensors of another role.
void scale_heads(FloatModel& model, std::uint32_t stack, const TensorSlot& slot, double factor);

class TensorReader {
 public:
  // `names`: from a name of SPEC.md to the one in the file, or null. All must outlive this. The first error is kept.
  TensorReader(FloatModel& model, const SafeTensors& tensors, const Json* names, Error& error)
      : model_(model), tensors_(tensors), names_(names), error_(error) {}

  // Precondition: model.config is one that an image can hold.
  void read(std::uint32_t stack, const StackExtras& extras);
  // Behind read: refuses a name for a tensor that the description does not have, which is the description's fault.
  Error check_names() const;
  // Refuses a tensor of the file that nobody asked for.
  void finish();

 private:
  using Shape = std::vector<std::uint64_t>;

  // All but phases, whose place stays empty; empty after an error, too.
  StoredTensor tensor(const StackConfig& c, const TensorSlot& slot, const StackExtras& extras);
  StoredTensor score_bias(const StackConfig& c, const StackExtras& extras);
  StoredTensor convolution(const char* name, std::uint32_t rows, std::uint32_t width);
  StoredTensor position_table(const StackConfig& c, std::uint32_t offset);
  const SafeTensor* find(const std::string& name_in_stack);
  StoredTensor take(const std::string& name_in_stack, const Shape& shape);
  StoredTensor open(const SafeTensor& tensor);

  FloatModel& model_;
  const SafeTensors& tensors_;
  const Json* names_;
  Error& error_;
  std::string prefix_;
  std::set<std::string> asked_, taken_;
};

}  // namespace heed::quant
