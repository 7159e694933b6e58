// SPDX-License-Identifier: Apache-2.0
// edit.hpp: how passes change a float model: factors of rows and columns, terms of columns, biases.
#pragma once
#include "quant/source.hpp"

namespace heed::quant {

// One matrix of a model.
struct MatrixPlace {
  Role role;
  std::uint32_t layer, stack;
};

// Each changes one matrix; factors and terms are [rows] or [cols] of it. Products are rounded once. Precondition: the matrix is
// there.
// Rows times factors, and the bias where there is one.
void scale_rows(FloatModel& model, const MatrixPlace& at, const std::vector<double>& factors);
void scale_columns(FloatModel& model, const MatrixPlace& at, const std::vector<double>& factors);
// Every number of column c plus terms[c], in rows [first, first + n).
void add_to_columns(FloatModel& model, const MatrixPlace& at, const std::vector<double>& terms, std::uint32_t first,
                    std::uint32_t n);
// The bias of a matrix, which had one or not; the configuration's bit is the caller's.
void set_bias(FloatModel& model, const MatrixPlace& at, const std::vector<double>& bias);

// A matrix as it is, and its bias, zeros where it has none.
const float* matrix_of(const FloatModel& model, const MatrixPlace& at);
std::vector<double> bias_of(const FloatModel& model, const MatrixPlace& at);
TensorSlot slot_of(const FloatModel& model, const MatrixPlace& at);

}  // namespace heed::quant
