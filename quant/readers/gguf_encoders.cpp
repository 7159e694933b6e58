// SPDX-License-Identifier: Apache-2.0
// gguf_encoders.cpp: architectures that read a whole text: BERT's, and T5's with or without the stack that answers.
#include "quant/readers/gguf_architectures.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kT5MaxDistance = 128;  // of all T5 models; files do not say it

// A vector for each position or for the text, or with `cls` the logits of classes.
void describe_bert_output(GgufDescription& d) {
  StackConfig& c = d.c();
  enum : std::uint32_t { none = 0, mean = 1, cls = 2, last = 3, rank = 4 };
  const std::uint32_t pooling = d.in.size_or("pooling_type", none, none, rank);
  c.output = Output::vectors;
  c.tied_unembedding = 0;
  c.pooling = pooling == mean   ? Pooling::mean
              : pooling == none ? Pooling::every
              : pooling == last ? Pooling::last
                                : Pooling::first;
  if (pooling != rank) return;
  c.output = Output::logits;
  c.dense = d.tensors.has("cls.weight");
  if (c.dense) {
    c.d_dense = d.tensors.rows_of("cls.weight", 65536);
    c.dense_activation = Activation::tanh;
  }
  c.n_outputs = d.tensors.rows_of("cls.output.weight", 1u << 20);
  d.classes = "classifier.output_labels";
}

void describe_t5_stack(GgufDescription& d, std::uint32_t stack) {
  StackConfig& c = d.config.stacks[stack];
  StackExtras& x = d.extras[stack];
  const std::string& prefix = d.prefixes[stack];
  c.norm = Norm::rms;
  describe_sizes(d, c);
  d.in.has("attention.layer_norm_epsilon");  // the same number, for its RMS norms too
  c.attention_scale = 1.0f;                  // trained into the queries
  c.gated = d.tensors.has(prefix + "blk.0.ffn_gate.weight");
  c.activation = c.gated ? Activation::gelu_tanh : Activation::relu;
  c.position = Position::relative;
  x.buckets = d.in.size("attention.relative_buckets_count", 4, 254);
  x.max_distance = kT5MaxDistance;
  if (x.buckets % 2 != 0) d.in.refuse("attention.relative_buckets_count", "is odd, and both sides of 0 need as many");
  if (!d.error) c.n_distances = relative_distances(x.buckets, x.max_distance, c.mask == Mask::two_way, c.max_seq);
  c.biases = d.tensors.biases(c, prefix);
}

void describe_t5_encoder_stack(GgufDescription& d) {
  StackConfig& c = d.config.stacks[0];
  d.prefixes[0] = "enc.";
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.output = Output::vectors;
  c.tied_unembedding = 0;
  describe_t5_stack(d, 0);
}

}  // namespace

void describe_bert(GgufDescription& d) {
  StackConfig& c = d.c();
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.norm = Norm::layer;
  c.norm_placement = NormPlacement::after;
  c.input_norm = 1;
  c.final_norm = 0;
  c.position = Position::none;
  c.position_table = 1;
  c.gated = 0;
  c.activation = Activation::gelu_erf;
  describe_sizes(d, c);
  if (d.tensors.has("token_types.weight")) c.n_token_types = d.tensors.rows_of("token_types.weight", 65536);
  if (d.in.flag_or("attention.causal", false)) d.in.refuse("attention.causal");
  describe_bert_output(d);
  c.biases = d.tensors.biases(c, "");
}

void describe_t5encoder(GgufDescription& d) {
  describe_t5_encoder_stack(d);
  d.in.has("decoder_start_token_id");  // of the stack that is not there
  d.in.has("decoder_block_count");
}

void describe_t5(GgufDescription& d) {
  if (kMaxStacks < 2) {
    d.error = Error("the model needs cross_attention, which this build leaves out");
    return;
  }
  d.config.n_stacks = 2;
  describe_t5_encoder_stack(d);
  d.prefixes[d.config.count() - 1] = "dec.";
  describe_t5_stack(d, d.config.count() - 1);
  StackConfig& c = d.c();
  c.n_layers = d.in.size_or("decoder_block_count", c.n_layers, 1, 4096);
  c.cross_attention = 1;
  c.cross_scale = 1.0f;
  c.d_source = d.config.source().d_model;
  c.n_outputs = c.vocab_size;
  c.tied_unembedding = !d.tensors.has("output.weight");
  // Of models whose embedding unembeds too, what it reads is divided by sqrt(d_model).
  if (c.tied_unembedding) d.final_gain_factor = static_cast<double>(1.0f / square_root(static_cast<float>(c.d_model)));
  d.first_token = d.in.size_or("decoder_start_token_id", 0, 0, c.vocab_size ? c.vocab_size - 1 : 0);
}

}  // namespace heed::quant
