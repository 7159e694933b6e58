// SPDX-License-Identifier: Apache-2.0
// quantize_tensors.hpp: the tensors of a float model as the bytes of an image, one behind the other.
#pragma once
#include "quant/image_writer.hpp"
#include "quant/quantize_row.hpp"
#include "quant/show_progress.hpp"
#include "quant/source.hpp"

namespace heed::quant {

struct TensorReport {
  Role role;
  std::uint32_t layer, stack;
  std::uint64_t bytes;  // in the image
  double error;         // rms of (int8 - float) / rms of float weights, gains folded as in the image; 0 for other types
};

// How a model is quantised, decided before its weights are.
struct QuantizePlan {
  // With groups, flags and biases as decided: folding a norm's bias gives the matrices behind it one.
  ModelConfig config;
  // Means of keys, where the flags ask for key offsets: [n_layers, n_kv_heads, head_dim].
  std::vector<double> key_means[kMaxStacks], cross_key_means[kMaxStacks];
};

// Gives `append` all bytes of the tensor section, in order; an error of it ends the work. What it needs beside the model is a few blocks of rows for each thread and a few bytes for each row;
// with block64, whose rows lie apart, one tensor of the image. The bytes are the same for any number of threads.
Error quantize_tensors(const Append& append, std::vector<TensorReport>& report, double& matrix_error,
                       const FloatModel& model, const QuantizePlan& plan, Layout layout,
                       const ShowProgress& progress = nullptr);

// The shared exponent and s16 values of one head's key offset (SPEC.md 2.7).
std::int8_t encode_key_offset(std::int16_t* values, const double* means, std::uint32_t head_dim);

}  // namespace heed::quant
