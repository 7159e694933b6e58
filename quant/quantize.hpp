// SPDX-License-Identifier: Apache-2.0
// quantize.hpp: a float model to int8 rows, and how far that is from it.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "quant/calibration.hpp"
#include "quant/fidelity.hpp"
#include "quant/quantize_tensors.hpp"

namespace heed::quant {

// Outputs further off than this, with one scale per row, make the measured choice look at groups. stories260K stays
// below 0.024 everywhere and passes its accuracy gate without groups.
inline constexpr double kRowErrorLimit = 0.03;
// The same of a model that is still further than this from its float model, in nats of KL or 1 - cosine.
inline constexpr double kFineRowErrorLimit = 0.01, kFarFromFloat = 0.01;

struct QuantizeOptions {
  std::optional<std::uint32_t> group;  // columns per group at every site, 0 = one scale per row; empty = measured
  bool key_offset = true;
  // Whether sites are measured, to choose groups where none are asked for, which gains are folded, and key offsets. Otherwise
  // rows have one scale, every gain is folded that may be, and there are no key offsets.
  bool measure = true;
  // Whether the whole model is run besides, to choose passes and key offsets, and for the report.
  bool run_whole = true;
  // What the first stack reads while it is measured, or the texts of a stack that generates; none = made up. Every second one
  // takes part in what is decided, the others in what is reported.
  std::vector<FloatSequence> inputs = {};
  double row_error_limit = kRowErrorLimit;
  ShowProgress progress = nullptr;
};

struct SiteReport {
  bool used = false;       // a matrix of the stack reads it
  std::uint32_t group = 0;
  double error = 0.0;      // measured: as TensorReport's, of the site's outputs on the calibration's inputs, int8 on both sides
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
  bool measured = false;                    // else errors of sites are 0
  std::uint32_t calibration_positions = 0;  // of the main stack
  std::uint32_t calibration_source_positions = 0;  // of the first of two
  bool calibration_given = false;           // on inputs that the caller gave
  double matrix_error = 0.0;  // of all matrices together
  // rms of (int8 - float) / rms of float of what attention keeps and reads, over the calibration's positions; 0: none there.
  double head_errors[kMaxStacks][kHeadsCount] = {};
  std::vector<PassReport> passes;  // that were applied
  KeyOffsetChoice key_offset = KeyOffsetChoice::none;
  // The whole model as it is quantised, on texts that decided nothing; and on those that decided, as the model came, with one
  // scale per row unless groups were asked for, and as it is quantised.
  Fidelity fidelity, decided_before, decided;
  bool reported_elsewhere = true;  // false where a single input was given: it both decided and is reported
};

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

// Decides how to quantise, and rewrites the model where that gains: it is the rewritten one that is then quantised. `kernels` runs
// with the arithmetic of the runtime; every table gives the same result. Sets all of the report but its tensors.
Error plan_quantization(QuantizePlan& plan, QuantizeReport& report, FloatModel& model, const QuantizeOptions& options,
                        const Kernels& kernels);

// That, of a copy that borrows the model's tensors, and the tensors.
Error quantize_model(QuantizedModel& result, QuantizeReport& report, const FloatModel& model, Layout layout,
                     const QuantizeOptions& options, const Kernels& kernels);

// ---- Parts of these --------------------------------------------------------------------------------------------

// Plans for a model as it is, whose calibration is known; null: by rule, without measuring.
Error plan_seen(QuantizePlan& plan, SiteReport (&sites)[kMaxStacks][kSiteCount], const FloatModel& model,
                const Calibration* seen, const QuantizeOptions& options, const Kernels& kernels);
// The tensors of a plan, in memory.
Error quantize_planned(QuantizedModel& result, std::vector<TensorReport>& report, double& matrix_error,
                       const FloatModel& model, const QuantizePlan& plan, Layout layout);

}  // namespace heed::quant
