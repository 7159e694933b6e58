// SPDX-License-Identifier: Apache-2.0
// row_blocks.hpp: a matrix of any size, read some rows at a time.
#pragma once
#include <algorithm>

#include "quant/stored_tensor.hpp"

namespace heed::quant {

// Cuts the rows into blocks of about 64 thousand numbers, each a multiple of 16 rows but the last: small enough for a
// cache, and what every layout of an image keeps together. The tensor must outlive this.
class RowBlocks {
 public:
  struct Block {
    std::uint32_t first = 0, rows = 0;
    const float* x = nullptr;     // [rows, cols], as long as the block is kept
    std::vector<float> decoded;   // where they are not in memory as they are
  };

  explicit RowBlocks(const StoredTensor& tensor) : tensor_(tensor), in_place_(tensor.in_place()) {
    constexpr std::uint32_t kNumbers = 65536, kStep = 16;
    const std::uint32_t rows = kNumbers / tensor.cols() / kStep * kStep;
    // A turned matrix is read in stripes across its rows in the file, which should not be thinner than a cache line.
    step_ = std::max(rows, tensor.is_turned() ? 4 * kStep : kStep);
  }

  std::uint32_t count() const { return (tensor_.rows() - 1) / step_ + 1; }
  // Rows of a block but the last.
  std::uint32_t step() const { return step_; }
  Block read(std::uint32_t i) const {
    Block block;
    block.first = i * step_;
    block.rows = std::min(step_, tensor_.rows() - block.first);
    if (in_place_) {
      block.x = in_place_ + std::size_t{block.first} * tensor_.cols();
    } else {
      block.decoded.resize(std::size_t{block.rows} * tensor_.cols());
      tensor_.read_rows(block.decoded.data(), block.first, block.rows);
      block.x = block.decoded.data();
    }
    return block;
  }

 private:
  const StoredTensor& tensor_;
  const float* in_place_;
  std::uint32_t step_;
};

}  // namespace heed::quant
