// SPDX-License-Identifier: Apache-2.0
// quantize.hpp: a float model to int8 rows, and how far that is from it.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "quant/calibration.hpp"
#include "quant/quantize_tensors.hpp"

namespace heed::quant {

struct QuantizeOptions {
  std::optional<std::uint32_t> group;  // columns per group at every site, 0 = one scale per row; empty = measured
  bool key_offset = true;
  // Whether the model is run to choose groups where none are asked for, which gains are folded, and key offsets. Otherwise
  // rows have one scale, every gain is folded that may be, and there are no key offsets.
  bool measure = true;
  std::vector<FloatSequence> inputs = {};  // what the first stack reads while it is measured; none = made up (calibration.hpp)
  ShowProgress progress = nullptr;
};

struct SiteReport {
  bool used = false;       // a matrix of the stack reads it
  std::uint32_t group = 0;
  double error = 0.0;      // measured: as TensorReport's, of the site's outputs on the calibration's inputs, int8 on both sides
  double row_error = 0.0;  // with one scale per row
};

struct QuantizeReport {
  SiteReport sites[kMaxStacks][kSiteCount];
  std::vector<TensorReport> tensors;  // in directory order
  bool measured = false;                    // else errors of sites are 0
  std::uint32_t calibration_positions = 0;  // of the main stack
  std::uint32_t calibration_source_positions = 0;  // of the first of two
  bool calibration_given = false;           // on inputs that the caller gave
  double matrix_error = 0.0;  // of all matrices together
};

// Outputs further off than this, with one scale per row, make the measured choice look at groups. stories260K stays
// below 0.024 everywhere and passes its accuracy gate without groups.
inline constexpr double kRowErrorLimit = 0.03;

// rows x cols floats times `gain` [cols] (null = 1) to int8, row by row (quantize_row.hpp). Precondition: finite numbers.
QuantizedMatrix quantize_matrix(const float* weights, const float* gain, std::uint32_t rows, std::uint32_t cols,
                                std::uint32_t group);

SquaredError matrix_error(const QuantizedMatrix& matrix, const float* weights, const float* gain);

// A quantised model in memory, ready for write_image.
struct QuantizedModel {
  ModelConfig config;  // as in QuantizePlan
  std::optional<TensorSection> tensors;
};

// The part of a conversion's time that plan_quantization takes, about; the rest is quantize_tensors'.
double planning_share(const FloatModel& model, const QuantizeOptions& options);

// Decides how to quantise. `kernels` measures outputs with the arithmetic of the runtime; every table gives the same result.
// Sets all of the report but its tensors.
Error plan_quantization(QuantizePlan& plan, QuantizeReport& report, const FloatModel& model,
                        const QuantizeOptions& options, const Kernels& kernels);

// That, and the tensors.
Error quantize_model(QuantizedModel& result, QuantizeReport& report, const FloatModel& model, Layout layout,
                     const QuantizeOptions& options, const Kernels& kernels);

}  // namespace heed::quant
