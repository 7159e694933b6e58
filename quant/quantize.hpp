// SPDX-License-Identifier: Apache-2.0
// quantize.hpp: a float model to int8 rows, and how far that is from it.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "quant/calibration.hpp"
#include "quant/image_writer.hpp"

namespace heed::quant {

struct QuantizeOptions {
  std::optional<std::uint32_t> group;  // columns per group at every site, 0 = one scale per row; empty = measured
  bool key_offset = true;
  std::vector<FloatSequence> inputs = {};  // what the first stack reads while it is measured; none = made up (calibration.hpp)
};

struct TensorReport {
  Role role;
  std::uint32_t layer, stack;
  std::uint64_t bytes;  // in the image
  double error;         // rms of (int8 - float) / rms of float weights, gains folded as in the image; 0 for other types
};

struct SiteReport {
  bool used = false;       // a matrix of the stack reads it
  std::uint32_t group = 0;
  double error = 0.0;      // the same of the site's outputs on the calibration's inputs, int8 on both sides
  double row_error = 0.0;  // with one scale per row
};

struct QuantizeReport {
  SiteReport sites[kMaxStacks][kSiteCount];
  std::vector<TensorReport> tensors;  // in directory order
  std::uint32_t calibration_positions = 0;  // of the main stack
  std::uint32_t calibration_source_positions = 0;  // of the first of two
  bool calibration_given = false;           // on inputs that the caller gave
  double matrix_error = 0.0;  // of all matrices together
};

// Outputs further off than this, with one scale per row, make the measured choice look at groups. stories260K stays
// below 0.024 everywhere and passes its accuracy gate without groups.
inline constexpr double kRowErrorLimit = 0.03;

// rows x cols floats times `gain` [cols] (null = 1) to int8. One scale per row: max / 127. Groups: the row's scale is
// max / 127 / 15 and each group takes the smallest multiplier that holds its largest weight. A row without a weight
// above 127 * 2^-40 counts as zero and gets scale 1. Precondition: finite numbers.
QuantizedMatrix quantize_matrix(const float* weights, const float* gain, std::uint32_t rows, std::uint32_t cols,
                                std::uint32_t group);

// Sums of squares of the error and of the float matrix itself.
struct SquaredError {
  double error = 0.0, reference = 0.0;
  double relative() const;
  SquaredError& operator+=(const SquaredError& b) {
    error += b.error;
    reference += b.reference;
    return *this;
  }
};
SquaredError matrix_error(const QuantizedMatrix& matrix, const float* weights, const float* gain);

// The shared exponent and s16 values of one head's key offset (SPEC.md 2.7).
std::int8_t encode_key_offset(std::int16_t* values, const double* means, std::uint32_t head_dim);

// A quantised model, ready for write_image.
struct QuantizedModel {
  // With groups, flags and biases as decided: folding a norm's bias gives the matrices behind it one.
  ModelConfig config;
  std::optional<TensorSection> tensors;
};

// `kernels` measures outputs with the arithmetic of the runtime; every table gives the same result.
Error quantize_model(QuantizedModel& result, QuantizeReport& report, const FloatModel& model, Layout layout,
                     const QuantizeOptions& options, const Kernels& kernels);

}  // namespace heed::quant
