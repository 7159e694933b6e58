// SPDX-License-Identifier: Apache-2.0
// pack.hpp: int8 matrices in plain row-major form, and their bytes in the four layouts of an image.
#pragma once
#include <cstdint>
#include <vector>

#include "runtime/tensor.hpp"

namespace heed::quant {

// weight(r, c) = weights[r, c] * multipliers[r, c / group] * scales[r]
struct QuantizedMatrix {
  std::uint32_t rows = 0, cols = 0;
  std::uint32_t group = 0;                // columns per group, 0 = one scale per row
  std::vector<std::int8_t> weights;       // [rows, cols], -127..127
  std::vector<float> scales;              // [rows]
  std::vector<std::uint8_t> multipliers;  // [rows, group_count(cols, group)], 1..15
  std::vector<float> bias;                // [rows], or empty

  double value(std::uint32_t r, std::uint32_t c) const {
    const double w = double{scales[r]} * weights[std::size_t{r} * cols + c];
    return group ? w * multipliers[std::size_t{r} * group_count(cols, group) + c / group] : w;
  }
};

// Writes the weights of `n` rows [n, cols] where `layout` has them: at `dst`, which begins with row `first` - with row 0 for
// block64, whose rows lie apart. Precondition: `first` is a multiple of row_block(layout), and the bytes are zeros.
void pack_rows(std::uint8_t* dst, const std::int8_t* weights, Layout layout, std::uint32_t rows, std::uint32_t cols,
               std::uint32_t first, std::uint32_t n);
// Scales [rows], multipliers [rows, groups] and, where there is one, the bias [rows]: the bytes of a matrix behind its
// weights, from tensor_bytes(...).scales to total.
std::vector<std::uint8_t> pack_rest(Layout layout, std::uint32_t cols, std::uint32_t group, const std::vector<float>& scales,
                                    const std::vector<std::uint8_t>& multipliers, const std::vector<float>& bias);

// Writes tensor_bytes(...).total bytes at `dst`, padding included. `dst` is 4-byte aligned.
void pack(std::uint8_t* dst, const QuantizedMatrix& matrix, Layout layout);

// The view of what `pack` wrote, as Model::tensor gives it.
Tensor view(const std::uint8_t* packed, const QuantizedMatrix& shape, Layout layout);

// The inverse of `pack`, whatever the layout. Weights of an image that fails `verify` come back as they are.
QuantizedMatrix unpack(const Tensor& tensor);

}  // namespace heed::quant
