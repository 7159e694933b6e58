// SPDX-License-Identifier: Apache-2.0
// counts.hpp: parameters, multiply-adds and bytes of a transformer, counted from its configuration alone.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/model.hpp"

namespace heed::tool {

// One kind of matrix or vector.
struct ParameterRow {
  std::string name;         // as in the image
  std::string shape;        // rows x columns
  std::uint64_t each = 0;   // parameters of one
  std::uint64_t count = 0;  // how many there are
  std::uint64_t total() const { return each * count; }
};

struct Counts {
  std::vector<ParameterRow> matrices;
  std::vector<ParameterRow> others;  // gains and biases, wherever the image keeps them, and learned positions
  std::uint64_t per_head = 0;        // query, key, value_down and value_up of one query head
  // Multiply-adds of one token through every matrix: the term that grows linearly with a text.
  std::uint64_t linear_macs = 0;
  // Of one token with one visible key, scores and weighted values: n (n + 1) / 2 such pairs in a text of n tokens.
  std::uint64_t attention_macs_per_key = 0;

  std::uint64_t matrix_total() const;
  std::uint64_t other_total() const;
};
Counts count(const StackConfig& config);

// Pairs of a token and a key that it sees in a text of n tokens.
constexpr std::uint64_t visible_pairs(std::uint64_t n) { return n * (n + 1) / 2; }

// Bytes of the tensor section in a layout, exactly.
std::uint64_t tensor_section_bytes(const StackConfig& config, Layout layout);
// Bytes of an image without tokenizer and metadata.
std::uint64_t bare_image_bytes(const StackConfig& config, Layout layout);
// Bytes of weights, scales and multipliers that a step reads; of a matrix that is only looked up, one row.
std::uint64_t step_weight_bytes(const StackConfig& config, Layout layout);

}  // namespace heed::tool
