// SPDX-License-Identifier: Apache-2.0
// tensor_taker.cpp: shapes from the configuration, tensors from the file, and nothing left over.
#include <algorithm>

#include "quant/readers/family.hpp"

namespace heed::quant {
namespace {

using Shape = std::vector<std::uint64_t>;

Error wrong_shape(const SafeTensor& t, const std::string& wanted) {
  return Error("tensor " + printable(t.name) + " has the shape " + shape_text(t.shape) + ", not " + wanted);
}

// Of a tensor [1, ..., 1, rows, cols].
Error open_matrix(StoredTensor& stored, SafeTensor t) {
  while (t.shape.size() > 2 && t.shape[0] == 1) t.shape.erase(t.shape.begin());
  return open_stored(stored, t);
}

}  // namespace

TensorSlot TensorTaker::slot(Role role, std::uint32_t layer) const {
  return tensor_slot(model_.config.stacks[stack_], role, layer);
}

void TensorTaker::choose_prefix(std::initializer_list<const char*> prefixes, const std::string& probe) {
  for (const char* prefix : prefixes) {
    prefix_ = prefix;
    if (has(probe)) return;
  }
}

StoredTensor TensorTaker::take(const std::string& name, const Shape& shape) {
  if (error_) return {};
  const std::string whole = prefix_ + name;
  const SafeTensor* t = tensors_.find(whole);
  taken_.insert(whole);
  StoredTensor stored;
  if (!t)
    error_ = Error("tensor " + printable(whole) + " is missing");
  else if (t->shape != shape)
    error_ = wrong_shape(*t, shape_text(shape));
  else
    error_ = open_matrix(stored, *t);
  return error_ ? StoredTensor{} : stored;
}

void TensorTaker::flat_matrix(Role role, const std::string& name) {
  const TensorSlot s = slot(role, 0);
  const SafeTensor* t = error_ ? nullptr : tensors_.find(prefix_ + name + ".weight");
  if (!t && !error_) error_ = Error("tensor " + printable(prefix_ + name) + ".weight is missing");
  if (t && (t->shape.empty() || t->shape[0] != s.rows || t->elements != std::uint64_t{s.rows} * s.cols))
    error_ = wrong_shape(*t, shape_text({s.rows, s.cols}) + " or one whose last sizes make " + std::to_string(s.cols));
  if (t) set(role, 0, take(name + ".weight", t->shape));
  if (s.bias) bias(role, 0, name + ".bias");
}

void TensorTaker::set(Role role, std::uint32_t layer, StoredTensor tensor) {
  if (!error_) model_.set(role, layer, std::move(tensor), stack_);
}

void TensorTaker::bias(Role matrix, std::uint32_t layer, const std::string& name) {
  const StoredTensor b = take(name, {slot(matrix, layer).rows});
  if (!error_) model_.set_bias(matrix, layer, b.read(), stack_);
}

void TensorTaker::matrix(Role role, std::uint32_t layer, const std::string& name) {
  const TensorSlot s = slot(role, layer);
  set(role, layer, take(name + ".weight", {s.rows, s.cols}));
  if (s.bias && role != Role::token_embedding) bias(role, layer, name + ".bias");
}

void TensorTaker::turned_matrix(Role role, std::uint32_t layer, const std::string& name) {
  fused({role}, layer, name, Fused::parts, true);
}

void TensorTaker::fused(std::initializer_list<Role> roles, std::uint32_t layer, const std::string& name, Fused order,
                        bool turned) {
  if (error_) return;
  const StackConfig& c = model_.config.stacks[stack_];
  std::uint64_t rows = 0;
  bool has_bias = false;
  for (const Role role : roles) rows += slot(role, layer).rows, has_bias = has_bias || slot(role, layer).bias;
  const std::uint64_t cols = slot(*roles.begin(), layer).cols;
  StoredTensor w = take(name + ".weight", turned ? Shape{cols, rows} : Shape{rows, cols});
  std::vector<float> b;
  if (has_bias) {
    const StoredTensor stored = take(name + ".bias", {rows});
    if (!error_) b = stored.read();
  }
  if (error_) return;
  if (turned) w = w.transposed();
  const auto n_parts = static_cast<std::uint32_t>(roles.size());
  std::uint32_t part = 0, first = 0;
  for (const Role role : roles) {
    const std::uint32_t n = slot(role, layer).rows;
    std::vector<std::uint32_t> order_of(n);
    for (std::uint32_t i = 0; i < n; ++i)
      order_of[i] = order == Fused::parts ? first + i
                                          : (i / c.head_dim * n_parts + part) * c.head_dim + i % c.head_dim;
    set(role, layer, order == Fused::parts ? w.row_slice(first, n) : w.row_order(order_of));
    if (has_bias) {
      std::vector<float> own(n);
      for (std::uint32_t i = 0; i < n; ++i) own[i] = b[order_of[i]];
      model_.set_bias(role, layer, std::move(own), stack_);
    }
    first += n;
    ++part;
  }
}

void TensorTaker::positions(const std::string& name, std::uint32_t offset) {
  if (error_) return;
  const StackConfig& c = model_.config.stacks[stack_];
  const std::string whole = prefix_ + name + ".weight";
  const SafeTensor* t = tensors_.find(whole);
  taken_.insert(whole);
  const std::uint64_t rows = std::uint64_t{offset} + c.max_seq;
  if (!t)
    error_ = Error("tensor " + printable(whole) + " is missing");
  else if (t->shape.size() != 2 || t->shape[0] < rows || t->shape[1] != c.d_model)
    error_ = wrong_shape(*t, "at least " + std::to_string(rows) + " rows of " + std::to_string(c.d_model));
  StoredTensor stored;
  if (!error_) error_ = open_stored(stored, *t);
  if (!error_) set(Role::position_embedding, 0, stored.row_slice(offset, c.max_seq));
}

void TensorTaker::convolution(Role role, const std::string& name) {
  const TensorSlot s = slot(role, 0);
  const std::uint32_t width = s.cols / 3;
  const StoredTensor stored = take(name + ".weight", {s.rows, width, 3});
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < 3; ++i)
    for (std::uint32_t k = 0; k < width; ++k) order.push_back(3 * k + i);
  if (!error_) set(role, 0, stored.column_order(order));
  if (s.bias) bias(role, 0, name + ".bias");
}

