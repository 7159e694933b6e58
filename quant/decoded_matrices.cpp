// SPDX-License-Identifier: Apache-2.0
// decoded_matrices.cpp: every sum is one dot product, whoever computes it.
#include "quant/decoded_matrices.hpp"

#include "quant/float_math.hpp"
#include "quant/row_blocks.hpp"

namespace heed::quant {

const float* DecodedMatrices::find(const StoredTensor& tensor, Role role, std::uint32_t layer) {
  if (const float* x = tensor.in_place()) return x;
  const std::uint32_t key = layer << 8 | static_cast<std::uint32_t>(role);
  const auto found = kept_.find(key);
  if (found != kept_.end()) return found->second.data();
  const std::uint64_t bytes = 4 * std::uint64_t{tensor.rows()} * tensor.cols();
  if (bytes > left_) return nullptr;
  left_ -= bytes;
  std::vector<float>& x = kept_[key];
  x.resize(static_cast<std::size_t>(bytes / 4));
  const RowBlocks blocks(tensor);
  for_each_part(model_.parallel, blocks.count(), [&](std::uint32_t i) {
    const std::uint32_t first = i * blocks.step(), rows = std::min(blocks.step(), tensor.rows() - first);
    tensor.read_rows(&x[std::size_t{first} * tensor.cols()], first, rows);
  });
  return x.data();
}

void DecodedMatrices::multiply(float* y, Role role, std::uint32_t layer, const float* x, std::size_t n,
                               std::uint32_t first, std::uint32_t rows) {
  const StoredTensor& whole = *model_.tensor(role, layer, stack_);
  const Span<const float> bias = model_.bias(role, layer, stack_);
  const float* kept = find(whole, role, layer);
  const StoredTensor wanted = whole.row_slice(first, rows);
  const RowBlocks blocks(wanted);
  const std::size_t cols = wanted.cols();
  const auto part = [&](std::uint32_t i) {
    const std::uint32_t begin = i * blocks.step(), end = std::min(begin + blocks.step(), rows);
    const RowBlocks::Block block = kept ? RowBlocks::Block{} : blocks.read(i);
    const float* w = kept ? kept + (std::size_t{first} + begin) * cols : block.x;
    for (std::size_t row = begin; row < end; ++row, w += cols) {
      for (std::size_t k = 0; k < n; ++k) {
        float& sum = y[k * rows + row];
        sum = dot(w, x + k * cols, static_cast<std::uint32_t>(cols));
        if (!bias.empty()) sum += bias[first + row];
      }
    }
  };
  const bool is_small = std::uint64_t{rows} * cols * n < model_.parallel.threshold;
  for_each_part(is_small ? Parallel{} : model_.parallel, blocks.count(), part);
}

void DecodedMatrices::look_up(float* row, Role role, std::uint32_t index) const {
  model_.tensor(role, 0, stack_)->read_rows(row, index, 1);
}

}  // namespace heed::quant
