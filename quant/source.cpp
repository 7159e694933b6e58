// SPDX-License-Identifier: Apache-2.0
// source.cpp: the float model's book-keeping.
#include "quant/source.hpp"

#include <algorithm>

#include "quant/feature_names.hpp"
#include "quant/row_blocks.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {

FloatModel FloatModel::borrowed() const {
  FloatModel m;
  m.config = config;
  for (std::uint32_t stack = 0; stack < kMaxStacks; ++stack) {
    m.rotary_phases[stack] = rotary_phases[stack];
    m.local_rotary_phases[stack] = local_rotary_phases[stack];
    for (const auto& entry : entries_[stack]) m.entries_[stack].push_back(entry ? std::make_unique<Entry>(*entry) : nullptr);
  }
  m.rope_theta = rope_theta;
  m.format = format;
  m.bos = bos;
  m.eos = eos;
  m.generation = generation;
  m.classes = classes;
  m.name = name;
  m.licence = licence;
  m.tokenizer = tokenizer;
  m.source_tokenizer = source_tokenizer;
  m.parallel = parallel;
  return m;
}

void FloatModel::take_tensors(FloatModel&& changed) {
  config = changed.config;
  for (std::uint32_t stack = 0; stack < kMaxStacks; ++stack) entries_[stack] = std::move(changed.entries_[stack]);
}

Error FloatModel::open(Span<const std::uint8_t>& bytes, const std::string& path) {
  SourceFile file;
  if (Error error = file.open(path)) return error;
  bytes = file.bytes();
  files.push_back(std::move(file));
  return {};
}

std::uint64_t FloatModel::file_bytes() const {
  std::uint64_t sum = 0;
  for (const SourceFile& file : files) sum += file.bytes().size();
  return sum;
}

FloatModel::Entry& FloatModel::entry(Role role, std::uint32_t layer, std::uint32_t stack) {
  auto& table = entries_[stack];
  const std::size_t i = std::size_t{layer} * kRoles + static_cast<std::size_t>(role);
  if (i >= table.size()) table.resize((std::size_t{layer} + 1) * kRoles);
  if (!table[i]) table[i] = std::make_unique<Entry>();
  return *table[i];
}

const FloatModel::Entry* FloatModel::find(Role role, std::uint32_t layer, std::uint32_t stack) const {
  const auto& table = entries_[stack];
  const std::size_t i = std::size_t{layer} * kRoles + static_cast<std::size_t>(role);
  return i < table.size() ? table[i].get() : nullptr;
}

void FloatModel::set(Role role, std::uint32_t layer, StoredTensor tensor, std::uint32_t stack) {
  if (!is_matrix(role) && !tensor.is_empty() && !tensor.in_place())
    tensor = StoredTensor::of(tensor.read(), tensor.rows(), tensor.cols());
  entry(role, layer, stack).tensor = std::move(tensor);
}

void FloatModel::own(Role role, std::uint32_t layer, std::vector<float> data, std::uint32_t stack) {
  const TensorSlot slot = tensor_slot(config.stacks[stack], role, layer);
  const bool fits = data.size() == std::size_t{slot.rows} * slot.cols;
  set(role, layer, fits ? StoredTensor::of(std::move(data), slot.rows, slot.cols) : StoredTensor::vector(std::move(data)),
      stack);
}

void FloatModel::set_bias(Role role, std::uint32_t layer, std::vector<float> bias, std::uint32_t stack) {
  entry(role, layer, stack).bias = std::move(bias);
}

void FloatModel::drop(Role role, std::uint32_t layer, std::uint32_t stack) { entry(role, layer, stack) = Entry{}; }

void FloatModel::scale_rows(Role role, std::uint32_t layer, std::uint32_t stack, Span<const double> factors) {
  if (!tensor(role, layer, stack)) return;
  Entry& e = entry(role, layer, stack);
  // A vector is a matrix of one row.
  set(role, layer, is_matrix(role) ? e.tensor.rows_times(factors) : e.tensor.columns_times(factors), stack);
  for (std::size_t i = 0; i < e.bias.size(); ++i) e.bias[i] = static_cast<float>(e.bias[i] * factors[i]);
}

void FloatModel::scale_columns(Role role, std::uint32_t layer, std::uint32_t stack, Span<const double> factors) {
  if (!tensor(role, layer, stack)) return;
  Entry& e = entry(role, layer, stack);
  e.tensor = e.tensor.columns_times(factors);
}

