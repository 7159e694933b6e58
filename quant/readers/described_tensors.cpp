// SPDX-License-Identifier: Apache-2.0
// described_tensors.cpp: shapes from the stack's description, and what is not a tensor of the file made from its numbers.
#include "quant/readers/described_tensors.hpp"

#include <algorithm>

namespace heed::quant {
namespace {

std::string name_in_stack(const TensorSlot& slot) {
  const std::string name = name_of(slot.role);
  return is_per_layer(slot.role) ? "layers." + std::to_string(slot.layer) + "." + name : name;
}

Error wrong_shape(const SafeTensor& t, const std::string& wanted) {
  return Error("tensor " + printable(t.name) + " has the shape " + shape_text(t.shape) + ", not " + wanted);
}

}  // namespace

void scale_heads(FloatModel& model, std::uint32_t stack, const TensorSlot& slot, double factor) {
  const StackConfig& c = model.config.stacks[stack];
  if (factor == 1.0 || c.position != Position::rotary) return;
  const bool normed = c.query_key_norm != HeadNorm::none;
  switch (slot.role) {
    case Role::w_query:
    case Role::w_key:
      if (normed) return;
      break;
    case Role::query_gain:
    case Role::query_norm_bias:
    case Role::key_gain:
    case Role::key_norm_bias: break;
    default: return;
  }
  const std::size_t dims = c.head_dim, n = is_matrix(slot.role) ? slot.rows : slot.cols;
  std::vector<double> factors(n, 1.0);
  for (std::size_t head = 0; head < n; head += dims)
    std::fill_n(factors.begin() + static_cast<std::ptrdiff_t>(head), c.rotary_dims, factor);
  model.scale_rows(slot.role, slot.layer, stack, factors);
}

void TensorReader::read(std::uint32_t stack, const StackExtras& extras) {
  const StackConfig& c = model_.config.stacks[stack];
  prefix_ = "stacks." + std::to_string(stack) + ".";
  for_each_slot(c, [&](const TensorSlot& slot) {
    if (error_) return;
    StoredTensor x = tensor(c, slot, extras);
    if (error_ || x.is_empty()) return;
    const std::string name = name_in_stack(slot);
    const bool is_gain = name.size() > 5 && name.compare(name.size() - 5, 5, "_gain") == 0;
    model_.set(slot.role, slot.layer, extras.gain_plus_one && is_gain ? x.plus(1.0) : x, stack);
    if (slot.bias) {
      const bool unembeds = slot.role == Role::token_embedding;  // of a tied stack: this one has a bias there
      model_.set_bias(slot.role, slot.layer, take((unembeds ? "unembedding" : name) + ".bias", {slot.rows}).read(), stack);
    }
    const bool local = c.local_rotary && is_per_layer(slot.role) && !c.sees_all(slot.layer);
    scale_heads(model_, stack, slot, (local ? extras.local_rope : extras.rope).query_key_factor());
  });
}

Error TensorReader::check_names() const {
  if (names_)
    for (auto name = names_->begin(); name != names_->end(); ++name)
      if (!asked_.count(name.key()))
        return Error("tensors: " + printable(name.key()) + " is no tensor of the description");
  return {};
}

void TensorReader::finish() {
  for (const SafeTensor& t : tensors_.tensors())
    if (!error_ && !taken_.count(t.name))
      error_ = Error("tensor " + printable(t.name) + " is not part of what the description says");
}

StoredTensor TensorReader::tensor(const StackConfig& c, const TensorSlot& slot, const StackExtras& extras) {
  switch (slot.role) {
    case Role::rotary_phases:
    case Role::local_rotary_phases: return {};
    case Role::score_bias: return score_bias(c, extras);
    case Role::convolution_1: return convolution("convolution_1", c.d_model, c.d_input);
    case Role::convolution_2: return convolution("convolution_2", c.d_model, c.d_model);
    case Role::position_embedding:
      return extras.sinusoidal ? StoredTensor::of(sinusoid_table(c.max_seq, c.d_model, extras.sinusoids), c.max_seq, c.d_model)
                               : position_table(c, extras.position_offset);
    default: break;
  }
  const std::string name = name_in_stack(slot);
  if (slot.type == ElementType::f32) return take(name, {slot.cols});
  return take(name, {slot.rows, slot.cols});
}

StoredTensor TensorReader::score_bias(const StackConfig& c, const StackExtras& extras) {
  if (c.position == Position::alibi) return StoredTensor::of(extras.slopes, c.n_heads, 1);
  if (!extras.buckets) return take("score_bias", {c.n_heads, c.n_distances});
  const std::vector<float> table = take("relative_attention_bias", {extras.buckets, c.n_heads}).read();
  if (error_) return {};
  return StoredTensor::of(spread_buckets(table.data(), c.n_heads, extras.buckets, extras.max_distance,
                                         c.mask == Mask::two_way, c.n_distances),
                          c.n_heads, c.n_distances);
}

// In the order [rows, 3, width] of ours, or [rows, width, 3].
StoredTensor TensorReader::convolution(const char* name, std::uint32_t rows, std::uint32_t width) {
  const SafeTensor* t = find(name);
  if (!t) return {};
  const bool is_flat = t->shape == Shape{rows, 3 * std::uint64_t{width}};
  if (!is_flat && t->shape != Shape{rows, width, 3})
    error_ = wrong_shape(*t, shape_text({rows, width, 3}) + " or " + shape_text({rows, 3 * std::uint64_t{width}}));
  const StoredTensor stored = open(*t);
  if (error_ || is_flat) return stored;
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < 3; ++i)
    for (std::uint32_t k = 0; k < width; ++k) order.push_back(3 * k + i);
  return stored.column_order(order);
}

StoredTensor TensorReader::position_table(const StackConfig& c, std::uint32_t offset) {
  const SafeTensor* t = find("position_embedding");
  if (!t) return {};
  const std::uint64_t rows = std::uint64_t{offset} + c.max_seq;
  if (t->shape.size() != 2 || t->shape[0] < rows || t->shape[1] != c.d_model)
    error_ = wrong_shape(*t, "at least " + std::to_string(rows) + " rows of " + std::to_string(c.d_model));
  const StoredTensor stored = open(*t);
  return error_ ? StoredTensor{} : stored.row_slice(offset, c.max_seq);
}

const SafeTensor* TensorReader::find(const std::string& name_in_stack) {
  if (error_) return nullptr;
  const std::string ours = prefix_ + name_in_stack;
  asked_.insert(ours);
  const std::string theirs =
      names_ && names_->contains(ours) ? (*names_)[ours].get_ref<const std::string&>() : ours;
  const SafeTensor* t = tensors_.find(theirs);
  if (!t)
    error_ = Error("tensor " + printable(theirs) + " is missing" + (theirs == ours ? "" : " (" + ours + ")"));
  else
    taken_.insert(theirs);
  return t;
}

StoredTensor TensorReader::take(const std::string& name_in_stack, const Shape& shape) {
  const SafeTensor* t = find(name_in_stack);
  if (!t) return {};
  if (t->shape != shape) error_ = wrong_shape(*t, shape_text(shape));
  return open(*t);
}

StoredTensor TensorReader::open(const SafeTensor& tensor) {
  StoredTensor stored;
  if (!error_) error_ = open_stored(stored, tensor);
  return error_ ? StoredTensor{} : stored;
}

}  // namespace heed::quant
