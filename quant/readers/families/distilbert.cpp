// SPDX-License-Identifier: Apache-2.0
// distilbert.cpp: DistilBERT (transformers/models/distilbert): BERT's layers without token types, and other names.
#include "quant/readers/family.hpp"

namespace heed::quant {
namespace {

constexpr SizeNames kSizes = {"dim", "n_layers", "n_heads", "hidden_dim", "vocab_size", "max_position_embeddings"};

void read_config(Family& f) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.norm = Norm::layer;
  c.norm_epsilon = 1e-12f;
  c.norm_placement = NormPlacement::after;
  c.input_norm = 1;
  c.final_norm = 0;
  c.position = Position::none;
  c.position_table = 1;
  c.gated = 0;
  c.tied_unembedding = 0;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  in.read_sizes(c, kSizes);
  c.activation = in.activation("activation", "gelu");
  in.ignore({"sinusoidal_pos_embds"});  // they are stored like learned ones
  const bool tied = in.flag_or("tie_word_embeddings", true);
  if (f.is("DistilBertForMaskedLM")) {
    c.n_outputs = c.vocab_size;
    c.tied_unembedding = tied;
    c.dense = c.dense_norm = 1;
    c.dense_activation = c.activation;
    c.biases |= kBiasDense | kBiasUnembedding;
  } else if (f.is("DistilBertModel")) {
    c.output = Output::vectors;
    c.pooling = f.sentence.pooling;
    c.unit_length = f.sentence.unit_length;
    if (f.sentence.max_seq && f.sentence.max_seq < c.max_seq) c.max_seq = f.sentence.max_seq;
  } else {
    f.model.classes = in.read_classes();
    c.n_outputs = static_cast<std::uint32_t>(f.model.classes.size());
    c.biases |= kBiasUnembedding;
    if (f.is("DistilBertForSequenceClassification")) {
      c.pooling = Pooling::first;
      c.dense = 1;
      c.dense_activation = Activation::relu;
      c.biases |= kBiasDense;
    }
  }
  if (c.dense) c.d_dense = c.d_model;
}

void take_head(Family& f) {
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  if (c.output == Output::vectors) return;
  t.set_prefix("");
  if (!c.dense_norm) {
    if (c.dense) t.matrix(Role::dense, 0, "pre_classifier");
    t.matrix(Role::unembedding, 0, "classifier");
    return;
  }
  t.matrix(Role::dense, 0, "vocab_transform");
  t.norm(Role::dense_gain, Role::dense_norm_bias, 0, "vocab_layer_norm");
  if (!c.tied_unembedding) return t.matrix(Role::unembedding, 0, "vocab_projector");
  t.skip("vocab_projector.weight");
  t.bias(Role::token_embedding, 0, "vocab_projector.bias");
}

}  // namespace

void read_distilbert(Family& f) {
  read_config(f);
  if (!f.is_configured()) return;
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  t.choose_prefix({"distilbert.", ""}, "embeddings.word_embeddings.weight");
  t.matrix(Role::token_embedding, 0, "embeddings.word_embeddings");
  t.positions("embeddings.position_embeddings", 0);
  t.norm(Role::input_gain, Role::input_norm_bias, 0, "embeddings.LayerNorm");
  t.skip("embeddings.position_ids");
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "transformer.layer." + std::to_string(layer) + ".";
    t.matrix(Role::w_query, layer, h + "attention.q_lin");
    t.matrix(Role::w_key, layer, h + "attention.k_lin");
    t.matrix(Role::w_value_down, layer, h + "attention.v_lin");
    t.matrix(Role::w_value_up, layer, h + "attention.out_lin");
    t.norm(Role::attention_after_gain, Role::attention_after_bias, layer, h + "sa_layer_norm");
    t.matrix(Role::w_up, layer, h + "ffn.lin1");
    t.matrix(Role::w_down, layer, h + "ffn.lin2");
    t.norm(Role::ffn_after_gain, Role::ffn_after_bias, layer, h + "output_layer_norm");
  }
  take_head(f);
}

}  // namespace heed::quant
