// SPDX-License-Identifier: Apache-2.0
// random_models.hpp: models over the whole description, in small, with weights in many manners.
#pragma once
#include "quant/image_writer.hpp"
#include "runtime/token.hpp"
#include "tests/support/random.hpp"

namespace heed::differential {

using test::Random;

// One or two stacks, of every property of StackConfig that goes together with the others; windows, heads and widths
// often at a border. small: what a board has room for. The positions are set later: max_seq is 1, and so is the number
// of rows of a position table.
ModelConfig random_config(Random& random, bool small);
// Tensors drawn for it, and what its floats are: epsilon and the scales.
quant::ImageBytes random_image(Random& random, ModelConfig& config, Layout layout);

// What goes into a stack: tokens with their types, or vectors [n, width].
struct Inputs {
  std::vector<Token> tokens;
  std::vector<std::uint8_t> types;
  std::vector<float> vectors;
  std::uint32_t n = 0, width = 0;
};
Inputs random_inputs(Random& random, const StackConfig& config, std::uint32_t n);
// The positions that n inputs take, class vectors included.
std::uint32_t positions_of(const StackConfig& config, std::uint32_t n);

}  // namespace heed::differential
