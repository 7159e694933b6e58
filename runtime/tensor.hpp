// SPDX-License-Identifier: Apache-2.0
// tensor.hpp: an int8 weight matrix in one of the four layouts of SPEC.md, part 4, and the arithmetic of its bytes.
#pragma once
#include <cstddef>
#include <cstdint>

#include "platform/target.hpp"
#include "runtime/features.hpp"

namespace heed {

// The order of a matrix's bytes. Chosen offline; nothing repacks at load.
enum class Layout : std::uint8_t {
  row = 0,      // row-major: Cortex-M0 and M3
  packed = 1,   // 16 rows x 4 columns: x86, NEON
  pair = 2,     // 4 rows x 4 columns, each two weights stored as the int16 256 * w1 + w0: M4, M7, M33
  block64 = 3,  // blocks of 64 columns, inside them rows in fours: M55
};
inline constexpr int kLayoutCount = 4;

// `multiple` is a power of two.
constexpr std::uint32_t round_up(std::uint32_t n, std::uint32_t multiple) {
  return (n + multiple - 1) & ~(multiple - 1);
}

// The layout of every matrix in a build for one core (platform/target.hpp), whose table eats no other; else the one given.
#ifdef HEED_SINGLE_LAYOUT
constexpr Layout known_layout(Layout) { return Layout::HEED_SINGLE_LAYOUT; }
#else
constexpr Layout known_layout(Layout layout) { return layout; }
#endif

// Rows are padded with zero weights and scale 1, columns with zero weights, so that kernels have no tails.
constexpr std::uint32_t row_block(Layout layout) { return known_layout(layout) == Layout::packed ? 16 : 4; }
constexpr std::uint32_t column_block(Layout layout) {
  return known_layout(layout) == Layout::row ? 4 : known_layout(layout) == Layout::block64 ? 16 : 8;
}
constexpr std::uint32_t padded_rows(Layout layout, std::uint32_t rows) { return round_up(rows, row_block(layout)); }
constexpr std::uint32_t padded_cols(Layout layout, std::uint32_t cols) { return round_up(cols, column_block(layout)); }

// Quantised activations are zero up to this width, which every layout's padded columns stay below.
constexpr std::uint32_t activation_cols(std::uint32_t cols) { return round_up(cols, 16); }

// Number of groups along a row; 0 for one scale per row.
constexpr std::uint32_t group_count(std::uint32_t cols, std::uint32_t group) {
  return !kBuiltFeatures.groups || group == 0 ? 0 : (cols + group - 1) / group;
}

// A view of one matrix [rows, cols]; the image owns the bytes.
struct Tensor {
  const std::int8_t* weights = nullptr;        // [padded_rows, padded_cols] in `layout`, 64-byte aligned
  const float* scales = nullptr;               // [padded_rows]
  const float* bias = nullptr;                 // [padded_rows], or null
  const std::uint8_t* multipliers = nullptr;   // [padded_rows / row_block, groups, row_block], 4-byte aligned, or null
  std::uint32_t rows = 0, cols = 0;
  std::uint16_t group = 0;                     // columns per group; 0 = one scale per row
  Layout layout = Layout::row;
};

// Where the parts of a matrix lie behind each other in the image, in bytes from its beginning.
struct TensorBytes {
  std::size_t scales = 0, bias = 0, multipliers = 0, total = 0;  // total is a multiple of 64
};

// Of a matrix that fits the address space.
constexpr TensorBytes tensor_bytes(Layout layout, std::uint32_t rows, std::uint32_t cols, std::uint32_t group,
                                   bool has_bias) {
  TensorBytes b;
  const std::size_t n = padded_rows(layout, rows);
  b.scales = (n * padded_cols(layout, cols) + 63) / 64 * 64;
  b.bias = b.scales + 4 * n;
  b.multipliers = b.bias + (has_bias ? 4 * n : 0);
  b.total = (b.multipliers + n * group_count(cols, group) + 63) / 64 * 64;
  return b;
}

// Index of weight (r, c) in the byte order of `layout`.
constexpr std::size_t weight_index(Layout layout, std::uint32_t rows, std::uint32_t cols, std::uint32_t r,
                                   std::uint32_t c) {
  const std::size_t kp = padded_cols(layout, cols);
  switch (known_layout(layout)) {
    case Layout::row: return r * kp + c;
    case Layout::packed: return (r / 16 * (kp / 4) + c / 4) * 64 + r % 16 * 4 + c % 4;
    case Layout::pair: return (r / 4 * (kp / 4) + c / 4) * 16 + r % 4 * 4 + c % 4;
    case Layout::block64: {
      const std::size_t first = c / 64 * 64;
      const std::size_t width = kp - first < 64 ? kp - first : 64;
      return first * padded_rows(layout, rows) + r * width + c % 64;
    }
  }
  return 0;
}

// The weight at (r, c), whatever the layout; slow, for lookups and checks.
constexpr std::int32_t weight_at(const Tensor& t, std::uint32_t r, std::uint32_t c) {
  const std::size_t i = weight_index(t.layout, t.rows, t.cols, r, c);
  // In `pair` the odd byte has absorbed the borrow of a negative even one.
  if (known_layout(t.layout) == Layout::pair && (c & 1)) return static_cast<std::int8_t>(t.weights[i] + (t.weights[i - 1] < 0));
  return t.weights[i];
}

// Sets the weight at (r, c), -127..127, of a matrix that is being written by hand, in any order; `weights` [padded_rows,
// padded_cols] begin as zeros. Slow.
inline void set_weight(std::int8_t* weights, Layout layout, std::uint32_t rows, std::uint32_t cols, std::uint32_t r,
                       std::uint32_t c, std::int32_t weight) {
  std::int8_t* const at = weights + weight_index(layout, rows, cols, r, c);
  if (known_layout(layout) != Layout::pair) {
    *at = static_cast<std::int8_t>(weight);
    return;
  }
  std::int8_t* const pair = at - (c & 1);
  const std::int32_t even = c & 1 ? pair[0] : weight, odd = c & 1 ? weight : pair[1] + (pair[0] < 0);
  pair[0] = static_cast<std::int8_t>(even);
  pair[1] = static_cast<std::int8_t>(odd - (even < 0));
}

constexpr std::uint32_t multiplier_index(Layout layout, std::uint32_t groups, std::uint32_t r, std::uint32_t g) {
  const std::uint32_t b = row_block(layout);
  return (r / b * groups + g) * b + r % b;
}

// The largest |sum| of a grouped row is 127 * 127 * 8 * (sum of multiplier * columns); up to this many columns
// it fits int32 whatever the multipliers are. Longer grouped rows flush into 64 bits at multiples of it.
inline constexpr std::uint32_t kGroupedColsInS32 = 1024;
// 127 * 127 * cols fits int32.
inline constexpr std::uint32_t kMaxCols = 131072;
// Of queries and keys, and of values.
inline constexpr std::uint32_t kMaxHeadDim = 256;

}  // namespace heed
