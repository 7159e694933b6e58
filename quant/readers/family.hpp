// SPDX-License-Identifier: Apache-2.0
// family.hpp: what the readers of single families share. A family is one small file in families/ with a function that maps
// the fields of config.json to stacks and the names of tensors to roles; huggingface.cpp lists them by `architectures`.
#pragma once
#include <initializer_list>
#include <set>
#include <string>
#include <vector>

#include "quant/positions.hpp"
#include "quant/readers/fields.hpp"
#include "quant/readers/safetensors.hpp"
#include "quant/source.hpp"

namespace heed::quant {

// What config.json calls the sizes that nearly all stacks have. Null: the family reads that one itself.
struct SizeNames {
  const char *d_model, *n_layers, *n_heads, *d_ff, *vocab_size, *max_seq;
};
inline constexpr SizeNames kUsualSizes = {"hidden_size",       "num_hidden_layers", "num_attention_heads",
                                          "intermediate_size", "vocab_size",        "max_position_embeddings"};

// config.json, field by field. Every field that a family does not ask for must be one that is known to change nothing.
class FamilyConfig : public Fields {
 public:
  FamilyConfig(const Json& json, const std::string& path, Error& error) : Fields(json, path, error), error_(error) {}

  // Sizes, and head_dim = d_model / n_heads unless `head_dim` names a field that says another.
  void read_sizes(StackConfig& c, const SizeNames& names, const char* head_dim = nullptr);
  // d_model / n_heads, unless `name` is a field that says another; attention_scale follows.
  void read_head_dim(StackConfig& c, const char* n_heads, const char* name = nullptr);
  // num_key_value_heads, as many as n_heads where it is absent.
  void read_kv_heads(StackConfig& c);
  void read_epsilon(StackConfig& c, const char* name, double fallback);
  Activation activation(const char* name, const char* fallback);
  // rope_theta with rope_scaling, or rope_parameters, which newer files have for both. `layers` is null, or the kind of
  // layers whose member of rope_parameters counts.
  Rope rope(double usual_theta, const char* layers = nullptr);
  // The same, and how many dimensions of a head rotate: all, or the share that `share` says.
  Rope read_rotary(StackConfig& c, double usual_theta, const char* share = nullptr, double usual_share = 1.0,
                   const char* layers = nullptr);
  // sliding_window with layer_types, which must say that one of so many layers sees all keys.
  void read_window(StackConfig& c);
  // Classes: names in id2label, or as many as num_labels.
  std::vector<std::string> read_classes();

  void finish_config();

 private:
  void read_rope(Rope& rope, const Json& json, const std::string& path, bool is_scaling);

  Error& error_;
};

// How the rows of several matrices lie in one.
enum class Fused : std::uint8_t {
  parts,  // one matrix behind the other
  heads   // for each head the rows of the first matrix, then those of the second, ...
};

// Takes the tensors of a file by name into a model's roles, with the shapes that its configuration asks for. What nobody took
// is refused in the end. The first error is kept.
class TensorTaker {
 public:
  TensorTaker(FloatModel& model, const SafeTensors& tensors, Error& error)
      : model_(model), tensors_(tensors), error_(error) {}

  void use_stack(std::uint32_t stack) { stack_ = stack; }
  // All later names begin with the first of `prefixes` with which `probe` is there, or with the last one.
  void choose_prefix(std::initializer_list<const char*> prefixes, const std::string& probe);
  void set_prefix(const std::string& prefix) { prefix_ = prefix; }
  bool has(const std::string& name) const { return tensors_.find(prefix_ + name) != nullptr; }

  // Linear layers and tables: NAME.weight, with NAME.bias where the configuration has a bias there.
  void matrix(Role role, std::uint32_t layer, const std::string& name);
  // The same of a convolution over patches that do not overlap, [rows, ...]: what a patch has, one number behind the other.
  void flat_matrix(Role role, const std::string& name);
  // The same where the file has the transpose.
  void turned_matrix(Role role, std::uint32_t layer, const std::string& name);
  // Matrices that lie as one; of `turned` ones the transpose.
  void fused(std::initializer_list<Role> roles, std::uint32_t layer, const std::string& name, Fused order, bool turned = false);
  // The rows from `offset` on of a table that has at least max_seq of them behind it.
  void positions(const std::string& name, std::uint32_t offset);
  // [rows, width, 3], as one-dimensional convolutions are stored, NAME.weight and NAME.bias.
  void convolution(Role role, const std::string& name);
  // Norms: NAME.weight (or .gamma), and NAME.bias (or .beta) where the configuration has norms with biases. Gains may be stored
  // less one.
  void norm(Role gain, Role bias, std::uint32_t layer, const std::string& name, double gain_plus = 0.0);
  // A tensor by its whole name, as a role's; a bias by its whole name, as that of a matrix.
  void set(Role role, std::uint32_t layer, StoredTensor tensor);
  void bias(Role matrix, std::uint32_t layer, const std::string& name);
  // Tensors of this shape; empty after an error. Sizes of 1 in front of the last two make no difference to what is read.
  StoredTensor take(const std::string& name, const std::vector<std::uint64_t>& shape);
  // A tensor that changes nothing, if it is there: by its whole name behind the prefix, or by the beginning of it.
  void skip(const std::string& name) { taken_.insert(prefix_ + name); }
  void skip_all(const std::string& beginning) { skipped_.push_back(prefix_ + beginning); }

  // "tensor X is not part of FAMILY"
  void finish(const std::string& family);

 private:
  TensorSlot slot(Role role, std::uint32_t layer) const;

  FloatModel& model_;
  const SafeTensors& tensors_;
  Error& error_;
  std::uint32_t stack_ = 0;
  std::string prefix_;
  std::set<std::string> taken_;
  std::vector<std::string> skipped_;
};

// What the files of sentence-transformers beside a model say: modules.json and the folders that it names.
struct SentenceModules {
  bool present = false;
  Pooling pooling = Pooling::every;
  bool unit_length = false;
  std::uint32_t max_seq = 0;  // 0 = the model's
};

// All that a family reads and fills.
struct Family {
  FloatModel& model;
  const std::string& architecture;
  FamilyConfig& config;
  TensorTaker& tensors;
  const SentenceModules& sentence;
  Error& error;

  // Behind the last field and before the first tensor. False after an error, and where no image can hold the configuration.
  bool is_configured();
  bool is(const char* name) const { return architecture == name; }
  // NAME.weight and its bias, or nothing where the embedding unembeds.
  void take_unembedding(const std::string& name);
  // The phases of rotary positions, and of windowed layers where they have their own; behind the last tensor.
  void rotate(const Rope& rope, const Rope* windowed = nullptr);
};

// ---- The families: each fills model.config first, asks is_configured(), and takes the tensors ----

void read_bert(Family& f);        // BERT, RoBERTa, XLM-RoBERTa, and what shares their layers
void read_distilbert(Family& f);
void read_gpt2(Family& f);
void read_llama(Family& f);       // Llama, Mistral, Qwen 2 and 3
void read_gemma3(Family& f);
void read_phi3(Family& f);
void read_phi(Family& f);
void read_gpt_neox(Family& f);
void read_opt(Family& f);
void read_bloom(Family& f);
void read_t5(Family& f);
void read_bart(Family& f);        // BART and Marian
void read_whisper(Family& f);
void read_vit(Family& f);         // ViT and DeiT

}  // namespace heed::quant
