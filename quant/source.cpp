// SPDX-License-Identifier: Apache-2.0
// source.cpp: the float model's book-keeping.
#include "quant/source.hpp"

#include "quant/double_math.hpp"
#include "quant/feature_names.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {

const float*& FloatModel::slot(Table& table, Role role, std::uint32_t layer) {
  const std::size_t i = std::size_t{layer} * kOptionalRoles + static_cast<std::size_t>(role);
  if (i >= table.size()) table.resize((std::size_t{layer} + 1) * kOptionalRoles, nullptr);
  return table[i];
}

void FloatModel::own(Role role, std::uint32_t layer, std::vector<float> data) {
  owned_.push_back(std::move(data));
  map(role, layer, owned_.back().data());
}

void FloatModel::own_bias(Role role, std::uint32_t layer, std::vector<float> data) {
  owned_.push_back(std::move(data));
  map_bias(role, layer, owned_.back().data());
}

const char* name_of(Role role) {
  switch (role) {
    case Role::token_embedding: return "token_embedding";
    case Role::position_embedding: return "position_embedding";
    case Role::token_type_embedding: return "token_type_embedding";
    case Role::class_vectors: return "class_vectors";
    case Role::input_projection: return "input_projection";
    case Role::convolution_1: return "convolution_1";
    case Role::convolution_2: return "convolution_2";
    case Role::input_gain: return "input_gain";
    case Role::input_norm_bias: return "input_norm_bias";
    case Role::rotary_phases: return "rotary_phases";
    case Role::local_rotary_phases: return "local_rotary_phases";
    case Role::score_bias: return "score_bias";
    case Role::attention_gain: return "attention_gain";
    case Role::attention_norm_bias: return "attention_norm_bias";
    case Role::w_query: return "w_query";
    case Role::w_key: return "w_key";
    case Role::w_value_down: return "w_value_down";
    case Role::w_value_up: return "w_value_up";
    case Role::key_offset: return "key_offset";
    case Role::query_gain: return "query_gain";
    case Role::query_norm_bias: return "query_norm_bias";
    case Role::key_gain: return "key_gain";
    case Role::key_norm_bias: return "key_norm_bias";
    case Role::attention_after_gain: return "attention_after_gain";
    case Role::attention_after_bias: return "attention_after_bias";
    case Role::ffn_gain: return "ffn_gain";
    case Role::ffn_norm_bias: return "ffn_norm_bias";
    case Role::w_gate: return "w_gate";
    case Role::w_up: return "w_up";
    case Role::w_down: return "w_down";
    case Role::ffn_after_gain: return "ffn_after_gain";
    case Role::ffn_after_bias: return "ffn_after_bias";
    case Role::cross_gain: return "cross_gain";
    case Role::cross_norm_bias: return "cross_norm_bias";
    case Role::cross_w_query: return "cross_w_query";
    case Role::cross_w_key: return "cross_w_key";
    case Role::cross_w_value_down: return "cross_w_value_down";
    case Role::cross_w_value_up: return "cross_w_value_up";
    case Role::cross_key_offset: return "cross_key_offset";
    case Role::cross_query_gain: return "cross_query_gain";
    case Role::cross_query_norm_bias: return "cross_query_norm_bias";
    case Role::cross_key_gain: return "cross_key_gain";
    case Role::cross_key_norm_bias: return "cross_key_norm_bias";
    case Role::cross_after_gain: return "cross_after_gain";
    case Role::cross_after_bias: return "cross_after_bias";
    case Role::final_gain: return "final_gain";
    case Role::final_norm_bias: return "final_norm_bias";
    case Role::dense: return "dense";
    case Role::dense_gain: return "dense_gain";
    case Role::dense_norm_bias: return "dense_norm_bias";
    case Role::unembedding: return "unembedding";
  }
  return "unknown";
}

const char* name_of(Site site) {
  static constexpr const char* kNames[kSiteCount] = {
      "attention_in", "value_up_in", "ffn_in",   "down_in",        "unembed_in", "cross_in", "cross_value_up_in",
      "source_in",    "input_in",    "convolution_in", "dense_in"};
  return static_cast<int>(site) < kSiteCount ? kNames[static_cast<int>(site)] : "unknown";
}

const char* name_of(Layout layout) {
  static constexpr const char* kNames[kLayoutCount] = {"row", "packed", "pair", "block64"};
  return static_cast<int>(layout) < kLayoutCount ? kNames[static_cast<int>(layout)] : "unknown";
}

std::string describe(Role role, std::uint32_t layer) {
  return is_per_layer(role) ? std::string(name_of(role)) + " of layer " + std::to_string(layer) : std::string(name_of(role));
}

std::vector<Role> matrices_of(const StackConfig& c, Site site) {
  switch (site) {
    case Site::attention_in: return {Role::w_query, Role::w_key, Role::w_value_down};
    case Site::value_up_in: return {Role::w_value_up};
    case Site::ffn_in: return c.gated ? std::vector<Role>{Role::w_gate, Role::w_up} : std::vector<Role>{Role::w_up};
    case Site::down_in: return {Role::w_down};
    case Site::unembed_in: return {c.tied_unembedding ? Role::token_embedding : Role::unembedding};
    default: break;
  }
  return {};
}

namespace {

Error check_floats(const float* x, std::size_t n, const std::string& name) {
  if (!x) return Error(name + " is missing");
  for (std::size_t i = 0; i < n; ++i)
    if (magnitude_bits(x[i]) != (bits_of(x[i]) & 0x7FFFFFFFu) || magnitude_bits(x[i]) > bits_of(kLargest))
      return Error(name + ": number " + std::to_string(i) + " is not finite or above 2^40");
  return {};
}

}  // namespace

std::uint64_t parameter_count(const StackConfig& config) {
  StackConfig c = config;
  c.flags &= ~(kAttentionGainFolded | kFfnGainFolded | kFinalGainFolded | kKeyOffset);
  std::uint64_t n = 0;
  for_each_slot(c, [&](const TensorSlot& s) {
    if (s.type != ElementType::u32) n += std::uint64_t{s.rows} * s.cols + (s.bias ? s.rows : 0);
  });
  return n;
}

Error check(const FloatModel& model) {
  const StackConfig& c = model.config;
  switch (check_config(c)) {
    case Status::ok: break;
    case Status::feature_not_built: return Error("the model needs " + missing_for(c));
    default: return Error("the model's sizes contradict each other or exceed the format's limits");
  }
  if (c.position == Position::rotary && model.rotary_phases.size() != c.rotary_dims / 2)
    return Error("the rotary phases are missing");
  Error error;
  for_each_slot(c, [&](const TensorSlot& s) {
    if (error || s.role == Role::rotary_phases) return;
    const std::string name = describe(s.role, s.layer);
    error = check_floats(model.floats(s.role, s.layer), std::size_t{s.rows} * s.cols, name);
    if (!error && s.bias) error = check_floats(model.bias(s.role, s.layer), s.rows, "the bias of " + name);
  });
  return error;
}

std::vector<std::uint32_t> rotary_phases(std::uint32_t dims, double theta) {
  std::vector<std::uint32_t> phases(dims / 2);
  const double log_theta = log_double(theta);
  for (std::uint32_t i = 0; i < phases.size(); ++i) {
    const double turn = exp_double(-2.0 * i / dims * log_theta) * (4294967296.0 / 6.283185307179586);
    phases[i] = static_cast<std::uint32_t>(round_even(turn));
  }
  return phases;
}

}  // namespace heed::quant
