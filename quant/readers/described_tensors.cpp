// SPDX-License-Identifier: Apache-2.0
// described_tensors.cpp: shapes from the stack's description, and what is not a tensor of the file made from its numbers.
#include "quant/readers/described_tensors.hpp"

namespace heed::quant {
namespace {

std::string name_in_stack(const TensorSlot& slot) {
  const std::string name = name_of(slot.role);
  return is_per_layer(slot.role) ? "layers." + std::to_string(slot.layer) + "." + name : name;
}

Error wrong_shape(const SafeTensor& t, const std::string& wanted) {
  return Error("tensor " + printable(t.name) + " has the shape " + shape_text(t.shape) + ", not " + wanted);
}

// Multiplies what makes the dimensions of queries and keys that rotate: rows of their matrices, or the gains and biases of
// their norm, which forgets what the matrices do.
void scale_heads(std::vector<float>& x, const StackConfig& c, const TensorSlot& slot, double factor) {
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
  const std::size_t dims = c.head_dim, heads = normed ? 1 : slot.rows / dims;
  const std::size_t width = x.size() / (heads * dims);  // numbers that make one dimension
  for (std::size_t head = 0; head < heads; ++head)
    for (std::size_t i = 0; i < c.rotary_dims * width; ++i) {
      float& v = x[head * dims * width + i];
      v = static_cast<float>(v * factor);
    }
}

}  // namespace

void TensorReader::read(std::uint32_t stack, const StackExtras& extras) {
  const StackConfig& c = model_.config.stacks[stack];
  prefix_ = "stacks." + std::to_string(stack) + ".";
  for_each_slot(c, [&](const TensorSlot& slot) {
    if (error_) return;
    std::vector<float> x = floats(c, slot, extras);
    const std::string name = name_in_stack(slot);
    if (extras.gain_plus_one && name.size() > 5 && name.compare(name.size() - 5, 5, "_gain") == 0)
      for (float& gain : x) gain += 1.0f;
    if (error_ || x.empty()) return;
    const bool local = c.local_rotary && is_per_layer(slot.role) && !c.sees_all(slot.layer);
    const double factor = (local ? extras.local_rope : extras.rope).query_key_factor();
    scale_heads(x, c, slot, factor);
    model_.own(slot.role, slot.layer, std::move(x), stack);
    if (!slot.bias) return;
    const bool unembeds = slot.role == Role::token_embedding;  // of a tied stack: this one has a bias there
    std::vector<float> bias = take((unembeds ? "unembedding" : name) + ".bias", {slot.rows});
    if (error_) return;
    scale_heads(bias, c, slot, factor);
    model_.own_bias(slot.role, slot.layer, std::move(bias), stack);
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

std::vector<float> TensorReader::floats(const StackConfig& c, const TensorSlot& slot, const StackExtras& extras) {
  switch (slot.role) {
    case Role::rotary_phases:
    case Role::local_rotary_phases: return {};
    case Role::score_bias: return score_bias(c, extras);
    case Role::convolution_1: return convolution("convolution_1", c.d_model, c.d_input);
    case Role::convolution_2: return convolution("convolution_2", c.d_model, c.d_model);
    case Role::position_embedding:
      return extras.sinusoidal ? sinusoid_table(c.max_seq, c.d_model, extras.sinusoids)
                               : position_table(c, extras.position_offset);
    default: break;
  }
  const std::string name = name_in_stack(slot);
  if (slot.type == ElementType::f32) return take(name, {slot.cols});
  return take(name, {slot.rows, slot.cols});
}

std::vector<float> TensorReader::score_bias(const StackConfig& c, const StackExtras& extras) {
  if (c.position == Position::alibi) return extras.slopes;
  if (!extras.buckets) return take("score_bias", {c.n_heads, c.n_distances});
  const std::vector<float> table = take("relative_attention_bias", {extras.buckets, c.n_heads});
  if (error_) return {};
  return spread_buckets(table.data(), c.n_heads, extras.buckets, extras.max_distance, c.mask == Mask::two_way,
                        c.n_distances);
}

std::vector<float> TensorReader::convolution(const char* name, std::uint64_t rows, std::uint64_t width) {
  const SafeTensor* t = find(name);
  if (!t) return {};
  const bool is_flat = t->shape == std::vector<std::uint64_t>{rows, 3 * width};
  std::vector<float> x;
  if (!is_flat && t->shape != std::vector<std::uint64_t>{rows, width, 3})
    error_ = wrong_shape(*t, shape_text({rows, width, 3}) + " or " + shape_text({rows, 3 * width}));
  else
    error_ = read_floats(x, *t);
  if (error_ || is_flat) return x;
  std::vector<float> turned(x.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t k = 0; k < width; ++k)
      for (std::size_t i = 0; i < 3; ++i) turned[(r * 3 + i) * width + k] = x[(r * width + k) * 3 + i];
  return turned;
}

std::vector<float> TensorReader::position_table(const StackConfig& c, std::uint32_t offset) {
  const SafeTensor* t = find("position_embedding");
  if (!t) return {};
  const std::uint64_t rows = std::uint64_t{offset} + c.max_seq;
  std::vector<float> x;
  if (t->shape.size() != 2 || t->shape[0] < rows || t->shape[1] != c.d_model)
    error_ = wrong_shape(*t, "at least " + std::to_string(rows) + " rows of " + std::to_string(c.d_model));
  else
    error_ = read_floats(x, *t);
  if (error_) return {};
  const auto first = x.begin() + static_cast<std::ptrdiff_t>(std::size_t{offset} * c.d_model);
  return {first, first + static_cast<std::ptrdiff_t>(std::size_t{c.max_seq} * c.d_model)};
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

std::vector<float> TensorReader::take(const std::string& name_in_stack, const Shape& shape) {
  std::vector<float> x;
  const SafeTensor* t = find(name_in_stack);
  if (!t) return x;
  if (t->shape != shape)
    error_ = wrong_shape(*t, shape_text(shape));
  else
    error_ = read_floats(x, *t);
  return x;
}

}  // namespace heed::quant
