// SPDX-License-Identifier: Apache-2.0
// matrix.hpp: a random int8 matrix as the runtime takes it, for tests of layers with weights of their own.
#pragma once
#include <cmath>
#include <cstdint>

#include "quant/file.hpp"
#include "quant/pack.hpp"
#include "tests/support/random.hpp"

namespace heed::test {

struct RandomMatrix {
  quant::QuantizedMatrix quantized;
  quant::ImageBytes packed;
  Tensor tensor;  // a view of `packed`, which moves with it

  RandomMatrix() = default;
  // Products with vectors of variance 1 have about the deviation `gain`; biases that of half of it.
  RandomMatrix(std::uint32_t rows, std::uint32_t cols, std::uint32_t group, bool with_bias, Layout layout,
               std::uint64_t seed, float gain = 1.0f) {
    Random random(seed);
    quantized.rows = rows;
    quantized.cols = cols;
    quantized.group = group;
    for (std::uint32_t i = 0; i < rows * cols; ++i)
      quantized.weights.push_back(static_cast<std::int8_t>(random.between(-127, 127)));
    for (std::uint32_t i = 0; i < rows * group_count(cols, group); ++i)
      quantized.multipliers.push_back(static_cast<std::uint8_t>(random.between(1, 15)));
    const float usual = gain / ((group ? 680.0f : 73.0f) * std::sqrt(static_cast<float>(cols)));
    for (std::uint32_t i = 0; i < rows; ++i) quantized.scales.push_back((1.0f + 0.5f * random.uniform()) * usual);
    for (std::uint32_t i = 0; with_bias && i < rows; ++i) quantized.bias.push_back(0.5f * gain * random.normal());
    packed.resize(static_cast<std::size_t>(tensor_bytes(layout, rows, cols, group, with_bias).total));
    quant::pack(packed.data(), quantized, layout);
    tensor = quant::view(packed.data(), quantized, layout);
  }
};

}  // namespace heed::test
