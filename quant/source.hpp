// SPDX-License-Identifier: Apache-2.0
// source.hpp: a model in floats, as any reader fills it and the quantiser and the float reference take it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "quant/file.hpp"
#include "quant/positions.hpp"
#include "runtime/model.hpp"

namespace heed::quant {

// What somebody may say about a source that does not say it itself, or says it wrongly.
struct ReadOptions {
  double rope_theta = 0.0;  // 0 = the source's; else 1 < theta <= 1e12, for models with rotary positions only
  std::string description = {};  // path of the JSON that a safetensors file needs; empty for formats that say what they are
};

// Where a format does not say another.
inline constexpr double kUsualTheta = 10000.0;

// A token that a model does not have.
inline constexpr std::uint32_t kNoSourceToken = 0xFFFFFFFF;

// What a generated text begins with, what is never picked, what ends it (SPEC.md 1.6).
struct Generation {
  std::vector<std::uint32_t> first, suppressed, endings;
  bool empty() const { return first.empty() && suppressed.empty() && endings.empty(); }
};

// Tensors have the roles and shapes of runtime/model.hpp, all as row-major float32, and a matrix whose bit in the
// stack's `biases` is set has a bias beside it, a tied unembedding's beside token_embedding.
// score_bias is in the scores' own unit: slopes [n_heads], or [n_heads, n_distances]. Movable, not copyable: the
// tensors point into `file` or into memory that the model owns.
class FloatModel {
 public:
  FloatModel() = default;
  FloatModel(FloatModel&&) = default;
  FloatModel& operator=(FloatModel&&) = default;

  // The same model, whose tensors are still this one's, which must outlive it: what replaces one of them there leaves
  // this one as it is.
  FloatModel borrowed() const;

  ModelConfig config;                        // nothing folded, no key offset, no groups
  std::vector<std::uint32_t> rotary_phases[kMaxStacks];        // [rotary_dims / 2], with rotary positions
  std::vector<std::uint32_t> local_rotary_phases[kMaxStacks];  // of windowed layers, with local_rotary
  double rope_theta = kUsualTheta;           // that those of the main stack come from
  std::string format;                        // what was read, e.g. "llama2.c version 0"
  std::uint32_t bos = 1, eos = 2;            // tokens that begin and end a text, or kNoSourceToken
  Generation generation;                     // empty = by bos and eos
  std::vector<std::string> classes;          // names of the outputs, or none
  // What a description says; empty where it does not, or where there is none. `tokenizer` is that of the main stack.
  std::string name, licence, tokenizer, source_tokenizer;
  SourceFile file;                           // what mapped tensors point into

  // Readers: set `config` first. Mapped data must be 4-byte aligned and lie in `file`.
  void map(Role role, std::uint32_t layer, const float* data, std::uint32_t stack = 0) {
    slot(tensors_[stack], role, layer) = data;
  }
  void own(Role role, std::uint32_t layer, std::vector<float> data, std::uint32_t stack = 0);
  void map_bias(Role role, std::uint32_t layer, const float* data, std::uint32_t stack = 0) {
    slot(biases_[stack], role, layer) = data;
  }
  void own_bias(Role role, std::uint32_t layer, std::vector<float> data, std::uint32_t stack = 0);
  // As if it had never been there.
  void drop(Role role, std::uint32_t layer, std::uint32_t stack);

  // Null where the model has no such tensor, or the matrix no bias.
  const float* floats(Role role, std::uint32_t layer, std::uint32_t stack = 0) const {
    return find(tensors_[stack], role, layer);
  }
  const float* bias(Role role, std::uint32_t layer, std::uint32_t stack = 0) const {
    return find(biases_[stack], role, layer);
  }

 private:
  static constexpr std::size_t kRoles = 128;  // of the byte, optional ones left out
  using Table = std::vector<const float*>;    // [layers, kRoles], globals as layer 0
  static const float*& slot(Table& table, Role role, std::uint32_t layer);
  static const float* find(const Table& table, Role role, std::uint32_t layer) {
    const std::size_t i = std::size_t{layer} * kRoles + static_cast<std::size_t>(role);
    return i < table.size() ? table[i] : nullptr;
  }

  Table tensors_[kMaxStacks], biases_[kMaxStacks];
  std::vector<std::vector<float>> owned_;
};

const char* name_of(Role role);
const char* name_of(Site site);
const char* name_of(Layout layout);
// "w_query of layer 3"; globals without their layer. Of two stacks: "w_query of layer 3 of stack 1".
std::string describe(const ModelConfig& config, Role role, std::uint32_t layer, std::uint32_t stack);

// The matrices that a site of a stack feeds, none where the stack has no such site; the unembedding of a tied stack is
// its token_embedding.
std::vector<Role> matrices_of(const StackConfig& config, Site site);
// Sites of the layers come once for each layer, others once.
bool is_per_layer(Site site);

// The gain and bias of the norm whose result is quantised at a site as it is.
struct NormRoles {
  bool present = false;
  Role gain{}, bias{};
};
NormRoles norm_before(const StackConfig& config, Site site);

// Number of weights, gains and biases included, key offsets not. An image may have gained biases by folding.
std::uint64_t parameter_count(const ModelConfig& config);

// Readers call it last: the configuration is one that the runtime can express, every tensor is there, and every
// number is finite and below 2^40.
Error check(const FloatModel& model);

}  // namespace heed::quant
