// SPDX-License-Identifier: Apache-2.0
// bert.cpp: BERT, RoBERTa and XLM-RoBERTa (transformers/models/bert, roberta): vectors of every position or of a sentence,
// classes of a sentence or of every token, or words in the place of masked ones.
#include "quant/readers/family.hpp"

namespace heed::quant {
namespace {

bool ends_with(const std::string& text, const char* end) {
  const std::string wanted = end;
  return text.size() >= wanted.size() && text.compare(text.size() - wanted.size(), wanted.size(), wanted) == 0;
}

// RoBERTa counts positions from behind the padding token's number, and has a head of its own.
std::uint32_t position_offset(Family& f, bool roberta) {
  return roberta ? f.config.size_or("pad_token_id", 1, 0, 1u << 16) + 1 : 0;
}

void read_config(Family& f, bool roberta) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.norm = Norm::layer;
  c.norm_placement = NormPlacement::after;
  c.input_norm = 1;
  c.final_norm = 0;
  c.position = Position::none;
  c.position_table = 1;
  c.gated = 0;
  c.tied_unembedding = 0;
  c.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  in.read_sizes(c, kUsualSizes);
  const std::uint32_t offset = position_offset(f, roberta);
  if (c.max_seq <= offset) in.refuse("max_position_embeddings", "leaves no position");
  c.max_seq -= offset;
  c.n_token_types = in.size_or("type_vocab_size", 2, 1, 256);
  c.activation = in.activation("hidden_act", "gelu");
  in.read_epsilon(c, "layer_norm_eps", 1e-12);
  in.expect("position_embedding_type", "absolute");
  in.ignore({"classifier_activation", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
             "pooler_size_per_head", "pooler_type", "pooler_hidden_size", "pooler_act"});
}

// What stands behind the last layer, by the end of the architecture's name.
void read_head(Family& f, bool roberta) {
  FamilyConfig& in = f.config;
  StackConfig& c = f.model.config.main();
  const bool tied = in.flag_or("tie_word_embeddings", true);
  if (ends_with(f.architecture, "ForMaskedLM")) {
    c.n_outputs = c.vocab_size;
    c.tied_unembedding = tied;
    c.dense = c.dense_norm = 1;
    c.dense_activation = roberta ? Activation::gelu_erf : c.activation;
    c.biases |= kBiasDense | kBiasUnembedding;
  } else if (ends_with(f.architecture, "Classification")) {
    f.model.classes = in.read_classes();
    c.n_outputs = static_cast<std::uint32_t>(f.model.classes.size());
    c.biases |= kBiasUnembedding;
    if (ends_with(f.architecture, "ForSequenceClassification")) {
      c.pooling = Pooling::first;
      c.dense = 1;
      c.dense_activation = Activation::tanh;
      c.biases |= kBiasDense;
    }
  } else {
    c.output = Output::vectors;
    c.pooling = f.sentence.pooling;
    c.unit_length = f.sentence.unit_length;
    if (f.sentence.max_seq && f.sentence.max_seq < c.max_seq) c.max_seq = f.sentence.max_seq;
  }
  if (c.dense) c.d_dense = c.d_model;
}

void take_head(Family& f, bool roberta, const std::string& body) {
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  if (c.output == Output::vectors) return;
  t.set_prefix("");
  if (c.dense_norm) {
    const std::string head = roberta ? "lm_head." : "cls.predictions.", part = roberta ? "" : "transform.";
    t.matrix(Role::dense, 0, head + part + "dense");
    t.norm(Role::dense_gain, Role::dense_norm_bias, 0, head + (roberta ? "layer_norm" : part + "LayerNorm"));
    t.bias(c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0, head + "bias");
    t.skip(head + "decoder.bias");
    if (c.tied_unembedding)
      t.skip(head + "decoder.weight");
    else
      t.set(Role::unembedding, 0, t.take(head + "decoder.weight", {c.n_outputs, c.d_model}));
    t.skip_all("cls.seq_relationship.");  // whether a sentence follows another
  } else if (c.dense) {
    t.matrix(Role::dense, 0, roberta ? "classifier.dense" : body + "pooler.dense");
    t.matrix(Role::unembedding, 0, roberta ? "classifier.out_proj" : "classifier");
  } else {
    t.matrix(Role::unembedding, 0, "classifier");
  }
}

}  // namespace

void read_bert(Family& f) {
  const bool roberta = f.architecture.find("Roberta") != std::string::npos || f.architecture.find("RoBERTa") != std::string::npos;
  read_config(f, roberta);
  read_head(f, roberta);
  if (!f.is_configured()) return;
  const StackConfig& c = f.model.config.main();
  TensorTaker& t = f.tensors;
  const char* body = roberta ? "roberta." : "bert.";
  t.choose_prefix({body, ""}, "embeddings.word_embeddings.weight");
  t.matrix(Role::token_embedding, 0, "embeddings.word_embeddings");
  t.positions("embeddings.position_embeddings", position_offset(f, roberta));
  t.matrix(Role::token_type_embedding, 0, "embeddings.token_type_embeddings");
  t.norm(Role::input_gain, Role::input_norm_bias, 0, "embeddings.LayerNorm");
  t.skip("embeddings.position_ids");
  t.skip("embeddings.token_type_ids");
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "encoder.layer." + std::to_string(layer) + ".";
    t.matrix(Role::w_query, layer, h + "attention.self.query");
    t.matrix(Role::w_key, layer, h + "attention.self.key");
    t.matrix(Role::w_value_down, layer, h + "attention.self.value");
    t.matrix(Role::w_value_up, layer, h + "attention.output.dense");
    t.norm(Role::attention_after_gain, Role::attention_after_bias, layer, h + "attention.output.LayerNorm");
    t.matrix(Role::w_up, layer, h + "intermediate.dense");
    t.matrix(Role::w_down, layer, h + "output.dense");
    t.norm(Role::ffn_after_gain, Role::ffn_after_bias, layer, h + "output.LayerNorm");
  }
  // What other heads read: of a model without one, too.
  if (!(c.dense && !c.dense_norm && !roberta)) t.skip_all("pooler.");
  take_head(f, roberta, body);
}

}  // namespace heed::quant
