// SPDX-License-Identifier: Apache-2.0
// small.hpp: the model of tests/golden/small.heed, which has what tiny.heed has not: groups, biases, layer norm,
// learned positions, key offsets, a second layer, and more positions than one block of keys. Its integers are numbered,
// not quantised, so that it changes with nothing but this file.
#pragma once
#include "tests/golden/tiny.hpp"

namespace heed::golden {

inline StackConfig small_config() {
  StackConfig c;
  c.norm = Norm::layer;
  c.activation = Activation::gelu_tanh;
  c.gated = 0;
  c.position = Position::none;
  c.position_table = 1;
  c.tied_unembedding = 0;
  c.biases = 255;  // of everything that there is
  c.flags = kKeyOffset;
  c.d_model = 40;
  c.d_ff = 72;
  c.n_layers = 2;
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.head_dim = 10;
  c.vocab_size = c.n_outputs = 12;
  c.max_seq = 80;
  c.attention_scale = 0.3125f;
  const std::uint16_t groups[] = {32, 32, 32, 64, 32};
  for (int i = 0; i < 5; ++i) c.groups[i] = groups[i];
  return c;
}

// Weights over the whole range, scales within a quarter of `scale`.
inline quant::QuantizedMatrix small_matrix(Numbers& numbers, const TensorSlot& slot, float scale) {
  quant::QuantizedMatrix m;
  m.rows = slot.rows;
  m.cols = slot.cols;
  m.group = slot.group;
  for (std::size_t i = 0; i < std::size_t{m.rows} * m.cols; ++i) {
    const auto w = static_cast<int>(numbers.next() * 128.0f);
    m.weights.push_back(static_cast<std::int8_t>(w == -128 ? -127 : w));
  }
  for (std::uint32_t r = 0; r < m.rows; ++r) m.scales.push_back(scale * (1.0f + 0.25f * numbers.next()));
  for (std::size_t i = 0; i < std::size_t{m.rows} * group_count(m.cols, m.group); ++i)
    m.multipliers.push_back(static_cast<std::uint8_t>(8.0f + 7.0f * numbers.next()));  // 1..14
  if (slot.bias)
    for (std::uint32_t r = 0; r < m.rows; ++r) m.bias.push_back(0.25f * numbers.next());
  // Tokens that end a text or stand for nothing are never picked, so that a text goes on.
  if (slot.role == Role::unembedding && slot.bias)
    for (std::uint32_t r = 0; r < 3; ++r) m.bias[r] = -64.0f;
  return m;
}

// Numbers for `fill`, of small.heed; those of stacks.hpp have more kinds of tensors.
class SmallNumbers {
 public:
  explicit SmallNumbers(std::uint32_t seed) : numbers_(seed) {}

  quant::QuantizedMatrix matrix(const NumberedTensor& e, const TensorSlot& slot) {
    return small_matrix(numbers_, slot, e.role == Role::token_embedding      ? 0x1p-7f
                                        : e.role == Role::position_embedding ? 0x1p-8f
                                        : slot.cols > 64                     ? 0x1p-13f
                                                                             : 0x1p-12f);
  }
  std::vector<float> floats(const NumberedTensor& e, const TensorSlot& slot) {
    std::vector<float> x(slot.cols);
    for (float& v : x) v = is_norm_bias(e.role) ? 0.25f * numbers_.next() : 1.0f + 0.25f * numbers_.next();
    return x;
  }
  KeyOffsets key_offsets(const NumberedTensor&, const TensorSlot& slot) {
    KeyOffsets offsets{std::vector<std::int16_t>(std::size_t{slot.rows} * slot.cols), std::vector<std::int8_t>(slot.rows, -1)};
    for (std::int16_t& v : offsets.values) v = static_cast<std::int16_t>(numbers_.next() * 32640.0f);
    return offsets;
  }
  std::vector<std::uint32_t> phases(const NumberedTensor&, const TensorSlot&) { return {}; }
  std::vector<std::int32_t> score_bias(const NumberedTensor&, const TensorSlot&) { return {}; }

 protected:
  Numbers numbers_;
};

// The image in any layout; the file holds Layout::row. Empty if the vocabulary is refused.
inline quant::ImageBytes small_image(Layout layout, const Kernels& kernels) {
  const StackConfig config = small_config();
  quant::TensorSection tensors(config, layout);
  fill(tensors, config, SmallNumbers(2));
  std::vector<std::uint8_t> tokenizer;
  if (!quant::build_tokenizer_section(tokenizer, tiny_vocabulary()).empty()) return {};
  const std::string metadata =
      quant::metadata_text({{"name", "small"}, {"licence", "Apache-2.0"}, {"source", "tests/golden/make_small.cpp"}});
  quant::ImageBytes image;
  quant::write_image(image, config, tensors, {tokenizer.data(), tokenizer.size()},
                     {reinterpret_cast<const std::uint8_t*>(metadata.data()), metadata.size()}, kernels);
  return image;
}

}  // namespace heed::golden
