// SPDX-License-Identifier: Apache-2.0
// quantize.hpp: a float model to int8 rows, and how far that is from it.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "quant/calibration.hpp"
#include "quant/fidelity.hpp"
#include "quant/quantize_row.hpp"

namespace heed::quant {

// Outputs further off than this, with one scale per row, make the measured choice look at groups. stories260K stays
// below 0.024 everywhere and passes its accuracy gate without groups.
inline constexpr double kRowErrorLimit = 0.03;
// The same of a model that is still further than this from its float model, in nats of KL or 1 - cosine.
inline constexpr double kFineRowErrorLimit = 0.01, kFarFromFloat = 0.01;

struct QuantizeOptions {
  std::optional<std::uint32_t> group;  // columns per group at every site, 0 = one scale per row; empty = measured
  bool key_offset = true;
  // What the first stack reads while it is measured, or the texts of a stack that generates; none = made up. Every second one
  // takes part in what is decided, the others in what is reported.
  std::vector<FloatSequence> inputs = {};
  bool measure = true;  // the whole model, to choose passes and key offsets, and for the report
  double row_error_limit = kRowErrorLimit;
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

// A rewriting of the float model (quant/passes) that was applied to a stack.
struct PassReport {
  const char* name;
  const char* does;
  std::uint32_t stack;
};

// Means of keys that are taken from them.
enum class KeyOffsetChoice : std::uint8_t { none, first_positions, half_way, whole_context };

struct QuantizeReport {
  SiteReport sites[kMaxStacks][kSiteCount];
  std::vector<TensorReport> tensors;  // in directory order
  std::uint32_t calibration_positions = 0;  // of the main stack
  bool calibration_given = false;           // on inputs that the caller gave
  double matrix_error = 0.0;  // of all matrices together
  // rms of (int8 - float) / rms of float of what attention keeps and reads, over the calibration's positions; 0: none there.
  double head_errors[kMaxStacks][kHeadsCount] = {};
  std::vector<PassReport> passes;  // that were applied
  KeyOffsetChoice key_offset = KeyOffsetChoice::none;
  // The whole model as it was written, on texts that decided nothing; and on those that decided, without any pass and as it
  // was written.
  Fidelity measured, chosen_before, chosen;
  bool measured_elsewhere = true;  // false where a single input was given: it both decided and was measured
};

// rows x cols floats times `gain` [cols] (null = 1) to int8, row by row (quantize_row.hpp). Precondition: finite numbers.
QuantizedMatrix quantize_matrix(const float* weights, const float* gain, std::uint32_t rows, std::uint32_t cols,
                                std::uint32_t group);

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

// The same of a model as it is, without passes, once what it does has been seen. Of the report it sets sites, tensors and
// matrix_error.
Error quantize_seen(QuantizedModel& result, QuantizeReport& report, const FloatModel& model, const Calibration& seen,
                    Layout layout, const QuantizeOptions& options, const Kernels& kernels);

}  // namespace heed::quant
