// SPDX-License-Identifier: Apache-2.0
// stored_tensor.cpp: rows out of blocks.
#include "quant/stored_tensor.hpp"

#include <algorithm>
#include <utility>

namespace heed::quant {

Error StoredTensor::open(StoredTensor& tensor, StoredType type, Span<const std::uint8_t> bytes, std::uint64_t rows,
                         std::uint64_t cols) {
  const StoredFormat& format = format_of(type);
  if (rows == 0 || cols == 0 || rows > UINT32_MAX || cols > UINT32_MAX)
    return Error("its shape " + std::to_string(rows) + " x " + std::to_string(cols) + " is not one that can be read");
  if (cols % format.block_elements != 0)
    return Error("its rows of " + std::to_string(cols) + " are no whole number of " + format.name + " blocks of " +
                 std::to_string(format.block_elements));
  const std::uint64_t row_bytes = cols / format.block_elements * format.block_bytes;
  // Neither product can overflow: row_bytes is below 2^34, so the quotient decides.
  if (bytes.size() % row_bytes != 0 || bytes.size() / row_bytes != rows)
    return Error("it has " + std::to_string(bytes.size()) + " bytes, not " + std::to_string(rows) + " rows of " +
                 std::to_string(row_bytes));
  tensor = StoredTensor{};
  tensor.bytes_ = bytes.data();
  tensor.type_ = type;
  tensor.row_bytes_ = static_cast<std::size_t>(row_bytes);
  tensor.stored_cols_ = static_cast<std::uint32_t>(cols);
  tensor.rows_.n = static_cast<std::uint32_t>(rows);
  tensor.cols_.n = static_cast<std::uint32_t>(cols);
  return {};
}

StoredTensor StoredTensor::of(std::vector<float> x, std::uint32_t rows, std::uint32_t cols) {
  StoredTensor t;
  t.owned_ = std::make_shared<const std::vector<float>>(std::move(x));
  t.bytes_ = reinterpret_cast<const std::uint8_t*>(t.owned_->data());
  t.row_bytes_ = 4 * std::size_t{cols};
  t.stored_cols_ = cols;
  t.rows_.n = rows;
  t.cols_.n = cols;
  return t;
}

StoredTensor StoredTensor::transposed() const {
  StoredTensor t = *this;
  std::swap(t.rows_, t.cols_);
  t.turned_ = !turned_;
  for (auto& step : t.steps_) {
    if (step->of == Step::all) continue;
    Step other = *step;
    other.of = step->of == Step::rows ? Step::columns : Step::rows;
    step = std::make_shared<const Step>(std::move(other));
  }
  return t;
}

StoredTensor StoredTensor::row_slice(std::uint32_t first, std::uint32_t n) const {
  const bool by_row = std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->of == Step::rows; });
  if (rows_.order || by_row) {
    std::vector<std::uint32_t> order(n);
    for (std::uint32_t i = 0; i < n; ++i) order[i] = first + i;
    return row_order(order);
  }
  StoredTensor t = *this;
  t.rows_.first += first;
  t.rows_.n = n;
  return t;
}

StoredTensor StoredTensor::row_order(const std::vector<std::uint32_t>& order) const {
  std::vector<std::uint32_t> stored;
  for (const std::uint32_t i : order) stored.push_back(rows_.stored(i));
  StoredTensor t = *this;
  t.rows_.first = 0;
  t.rows_.n = static_cast<std::uint32_t>(order.size());
  t.rows_.order = std::make_shared<const std::vector<std::uint32_t>>(std::move(stored));
  for (auto& step : t.steps_) {
    if (step->of != Step::rows) continue;
    Step other{Step::rows, step->times, {}};
    for (const std::uint32_t i : order) other.numbers.push_back(step->numbers[i]);
    step = std::make_shared<const Step>(std::move(other));
  }
  return t;
}

