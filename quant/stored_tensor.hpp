// SPDX-License-Identifier: Apache-2.0
// stored_tensor.hpp: a matrix that stays in its mapped file until somebody reads its rows.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "quant/stored_type.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// Bytes of a file, and what makes the wanted matrix [rows, cols] of them: which rows and columns in which order, turned or
// not, times and plus a number, and factors of rows and columns. A vector is a matrix of one row. Cheap to copy; bytes of a
// file must outlive all copies, floats of its own live as long as one of them. Reading is safe from several threads.
class StoredTensor {
 public:
  StoredTensor() = default;  // no matrix: is_empty()

  // The matrix that `bytes` hold, row by row, at any alignment. Fails when a row is no whole number of blocks, or when
  // `bytes` are not exactly as many as the matrix takes; `tensor` is unspecified then. Neither size may be 0.
  static Error open(StoredTensor& tensor, StoredType type, Span<const std::uint8_t> bytes, std::uint64_t rows,
                    std::uint64_t cols);
  // A matrix in memory of its own. Precondition: x has rows * cols numbers.
  static StoredTensor of(std::vector<float> x, std::uint32_t rows, std::uint32_t cols);
  static StoredTensor vector(std::vector<float> x) {
    const auto n = static_cast<std::uint32_t>(x.size());
    return of(std::move(x), 1, n);
  }

  bool is_empty() const { return bytes_ == nullptr; }
  std::uint32_t rows() const { return rows_.n; }
  std::uint32_t cols() const { return cols_.n; }
  StoredType type() const { return type_; }
  // Whether its rows lie across those of the file, so that many of them are read as cheaply as one.
  bool is_turned() const { return turned_; }

  // ---- Another matrix of this one; each result can be changed again ----

  StoredTensor transposed() const;
  // Rows first to first + n. Precondition: they are there.
  StoredTensor row_slice(std::uint32_t first, std::uint32_t n) const;
  StoredTensor column_slice(std::uint32_t first, std::uint32_t n) const { return transposed().row_slice(first, n).transposed(); }
  // Row i is row order[i] of this one. Precondition: each is below rows(), and there is at least one.
  StoredTensor row_order(const std::vector<std::uint32_t>& order) const;
  StoredTensor column_order(const std::vector<std::uint32_t>& order) const { return transposed().row_order(order).transposed(); }
  // Every number times `factor`.
  StoredTensor times(double factor) const;
  // Every number plus `term`. Precondition: no factors of rows or columns yet.
  StoredTensor plus(double term) const;
  // Row i, or column i, times factors[i], on top of earlier factors. Precondition: as many as there are rows or columns.
  StoredTensor rows_times(Span<const double> factors) const;
  StoredTensor columns_times(Span<const double> factors) const { return transposed().rows_times(factors).transposed(); }

  // ---- Reading ----

  // Rows first to first + n as floats, out [n, cols]. What is scaled is computed in double and rounded once:
  // (stored * scale + term) * row factor * column factor. Of a turned matrix, many rows at once cost little more than one.
  // Precondition: the rows are there.
  void read_rows(float* out, std::uint32_t first, std::uint32_t n) const;
  std::vector<float> read() const;
  // The floats themselves where they lie in memory as they are wanted, [rows, cols]; else null.
  const float* in_place() const;

 private:
  // Which of the stored rows or columns are wanted, in which order.
  struct Axis {
    std::uint32_t first = 0, n = 0;                           // those behind each other, without an order
    std::shared_ptr<const std::vector<std::uint32_t>> order;  // [n], or null
    std::shared_ptr<const std::vector<double>> factors;       // [n], or null
    std::uint32_t stored(std::uint32_t i) const { return order ? (*order)[i] : first + i; }
  };
  bool is_changed() const { return scale_ != 1.0 || term_ != 0.0 || rows_.factors || cols_.factors; }
  void decode(float* out, std::uint32_t stored_row, std::uint32_t first, std::uint32_t n) const;
  void gather(float* out, std::vector<float>& scratch, std::uint32_t stored_row, const Axis& axis, std::uint32_t first,
              std::uint32_t n, std::size_t stride) const;

  const std::uint8_t* bytes_ = nullptr;  // [stored rows, row_bytes_]
  std::shared_ptr<const std::vector<float>> owned_;
  StoredType type_ = StoredType::f32;
  bool turned_ = false;  // wanted rows are stored columns
  std::size_t row_bytes_ = 0;
  std::uint32_t stored_cols_ = 0;
  Axis rows_, cols_;
  double scale_ = 1.0, term_ = 0.0;
};

}  // namespace heed::quant
