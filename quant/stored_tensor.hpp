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
// not, times and plus which numbers. A vector is a matrix of one row. Cheap to copy; bytes of a
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
  // Every number times or plus another: one for all, one for each row, or one for each column. Precondition: as many numbers
  // as rows, or columns.
  StoredTensor times(double factor) const { return stepped(Step::all, true, {&factor, 1}); }
  StoredTensor plus(double term) const { return stepped(Step::all, false, {&term, 1}); }
  StoredTensor rows_times(Span<const double> factors) const { return stepped(Step::rows, true, factors); }
  StoredTensor rows_plus(Span<const double> terms) const { return stepped(Step::rows, false, terms); }
  StoredTensor columns_times(Span<const double> factors) const { return stepped(Step::columns, true, factors); }
  StoredTensor columns_plus(Span<const double> terms) const { return stepped(Step::columns, false, terms); }

  // ---- Reading ----

  // Rows first to first + n as floats, out [n, cols]. Products and sums are computed in double, in the order in which they
  // were asked for, and rounded to float once; factors of the same rows or columns one behind the other are one factor. Of a
  // turned matrix, many rows at once cost little more than one. Precondition: the rows are there.
  void read_rows(float* out, std::uint32_t first, std::uint32_t n) const;
  std::vector<float> read() const;
  // The floats themselves where they lie in memory as they are wanted, [rows, cols]; else null.
  const float* in_place() const;

 private:
  // Which of the stored rows or columns are wanted, in which order.
  struct Axis {
    std::uint32_t first = 0, n = 0;                           // those behind each other, without an order
    std::shared_ptr<const std::vector<std::uint32_t>> order;  // [n], or null
    std::uint32_t stored(std::uint32_t i) const { return order ? (*order)[i] : first + i; }
  };
  // A product or a sum with numbers of the wanted rows or columns, or with one for all.
  struct Step {
    enum Of : std::uint8_t { all, rows, columns } of;
    bool times;
    std::vector<double> numbers;
  };
  StoredTensor stepped(Step::Of of, bool times, Span<const double> numbers) const;
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
  std::vector<std::shared_ptr<const Step>> steps_;
};

}  // namespace heed::quant