StoredTensor StoredTensor::stepped(Step::Of of, bool times, Span<const double> numbers) const {
  StoredTensor t = *this;
  Step step{of, times, {numbers.begin(), numbers.end()}};
  if (times && !steps_.empty() && steps_.back()->times && steps_.back()->of == of) {
    for (std::size_t i = 0; i < step.numbers.size(); ++i) step.numbers[i] *= steps_.back()->numbers[i];
    t.steps_.pop_back();
  }
  t.steps_.push_back(std::make_shared<const Step>(std::move(step)));
  return t;
}

// Numbers first to first + n of a stored row; both ends of a block.
void StoredTensor::decode(float* out, std::uint32_t stored_row, std::uint32_t first, std::uint32_t n) const {
  const StoredFormat& format = format_of(type_);
  const std::size_t blocks_before = first / format.block_elements;
  format.decode(out, bytes_ + stored_row * row_bytes_ + blocks_before * format.block_bytes, n / format.block_elements);
}

// Those of `axis` from first to first + n, out of one stored row; out[i * stride].
void StoredTensor::gather(float* out, std::vector<float>& scratch, std::uint32_t stored_row, const Axis& axis,
                          std::uint32_t first, std::uint32_t n, std::size_t stride) const {
  const std::uint32_t block = format_of(type_).block_elements;
  std::uint32_t low = axis.stored(first), high = low + n;
  if (axis.order) {
    const auto begin = axis.order->begin() + first;
    const auto [least, most] = std::minmax_element(begin, begin + n);
    low = *least;
    high = *most + 1;
  }
  low -= low % block;
  high += (block - high % block) % block;
  if (!axis.order && stride == 1 && low == axis.first + first && high - low == n) return decode(out, stored_row, low, n);
  scratch.resize(high - low);
  decode(scratch.data(), stored_row, low, high - low);
  for (std::uint32_t i = 0; i < n; ++i) out[i * stride] = scratch[axis.stored(first + i) - low];
}

void StoredTensor::read_rows(float* out, std::uint32_t first, std::uint32_t n) const {
  if (n == 0) return;
  std::vector<float> scratch;
  const std::size_t width = cols_.n;
  if (turned_) {
    for (std::uint32_t c = 0; c < cols_.n; ++c) gather(out + c, scratch, cols_.stored(c), rows_, first, n, width);
  } else {
    for (std::uint32_t r = 0; r < n; ++r)
      gather(out + r * width, scratch, rows_.stored(first + r), cols_, 0, cols_.n, 1);
  }
  if (steps_.empty()) return;
  std::vector<double> row(width);
  for (std::uint32_t r = 0; r < n; ++r, out += width) {
    std::copy_n(out, width, row.begin());
    for (const auto& step : steps_) {
      const bool by_column = step->of == Step::columns;
      const double* numbers = step->numbers.data() + (step->of == Step::rows ? first + r : 0);
      for (std::size_t c = 0; c < width; ++c) {
        const double number = numbers[by_column ? c : 0];
        row[c] = step->times ? row[c] * number : row[c] + number;
      }
    }
    for (std::size_t c = 0; c < width; ++c) out[c] = static_cast<float>(row[c]);
  }
}

std::vector<float> StoredTensor::read() const {
  std::vector<float> x(std::size_t{rows_.n} * cols_.n);
  read_rows(x.data(), 0, rows_.n);
  return x;
}

const float* StoredTensor::in_place() const {
  const bool whole_rows = !cols_.order && cols_.first == 0 && cols_.n == stored_cols_;
  if (is_empty() || type_ != StoredType::f32 || turned_ || rows_.order || !whole_rows || !steps_.empty()) return nullptr;
  const std::uint8_t* at = bytes_ + rows_.first * row_bytes_;
  return reinterpret_cast<std::uintptr_t>(at) % alignof(float) == 0 ? reinterpret_cast<const float*>(at) : nullptr;
}

}  // namespace heed::quant
