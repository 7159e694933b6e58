// SPDX-License-Identifier: Apache-2.0
// counts.cpp: sums over the slots that a configuration implies.
#include "examples/heed/counts.hpp"

namespace heed::tool {
namespace {

std::string shape(std::uint64_t a, std::uint64_t b) { return std::to_string(a) + " x " + std::to_string(b); }

std::uint64_t total_of(const std::vector<ParameterRow>& rows) {
  std::uint64_t n = 0;
  for (const ParameterRow& row : rows) n += row.total();
  return n;
}

// Gains, biases and positions: little in number, and not part of what one multiplies by.
std::vector<ParameterRow> other_rows(const StackConfig& c) {
  const std::uint64_t d = c.d_model, layers = c.n_layers, norms = 2 * layers + 1;
  const auto bias = [&](std::uint32_t bit, std::uint64_t n) { return c.biases & bit ? n : 0; };
  std::vector<ParameterRow> rows;
  const auto add = [&](const char* name, std::uint64_t each, std::uint64_t n) {
    if (each) rows.push_back({name, std::to_string(each), each, n});
  };
  if (c.position_table) rows.push_back({"position_embedding", shape(c.max_seq, d), c.max_seq * d, 1});
  add("norm gains", d, norms);
  add("norm biases", bias(kBiasNorm, d), norms);
  add("biases of a layer",
      bias(kBiasQuery, c.d_query()) + bias(kBiasKey, c.d_key()) + bias(kBiasValueDown, c.d_key()) + bias(kBiasValueUp, d) +
          bias(kBiasFfnIn, c.d_ff * (c.gated ? 2ull : 1ull)) + bias(kBiasDown, d),
      layers);
  add("unembedding bias", bias(kBiasUnembedding, c.vocab_size), 1);
  return rows;
}

}  // namespace

std::uint64_t Counts::matrix_total() const { return total_of(matrices); }
std::uint64_t Counts::other_total() const { return total_of(others); }

Counts count(const StackConfig& c) {
  Counts counts;
  const std::uint64_t d = c.d_model, layers = c.n_layers, vocab = c.vocab_size;
  const auto per_head = [&](const char* name, std::uint64_t heads, bool up) {
    counts.matrices.push_back({name, up ? shape(d, c.head_dim) : shape(c.head_dim, d), c.head_dim * d, heads * layers});
  };
  const auto whole = [&](const char* name, std::uint64_t rows, std::uint64_t cols, std::uint64_t n) {
    counts.matrices.push_back({name, shape(rows, cols), rows * cols, n});
  };
  whole("token_embedding", vocab, d, 1);
  per_head("w_query", c.n_heads, false);
  per_head("w_key", c.n_kv_heads, false);
  per_head("w_value_down", c.n_kv_heads, false);
  per_head("w_value_up", c.n_heads, true);
  if (c.gated) whole("w_gate", c.d_ff, d, layers);
  whole("w_up", c.d_ff, d, layers);
  whole("w_down", d, c.d_ff, layers);
  whole("unembedding", vocab, d, c.tied_unembedding ? 0 : 1);

  counts.others = other_rows(c);
  counts.per_head = 4 * std::uint64_t{c.head_dim} * d;
  counts.linear_macs = counts.matrix_total() - (c.tied_unembedding ? 0 : vocab * d);
  counts.attention_macs_per_key = 2 * layers * c.d_query();
  return counts;
}

std::uint64_t tensor_section_bytes(const StackConfig& c, Layout layout) {
  std::uint64_t n = 0;
  for_each_slot(c, [&](const TensorSlot& slot) { n += slot_bytes(slot, layout); });
  return n;
}

std::uint64_t bare_image_bytes(const StackConfig& c, Layout layout) {
  const auto aligned = [](std::uint64_t n) { return (n + kImageAlign - 1) / kImageAlign * kImageAlign; };
  std::uint64_t end = aligned(sizeof(ImageHeader) + 3 * sizeof(SectionEntry));
  end = aligned(end + sizeof(StackConfig));
  end = aligned(end + StackTensors(c, 0).count * sizeof(TensorEntry));
  return end + tensor_section_bytes(c, layout);
}

std::uint64_t step_weight_bytes(const StackConfig& c, Layout layout) {
  std::uint64_t n = 0;
  for_each_slot(c, [&](const TensorSlot& slot) {
    const bool looked_up = slot.role == Role::token_embedding && !c.tied_unembedding;
    n += looked_up ? padded_cols(layout, slot.cols) : slot_bytes(slot, layout);
  });
  return n;
}

}  // namespace heed::tool
