// SPDX-License-Identifier: Apache-2.0
// images.cpp: random weights in the writer's own format.
#include "tests/support/images.hpp"

#include <cmath>
#include <stdexcept>

#include "platform/select.hpp"
#include "quant/convert.hpp"
#include "quant/tokenizer_tables.hpp"
#include "tests/golden/numbered.hpp"
#include "tests/support/random.hpp"
#include "tests/support/test_data.hpp"

namespace heed::test {
namespace {

// Ordinary numbers, anything legal, or one extreme.
struct Kind {
  enum { ordinary, wild, extreme } kind = ordinary;
  int exponent = 0;
  // A legal magnitude that is not ordinary.
  float magnitude(Random& random) const { return std::ldexp(1.0f, kind == wild ? random.between(-40, 40) : exponent); }
};

// Numbers for golden::fill.
class Draw {
 public:
  Draw(const ModelConfig& config, std::uint64_t seed, Kind kind) : config_(config), random_(seed), kind_(kind) {}

  quant::QuantizedMatrix matrix(const golden::NumberedTensor& e, const TensorSlot& slot) {
    const bool sharp = is_per_layer(e.role) && (index_of(e.role) == index_of(Role::w_query) ||
                                                 index_of(e.role) == index_of(Role::w_key));
    quant::QuantizedMatrix m;
    m.rows = slot.rows;
    m.cols = slot.cols;
    m.group = slot.group;
    for (std::size_t i = 0; i < std::size_t{m.rows} * m.cols; ++i)
      m.weights.push_back(static_cast<std::int8_t>(random_.between(-127, 127)));
    const float gain = sharp ? 2.0f : 1.0f;
    const float usual = gain / (73.0f * std::sqrt(static_cast<float>(m.cols)) * (m.group ? 8.0f : 1.0f));
    for (std::uint32_t r = 0; r < m.rows; ++r)
      m.scales.push_back(kind_.kind ? kind_.magnitude(random_) : usual * (1.0f + 0.5f * random_.uniform()));
    for (std::size_t i = 0; i < std::size_t{m.rows} * group_count(m.cols, m.group); ++i)
      m.multipliers.push_back(static_cast<std::uint8_t>(random_.between(1, 15)));
    if (slot.bias)
      for (std::uint32_t r = 0; r < m.rows; ++r) m.bias.push_back(kind_.kind ? signed_magnitude() : 0.25f * random_.uniform());
    return m;
  }
  std::vector<float> floats(const golden::NumberedTensor& e, const TensorSlot& slot) {
    std::vector<float> x;
    for (std::uint32_t i = 0; i < slot.cols; ++i)
      x.push_back(kind_.kind             ? signed_magnitude()
                  : is_norm_bias(e.role) ? 0.25f * random_.uniform()
                                         : 1.0f + 0.5f * random_.uniform());
    return x;
  }
  std::vector<std::uint32_t> phases(const golden::NumberedTensor&, const TensorSlot& slot) {
    std::vector<std::uint32_t> phases;
    for (std::uint32_t i = 0; i < slot.cols; ++i)
      phases.push_back(is_wild() ? static_cast<std::uint32_t>(random_.next()) : i < 32 ? 683565276u >> i : 0);
    return phases;
  }
  // Slopes to 4 powers of two per position; biases to 16.
  std::vector<std::int32_t> score_bias(const golden::NumberedTensor& e, const TensorSlot& slot) {
    const bool slopes = config_.stacks[e.stack].position == Position::alibi;
    std::vector<std::int32_t> bias;
    for (std::uint32_t i = 0; i < slot.rows * slot.cols; ++i)
      bias.push_back(is_wild() ? random_.between(slopes ? 0 : -kMaxScoreBias, kMaxScoreBias)
                     : slopes  ? random_.between(0, 1 << 24)
                               : random_.between(-(1 << 14), 1 << 14));
    return bias;
  }
  golden::KeyOffsets key_offsets(const golden::NumberedTensor&, const TensorSlot& slot) {
    golden::KeyOffsets offsets;
    for (std::uint32_t i = 0; i < slot.rows * slot.cols; ++i)
      offsets.values.push_back(static_cast<std::int16_t>(random_.between(-32767, 32767)));
    for (std::uint32_t i = 0; i < slot.rows; ++i)
      offsets.exponents.push_back(static_cast<std::int8_t>(is_wild()    ? random_.between(-39, 41)
                                                           : kind_.kind ? (kind_.exponent < 0 ? -39 : 41)
                                                                        : random_.between(-3, 1)));
    return offsets;
  }
  float magnitude() { return kind_.magnitude(random_); }

