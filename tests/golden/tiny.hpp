// SPDX-License-Identifier: Apache-2.0
// tiny.hpp: the model of tests/golden/tiny.heed: one layer, twelve tokens, weights from a counter. It speaks of
// bananas, but makes no sense.
#pragma once
#include "quant/image_writer.hpp"
#include "quant/quantize.hpp"
#include "quant/tokenizer_tables.hpp"
#include "tests/golden/numbered.hpp"

namespace heed::golden {

// Multiples of 1/128 in [-1, 1), the upper bits of a linear congruential generator.
class Numbers {
 public:
  explicit Numbers(std::uint32_t seed) : state_(seed) {}
  float next() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<float>(static_cast<std::int32_t>(state_ >> 24) - 128) * 0x1p-7f;
  }

 private:
  std::uint32_t state_;
};

// A float model of these sizes: weights in [-1, 1), gains in [3/4, 5/4).
inline quant::FloatModel numbered_model(const StackConfig& config, std::uint32_t seed) {
  quant::FloatModel model;
  model.config = config;
  model.format = "numbers";
  Numbers numbers(seed);
  const auto fill = [&](Role role, std::uint32_t layer) {
    const TensorSlot slot = tensor_slot(config, role, layer);
    std::vector<float> x(std::size_t{slot.rows} * slot.cols);
    for (float& v : x) v = slot.type == ElementType::f32 ? 1.0f + 0.25f * numbers.next() : numbers.next();
    model.own(role, layer, std::move(x));
  };
  for (const NumberedTensor& t : numbered_tensors(config))
    if (t.role != Role::rotary_phases) fill(t.role, t.layer);
  model.rotary_phases[0] = quant::rotary_phases(config.rotary_dims, 10000.0);
  return model;
}

inline StackConfig tiny_config() {
  StackConfig c;
  c.d_model = 8;
  c.d_ff = 12;
  c.n_layers = 1;
  c.n_heads = 2;
  c.n_kv_heads = 1;
  c.head_dim = 4;
  c.vocab_size = c.n_outputs = 12;
  c.max_seq = 128;
  c.rotary_dims = 4;
  c.attention_scale = 0.5f;
  return c;
}

inline quant::Vocabulary tiny_vocabulary() {
  quant::Vocabulary v;
  v.pieces = {{"<unk>", 0.0f, true}, {"<s>", 0.0f, true}, {"</s>", 0.0f, true}, {" ", 0.0f, false},
              {"a", 0.0f, false},    {"b", 0.0f, false},  {"n", 0.0f, false},   {"an", 4.0f, false},
              {"ba", 5.0f, false},   {"na", 3.0f, false}, {"ana", 2.0f, false}, {" ba", 6.0f, false}};
  v.prefix_space = true;
  v.bos = 1;
  v.eos = 2;
  return v;
}

// The golden image in any layout; the file holds Layout::row. Empty if something refuses.
inline quant::ImageBytes tiny_image(Layout layout, const Kernels& kernels) {
  const quant::FloatModel model = numbered_model(tiny_config(), 1);
  quant::QuantizedModel quantized;
  quant::QuantizeReport report;
  if (quant::quantize_model(quantized, report, model, layout, {0u, true, true, false}, kernels)) return {};
  std::vector<std::uint8_t> tokenizer;
  if (!quant::build_tokenizer_section(tokenizer, tiny_vocabulary()).empty()) return {};
  const std::string metadata = quant::metadata_text(
      {{"name", "tiny"}, {"licence", "Apache-2.0"}, {"source", "tests/golden/make_tiny.cpp"}});
  quant::ImageBytes image;
  quant::write_image(image, quantized.config, *quantized.tensors, {tokenizer.data(), tokenizer.size()},
                     {reinterpret_cast<const std::uint8_t*>(metadata.data()), metadata.size()}, kernels);
  return image;
}

}  // namespace heed::golden
