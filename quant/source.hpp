// SPDX-License-Identifier: Apache-2.0
// source.hpp: a model in floats, as any reader fills it and the quantiser and the float reference take it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "quant/file.hpp"
#include "runtime/model.hpp"

namespace heed::quant {

// What somebody may say about a source that does not say it itself, or says it wrongly.
struct ReadOptions {
  double rope_theta = 0.0;  // 0 = the source's; else 1 < theta <= 1e12, for models with rotary positions only
};

// Where a format does not say another.
inline constexpr double kUsualTheta = 10000.0;

// A token that a model does not have.
inline constexpr std::uint32_t kNoSourceToken = 0xFFFFFFFF;

// Tensors have the roles and shapes of runtime/model.hpp, all as row-major float32, and a matrix whose bit in
// config.biases is set has a bias beside it. Movable, not copyable: the tensors point into `file` or into memory that
// the model owns.
class FloatModel {
 public:
  FloatModel() = default;
  FloatModel(FloatModel&&) = default;
  FloatModel& operator=(FloatModel&&) = default;

  StackConfig config;                        // nothing folded, no key offset, no groups
  std::vector<std::uint32_t> rotary_phases;  // [rotary_dims / 2], with rotary positions
  double rope_theta = kUsualTheta;           // that they come from
  std::string format;                        // what was read, e.g. "llama2.c version 0"
  std::uint32_t bos = 1, eos = 2;            // tokens that begin and end a text, or kNoSourceToken
  SourceFile file;                           // what mapped tensors point into

  // Readers: set `config` first. Mapped data must be 4-byte aligned and lie in `file`.
  void map(Role role, std::uint32_t layer, const float* data) { slot(tensors_, role, layer) = data; }
  void own(Role role, std::uint32_t layer, std::vector<float> data);
  void map_bias(Role role, std::uint32_t layer, const float* data) { slot(biases_, role, layer) = data; }
  void own_bias(Role role, std::uint32_t layer, std::vector<float> data);

  // Null where the model has no such tensor, or the matrix no bias.
  const float* floats(Role role, std::uint32_t layer) const { return find(tensors_, role, layer); }
  const float* bias(Role role, std::uint32_t layer) const { return find(biases_, role, layer); }

 private:
  using Table = std::vector<const float*>;   // [n_layers, kOptionalRoles], globals as layer 0
  static const float*& slot(Table& table, Role role, std::uint32_t layer);
  static const float* find(const Table& table, Role role, std::uint32_t layer) {
    const std::size_t i = std::size_t{layer} * kOptionalRoles + static_cast<std::size_t>(role);
    return i < table.size() ? table[i] : nullptr;
  }

  Table tensors_, biases_;
  std::vector<std::vector<float>> owned_;
};

const char* name_of(Role role);
const char* name_of(Site site);
const char* name_of(Layout layout);
// "w_query of layer 3"; globals without their layer.
std::string describe(Role role, std::uint32_t layer);

// The matrices that a site feeds; the unembedding of a tied model is its token_embedding.
std::vector<Role> matrices_of(const StackConfig& config, Site site);

// Number of weights, gains and biases included, key offsets not. An image may have gained biases by folding.
std::uint64_t parameter_count(const StackConfig& config);

// Readers call it last: the configuration is one that the runtime can express, every tensor is there, and every
// number is finite and below 2^40.
Error check(const FloatModel& model);

// round(theta^(-2 i / dims) / (2 pi) * 2^32) for i < dims / 2, the same bits on every host. theta > 1.
std::vector<std::uint32_t> rotary_phases(std::uint32_t dims, double theta);

}  // namespace heed::quant