 private:
  bool is_wild() const { return kind_.kind == Kind::wild; }
  float signed_magnitude() { return (random_.below(2) ? -1.0f : 1.0f) * kind_.magnitude(random_); }

  const ModelConfig& config_;
  Random random_;
  Kind kind_;
};

quant::ImageBytes make_image(ModelConfig config, Layout layout, std::uint64_t seed, Span<const std::uint8_t> tokenizer,
                             Kind kind) {
  Draw draw(config, seed, kind);
  if (kind.kind) {
    for (StackConfig& c : config.stacks) {
      c.norm_epsilon = draw.magnitude();
      c.attention_scale = draw.magnitude();
      if (c.cross_attention) c.cross_scale = draw.magnitude();
    }
  }
  quant::TensorSection tensors(config, layout);
  golden::fill(tensors, config, draw);
  const quant::Metadata metadata = {{"name", kind.kind ? "strange" : "random"}};
  const std::string text = quant::metadata_text(metadata);
  quant::ImageBytes image;
  quant::write_image(image, config, tensors, tokenizer,
                     {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, best_kernels());
  return image;
}

StackConfig grouped() {
  StackConfig c = llama_config(80, 130, 2, 3, 1, 20, 67, 320);
  c.rotary_dims = 16;
  c.rotary_pairing = RotaryPairing::halves;
  c.tied_unembedding = 0;
  c.flags = kAttentionGainFolded | kFinalGainFolded | kKeyOffset;
  const std::uint16_t groups[] = {32, 64, 32, 64, 64};
  for (int i = 0; i < 5; ++i) c.groups[i] = groups[i];
  return c;
}

StackConfig long_rows() {
  StackConfig c = llama_config(40, 1300, 1, 2, 2, 20, 35, 140);
  const std::uint16_t groups[] = {0, 32, 0, 256, 32};
  for (int i = 0; i < 5; ++i) c.groups[i] = groups[i];
  return c;
}

StackConfig plain_offset() {
  StackConfig c = llama_config(48, 100, 2, 4, 2, 12, 61, 400);
  c.flags = kKeyOffset;
  return c;
}

// GPT-2's block: layer norm with biases, GELU, learned positions, biases everywhere.
StackConfig gpt2() {
  StackConfig c = llama_config(48, 100, 2, 3, 3, 16, 37, 150);
  c.norm = Norm::layer;
  c.activation = Activation::gelu_tanh;
  c.gated = 0;
  c.position = Position::none;
  c.position_table = 1;
  c.rotary_dims = 0;
  c.tied_unembedding = 0;
  c.biases = 255;
  c.groups[static_cast<int>(Site::down_in)] = 32;
  return c;
}

// What is left over: no positions, ReLU, layer norm without biases; then erf-GELU, gated.
StackConfig relu() {
  StackConfig c = llama_config(20, 50, 1, 2, 1, 10, 23, 90);
  c.norm = Norm::layer;
  c.activation = Activation::relu;
  c.gated = 0;
  c.position = Position::none;
  c.rotary_dims = 0;
  return c;
}
StackConfig gated_gelu() {
  StackConfig c = llama_config(36, 70, 1, 2, 2, 18, 29, 80);
  c.norm = Norm::layer;
  c.activation = Activation::gelu_erf;
  c.biases = kBiasNorm | kBiasFfnIn;
  c.flags = kFfnGainFolded;
  c.groups[static_cast<int>(Site::ffn_in)] = 32;
  return c;
}

StackConfig tiny_odd() {
  StackConfig c = llama_config(33, 7, 1, 1, 1, 5, 19, 77);
  c.flags = kAttentionGainFolded | kFfnGainFolded;
  c.tied_unembedding = 0;
  return c;
}

}  // namespace

ModelConfig two_stacks_config() {
  StackConfig source = llama_config(24, 40, 2, 4, 2, 8, 0, 40);
  source.use = Use::encode;
  source.mask = Mask::two_way;
  source.input = Input::convolved;
  source.d_input = 6;
  source.second_convolution = 1;
  source.strides[0] = 1;
  source.strides[1] = 2;
  source.norm = Norm::layer;
  source.position = Position::relative;
  source.rotary_dims = 0;
  source.n_distances = 9;
  source.output = Output::vectors;
  source.tied_unembedding = 0;
  source.gated = 0;
  source.activation = Activation::gelu_erf;
  source.n_class_vectors = 1;
  source.input_norm = 1;
  source.position_table = 1;
  source.norm_placement = NormPlacement::after;
  source.biases = kBiasQuery | kBiasValueDown | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm | kBiasInput;

  StackConfig main = llama_config(20, 36, 2, 4, 1, 8, 19, 60);
  main.norm = Norm::layer;
  main.norm_placement = NormPlacement::both;
  main.query_key_norm = HeadNorm::layer;
  main.cross_attention = 1;
  main.d_source = source.d_model;
  main.cross_scale = 0.25f;
  main.window = 8;
  main.global_every = 2;
  main.global_first = 1;
  main.local_rotary = 1;
  main.flags = kKeyOffset | kCrossKeyOffset;
  main.biases = kKnownBiases & ~(kBiasInput | kBiasDense);
  main.groups[static_cast<int>(Site::source_in)] = 32;

  ModelConfig m;
  m.n_stacks = 2;
  m.stacks[0] = source;
  m.stacks[1] = main;
  return m;
}

StackConfig classifier_config() {
  StackConfig c = llama_config(20, 36, 2, 4, 2, 6, 23, 50);
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.position = Position::alibi;
  c.rotary_dims = 0;
  c.n_token_types = 2;
  c.n_class_vectors = 1;
  c.embedding_scale = 4.0f;
  c.value_map = ValueMap::undivided;
  c.sublayers = Sublayers::side_by_side;
  c.pooling = Pooling::first;
  c.dense = 1;
  c.d_dense = 12;
  c.dense_activation = Activation::tanh;
  c.dense_norm = 1;
  c.n_outputs = 5;
  c.tied_unembedding = 0;
  c.biases = kBiasDense | kBiasUnembedding;
  return c;
}

Span<const NamedConfig> edge_configs() {
  static const NamedConfig configs[] = {
      {"key offsets", plain_offset()},
      {"groups, one KV head, halves", grouped()},
      {"rows of 1,300 columns", long_rows()},
      {"odd widths", tiny_odd()},
      {"head of 256", llama_config(64, 96, 1, 2, 1, 256, 43, 130)},
      {"GPT-2", gpt2()},
      {"ReLU, no positions", relu()},
      {"gated erf-GELU", gated_gelu()},
      {"one position", llama_config(16, 16, 1, 1, 1, 2, 5, 1)},
  };
  return configs;
}

quant::ImageBytes random_image(const ModelConfig& config, Layout layout, std::uint64_t seed,
                               Span<const std::uint8_t> tokenizer) {
  return make_image(config, layout, seed, tokenizer, {});
}

quant::ImageBytes wild_image(const ModelConfig& config, Layout layout, std::uint64_t seed) {
  return make_image(config, layout, seed, {}, {Kind::wild, 0});
}

quant::ImageBytes extreme_image(const ModelConfig& config, Layout layout, int exponent) {
  return make_image(config, layout, 1, {}, {Kind::extreme, exponent});
}

const quant::ImageBytes& stories_image() {
  static quant::ImageBytes image;
  if (!image.empty()) return image;
  const std::string model = data_path("stories260K/stories260K.bin");
  const std::string tokenizer = model.empty() ? model : data_path("stories260K/tok512.bin");
  if (tokenizer.empty()) return image;
  quant::ConvertReport report;
  quant::ConvertOptions options;
  options.quantize.run_whole = false;  // which would change nothing (DESIGN.md, What the converter decides)
  const quant::Error error = quant::convert(image, report, model, tokenizer, options, best_kernels());
  if (error) throw std::runtime_error(error.sentence());
  return image;
}

std::vector<std::uint8_t> small_tokenizer(std::uint32_t vocab_size) {
  quant::Vocabulary v;
  v.pieces = {{"<unk>", 0.0f, true}, {"<s>", 0.0f, true}, {"</s>", 0.0f, true}};
  v.bos = 1;
  v.eos = 2;
  v.prefix_space = true;
  v.first_byte = 3;
  v.byte_count = 256;
  for (int b = 0; b < 256; ++b) v.pieces.push_back({std::string(1, static_cast<char>(b)), 0.0f, false});
  const std::string letters = " etaoinshrdlu";
  for (std::uint32_t i = 0; v.pieces.size() < vocab_size; ++i) {
    std::string piece(1, letters[i % letters.size()]);
    if (i >= letters.size()) piece += letters[i / letters.size() % letters.size()];
    v.pieces.push_back({piece, -static_cast<float>(i), false});
  }
  std::vector<std::uint8_t> section;
  const std::string error = quant::build_tokenizer_section(section, v);
  if (!error.empty()) throw std::runtime_error(error);
  return section;
}

}  // namespace heed::test