void TensorTaker::norm(Role gain_role, Role bias_role, std::uint32_t layer, const std::string& name, double gain_plus) {
  const bool old = !has(name + ".weight") && has(name + ".gamma");
  const StoredTensor gain = take(name + (old ? ".gamma" : ".weight"), {slot(gain_role, layer).cols});
  if (error_) return;
  set(gain_role, layer, gain_plus == 0.0 ? gain : gain.plus(gain_plus));
  const StackConfig& c = model_.config.stacks[stack_];
  const bool of_heads = gain_role == Role::query_gain || gain_role == Role::key_gain;
  if ((c.biases & kBiasNorm) && (of_heads ? c.query_key_norm == HeadNorm::layer : c.norm == Norm::layer))
    set(bias_role, layer, take(name + (old ? ".beta" : ".bias"), {slot(bias_role, layer).cols}));
}

void TensorTaker::finish(const std::string& family) {
  const auto is_skipped = [&](const std::string& name) {
    return std::any_of(skipped_.begin(), skipped_.end(),
                       [&](const std::string& s) { return name.compare(0, s.size(), s) == 0; });
  };
  for (const SafeTensor& t : tensors_.tensors())
    if (!error_ && !taken_.count(t.name) && !is_skipped(t.name))
      error_ = Error("tensor " + printable(t.name) + " is not part of " + family);
}

}  // namespace heed::quant
