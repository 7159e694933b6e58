// SPDX-License-Identifier: Apache-2.0
// gguf_tensors.cpp: one table of names for all architectures.
#include "quant/readers/gguf_tensors.hpp"

#include <algorithm>

#include "quant/readers/described_tensors.hpp"

namespace heed::quant {
namespace {

struct TensorName {
  Role role;
  const char* name;  // of a layer: behind "blk.N."
};

// Of several names the first that a file has counts. Rows of attn_qkv are queries, keys, values; where a gated stack
// has no ffn_gate, rows of ffn_up are the gate's and then its own.
constexpr TensorName kNames[] = {
    {Role::token_embedding, "token_embd.weight"},
    {Role::position_embedding, "position_embd.weight"},
    {Role::token_type_embedding, "token_types.weight"},
    {Role::input_gain, "token_embd_norm.weight"},
    {Role::input_norm_bias, "token_embd_norm.bias"},
    {Role::score_bias, "blk.0.attn_rel_b.weight"},
    {Role::attention_gain, "attn_norm.weight"},
    {Role::attention_norm_bias, "attn_norm.bias"},
    {Role::w_query, "attn_q.weight"},
    {Role::w_query, "attn_qkv.weight"},
    {Role::w_key, "attn_k.weight"},
    {Role::w_key, "attn_qkv.weight"},
    {Role::w_value_down, "attn_v.weight"},
    {Role::w_value_down, "attn_qkv.weight"},
    {Role::w_value_up, "attn_output.weight"},
    {Role::w_value_up, "attn_o.weight"},
    {Role::query_gain, "attn_q_norm.weight"},
    {Role::key_gain, "attn_k_norm.weight"},
    {Role::attention_after_gain, "post_attention_norm.weight"},
    {Role::attention_after_gain, "attn_output_norm.weight"},
    {Role::attention_after_bias, "attn_output_norm.bias"},
    {Role::ffn_gain, "ffn_norm.weight"},
    {Role::ffn_norm_bias, "ffn_norm.bias"},
    {Role::w_gate, "ffn_gate.weight"},
    {Role::w_gate, "ffn_up.weight"},
    {Role::w_up, "ffn_up.weight"},
    {Role::w_down, "ffn_down.weight"},
    {Role::ffn_after_gain, "post_ffw_norm.weight"},
    {Role::ffn_after_gain, "layer_output_norm.weight"},
    {Role::ffn_after_bias, "layer_output_norm.bias"},
    {Role::cross_gain, "cross_attn_norm.weight"},
    {Role::cross_w_query, "cross_attn_q.weight"},
    {Role::cross_w_key, "cross_attn_k.weight"},
    {Role::cross_w_value_down, "cross_attn_v.weight"},
    {Role::cross_w_value_up, "cross_attn_o.weight"},
    {Role::final_gain, "output_norm.weight"},
    {Role::final_norm_bias, "output_norm.bias"},
    {Role::dense, "cls.weight"},
    {Role::unembedding, "output.weight"},
    {Role::unembedding, "cls.output.weight"},
};

struct BiasName {
  std::uint32_t bit;
  Role role;  // of the matrix
};
constexpr BiasName kBiases[] = {
    {kBiasQuery, Role::w_query},           {kBiasKey, Role::w_key},  {kBiasValueDown, Role::w_value_down},
    {kBiasValueUp, Role::w_value_up},      {kBiasFfnIn, Role::w_up}, {kBiasDown, Role::w_down},
    {kBiasUnembedding, Role::unembedding}, {kBiasDense, Role::dense}};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// "X.bias" for "X.weight".
std::string bias_of(const std::string& name) { return name.substr(0, name.size() - sizeof "weight" + 1) + "bias"; }

}  // namespace

// The first of the role's names that the file has, or the usual one. What both stacks share has no prefix.
std::string GgufTensors::name_of(Role role, std::uint32_t layer, const std::string& prefix) const {
  std::string usual;
  for (const TensorName& row : kNames) {
    if (row.role != role) continue;
    const std::string in_layer = is_per_layer(role) ? "blk." + std::to_string(layer) + "." + row.name : row.name;
    const std::string name = prefix + in_layer;
    if (has(name)) return name;
    if (!is_per_layer(role) && has(in_layer)) return in_layer;
    if (usual.empty()) usual = name;
  }
  return usual;
}

std::uint32_t GgufTensors::rows_of(const std::string& name, std::uint32_t most) {
  const GgufTensor* t = find(name);
  if (error_) return 0;
  if (!t) {
    error_ = Error("tensor " + name + " is missing");
  } else if (t->shape.size() != 2 || t->shape[0] > most) {
    error_ = Error("tensor " + name + " has the shape " + shape_text(t->shape) + ", not one of at most " +
                   std::to_string(most) + " rows");
  } else {
    return static_cast<std::uint32_t>(t->shape[0]);
  }
  return 0;
}

std::uint32_t GgufTensors::biases(const StackConfig& c, const std::string& prefix) const {
  std::uint32_t bits = 0;
  for (const BiasName& row : kBiases) {
    const std::string name = name_of(row.role, 0, prefix);
    if (!name.empty() && has(bias_of(name))) bits |= row.bit;
  }
  if (c.norm == Norm::layer)
    for (const Role role : {Role::attention_norm_bias, Role::attention_after_bias, Role::final_norm_bias})
      if (has(name_of(role, 0, prefix))) bits |= kBiasNorm;
  return bits;
}

std::vector<float> GgufTensors::rope_factors(std::uint32_t pairs) {
  constexpr char kName[] = "rope_freqs.weight";
  constexpr float kLeast = 0.5f, kMost = 1e6f;  // as far as frequencies stay below one turn a position
  if (!has(kName)) return {};
  const std::vector<float> factors = take(kName, {pairs}).read();
  for (const float factor : factors)
    if (!error_ && !(factor >= kLeast && factor <= kMost))
      error_ = Error(std::string(kName) + " has a factor that is not from 0.5 to 1e6");
  return factors;
}

void GgufTensors::read(std::uint32_t stack, const std::string& prefix, const StackExtras& extras) {
  const StackConfig& c = model_.config.stacks[stack];
  for_each_slot(c, [&](const TensorSlot& slot) {
    if (error_ || slot.role == Role::rotary_phases || slot.role == Role::local_rotary_phases) return;
    const std::string name = name_of(slot.role, slot.layer, prefix);
    if (name.empty()) {
      error_ = Error(describe(model_.config, slot.role, slot.layer, stack) + " has no name in a GGUF file");
      return;
    }
    StoredTensor x = tensor(c, slot, name, extras);
    if (error_) return;
    model_.set(slot.role, slot.layer, std::move(x), stack);
    if (slot.bias) {
      const bool unembeds = slot.role == Role::token_embedding;  // of a tied stack: this one has a bias there
      const Part part = part_of(c, slot, name);
      const StoredTensor bias = take(unembeds ? "output.bias" : bias_of(name), {part.all});
      if (!error_) model_.set_bias(slot.role, slot.layer, bias.column_slice(part.first, slot.rows).read(), stack);
    }
    const bool local = c.local_rotary && is_per_layer(slot.role) && !c.sees_all(slot.layer);
    scale_heads(model_, stack, slot, (local ? extras.local_rope : extras.rope).query_key_factor());
  });
}

GgufTensors::Part GgufTensors::part_of(const StackConfig& c, const TensorSlot& slot, const std::string& name) const {
  if (ends_with(name, "attn_qkv.weight")) {
    const std::uint32_t queries = c.d_query(), keys = c.d_key();
    const std::uint32_t first = slot.role == Role::w_query ? 0 : slot.role == Role::w_key ? queries : queries + keys;
    return {first, queries + 2 * keys};
  }
  if (ends_with(name, "ffn_up.weight") && c.gated &&
      !has(name.substr(0, name.size() - sizeof "up.weight" + 1) + "gate.weight"))
    return {slot.role == Role::w_gate ? 0 : c.d_ff, 2 * c.d_ff};
  return {0, slot.rows};
}

StoredTensor GgufTensors::tensor(const StackConfig& c, const TensorSlot& slot, const std::string& name,
                                 const StackExtras& extras) {
  if (slot.role == Role::score_bias && c.position == Position::alibi)
    return StoredTensor::of(extras.slopes, c.n_heads, 1);
  if (slot.role == Role::score_bias) {
    const std::vector<float> table = take(name, {extras.buckets, c.n_heads}).read();
    if (error_) return {};
    return StoredTensor::of(spread_buckets(table.data(), c.n_heads, extras.buckets, extras.max_distance,
                                           c.mask == Mask::two_way, c.n_distances),
                            c.n_heads, c.n_distances);
  }
  if (slot.role == Role::position_embedding) {
    const GgufTensor* t = find(name);
    if (t && t->shape.size() == 2 && t->shape[0] > slot.rows)
      return take(name, {t->shape[0], slot.cols}).row_slice(0, slot.rows);
  }
  if (!is_matrix(slot.role)) return take(name, {slot.cols});
  const Part part = part_of(c, slot, name);
  const StoredTensor whole = take(name, {part.all, slot.cols});
  return error_ || part.all == slot.rows ? whole : whole.row_slice(part.first, slot.rows);
}

StoredTensor GgufTensors::take(const std::string& name, const Shape& shape) {
  StoredTensor stored;
  if (error_) return stored;
  const GgufTensor* t = find(name);
  taken_.insert(name);
  if (!t)
    error_ = Error("tensor " + name + " is missing");
  else if (t->shape != shape)
    error_ = Error("tensor " + name + " has the shape " + shape_text(t->shape) + ", not " + shape_text(shape));
  else
    error_ = open_stored(stored, *t);
  return error_ ? StoredTensor{} : stored;
}

void GgufTensors::finish() {
  for (const GgufTensor& t : file_.tensors())
    if (!error_ && !taken_.count(t.name))
      error_ = Error("tensor " + printable(t.name) + " is not part of the architecture");
}

}  // namespace heed::quant
