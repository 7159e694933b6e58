// SPDX-License-Identifier: Apache-2.0
// gguf.hpp: reads GGUF files (ggml, versions 2 and 3), in one piece or in several: keys and values, names, shapes and
// types of the tensors, and their bytes behind each other.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "quant/readers/gguf_metadata.hpp"
#include "quant/stored_tensor.hpp"

namespace heed::quant {

struct GgufTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // 1 to 4 sizes, the one whose elements are neighbours last, as in other formats
  StoredType type{};
  Span<const std::uint8_t> bytes;  // inside the file
};

// A view of one file, or of all parts of a split one, which must outlive it.
class GgufFile {
 public:
  // Takes the next part: a model of one file is its part 0 of 1. The bytes are not trusted. Refused in one sentence:
  // what GgufMetadata refuses, types that heed does not read (by name), an alignment that is no power of two from 8 to
  // 65536, sizes of 0 or whose product is more than the part can hold, names given twice, tensors that overlap or leave
  // holes. What it allocates is at most a small multiple of the bytes that it reads.
  Error add(Span<const std::uint8_t> part);
  // Whether all parts are there.
  Error finish() const;

  // Of a split file, how many parts there are; 1 of another. Known when the first part was taken.
  std::uint32_t parts() const { return parts_; }
  // Of the first part: the others repeat what they need.
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  // Null where there is none.
  const GgufTensor* find(const std::string& name) const;

 private:
  Error read_split(std::uint32_t& number, const GgufMetadata& metadata);
  Error read_tensors(Span<const std::uint8_t> part, const GgufMetadata& metadata);

  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t> by_name_;
  std::uint32_t taken_ = 0, parts_ = 1, all_tensors_ = 0;
};

// The matrix [product of the others, last size] of a tensor where it lies in the file.
Error open_stored(StoredTensor& stored, const GgufTensor& tensor);

// The paths of the other parts of a split file, by its name: MODEL-00002-of-00003.gguf and MODEL-00003-of-00003.gguf of
// MODEL-00001-of-00003.gguf. None where `first` is no such name.
std::vector<std::string> other_parts(const std::string& first);

// "GGUF", as files of either byte order begin.
bool is_gguf(Span<const std::uint8_t> bytes);

}  // namespace heed::quant
