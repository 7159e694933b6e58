// SPDX-License-Identifier: Apache-2.0
// source.cpp: the float model's book-keeping.
#include "quant/source.hpp"

#include "quant/double_math.hpp"
#include "quant/feature_names.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {

const float*& FloatModel::slot(Table& table, Role role, std::uint32_t layer) {
  const std::size_t i = std::size_t{layer} * kRoleCount + static_cast<std::size_t>(role);
  if (i >= table.size()) table.resize((std::size_t{layer} + 1) * kRoleCount, nullptr);
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
  static constexpr const char* kNames[kRoleCount] = {
      "token_embedding", "rotary_phases", "attention_gain",     "w_query",             "w_key",
      "w_value_down",    "w_value_up",    "key_offset",         "ffn_gain",            "w_gate",
      "w_up",            "w_down",        "final_gain",         "unembedding",         "position_embedding",
      "attention_norm_bias",              "ffn_norm_bias",      "final_norm_bias"};
  return static_cast<int>(role) < kRoleCount ? kNames[static_cast<int>(role)] : "unknown";
}

const char* name_of(Site site) {
  static constexpr const char* kNames[kSiteCount] = {"attention_in", "value_up_in", "ffn_in", "down_in", "unembed_in"};
  return static_cast<int>(site) < kSiteCount ? kNames[static_cast<int>(site)] : "unknown";
}

const char* name_of(Layout layout) {
  static constexpr const char* kNames[kLayoutCount] = {"row", "packed", "pair", "block64"};
  return static_cast<int>(layout) < kLayoutCount ? kNames[static_cast<int>(layout)] : "unknown";
}

std::string describe(Role role, std::uint32_t layer) {
  constexpr std::uint32_t kGlobal = kRolesBeforeLayers | role_bit(Role::final_gain) | role_bit(Role::unembedding) |
                                    role_bit(Role::final_norm_bias);
  const bool global = static_cast<int>(role) >= kRoleCount || (kGlobal & role_bit(role));
  return global ? std::string(name_of(role)) : std::string(name_of(role)) + " of layer " + std::to_string(layer);
}

std::vector<Role> matrices_of(const ModelConfig& c, Site site) {
  switch (site) {
    case Site::attention_in: return {Role::w_query, Role::w_key, Role::w_value_down};
    case Site::value_up_in: return {Role::w_value_up};
    case Site::ffn_in: return c.gated ? std::vector<Role>{Role::w_gate, Role::w_up} : std::vector<Role>{Role::w_up};
    case Site::down_in: return {Role::w_down};
    case Site::unembed_in: return {c.tied_unembedding ? Role::token_embedding : Role::unembedding};
  }
  return {};
}

namespace {

// Calls visit(slot) for each tensor that the configuration implies.
template <class Visit>
void for_each_slot(const ModelConfig& c, Visit visit) {
  const std::uint32_t globals = global_roles(c), layers = layer_roles(c);
  for (std::uint32_t role = 0; role < kRoleCount; ++role)
    if ((globals >> role) & 1u) visit(tensor_slot(c, static_cast<Role>(role), 0));
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer)
    for (std::uint32_t role = 0; role < kRoleCount; ++role)
      if ((layers >> role) & 1u) visit(tensor_slot(c, static_cast<Role>(role), layer));
}

Error check_floats(const float* x, std::size_t n, const std::string& name) {
  if (!x) return Error(name + " is missing");
  for (std::size_t i = 0; i < n; ++i)
    if (magnitude_bits(x[i]) != (bits_of(x[i]) & 0x7FFFFFFFu) || magnitude_bits(x[i]) > bits_of(kLargest))
      return Error(name + ": number " + std::to_string(i) + " is not finite or above 2^40");
  return {};
}

}  // namespace

std::uint64_t parameter_count(const ModelConfig& config) {
  ModelConfig c = config;
  c.flags &= static_cast<std::uint16_t>(~(kAttentionGainFolded | kFfnGainFolded | kFinalGainFolded | kKeyOffset));
  std::uint64_t n = 0;
  for_each_slot(c, [&](const TensorSlot& s) {
    if (s.role != Role::rotary_phases) n += std::uint64_t{s.rows} * s.cols + (s.bias ? s.rows : 0);
  });
  return n;
}

Error check(const FloatModel& model) {
  const ModelConfig& c = model.config;
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