const StoredTensor* FloatModel::tensor(Role role, std::uint32_t layer, std::uint32_t stack) const {
  const Entry* e = find(role, layer, stack);
  return e && !e->tensor.is_empty() ? &e->tensor : nullptr;
}

const float* FloatModel::floats(Role role, std::uint32_t layer, std::uint32_t stack) const {
  const StoredTensor* t = tensor(role, layer, stack);
  return t ? t->in_place() : nullptr;
}

std::vector<float> FloatModel::read(Role role, std::uint32_t layer, std::uint32_t stack) const {
  const StoredTensor* t = tensor(role, layer, stack);
  return t ? t->read() : std::vector<float>{};
}

Span<const float> FloatModel::bias(Role role, std::uint32_t layer, std::uint32_t stack) const {
  const Entry* e = find(role, layer, stack);
  return e && !e->bias.empty() ? Span<const float>(e->bias) : Span<const float>();
}

bool is_matrix(Role role) {
  static const StackConfig any;
  return tensor_slot(any, role, 0).type == ElementType::s8;
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

// The place of the first number that is not finite or is above 2^40, or n.
std::size_t first_bad(const float* x, std::size_t n) {
  std::uint32_t most = 0;
  for (std::size_t i = 0; i < n; ++i) most = std::max(most, bits_of(x[i]) & 0x7FFFFFFFu);
  if (most <= bits_of(kLargest)) return n;  // as nearly always, and found quickly
  std::size_t i = 0;
  while ((bits_of(x[i]) & 0x7FFFFFFFu) <= bits_of(kLargest)) ++i;
  return i;
}

Error bad_number(const std::string& name, std::size_t i) {
  return Error(name + ": number " + std::to_string(i) + " is not finite or above 2^40");
}

Error check_numbers(const StoredTensor& t, const std::string& name, const Parallel& parallel) {
  const RowBlocks blocks(t);
  std::vector<std::size_t> bad(blocks.count(), SIZE_MAX);
  for_each_part(parallel, blocks.count(), [&](std::uint32_t i) {
    const RowBlocks::Block block = blocks.read(i);
    const std::size_t n = std::size_t{block.rows} * t.cols(), at = first_bad(block.x, n);
    if (at < n) bad[i] = std::size_t{block.first} * t.cols() + at;
  });
  const std::size_t first = *std::min_element(bad.begin(), bad.end());
  return first == SIZE_MAX ? Error() : bad_number(name, first);
}

Error check_tensor(const FloatModel& model, const TensorSlot& slot, std::uint32_t stack) {
  const std::string name = describe(model.config, slot.role, slot.layer, stack);
  const StoredTensor* t = model.tensor(slot.role, slot.layer, stack);
  if (!t) return Error(name + " is missing");
  if (t->rows() != slot.rows || t->cols() != slot.cols)
    return Error(name + " has the shape [" + std::to_string(t->rows()) + ", " + std::to_string(t->cols()) + "], not [" +
                 std::to_string(slot.rows) + ", " + std::to_string(slot.cols) + "]");
  if (Error error = check_numbers(*t, name, model.parallel)) return error;
  if (!slot.bias) return {};
  const Span<const float> bias = model.bias(slot.role, slot.layer, stack);
  if (bias.size() != slot.rows)
    return Error("the bias of " + name + (bias.empty() ? " is missing" : " has " + std::to_string(bias.size()) + " numbers"));
  const std::size_t at = first_bad(bias.data(), slot.rows);
  return at == slot.rows ? Error() : bad_number("the bias of " + name, at);
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

Error check_configuration(const FloatModel& model) {
  switch (check_config(model.config)) {
    case Status::ok: return {};
    case Status::feature_not_built: return Error(not_built(needs_of(model.config)));
    default: return Error("the model's sizes contradict each other or exceed the format's limits");
  }
}

Error check(const FloatModel& model) {
  Error error = check_configuration(model);
  if (error) return error;
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack) {
    const StackConfig& c = model.config.stacks[stack];
    if (c.position == Position::rotary && model.rotary_phases[stack].size() != c.rotary_dims / 2)
      return Error("the rotary phases are missing");
    if (c.local_rotary && model.local_rotary_phases[stack].size() != c.rotary_dims / 2)
      return Error("the rotary phases of windowed layers are missing");
    for_each_slot(c, [&](const TensorSlot& s) {
      if (error || is_phases(s.role)) return;
      error = check_tensor(model, s, stack);
    });
    if (error) return error;
  }
  return {};
}

}  // namespace heed::quant
