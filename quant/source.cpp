// SPDX-License-Identifier: Apache-2.0
// source.cpp: the float model's book-keeping.
#include "quant/source.hpp"

#include "quant/feature_names.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {

const float*& FloatModel::slot(Table& table, Role role, std::uint32_t layer) {
  const std::size_t i = std::size_t{layer} * kRoles + static_cast<std::size_t>(role);
  if (i >= table.size()) table.resize((std::size_t{layer} + 1) * kRoles, nullptr);
  return table[i];
}

void FloatModel::own(Role role, std::uint32_t layer, std::vector<float> data, std::uint32_t stack) {
  owned_.push_back(std::move(data));
  map(role, layer, owned_.back().data(), stack);
}

void FloatModel::own_bias(Role role, std::uint32_t layer, std::vector<float> data, std::uint32_t stack) {
  owned_.push_back(std::move(data));
  map_bias(role, layer, owned_.back().data(), stack);
}

void FloatModel::drop(Role role, std::uint32_t layer, std::uint32_t stack) {
  map(role, layer, nullptr, stack);
  map_bias(role, layer, nullptr, stack);
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
    case Role::cross_gain: return "cross.attention_gain";
    case Role::cross_norm_bias: return "cross.attention_norm_bias";
    case Role::cross_w_query: return "cross.w_query";
    case Role::cross_w_key: return "cross.w_key";
    case Role::cross_w_value_down: return "cross.w_value_down";
    case Role::cross_w_value_up: return "cross.w_value_up";
    case Role::cross_key_offset: return "cross.key_offset";
    case Role::cross_query_gain: return "cross.query_gain";
    case Role::cross_query_norm_bias: return "cross.query_norm_bias";
    case Role::cross_key_gain: return "cross.key_gain";
    case Role::cross_key_norm_bias: return "cross.key_norm_bias";
    case Role::cross_after_gain: return "cross.attention_after_gain";
    case Role::cross_after_bias: return "cross.attention_after_bias";
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
  static constexpr const char* kNames[kSiteCount] = {"attention_in", "value_up_in",       "ffn_in",    "down_in",
                                                     "unembed_in",   "cross_in",          "cross_value_up_in",
                                                     "source_in",    "input_in",          "convolution_in",
                                                     "dense_in"};
  return static_cast<int>(site) < kSiteCount ? kNames[static_cast<int>(site)] : "unknown";
}

const char* name_of(Layout layout) {
  static constexpr const char* kNames[kLayoutCount] = {"row", "packed", "pair", "block64"};
  return static_cast<int>(layout) < kLayoutCount ? kNames[static_cast<int>(layout)] : "unknown";
}

std::string describe(const ModelConfig& config, Role role, std::uint32_t layer, std::uint32_t stack) {
  std::string text = name_of(role);
  if (is_per_layer(role)) text += " of layer " + std::to_string(layer);
  if (config.n_stacks > 1) text += " of stack " + std::to_string(stack);
  return text;
}

std::vector<Role> matrices_of(const StackConfig& c, Site site) {
  const auto if_there = [](bool there, std::vector<Role> roles) { return there ? roles : std::vector<Role>{}; };
  const bool cross = c.cross_attention != 0, factors = c.value_map == ValueMap::factors;
  switch (site) {
    case Site::attention_in: return {Role::w_query, Role::w_key, Role::w_value_down};
    case Site::value_up_in: return if_there(factors, {Role::w_value_up});
    case Site::ffn_in: return c.gated ? std::vector<Role>{Role::w_gate, Role::w_up} : std::vector<Role>{Role::w_up};
    case Site::down_in: return {Role::w_down};
    case Site::unembed_in:
      return if_there(c.output == Output::logits, {c.tied_unembedding ? Role::token_embedding : Role::unembedding});
    case Site::cross_in: return if_there(cross, {Role::cross_w_query});
    case Site::cross_value_up_in: return if_there(cross && factors, {Role::cross_w_value_up});
    case Site::source_in: return if_there(cross, {Role::cross_w_key, Role::cross_w_value_down});
    case Site::input_in:
      return c.input == Input::convolved ? std::vector<Role>{Role::convolution_1}
                                         : if_there(c.input == Input::projected, {Role::input_projection});
    case Site::convolution_in: return if_there(c.second_convolution, {Role::convolution_2});
    case Site::dense_in: return if_there(c.dense, {Role::dense});
  }
  return {};
}

bool is_per_layer(Site site) {
  return site != Site::unembed_in && site != Site::input_in && site != Site::convolution_in && site != Site::dense_in;
}

NormRoles norm_before(const StackConfig& c, Site site) {
  const bool before = c.norm_placement != NormPlacement::after;
  const bool final_norm = c.final_norm && c.pooling != Pooling::mean;
  switch (site) {
    case Site::attention_in: return {before, Role::attention_gain, Role::attention_norm_bias};
    case Site::cross_in: return {before && c.cross_attention, Role::cross_gain, Role::cross_norm_bias};
    case Site::ffn_in:
      if (c.sublayers == Sublayers::side_by_side) return {before, Role::attention_gain, Role::attention_norm_bias};
      return {before, Role::ffn_gain, Role::ffn_norm_bias};
    case Site::dense_in: return {final_norm && c.dense, Role::final_gain, Role::final_norm_bias};
    case Site::unembed_in:
      return {final_norm && !c.dense && c.output == Output::logits, Role::final_gain, Role::final_norm_bias};
    case Site::value_up_in:
    case Site::down_in:
    case Site::cross_value_up_in:
    case Site::source_in:
    case Site::input_in:
    case Site::convolution_in: break;
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

bool is_phases(Role role) { return role == Role::rotary_phases || role == Role::local_rotary_phases; }

}  // namespace

std::uint64_t parameter_count(const ModelConfig& config) {
  std::uint64_t n = 0;
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack) {
    StackConfig c = config.stacks[stack];
    c.flags = 0;
    for_each_slot(c, [&](const TensorSlot& s) {
      if (!is_phases(s.role)) n += std::uint64_t{s.rows} * s.cols + (s.bias ? s.rows : 0);
    });
  }
  return n;
}

Error check(const FloatModel& model) {
  switch (check_config(model.config)) {
    case Status::ok: break;
    case Status::feature_not_built: return Error(not_built(needs_of(model.config)));
    default: return Error("the model's sizes contradict each other or exceed the format's limits");
  }
  Error error;
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack) {
    const StackConfig& c = model.config.stacks[stack];
    if (c.position == Position::rotary && model.rotary_phases[stack].size() != c.rotary_dims / 2)
      return Error("the rotary phases are missing");
    if (c.local_rotary && model.local_rotary_phases[stack].size() != c.rotary_dims / 2)
      return Error("the rotary phases of windowed layers are missing");
    for_each_slot(c, [&](const TensorSlot& s) {
      if (error || is_phases(s.role)) return;
      const std::string name = describe(model.config, s.role, s.layer, stack);
      error = check_floats(model.floats(s.role, s.layer, stack), std::size_t{s.rows} * s.cols, name);
      if (!error && s.bias) error = check_floats(model.bias(s.role, s.layer, stack), s.rows, "the bias of " + name);
    });
    if (error) return error;
  }
  return {};
}

}  // namespace heed::quant
