// SPDX-License-Identifier: Apache-2.0
// safetensors.hpp: reads safetensors files (huggingface/safetensors): u64 length of a JSON header, the header, the
// tensors' bytes behind each other.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "quant/stored_tensor.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

struct SafeTensor {
  std::string name, dtype;
  std::vector<std::uint64_t> shape;
  Span<const std::uint8_t> bytes;  // inside the file, at no particular alignment
  std::uint64_t elements = 0;
};

// "[48, 192]"
std::string shape_text(const std::vector<std::uint64_t>& shape);

// A view of one or several files, which must outlive it.
class SafeTensors {
 public:
  // The bytes are not trusted: sizes, types and offsets of all tensors are checked, and they must fill the file without
  // holes or overlaps. Headers above 16 MiB are refused.
  Error open(Span<const std::uint8_t> file);
  // Adds the tensors of one more file, whose names are new.
  Error add(Span<const std::uint8_t> file);

  // File by file, in the order of their bytes.
  const std::vector<SafeTensor>& tensors() const { return tensors_; }
  // Null where there is none.
  const SafeTensor* find(const std::string& name) const;

 private:
  std::vector<SafeTensor> tensors_;
  std::map<std::string, std::size_t> by_name_;
};

// The matrix [first size, product of the others] of a tensor, or the vector of one with at most one size, where it lies in
// the file. Types that are read: F32, F16 and BF16. Others are refused by name, as are tensors without numbers.
Error open_stored(StoredTensor& stored, const SafeTensor& tensor);
// The numbers of such a tensor; it may have none.
Error read_floats(std::vector<float>& x, const SafeTensor& tensor);

}  // namespace heed::quant
