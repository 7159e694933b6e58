// SPDX-License-Identifier: Apache-2.0
// family_config.cpp: the fields that many families share.
#include <algorithm>

#include "quant/readers/described_tensors.hpp"
#include "quant/readers/family.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kMaxWidth = 65536, kMaxVocabulary = 1u << 20, kMaxPositions = 1u << 20;
constexpr std::size_t kMaxClasses = 1u << 16;
constexpr double kSmallestNumber = 0x1p-40, kLargestNumber = 0x1p40;

// What only training, generating with other programs, or their bookkeeping reads.
constexpr const char* kNoEffect[] = {
    "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "_num_labels", "architectures", "auto_map",
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward", "cls_token_id",
    "decoder_start_token_id", "directionality", "diversity_penalty", "do_sample", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty", "finetuning_task",
    "forced_bos_token_id", "forced_decoder_ids", "forced_eos_token_id", "gradient_checkpointing", "id2label",
    "init_std", "initializer_factor", "initializer_range", "is_encoder_decoder", "keys_to_ignore_at_inference", "label2id",
    "length_penalty", "mask_token_id", "max_length", "min_length", "model_type",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_past", "output_scores", "pad_token_id", "prefix", "pretraining_tp", "problem_type",
    "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "tokenizer_class", "top_k", "top_p", "torch_dtype",
    "torchscript", "transformers_version", "typical_p", "unk_token_id", "unsloth_fixed", "unsloth_version",
    "use_bfloat16", "use_cache"};

bool has_no_effect(const std::string& name) {
  if (name.find("dropout") != std::string::npos || name.find("layerdrop") != std::string::npos) return true;
  return std::any_of(std::begin(kNoEffect), std::end(kNoEffect), [&](const char* known) { return name == known; });
}

bool is_one_line(const std::string& text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 32 || c == 127;
  });
}

}  // namespace

void FamilyConfig::read_sizes(StackConfig& c, const SizeNames& names, const char* head_dim) {
  if (names.d_model) c.d_model = size(names.d_model, 1, kMaxWidth);
  if (names.n_layers) c.n_layers = size(names.n_layers, 1, 4096);
  if (names.n_heads) {
    c.n_heads = c.n_kv_heads = size(names.n_heads, 1, 1024);
    read_head_dim(c, names.n_heads, head_dim);
  }
  if (names.d_ff) c.d_ff = size(names.d_ff, 1, kMaxCols);
  if (names.vocab_size) c.vocab_size = size(names.vocab_size, 1, kMaxVocabulary);
  if (names.max_seq) c.max_seq = size(names.max_seq, 1, kMaxPositions);
}

void FamilyConfig::read_head_dim(StackConfig& c, const char* n_heads, const char* name) {
  if (name && has(name)) {
    c.head_dim = size(name, 1, kMaxHeadDim);
  } else {
    if (c.d_model % c.n_heads != 0) refuse(n_heads, "does not divide the width " + std::to_string(c.d_model));
    c.head_dim = c.d_model / c.n_heads;
    if (c.head_dim < 1 || c.head_dim > kMaxHeadDim)
      refuse(n_heads, "makes heads of " + std::to_string(c.head_dim) + ", not of 1 to " + std::to_string(kMaxHeadDim));
  }
  c.attention_scale = error_ ? 1.0f : 1.0f / square_root(static_cast<float>(c.head_dim));
}

void FamilyConfig::read_kv_heads(StackConfig& c) {
  c.n_kv_heads = size_or("num_key_value_heads", c.n_heads, 1, 1024);
  if (c.n_heads % c.n_kv_heads != 0) refuse("num_key_value_heads", "does not divide the number of heads");
}

void FamilyConfig::read_epsilon(StackConfig& c, const char* name, double fallback) {
  c.norm_epsilon = static_cast<float>(number_or(name, fallback, kSmallestNumber, kLargestNumber));
}

