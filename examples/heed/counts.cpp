// SPDX-License-Identifier: Apache-2.0
// counts.cpp: sums over the slots that a description implies.
#include "examples/heed/counts.hpp"

#include <algorithm>

#include "quant/source.hpp"

namespace heed::tool {
namespace {

std::string shape(std::uint64_t a, std::uint64_t b) { return std::to_string(a) + " x " + std::to_string(b); }

std::uint64_t total_of(const std::vector<ParameterRow>& rows) {
  std::uint64_t n = 0;
  for (const ParameterRow& row : rows) n += row.total();
  return n;
}

// Adds to a row of the same name and size, if there is one.
void add(std::vector<ParameterRow>& rows, const std::string& name, const std::string& shape, std::uint64_t each,
         std::uint64_t count) {
  for (ParameterRow& row : rows)
    if (row.name == name && row.each == each) {
      row.count += count;
      return;
    }
  rows.push_back({name, shape, each, count});
}

// Rows of it are looked up and added, not multiplied by.
bool is_table(Role role) {
  return role == Role::position_embedding || role == Role::token_type_embedding || role == Role::class_vectors;
}

// A gain stands in the count wherever the image keeps it, and an offset of keys is no parameter.
StackConfig unfolded(StackConfig c) {
  c.flags = 0;
  return c;
}

// Gains, biases and tables: little in number, and not part of what one multiplies by.
std::vector<ParameterRow> other_rows(const StackConfig& c) {
  std::vector<ParameterRow> rows, norm_biases;
  std::uint64_t layer_biases = 0;
  std::vector<ParameterRow> biases;
  for_each_slot(unfolded(c), [&](const TensorSlot& slot) {
    const std::string name = quant::name_of(slot.role);
    if (slot.type == ElementType::s8) {
      if (is_table(slot.role)) add(rows, name, shape(slot.rows, slot.cols), std::uint64_t{slot.rows} * slot.cols, 1);
      if (!slot.bias) return;
      if (is_per_layer(slot.role)) {
        layer_biases += slot.layer == 0 ? slot.rows : 0;
      } else {
        const bool tied = slot.role == Role::token_embedding;
        add(biases, (tied ? "unembedding" : name) + " bias", std::to_string(slot.rows), slot.rows, 1);
      }
    } else if (slot.role == Role::score_bias) {
      add(rows, name, shape(slot.rows, slot.cols), std::uint64_t{slot.rows} * slot.cols, 1);
    } else if (slot.type == ElementType::f32) {
      const std::uint64_t n = std::uint64_t{slot.rows} * slot.cols;
      add(is_norm_bias(slot.role) ? norm_biases : rows, is_norm_bias(slot.role) ? "norm biases" : "norm gains",
          std::to_string(n), n, 1);
    }
  });
  rows.insert(rows.end(), norm_biases.begin(), norm_biases.end());
  if (layer_biases) add(rows, "biases of a layer", std::to_string(layer_biases), layer_biases, c.n_layers);
  rows.insert(rows.end(), biases.begin(), biases.end());
  return rows;
}

// One head's share of a matrix, if it has heads.
ParameterRow matrix_row(const StackConfig& c, const TensorSlot& slot) {
  std::uint64_t rows = slot.rows, cols = slot.cols, heads = 1;
  switch (slot.role) {
    case Role::w_query:
    case Role::cross_w_query: rows /= heads = c.n_heads; break;
    case Role::w_key:
    case Role::w_value_down:
    case Role::cross_w_key:
    case Role::cross_w_value_down: rows /= heads = c.n_kv_heads; break;
    case Role::w_value_up:
    case Role::cross_w_value_up: cols /= heads = c.n_heads; break;
    default: break;
  }
  return {quant::name_of(slot.role), shape(rows, cols), rows * cols, heads};
}

}  // namespace

std::uint64_t Counts::matrix_total() const { return total_of(matrices); }
std::uint64_t Counts::other_total() const { return total_of(others); }

Counts count(const StackConfig& c) {
  Counts counts;
  for_each_slot(unfolded(c), [&](const TensorSlot& slot) {
    if (slot.type != ElementType::s8 || is_table(slot.role)) return;
    const ParameterRow row = matrix_row(c, slot);
    add(counts.matrices, row.name, row.shape, row.each, row.count);
    const std::uint64_t macs = row.total();
    switch (slot.role) {
      case Role::token_embedding: break;
      case Role::cross_w_key:
      case Role::cross_w_value_down: counts.source_macs += macs; break;
      case Role::convolution_1: counts.linear_macs += macs * (c.second_convolution ? c.strides[1] : 1u); break;
      case Role::dense:
      case Role::unembedding: counts.output_macs += macs; break;
      default: counts.linear_macs += macs;
    }
  });
  if (c.output == Output::logits && c.tied_unembedding) {
    const std::uint64_t each = std::uint64_t{c.n_outputs} * c.d_output();
    counts.matrices.push_back({"unembedding", shape(c.n_outputs, c.d_output()), each, 0});
    counts.output_macs += each;
  }
  (c.pooling == Pooling::every ? counts.linear_macs : counts.pooled_macs) += counts.output_macs;
  counts.others = other_rows(c);
  const std::uint64_t d = c.d_model, dim = c.head_dim, per_key = c.n_heads * (dim + c.value_dim());
  counts.per_head = 2 * dim * d + (c.value_map == ValueMap::undivided ? d * d : 2 * dim * d);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer)
    (c.sees_all(layer) ? counts.attention_macs_per_key : counts.window_macs_per_key) += per_key;
  if (c.cross_attention) counts.cross_macs_per_key = c.n_layers * per_key;
  return counts;
}

std::uint64_t attention_macs(const StackConfig& c, const Counts& counts, std::uint64_t n) {
  return counts.attention_macs_per_key * visible_pairs(n, c.mask) +
         counts.window_macs_per_key * visible_pairs(n, c.mask, c.window);
}

std::uint64_t tensor_section_bytes(const ModelConfig& m, Layout layout) {
  std::uint64_t n = 0;
  for (std::uint32_t i = 0; i < m.n_stacks; ++i)
    for_each_slot(m.stacks[i], [&](const TensorSlot& slot) { n += slot_bytes(slot, layout); });
  return n;
}

std::uint64_t bare_image_bytes(const ModelConfig& m, Layout layout) {
  const auto aligned = [](std::uint64_t n) { return (n + kImageAlign - 1) / kImageAlign * kImageAlign; };
  std::uint64_t end = aligned(sizeof(ImageHeader) + 3 * sizeof(SectionEntry)), entries = 0;
  for (std::uint32_t i = 0; i < m.n_stacks; ++i) entries += StackTensors(m.stacks[i], 0).count;
  end = aligned(end + m.n_stacks * sizeof(StackConfig));
  end = aligned(end + entries * sizeof(TensorEntry));
  return end + tensor_section_bytes(m, layout);
}

std::uint64_t step_weight_bytes(const StackConfig& c, Layout layout) {
  std::uint64_t n = 0;
  for_each_slot(c, [&](const TensorSlot& slot) {
    const bool looked_up = is_table(slot.role) || (slot.role == Role::token_embedding && !c.tied_unembedding);
    n += looked_up ? padded_cols(layout, slot.cols) : slot_bytes(slot, layout);
  });
  return n;
}

std::uint64_t unembedding_bytes(const StackConfig& c, Layout layout) {
  if (c.output != Output::logits) return 0;
  return slot_bytes(tensor_slot(c, c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0), layout);
}

}  // namespace heed::tool
