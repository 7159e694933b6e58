// SPDX-License-Identifier: Apache-2.0
// bart.cpp: BART and Marian (transformers/models/bart, marian): norms behind the sublayers, one embedding for both stacks and the
// unembedding; BART learns positions, from row 2 on, and norms the embeddings, Marian's positions are sinusoids.
#include "quant/readers/families/encoder_decoder.hpp"

namespace heed::quant {

void read_bart(Family& f) {
  constexpr std::uint32_t kPositionOffset = 2;
  const bool marian = f.is("MarianMTModel");
  FamilyConfig& in = f.config;
  read_two_stacks(f, NormPlacement::after);
  StackConfig& main = f.model.config.main();
  for (StackConfig& c : f.model.config.stacks) {
    c.vocab_size = main.vocab_size;
    c.max_seq = in.size("max_position_embeddings", 1, 1u << 16);
    c.input_norm = !marian;
    read_embedding_scale(in, c);
  }
  const bool logits_bias = f.tensors.has("final_logits_bias");
  if (logits_bias) main.biases |= kBiasUnembedding;
  in.expect("normalize_before", false);
  in.expect("add_final_layer_norm", false);
  in.expect("add_bias_logits", false);
  in.expect("normalize_embedding", !marian);
  in.expect("static_position_embeddings", marian);
  in.expect("share_encoder_decoder_embeddings", true);
  if (in.has("decoder_vocab_size") && in.size("decoder_vocab_size", 1, 1u << 20) != main.vocab_size)
    in.refuse("decoder_vocab_size", "is not vocab_size, which is not supported");
  in.ignore({"extra_pos_embeddings", "classif_dropout", "force_bos_token_to_be_generated"});
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  t.skip("lm_head.weight");  // the embedding once more
  for (std::uint32_t stack = 0; stack < 2; ++stack) {
    const StackConfig& c = f.model.config.stacks[stack];
    const std::string prefix = stack == 0 ? "model.encoder." : "model.decoder.";
    t.use_stack(stack);
    t.set_prefix("model.");
    t.matrix(Role::token_embedding, 0, "shared");
    t.set_prefix(prefix);
    t.skip("embed_tokens.weight");
    if (marian) {
      Sinusoids sinusoids;
      sinusoids.order = SinusoidOrder::sines_first;
      if (c.d_model % 2 != 0 || std::uint64_t{c.max_seq} * c.d_model > 1u << 26)
        return in.refuse("d_model", "is odd or too large for a table of sinusoids");
      t.set(Role::position_embedding, 0, StoredTensor::of(sinusoid_table(c.max_seq, c.d_model, sinusoids), c.max_seq, c.d_model));
      t.skip("embed_positions.weight");
    } else {
      t.positions("embed_positions", kPositionOffset);
      t.norm(Role::input_gain, Role::input_norm_bias, 0, "layernorm_embedding");
    }
    take_layers(f, stack, prefix);
  }
  t.set_prefix("");
  if (!logits_bias) return;
  const StoredTensor bias = t.take("final_logits_bias", {1, main.vocab_size});
  if (!f.error) f.model.set_bias(Role::token_embedding, 0, bias.read(), 1);
}

}  // namespace heed::quant