Activation FamilyConfig::activation(const char* name, const char* fallback) {
  struct Known {
    const char* name;
    Activation activation;
  };
  constexpr Known kKnown[] = {{"relu", Activation::relu},           {"gelu", Activation::gelu_erf},
                              {"gelu_new", Activation::gelu_tanh},  {"gelu_pytorch_tanh", Activation::gelu_tanh},
                              {"gelu_fast", Activation::gelu_tanh}, {"quick_gelu", Activation::gelu_quick},
                              {"silu", Activation::silu},           {"swish", Activation::silu}};
  const std::string said = has(name) ? text(name) : fallback;
  for (const Known& known : kKnown)
    if (said == known.name) return known.activation;
  refuse(name, "is not supported");
  return Activation::relu;
}

// A scaling of frequencies: rope_scaling, or its fields in rope_parameters beside rope_theta.
void FamilyConfig::read_rope(Rope& rope, const Json& json, const std::string& path, bool is_scaling) {
  Fields in(json, path, error_);
  if (!is_scaling) rope.theta = in.number_or("rope_theta", rope.theta, 1.0 + 0x1p-20, 1e12);
  in.ignore({"partial_rotary_factor"});  // the family reads it, where it has one
  const char* name = in.has("rope_type") || !in.has("type") ? "rope_type" : "type";
  if (in.has("type") && in.has("rope_type") && in.value("type") != in.value("rope_type"))
    in.refuse("type", "is not rope_type");
  if (!in.has(name)) {
    if (is_scaling) in.refuse(name, "is missing");
    return in.finish(" is not supported");
  }
  rope.scaling = RopeScaling::none;
  const std::string type = in.text(name);
  if (type == "linear")
    rope.scaling = RopeScaling::linear;
  else if (type == "yarn")
    rope.scaling = RopeScaling::yarn;
  else if (type == "llama3")
    rope.scaling = RopeScaling::llama3;
  else if (type != "default")
    in.refuse(name, "is not supported (default, linear, yarn and llama3 are)");
  if (rope.scaling == RopeScaling::none) {
    in.ignore({"factor"});
    return in.finish(" is not supported");
  }
  if (!in.has("factor")) in.refuse("factor", "is missing");
  rope.factor = in.number_or("factor", 1.0, 1.0, 1e6);
  if (rope.scaling == RopeScaling::linear) {
    in.ignore({"original_max_position_embeddings"});
    return in.finish(" is not supported");
  }
  rope.original_max_seq = in.size("original_max_position_embeddings", 1, 1u << 24);
  if (rope.scaling == RopeScaling::yarn) {
    rope.beta_fast = in.number_or("beta_fast", rope.beta_fast, 1e-3, 1e6);
    rope.beta_slow = in.number_or("beta_slow", rope.beta_slow, 1e-3, 1e6);
    if (rope.beta_slow > rope.beta_fast) in.refuse("beta_slow", "is above beta_fast");
    rope.attention_factor = in.number_or("attention_factor", 0.0, 1e-3, 1e3);
    in.expect("truncate", true);
  } else {
    rope.low_freq_factor = in.number_or("low_freq_factor", rope.low_freq_factor, 1e-3, 1e6);
    rope.high_freq_factor = in.number_or("high_freq_factor", rope.high_freq_factor, 1e-3, 1e6);
    if (rope.low_freq_factor >= rope.high_freq_factor) in.refuse("low_freq_factor", "is not below high_freq_factor");
  }
  in.finish(" is not supported");
}

Rope FamilyConfig::rope(double usual_theta, const char* layers) {
  Rope rope;
  rope.theta = number_or("rope_theta", usual_theta, 1.0 + 0x1p-20, 1e12);
  if (const Json* scaling = object("rope_scaling")) read_rope(rope, *scaling, path("rope_scaling."), true);
  const Json* parameters = object("rope_parameters");
  if (!parameters) return rope;
  if (!layers) {
    read_rope(rope, *parameters, path("rope_parameters."), false);
    return rope;
  }
  if (!parameters->contains(layers) || !(*parameters)[layers].is_object())
    refuse("rope_parameters", "has no " + std::string(layers));
  else
    read_rope(rope, (*parameters)[layers], path("rope_parameters.") + layers + ".", false);
  return rope;
}

