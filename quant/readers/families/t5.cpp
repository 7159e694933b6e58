// SPDX-License-Identifier: Apache-2.0
// t5.cpp: T5, FLAN-T5 and their like (transformers/models/t5): a bias of scores for each bucket of distances, which all layers
// of a stack share, scores that are not scaled, RMS norms, no biases of matrices.
#include "quant/readers/family.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

struct Buckets {
  std::uint32_t n = 0, max_distance = 0;
};

// "relu", "gated-gelu" (which is the approximation by tanh), "gated-silu"
void read_feed_forward(FamilyConfig& in, StackConfig& c) {
  const std::string said = in.has("feed_forward_proj") ? in.text("feed_forward_proj") : "relu";
  c.gated = said.compare(0, 6, "gated-") == 0;
  const std::string name = c.gated ? said.substr(6) : said;
  if (said == "gated-gelu" || name == "gelu_new")
    c.activation = Activation::gelu_tanh;
  else if (name == "relu")
    c.activation = Activation::relu;
  else if (name == "silu" || name == "swish")
    c.activation = Activation::silu;
  else
    in.refuse("feed_forward_proj", "is not supported");
}

Buckets read_buckets(FamilyConfig& in) {
  Buckets buckets;
  buckets.n = in.size_or("relative_attention_num_buckets", 32, 4, 4096);
  buckets.max_distance = in.size_or("relative_attention_max_distance", 128, 2, 65536);
  if (buckets.n % 2 != 0) in.refuse("relative_attention_num_buckets", "is odd, and both sides of 0 need as many");
  if (buckets.max_distance <= buckets.n / 2)
    in.refuse("relative_attention_max_distance", "is not above the distances that have buckets of their own");
  return buckets;
}

void read_stack(Family& f, StackConfig& c, const Buckets& buckets, bool is_source) {
  FamilyConfig& in = f.config;
  const bool own_depth = !is_source && in.has("num_decoder_layers");
  in.read_sizes(c, {"d_model", own_depth ? "num_decoder_layers" : "num_layers", nullptr, "d_ff", "vocab_size", nullptr});
  c.n_heads = c.n_kv_heads = in.size("num_heads", 1, 1024);
  in.read_head_dim(c, "num_heads", "d_kv");
  c.max_seq = in.size_or("n_positions", 512, 1, 1u << 16);
  c.attention_scale = 1.0f;
  c.position = Position::relative;
  in.read_epsilon(c, "layer_norm_epsilon", 1e-6);
  read_feed_forward(in, c);
  if (is_source) {
    c.use = Use::encode;
    c.mask = Mask::two_way;
    c.output = Output::vectors;
    c.tied_unembedding = 0;
  } else {
    c.cross_attention = 1;
    c.d_source = c.d_model;
    c.cross_scale = 1.0f;
    c.n_outputs = c.vocab_size;
  }
  if (!f.error) c.n_distances = relative_distances(buckets.n, buckets.max_distance, is_source, c.max_seq);
}

void take_layers(Family& f, std::uint32_t stack, const Buckets& buckets) {
  TensorTaker& t = f.tensors;
  const StackConfig& c = f.model.config.stacks[stack];
  t.use_stack(stack);
  t.set_prefix("");
  t.matrix(Role::token_embedding, 0, "shared");
  t.set_prefix(stack == 0 ? "encoder." : "decoder.");
  t.skip("embed_tokens.weight");  // the same
  const StoredTensor table =
      t.take("block.0.layer.0.SelfAttention.relative_attention_bias.weight", {buckets.n, c.n_heads});
  if (f.error) return;
  t.set(Role::score_bias, 0,
        StoredTensor::of(spread_buckets(table.read().data(), c.n_heads, buckets.n, buckets.max_distance, stack == 0, c.n_distances),
                         c.n_heads, c.n_distances));
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::string h = "block." + std::to_string(layer) + ".layer.";
    t.norm(Role::attention_gain, Role::attention_norm_bias, layer, h + "0.layer_norm");
    t.matrix(Role::w_query, layer, h + "0.SelfAttention.q");
    t.matrix(Role::w_key, layer, h + "0.SelfAttention.k");
    t.matrix(Role::w_value_down, layer, h + "0.SelfAttention.v");
    t.matrix(Role::w_value_up, layer, h + "0.SelfAttention.o");
    if (c.cross_attention) {
      t.norm(Role::cross_gain, Role::cross_norm_bias, layer, h + "1.layer_norm");
      t.matrix(Role::cross_w_query, layer, h + "1.EncDecAttention.q");
      t.matrix(Role::cross_w_key, layer, h + "1.EncDecAttention.k");
      t.matrix(Role::cross_w_value_down, layer, h + "1.EncDecAttention.v");
      t.matrix(Role::cross_w_value_up, layer, h + "1.EncDecAttention.o");
      t.skip(h + "1.EncDecAttention.relative_attention_bias.weight");  // of old files, and never read
    }
    const std::string ffn = h + (c.cross_attention ? "2" : "1") + ".";
    t.norm(Role::ffn_gain, Role::ffn_norm_bias, layer, ffn + "layer_norm");
    if (c.gated) t.matrix(Role::w_gate, layer, ffn + "DenseReluDense.wi_0");
    t.matrix(Role::w_up, layer, ffn + (c.gated ? "DenseReluDense.wi_1" : "DenseReluDense.wi"));
    t.matrix(Role::w_down, layer, ffn + "DenseReluDense.wo");
  }
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "final_layer_norm");
}

}  // namespace

void read_t5(Family& f) {
  FamilyConfig& in = f.config;
  f.model.config.n_stacks = 2;
  const Buckets buckets = read_buckets(in);
  for (std::uint32_t stack = 0; stack < kMaxStacks; ++stack) read_stack(f, f.model.config.stacks[stack], buckets, stack == 0);
  StackConfig& main = f.model.config.main();
  // Newer files always say that they are tied, and whether the embedding is scaled when it unembeds.
  const bool tied = in.flag_or("tie_word_embeddings", true);
  main.tied_unembedding = tied || !f.tensors.has("lm_head.weight");
  const bool scaled = in.flag_or("scale_decoder_outputs", tied);
  in.ignore({"dense_act_fn", "is_gated_act", "feed_forward_proj", "decoder_start_token_id"});
  // Where nothing else is said, a text begins with the padding token.
  if (!in.has("decoder_start_token_id")) f.model.bos = in.size_or("pad_token_id", 0, 0, main.vocab_size);
  if (!f.is_configured()) return;
  f.tensors.use_stack(1);
  if (main.tied_unembedding)
    f.tensors.skip("lm_head.weight");
  else
    f.tensors.matrix(Role::unembedding, 0, "lm_head");
  for (std::uint32_t stack = 0; stack < 2; ++stack) take_layers(f, stack, buckets);
  if (f.error || !scaled) return;
  const std::vector<double> factors(main.d_model, 1.0 / square_root(static_cast<float>(main.d_model)));
  f.model.scale_rows(Role::final_gain, 0, 1, factors);
}

}  // namespace heed::quant
