// SPDX-License-Identifier: Apache-2.0
// pass.hpp: rewritings of a float model that change no result and that int8 gains by.
#pragma once
#include <functional>

#include "quant/calibration.hpp"

namespace heed::quant {

// A rewriting of one stack. What calibration saw of the stack becomes what it would have seen behind it.
struct Pass {
  const char* name;
  const char* does;  // for people
  // Whether the result may cost the runtime something: matrices that had no bias get one.
  bool (*costs)(const StackConfig& config);
  // Whether it changes nothing but the rounding of float results, in a stack of this kind, and does anything.
  bool (*is_valid)(const StackConfig& config);
  // Precondition: is_valid.
  void (*apply)(FloatModel& model, StackCalibration& seen, std::uint32_t stack);
};

// The tensors of self-attention, or of cross-attention.
struct AttentionTensors {
  bool cross;
  Role query, key, value_down, value_up, query_gain, query_norm_bias, key_gain, key_norm_bias;
  std::uint32_t value_down_bias, value_up_bias;  // bits
  HeadRole queries, keys, values;
  Site value_up_in;
};
// One, or with cross-attention two.
std::vector<AttentionTensors> attentions_of(const StackConfig& config);

// Dimension d of KV heads [d_key], for each query head that reads it: [n_heads * head_dim].
std::vector<double> for_query_heads(const StackConfig& config, const std::vector<double>& of_kv_heads);

// A factor that divides the loss between two sides, sqrt(first / second), 1 where one of them is nothing; bounded, so that the
// numbers stay those of an image.
double balance(double first, double second);

// The bias of a matrix, zeros where it has none, and back.
std::vector<double> bias_of(const FloatModel& model, Role role, std::uint32_t layer, std::uint32_t stack);
void set_bias(FloatModel& model, Role role, std::uint32_t layer, std::uint32_t stack, const std::vector<double>& bias);
// Calls row(r, numbers [cols]) for each row of a matrix, a few of which are in memory at a time.
void for_each_row(const FloatModel& model, Role role, std::uint32_t layer, std::uint32_t stack,
                  const std::function<void(std::uint32_t r, const float* numbers)>& row);

std::vector<double> inverse_of(std::vector<double> factors);

// The samples of a site times factors, or less terms, [cols].
void scale_samples(SiteSamples& samples, std::uint32_t layer, const std::vector<double>& factors);
void subtract_from_samples(SiteSamples& samples, std::uint32_t layer, const std::vector<double>& terms);

extern const Pass kCentreStream;  // centre_stream.cpp
extern const Pass kCentreValues;  // centre_values.cpp
extern const Pass kScaleValues;   // scale_values.cpp
extern const Pass kScaleUp;       // scale_up.cpp
extern const Pass kScaleKeys;     // scale_keys.cpp

}  // namespace heed::quant
