// SPDX-License-Identifier: Apache-2.0
// stacks.hpp: the models of tests/golden/two.heed, an encoder-decoder over tokens, and tests/golden/frames.heed, an
// encoder over feature vectors: what tiny.heed and small.heed have not. Their integers are numbered, as small.heed's are.
#pragma once
#include <cmath>

#include "tests/golden/small.hpp"

namespace heed::golden {

// Reads both ways: token types, a class vector, norms behind the sublayers, a window in one layer, relative positions.
inline StackConfig reading_stack() {
  StackConfig c;
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.norm = Norm::layer;
  c.norm_placement = NormPlacement::after;
  c.input_norm = 1;
  c.final_norm = 0;
  c.position_table = 1;
  c.position = Position::relative;
  c.n_distances = 9;
  c.window = 4;
  c.global_every = 2;
  c.activation = Activation::gelu_erf;
  c.gated = 0;
  c.output = Output::vectors;
  c.tied_unembedding = 0;
  c.biases = kBiasQuery | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  c.d_model = 24;
  c.d_ff = 40;
  c.n_layers = 2;
  c.n_heads = 4;
  c.n_kv_heads = 4;
  c.head_dim = 6;
  c.vocab_size = 12;
  c.n_token_types = 2;
  c.n_class_vectors = 1;
  c.max_seq = 72;
  c.attention_scale = 0.4375f;
  c.embedding_scale = 4.0f;
  c.groups[static_cast<int>(Site::down_in)] = 32;
  return c;
}

// Writes from left to right: norms on both sides, normed heads, ALiBi, a gate, a dense layer in front of a tied
// unembedding with a bias.
inline StackConfig writing_stack() {
  StackConfig c;
  c.cross_attention = 1;
  c.norm_placement = NormPlacement::both;
  c.query_key_norm = HeadNorm::rms;
  c.position = Position::alibi;
  c.activation = Activation::gelu_quick;
  c.dense = 1;
  c.dense_activation = Activation::tanh;
  c.dense_norm = 1;
  c.biases = kBiasUnembedding | kBiasCrossQuery | kBiasDense;
  c.flags = kCrossKeyOffset | kFinalGainFolded;
  c.d_model = 20;
  c.d_dense = 20;
  c.d_ff = 48;
  c.n_layers = 2;
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.head_dim = 8;
  c.vocab_size = c.n_outputs = 12;
  c.max_seq = 80;
  c.d_source = reading_stack().d_model;
  c.attention_scale = 0.375f;
  c.cross_scale = 0.5f;
  return c;
}

inline ModelConfig two_config() {
  ModelConfig m;
  m.n_stacks = 2;
  m.stacks[0] = reading_stack();
  m.stacks[1] = writing_stack();
  return m;
}

// Two convolutions, the second over every other frame; two class vectors, each with logits of its own; sublayers side by
// side on two norms; undivided value maps; rotary positions, others in the windowed layer.
inline StackConfig frames_config() {
  StackConfig c;
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.input = Input::convolved;
  c.strides[0] = 1;
  c.second_convolution = 1;
  c.strides[1] = 2;
  c.norm = Norm::layer;
  c.sublayers = Sublayers::side_by_side_two_norms;
  c.query_key_norm = HeadNorm::layer;
  c.value_map = ValueMap::undivided;
  c.activation = Activation::gelu_tanh;
  c.pooling = Pooling::first;
  c.n_output_heads = 2;
  c.n_outputs = 5;
  c.tied_unembedding = 0;
  c.biases = kBiasInput | kBiasFfnIn | kBiasNorm;
  c.flags = kKeyOffset;
  c.d_model = 18;
  c.d_input = 7;
  c.d_ff = 36;
  c.n_layers = 2;
  c.n_heads = 2;
  c.n_kv_heads = 1;
  c.head_dim = 12;
  c.rotary_dims = 8;
  c.rotary_pairing = RotaryPairing::halves;
  c.local_rotary = 1;
  c.window = 3;
  c.global_every = 2;
  c.global_first = 1;
  c.n_class_vectors = 2;
  c.max_seq = 72;
  c.attention_scale = 0.3125f;
  c.groups[static_cast<int>(Site::input_in)] = 32;
  return c;
}

// Numbers for `fill`, of a model with any tensor.
class StackNumbers : public SmallNumbers {
 public:
  StackNumbers(const ModelConfig& config, std::uint32_t seed) : SmallNumbers(seed), config_(config) {}

  quant::QuantizedMatrix matrix(const NumberedTensor& e, const TensorSlot& slot) {
    const bool is_embedding = part_of(e.role) == Part::input && index_of(e.role) <= index_of(Role::class_vectors);
    return small_matrix(numbers_, slot, is_embedding ? 0x1p-7f : slot.group ? 0x1p-12f : 0x1p-9f);
  }
  std::vector<std::int32_t> score_bias(const NumberedTensor& e, const TensorSlot& slot) {
    const bool slopes = config_.stacks[e.stack].position == Position::alibi;
    std::vector<std::int32_t> bias(std::size_t{slot.rows} * slot.cols);
    for (std::size_t i = 0; i < bias.size(); ++i)
      bias[i] = slopes ? 6051102 >> (i + 1) : static_cast<std::int32_t>(numbers_.next() * 2048.0f);
    return bias;
  }
  std::vector<std::uint32_t> phases(const NumberedTensor& e, const TensorSlot& slot) {
    std::vector<std::uint32_t> phases(slot.cols);  // the windowed layer's turn faster
    for (std::size_t i = 0; i < phases.size(); ++i)
      phases[i] = 683565276u >> (e.role == Role::rotary_phases ? 3 * i + 1 : 2 * i);
    return phases;
  }

 private:
  const ModelConfig config_;
};

// What is in two.heed beside the tensors: a text begins with <s> and a space, `a` is never picked, </s> and `b` end it.
inline std::vector<std::uint8_t> two_generation() {
  const std::int32_t words[] = {2, 1, 2, 1, 3, 4, 2, 5};  // three counts, then first, suppressed and ending tokens
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(words);
  return {bytes, bytes + sizeof words};
}

// Empty if the vocabulary is refused.
inline quant::ImageBytes two_image(Layout layout, const Kernels& kernels) {
  const ModelConfig config = two_config();
  quant::TensorSection tensors(config, layout);
  fill(tensors, config, StackNumbers(config, 3));
  std::vector<std::uint8_t> tokenizer;
  if (!quant::build_tokenizer_section(tokenizer, tiny_vocabulary()).empty()) return {};
  const std::vector<std::uint8_t> generation = two_generation();
  quant::ImageBytes image;
  quant::write_image(image, config, tensors,
                     {{SectionKind::tokenizer, {tokenizer.data(), tokenizer.size()}},
                      {SectionKind::generation, {generation.data(), generation.size()}}},
                     kernels);
  return image;
}

inline quant::ImageBytes frames_image(Layout layout, const Kernels& kernels) {
  const ModelConfig config = frames_config();
  quant::TensorSection tensors(config, layout);
  fill(tensors, config, StackNumbers(config, 4));
  static constexpr char kClasses[] = "up\ndown\nleft\nright\nstay\n";
  quant::ImageBytes image;
  quant::write_image(
      image, config, tensors,
      {{SectionKind::classes, {reinterpret_cast<const std::uint8_t*>(kClasses), sizeof kClasses - 1}}}, kernels);
  return image;
}

}  // namespace heed::golden
