// SPDX-License-Identifier: Apache-2.0
// encoder_decoder.cpp: one set of names, which transformers has copied from BART into others.
#include "quant/readers/families/encoder_decoder.hpp"

#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

void take_attention(TensorTaker& t, std::uint32_t layer, const std::string& name, bool cross) {
  t.matrix(cross ? Role::cross_w_query : Role::w_query, layer, name + ".q_proj");
  t.matrix(cross ? Role::cross_w_key : Role::w_key, layer, name + ".k_proj");
  t.matrix(cross ? Role::cross_w_value_down : Role::w_value_down, layer, name + ".v_proj");
  t.matrix(cross ? Role::cross_w_value_up : Role::w_value_up, layer, name + ".out_proj");
}

}  // namespace

void read_two_stacks(Family& f, NormPlacement placement) {
  FamilyConfig& in = f.config;
  f.model.config.n_stacks = 2;
  if (kMaxStacks < 2) return;
  constexpr SizeNames kSizes[2] = {
      {"d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", nullptr, nullptr},
      {"d_model", "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", nullptr, nullptr}};
  for (std::uint32_t stack = 0; stack < 2; ++stack) {
    StackConfig& c = f.model.config.stacks[stack];
    c.norm = Norm::layer;
    c.norm_placement = placement;
    c.final_norm = placement == NormPlacement::before;
    c.position = Position::none;
    c.position_table = 1;
    c.gated = 0;
    c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
    in.read_sizes(c, kSizes[stack]);
    c.activation = in.activation("activation_function", "gelu");
  }
  StackConfig &source = f.model.config.stacks[0], &main = f.model.config.stacks[kMaxStacks - 1];
  source.use = Use::encode;
  source.mask = Mask::two_way;
  source.output = Output::vectors;
  source.tied_unembedding = 0;
  main.cross_attention = 1;
  main.d_source = source.d_model;
  main.cross_scale = main.attention_scale;
  main.biases |= kBiasCrossQuery | kBiasCrossKey | kBiasCrossValueDown | kBiasCrossValueUp;
  main.vocab_size = main.n_outputs = in.size("vocab_size", 1, 1u << 20);
  in.expect("tie_word_embeddings", true);
  in.ignore({"num_hidden_layers"});  // that of the first stack once more
}

void read_embedding_scale(FamilyConfig& in, StackConfig& c) {
  if (in.flag_or("scale_embedding", false)) c.embedding_scale = square_root(static_cast<float>(c.d_model));
}

void take_layers(Family& f, std::uint32_t stack, const std::string& prefix) {
  TensorTaker& t = f.tensors;
  const StackConfig& c = f.model.config.stacks[stack];
  const bool before = c.norm_placement == NormPlacement::before;
  t.use_stack(stack);
  t.set_prefix(prefix);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "layers." + std::to_string(layer) + ".";
    take_attention(t, layer, h + "self_attn", false);
    t.norm(before ? Role::attention_gain : Role::attention_after_gain,
           before ? Role::attention_norm_bias : Role::attention_after_bias, layer, h + "self_attn_layer_norm");
    if (c.cross_attention) {
      take_attention(t, layer, h + "encoder_attn", true);
      t.norm(before ? Role::cross_gain : Role::cross_after_gain, before ? Role::cross_norm_bias : Role::cross_after_bias,
             layer, h + "encoder_attn_layer_norm");
    }
    t.matrix(Role::w_up, layer, h + "fc1");
    t.matrix(Role::w_down, layer, h + "fc2");
    t.norm(before ? Role::ffn_gain : Role::ffn_after_gain, before ? Role::ffn_norm_bias : Role::ffn_after_bias, layer,
           h + "final_layer_norm");
  }
}

}  // namespace heed::quant
