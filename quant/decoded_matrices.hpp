// SPDX-License-Identifier: Apache-2.0
// decoded_matrices.hpp: products with the stored matrices of a stack, in float32.
#pragma once
#include <unordered_map>

#include "quant/source.hpp"

namespace heed::quant {

// Bytes of decoded floats that a stack keeps. Matrices beyond it are decoded block by block each time they are multiplied,
// which costs about as much as the product with one vector.
inline constexpr std::uint64_t kDecodedBudget = std::uint64_t{1} << 30;

// A matrix whose floats lie in its file as they are wanted is used there; others are decoded when they are first multiplied,
// and kept while the budget lasts. The results depend on neither, nor on the model's threads. The model must outlive it and
// keep its tensors.
class DecodedMatrices {
 public:
  DecodedMatrices(const FloatModel& model, std::uint32_t stack, std::uint64_t budget = kDecodedBudget)
      : model_(model), stack_(stack), left_(budget) {}

  // y = W x + bias, of rows first to first + rows of the matrix: x [n, cols], y [n, rows].
  void multiply(float* y, Role role, std::uint32_t layer, const float* x, std::size_t n, std::uint32_t first,
                std::uint32_t rows);
  // One row, of a table that is looked up in. [cols]
  void look_up(float* row, Role role, std::uint32_t index) const;

 private:
  // The matrix in memory, or null where it does not fit.
  const float* find(const StoredTensor& tensor, Role role, std::uint32_t layer);

  const FloatModel& model_;
  const std::uint32_t stack_;
  std::uint64_t left_;  // of the budget
  std::unordered_map<std::uint32_t, std::vector<float>> kept_;
};

}  // namespace heed::quant
