// SPDX-License-Identifier: Apache-2.0
// counts.hpp: parameters, multiply-adds and bytes of a transformer, counted from its description alone.
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

// Of one stack.
struct Counts {
  std::vector<ParameterRow> matrices;
  std::vector<ParameterRow> others;  // gains and biases, wherever the image keeps them, and what is added or looked up
  std::uint64_t per_head = 0;        // query, key, value_down and value_up of one query head
  // Multiply-adds of one position through every matrix: the term that grows linearly with a text. Of a stack that pools
  // without what is behind pooling, which a sequence goes through once.
  std::uint64_t linear_macs = 0, pooled_macs = 0;
  // Of an output, whether it comes once or for each position.
  std::uint64_t output_macs = 0;
  // Of one position with one key that it sees, scores and weighted values: in all layers that see all keys, and in all
  // that see a window.
  std::uint64_t attention_macs_per_key = 0, window_macs_per_key = 0;
  // Of cross-attention: a source position's keys and values, once, and a position with one source position.
  std::uint64_t source_macs = 0, cross_macs_per_key = 0;

  std::uint64_t matrix_total() const;
  std::uint64_t other_total() const;
};
Counts count(const StackConfig& config);

// Pairs of a position and a key that it sees in a sequence of n; `window` as in a stack's description.
constexpr std::uint64_t visible_pairs(std::uint64_t n, Mask mask = Mask::causal, std::uint64_t window = 0) {
  const std::uint64_t m = window == 0 || window > n ? n : window;
  // Keys in front of each position: 0, 1, .. m - 1, and m - 1 from there on.
  const std::uint64_t in_front = m == 0 ? 0 : m * (m - 1) / 2 + (n - m) * (m - 1);
  return n + (mask == Mask::two_way ? 2 : 1) * in_front;
}
// Multiply-adds of attention to a stack's own positions in a sequence of n, all layers.
std::uint64_t attention_macs(const StackConfig& config, const Counts& counts, std::uint64_t n);

// Bytes of the tensor section in a layout, exactly.
std::uint64_t tensor_section_bytes(const ModelConfig& config, Layout layout);
// Bytes of an image without tokenizer and metadata.
std::uint64_t bare_image_bytes(const ModelConfig& config, Layout layout);
// Bytes of weights, scales and multipliers that a step reads; of a matrix that is only looked up, one row.
std::uint64_t step_weight_bytes(const StackConfig& config, Layout layout);
// Bytes of the matrix that gives logits; 0 where vectors come out.
std::uint64_t unembedding_bytes(const StackConfig& config, Layout layout);

}  // namespace heed::tool
