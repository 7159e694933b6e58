// SPDX-License-Identifier: Apache-2.0
// source.hpp: a model in floats, as any reader fills it and the quantiser and the float reference take it.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "quant/file.hpp"
#include "quant/positions.hpp"
#include "quant/stored_tensor.hpp"
#include "runtime/model.hpp"
#include "runtime/parallel.hpp"

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

// Tensors have the roles and shapes of runtime/model.hpp. Matrices stay where they are stored until somebody reads their
// rows; gains, biases and what is added to scores are float32 in memory. A matrix whose bit in the stack's `biases` is set
// has a bias beside it, a tied unembedding's beside token_embedding.
// score_bias is in the scores' own unit: slopes [n_heads], or [n_heads, n_distances]. Movable, not copyable: tensors point
// into `files`.
class FloatModel {
 public:
  FloatModel() = default;
  FloatModel(FloatModel&&) = default;
  FloatModel& operator=(FloatModel&&) = default;

  // The same model without its files, which must outlive it: what is changed there leaves this one as it is.
  FloatModel borrowed() const;
  // The tensors and the configuration of a model that borrowed them from this one, and was changed.
  void take_tensors(FloatModel&& changed);

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
  std::vector<SourceFile> files;             // what stored tensors point into, in the order of their names
  Parallel parallel;                         // what computes with the model may use it; never changes a result

  // Maps one more file. `bytes` stay where they are when the model is moved.
  Error open(Span<const std::uint8_t>& bytes, const std::string& path);
  std::uint64_t file_bytes() const;

  // ---- For readers, which set `config` first; what was there before is replaced ----

  // A stored tensor must lie in `files`, or in memory that outlives the model.
  void set(Role role, std::uint32_t layer, StoredTensor tensor, std::uint32_t stack = 0);
  // The same from memory: of the shape that the configuration asks for, or a vector if the numbers are not as many.
  void own(Role role, std::uint32_t layer, std::vector<float> data, std::uint32_t stack = 0);
  // The bias [rows] of a matrix; empty = none.
  void set_bias(Role role, std::uint32_t layer, std::vector<float> bias, std::uint32_t stack = 0);
  // Tensor and bias as if they had never been there.
  void drop(Role role, std::uint32_t layer, std::uint32_t stack = 0);

  // ---- Changes of a whole model, kept beside the stored numbers ----

  // Output i of a matrix, so its row and its bias, or number i of a vector, times factors[i]. Nothing happens where the
  // model has no such tensor. Precondition: as many factors as there are rows.
  void scale_rows(Role role, std::uint32_t layer, std::uint32_t stack, Span<const double> factors);
  // Column i of a matrix times factors[i]: what it does with input i. Precondition: a matrix, as many factors as columns.
  void scale_columns(Role role, std::uint32_t layer, std::uint32_t stack, Span<const double> factors);

  // ---- Reading ----

  // Null where the model has no such tensor.
  const StoredTensor* tensor(Role role, std::uint32_t layer, std::uint32_t stack = 0) const;
  // The numbers of a tensor that lies in memory as they are wanted, row by row, as gains, biases of norms and what is added
  // to scores always do; null where the model has none. A matrix may be stored otherwise, and gives null then.
  const float* floats(Role role, std::uint32_t layer, std::uint32_t stack = 0) const;
  // All numbers of a tensor, decoded; empty where the model has none. For tensors that may stand in memory whole.
  std::vector<float> read(Role role, std::uint32_t layer, std::uint32_t stack = 0) const;
  // The bias [rows] of a matrix, empty where it has none. Valid until it is changed or dropped.
  Span<const float> bias(Role role, std::uint32_t layer, std::uint32_t stack = 0) const;

 private:
  struct Entry {
    StoredTensor tensor;
    std::vector<float> bias;
  };
  static constexpr std::size_t kRoles = 128;  // of the byte, optional ones left out
  Entry& entry(Role role, std::uint32_t layer, std::uint32_t stack);
  const Entry* find(Role role, std::uint32_t layer, std::uint32_t stack) const;

  std::vector<std::unique_ptr<Entry>> entries_[kMaxStacks];  // [layers, kRoles], globals as layer 0
};

// Whether a role's tensor is a matrix, which becomes int8, and no vector or table of floats or integers.
bool is_matrix(Role role);

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

// That the runtime can express the configuration, which the shapes of tensors may be asked of then.
Error check_configuration(const FloatModel& model);
// Readers call it last: the configuration is one that the runtime can express, every tensor is there and has its shape, and
// every number is finite and below 2^40. Reads the whole model once, a few rows at a time.
Error check(const FloatModel& model);

}  // namespace heed::quant
