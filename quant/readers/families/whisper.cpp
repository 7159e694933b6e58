// SPDX-License-Identifier: Apache-2.0
// whisper.cpp: Whisper (transformers/models/whisper): frames of a spectrogram through two convolutions, norms before the
// sublayers, keys without a bias. What it reads are log-mel frames [2 * max_source_positions, num_mel_bins].
#include "quant/readers/families/encoder_decoder.hpp"

namespace heed::quant {

void read_whisper(Family& f) {
  FamilyConfig& in = f.config;
  read_two_stacks(f, NormPlacement::before);
  StackConfig &source = f.model.config.stacks[0], &main = f.model.config.main();
  for (StackConfig& c : f.model.config.stacks) c.biases &= ~(kBiasKey | kBiasCrossKey);
  source.input = Input::convolved;
  source.d_input = in.size("num_mel_bins", 1, kMaxCols / 3);
  source.second_convolution = 1;
  source.strides[0] = 1;
  source.strides[1] = 2;
  source.biases |= kBiasInput;
  source.max_seq = in.size("max_source_positions", 1, 1u << 16);
  main.max_seq = in.size("max_target_positions", 1, 1u << 16);
  read_embedding_scale(in, main);
  if (source.activation != Activation::gelu_erf) in.refuse("activation_function", "is not that of the convolutions, gelu");
  in.ignore({"apply_spec_augment", "classifier_proj_size", "mask_feature_length", "mask_feature_min_masks",
             "mask_feature_prob", "mask_time_length", "mask_time_min_masks", "mask_time_prob", "median_filter_width",
             "use_weighted_layer_sum", "lang_ids", "non_speech_tokens"});
  if (!f.is_configured()) return;

  TensorTaker& t = f.tensors;
  t.skip("proj_out.weight");  // the embedding once more
  t.use_stack(0);
  t.set_prefix("model.encoder.");
  t.convolution(Role::convolution_1, "conv1");
  t.convolution(Role::convolution_2, "conv2");
  t.positions("embed_positions", 0);
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "layer_norm");
  take_layers(f, 0, "model.encoder.");
  t.use_stack(1);
  t.set_prefix("model.decoder.");
  t.matrix(Role::token_embedding, 0, "embed_tokens");
  t.positions("embed_positions", 0);
  t.norm(Role::final_gain, Role::final_norm_bias, 0, "layer_norm");
  take_layers(f, 1, "model.decoder.");
}

}  // namespace heed::quant