Rope FamilyConfig::read_rotary(StackConfig& c, double usual_theta, const char* share, double usual_share,
                               const char* layers) {
  const Rope rope = this->rope(usual_theta, layers);
  double part = usual_share;
  if (share) {
    part = number_or(share, usual_share, 0x1p-10, 1.0);
    if (const Json* parameters = object("rope_parameters"); parameters && parameters->contains(share))
      part = Fields(*parameters, path("rope_parameters."), error_).number_or(share, part, 0x1p-10, 1.0);
  }
  c.rotary_dims = static_cast<std::uint32_t>(c.head_dim * part);
  if (c.rotary_dims % 2 != 0 || c.rotary_dims == 0)
    refuse(share ? share : "head_dim", "makes " + std::to_string(c.rotary_dims) + " dimensions rotate, and they do in pairs");
  return rope;
}

void FamilyConfig::read_window(StackConfig& c) {
  const std::uint32_t window = size_or("sliding_window", 0, 0, kMaxPositions);
  if (!has("layer_types")) {
    c.window = window;
    return;
  }
  const std::vector<std::string> types = texts("layer_types", 4096);
  if (types.size() != c.n_layers) return refuse("layer_types", "is not one type for each layer");
  std::vector<std::uint32_t> all;  // layers that see all keys
  for (std::uint32_t i = 0; i < types.size(); ++i) {
    if (types[i] == "full_attention") all.push_back(i);
    else if (types[i] != "sliding_attention")
      return refuse("layer_types", "has layers of a kind that is not supported: " + printable(types[i]));
  }
  if (all.size() == types.size()) return;
  if (window == 0) return refuse("layer_types", "has windowed layers without a sliding_window");
  c.window = window;
  if (all.empty()) return;
  c.global_first = all[0];
  c.global_every = all.size() > 1 ? all[1] - all[0] : std::max(all[0] + 1, c.n_layers - all[0]);
  if (c.global_every < 2) c.global_every = 2;  // of two layers the first
  for (std::uint32_t i = 0; i < types.size(); ++i)
    if (c.sees_all(i) != (types[i] == "full_attention") || c.global_first >= c.global_every)
      return refuse("layer_types", "does not repeat one that sees all keys behind so many that do not");
}

std::vector<std::string> FamilyConfig::read_classes() {
  std::vector<std::string> names;
  if (const Json* labels = object("id2label")) {
    for (std::size_t i = 0; i < labels->size() && labels->size() <= kMaxClasses; ++i) {
      const auto label = labels->find(std::to_string(i));
      if (label == labels->end() || !label->is_string() || !is_one_line(label->get_ref<const std::string&>())) break;
      names.push_back(label->get<std::string>());
    }
    if (names.empty() || names.size() != labels->size()) refuse("id2label", "is no list of names of one line each");
    return names;
  }
  const std::uint32_t n = size_or("num_labels", 2, 1, kMaxClasses);
  for (std::uint32_t i = 0; i < n; ++i) names.push_back("LABEL_" + std::to_string(i));
  return names;
}

void FamilyConfig::finish_config() {
  for (const char* name : {"is_decoder", "add_cross_attention", "torchscript"}) expect(name, false);
  if (has("pruned_heads") && !value("pruned_heads").empty()) refuse("pruned_heads", "is not supported");
  finish(" is not a field of this family that is known", has_no_effect);
}

bool Family::is_configured() {
  config.finish_config();
  if (error) return false;
  if (model.config.n_stacks > kMaxStacks) {
    error = Error("the model needs cross_attention, which this build leaves out");
    return false;
  }
  error = check_configuration(model);
  return !error;
}

void Family::take_unembedding(const std::string& name) {
  if (!model.config.main().tied_unembedding) return tensors.matrix(Role::unembedding, 0, name);
  tensors.skip(name + ".weight");  // the embedding once more
  if (model.config.main().biases & kBiasUnembedding) tensors.bias(Role::token_embedding, 0, name + ".bias");
}

void Family::rotate(const Rope& rope, const Rope* windowed) {
  if (error) return;
  const StackConfig& c = model.config.main();
  model.rope_theta = rope.theta;
  model.rotary_phases[0] = rotary_phases(c.rotary_dims, rope);
  if (c.local_rotary) model.local_rotary_phases[0] = rotary_phases(c.rotary_dims, *windowed);
  for_each_slot(c, [&](const TensorSlot& slot) {
    const bool local = c.local_rotary && !c.sees_all(slot.layer);
    scale_heads(model, 0, slot, (local ? *windowed : rope).query_key_factor());
  });
}

}  // namespace heed::quant
