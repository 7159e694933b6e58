// SPDX-License-Identifier: Apache-2.0
// gpt2.cpp: GPT2LMHeadModel (transformers/models/gpt2). Its matrices are Conv1D: [in, out], the transpose of ours.
#include <set>

#include "quant/readers/family.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kUsualEnd = 50256;  // <|endoftext|>, when config.json does not say

Error read_config(FloatModel& model, const Json& json) {
  ConfigReader in(json);
  model.config = ModelConfig{};
  StackConfig& c = model.config.main();
  c.norm = Norm::layer;
  c.position = Position::none;
  c.position_table = 1;
  c.gated = 0;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  const std::string activation = in.text_or("activation_function", "gelu_new");
  if (activation == "gelu_new" || activation == "gelu_pytorch_tanh")
    c.activation = Activation::gelu_tanh;
  else if (activation == "gelu")
    c.activation = Activation::gelu_erf;
  else if (activation == "relu")
    c.activation = Activation::relu;
  else if (activation == "silu" || activation == "swish")
    c.activation = Activation::silu;
  else
    in.refuse("activation_function");
  c.d_model = in.size("n_embd", 1, 65536);
  c.n_layers = in.size("n_layer", 1, 4096);
  c.n_heads = c.n_kv_heads = in.size("n_head", 1, 1024);
  if (c.d_model % c.n_heads != 0) in.refuse("n_head", "does not divide n_embd");
  c.head_dim = c.d_model / c.n_heads;
  if (c.head_dim > kMaxHeadDim || c.head_dim == 0)
    in.refuse("n_head", "makes heads of " + std::to_string(c.head_dim) + ", not of 1 to 256");
  c.d_ff = in.size_or("n_inner", 4 * c.d_model, 1, kMaxCols);
  if (c.d_ff > kMaxCols) in.refuse("n_embd", "makes a feed-forward layer of more than 131072");
  c.max_seq = in.size("n_positions", 1, 1u << 20);
  c.vocab_size = c.n_outputs = in.size("vocab_size", 1, 1u << 20);
  c.norm_epsilon = in.number_or("layer_norm_epsilon", 1e-5f);
  c.tied_unembedding = in.flag_or("tie_word_embeddings", true);
  c.attention_scale =
      in.flag_or("scale_attn_weights", true) ? 1.0f / square_root(static_cast<float>(c.head_dim)) : 1.0f;
  if (in.flag_or("scale_attn_by_inverse_layer_idx", false)) in.refuse("scale_attn_by_inverse_layer_idx");
  if (in.flag_or("add_cross_attention", false)) in.refuse("add_cross_attention");
  if (json.contains("rope_scaling") && !json["rope_scaling"].is_null()) in.refuse("rope_scaling");
  // Absent means GPT-2's own; null means none.
  const auto special = [&](const char* name) {
    if (!json.contains(name)) return kUsualEnd < c.vocab_size ? kUsualEnd : kNoSourceToken;
    return in.size_or(name, kNoSourceToken, 0, c.vocab_size - 1);
  };
  model.bos = special("bos_token_id");
  model.eos = special("eos_token_id");
  return in.error();
}

// Takes tensors by name and remembers which.
class Taker {
 public:
  Taker(FloatModel& model, const SafeTensors& tensors) : model_(model), tensors_(tensors) {
    if (tensors.find("transformer.wte.weight")) prefix_ = "transformer.";
  }

  // The tensor `name` (behind the prefix), which must have this shape; empty after an error.
  StoredTensor take(const std::string& name, const std::vector<std::uint64_t>& shape) {
    return take_whole(prefix_ + name, shape);
  }
  StoredTensor take_whole(const std::string& name, const std::vector<std::uint64_t>& shape) {
    StoredTensor stored;
    if (error_) return stored;
    const SafeTensor* t = tensors_.find(name);
    if (!t)
      error_ = Error("tensor " + name + " is missing");
    else if (t->shape != shape)
      error_ = Error("tensor " + name + " has the shape " + shape_text(t->shape) + ", not " + shape_text(shape));
    else
      error_ = open_stored(stored, *t);
    taken_.insert(name);
    return error_ ? StoredTensor{} : stored;
  }

