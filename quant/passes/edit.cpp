// SPDX-License-Identifier: Apache-2.0
// edit.cpp: copies of what changes, owned by the model.
#include "quant/passes/edit.hpp"

namespace heed::quant {
namespace {

// A vector of the model (gains, biases of norms) is a matrix of one row.
template <class F>
void change(FloatModel& model, const MatrixPlace& at, F&& changed) {
  const TensorSlot s = slot_of(model, at);
  const float* from = matrix_of(model, at);
  std::vector<float> x(std::size_t{s.rows} * s.cols);
  for (std::uint32_t r = 0; r < s.rows; ++r)
    for (std::uint32_t c = 0; c < s.cols; ++c) {
      const std::size_t i = std::size_t{r} * s.cols + c;
      x[i] = static_cast<float>(changed(double{from[i]}, r, c));
    }
  model.own(at.role, at.layer, std::move(x), at.stack);
}

}  // namespace

const float* matrix_of(const FloatModel& model, const MatrixPlace& at) {
  return model.floats(at.role, at.layer, at.stack);
}

TensorSlot slot_of(const FloatModel& model, const MatrixPlace& at) {
  return tensor_slot(model.config.stacks[at.stack], at.role, at.layer);
}

std::vector<double> bias_of(const FloatModel& model, const MatrixPlace& at) {
  std::vector<double> result(slot_of(model, at).rows, 0.0);
  if (const float* bias = model.bias(at.role, at.layer, at.stack))
    for (std::size_t r = 0; r < result.size(); ++r) result[r] = bias[r];
  return result;
}

void set_bias(FloatModel& model, const MatrixPlace& at, const std::vector<double>& bias) {
  std::vector<float> x(bias.size());
  for (std::size_t r = 0; r < x.size(); ++r) x[r] = static_cast<float>(bias[r]);
  model.own_bias(at.role, at.layer, std::move(x), at.stack);
}

void scale_rows(FloatModel& model, const MatrixPlace& at, const std::vector<double>& factors) {
  change(model, at, [&](double x, std::uint32_t r, std::uint32_t) { return x * factors[r]; });
  if (!model.bias(at.role, at.layer, at.stack)) return;
  std::vector<double> bias = bias_of(model, at);
  for (std::size_t r = 0; r < bias.size(); ++r) bias[r] *= factors[r];
  set_bias(model, at, bias);
}

void scale_columns(FloatModel& model, const MatrixPlace& at, const std::vector<double>& factors) {
  change(model, at, [&](double x, std::uint32_t, std::uint32_t c) { return x * factors[c]; });
}

void add_to_columns(FloatModel& model, const MatrixPlace& at, const std::vector<double>& terms, std::uint32_t first,
                    std::uint32_t n) {
  change(model, at, [&](double x, std::uint32_t r, std::uint32_t c) { return r - first < n ? x + terms[c] : x; });
}

}  // namespace heed::quant
