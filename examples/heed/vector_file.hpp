// SPDX-License-Identifier: Apache-2.0
// vector_file.hpp: feature vectors from a file that anybody may have written: raw little-endian float32, or NumPy's
// .npy.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "platform/linux/map_file.hpp"

namespace heed::tool {

// Rows of one width. Nothing is copied before it is asked for, so that the size of a file costs no memory.
class VectorFile {
 public:
  // Refuses a file that holds no whole number of rows of `width` numbers. Which format it has is known from its first
  // bytes: .npy of version 1 to 3, little-endian float32 or float64 in C order, [rows, width] or [sequences, rows,
  // width]; anything else is float32 without a header.
  VectorFile(const std::string& path, std::uint32_t width);

  std::uint64_t rows() const { return rows_; }
  // Of an array of sequences, else 0.
  std::uint64_t rows_per_sequence() const { return rows_per_sequence_; }
  // [n, width]. Refuses numbers that are not finite in float32, naming the first.
  std::vector<float> read(std::uint64_t first, std::uint64_t n) const;

 private:
  void read_header();

  std::string path_;
  MappedFile file_;
  const std::uint8_t* numbers_ = nullptr;
  std::uint64_t rows_ = 0, rows_per_sequence_ = 0;
  std::uint32_t width_ = 0, bytes_each_ = 4;
};

}  // namespace heed::tool