  void vector(Role role, std::uint32_t layer, const std::string& name, std::uint64_t n) {
    model_.set(role, layer, take(name, {n}));
  }
  void matrix(Role role, const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    model_.set(role, 0, take(name, {rows, cols}));
  }

  // Outputs [first, first + rows) of a Conv1D `name` with `all` outputs, and their biases.
  void conv(const std::vector<Role>& roles, std::uint32_t layer, const std::string& name, std::uint32_t rows,
            std::uint32_t cols) {
    const auto n = static_cast<std::uint32_t>(roles.size());
    const StoredTensor w = take(name + ".weight", {cols, std::uint64_t{n} * rows}).transposed();
    const std::vector<float> b = take(name + ".bias", {std::uint64_t{n} * rows}).read();
    for (std::uint32_t part = 0; part < n && !error_; ++part) {
      model_.set(roles[part], layer, w.row_slice(part * rows, rows));
      const auto first = b.begin() + static_cast<std::ptrdiff_t>(std::size_t{part} * rows);
      model_.set_bias(roles[part], layer, {first, first + rows});
    }
  }

  // A tensor that nobody took is a part of the model that nobody would run.
  Error finish(const StackConfig& c) {
    if (c.tied_unembedding) taken_.insert("lm_head.weight");  // the embedding once more
    for (std::uint32_t layer = 0; layer < c.n_layers; ++layer)
      for (const char* mask : {".attn.bias", ".attn.masked_bias"})
        taken_.insert(prefix_ + "h." + std::to_string(layer) + mask);
    for (const SafeTensor& t : tensors_.tensors())
      if (!error_ && !taken_.count(t.name)) error_ = Error("tensor " + printable(t.name) + " is not part of a GPT-2");
    return error_;
  }

 private:
  FloatModel& model_;
  const SafeTensors& tensors_;
  std::string prefix_;
  std::set<std::string> taken_;
  Error error_;
};

}  // namespace

Error read_gpt2(FloatModel& model, const Json& config, const SafeTensors& tensors) {
  if (Error error = read_config(model, config)) return error.about("config.json");
  const StackConfig& c = model.config.main();
  const std::uint32_t d = c.d_model;
  Taker in(model, tensors);
  in.matrix(Role::token_embedding, "wte.weight", c.vocab_size, d);
  in.matrix(Role::position_embedding, "wpe.weight", c.max_seq, d);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "h." + std::to_string(layer) + ".";
    in.vector(Role::attention_gain, layer, h + "ln_1.weight", d);
    in.vector(Role::attention_norm_bias, layer, h + "ln_1.bias", d);
    in.conv({Role::w_query, Role::w_key, Role::w_value_down}, layer, h + "attn.c_attn", d, d);
    in.conv({Role::w_value_up}, layer, h + "attn.c_proj", d, d);
    in.vector(Role::ffn_gain, layer, h + "ln_2.weight", d);
    in.vector(Role::ffn_norm_bias, layer, h + "ln_2.bias", d);
    in.conv({Role::w_up}, layer, h + "mlp.c_fc", c.d_ff, d);
    in.conv({Role::w_down}, layer, h + "mlp.c_proj", d, c.d_ff);
  }
  in.vector(Role::final_gain, 0, "ln_f.weight", d);
  in.vector(Role::final_norm_bias, 0, "ln_f.bias", d);
  if (!c.tied_unembedding) model.set(Role::unembedding, 0, in.take_whole("lm_head.weight", {c.vocab_size, d}));
  if (Error error = in.finish(c)) return error;
  return check(model);
}

}  // namespace heed::quant
