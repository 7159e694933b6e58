// SPDX-License-Identifier: Apache-2.0
// random_models.cpp: see random_models.hpp.
#include "tests/differential/random_models.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "platform/select.hpp"
#include "tests/differential/hard_vectors.hpp"
#include "tests/reference/spec_oracle.hpp"

namespace heed::differential {
namespace {

template <class T>
T one_of(Random& random, std::initializer_list<T> values) {
  return values.begin()[random.below(static_cast<std::uint32_t>(values.size()))];
}

bool now_and_then(Random& random, std::uint32_t times) { return random.below(times) == 0; }

std::uint32_t width(Random& random, bool small) {
  switch (random.below(small ? 4 : 6)) {
    case 0: return 1 + random.below(8);
    case 1: return 16 * (1 + random.below(small ? 3 : 6)) + random.below(3) - 1;
    case 4: return 100 + random.below(60);
    default: return 8 + random.below(small ? 30 : 60);
  }
}

void choose_heads(Random& random, StackConfig& c, bool small) {
  constexpr std::uint32_t kDims[] = {1, 2, 3, 4, 5, 7, 8, 8, 9, 12, 15, 16, 17, 20, 31, 32, 33, 64, 65, 128, 255, 256};
  c.head_dim = kDims[random.below(random.below(8) || small ? 14 : 22)];
  c.n_kv_heads = 1 + random.below(c.head_dim > 40 ? 1 : 3);
  c.n_heads = c.n_kv_heads * (1 + random.below(c.head_dim > 40 ? 2 : 3));
  if (now_and_then(random, 6)) c.value_map = ValueMap::undivided;
  if (now_and_then(random, 3)) c.query_key_norm = one_of(random, {HeadNorm::rms, HeadNorm::layer});
}

void choose_positions(Random& random, StackConfig& c) {
  c.position_table = now_and_then(random, 3);
  c.position = static_cast<Position>(random.below(4));
  if (c.head_dim < 2 && c.position == Position::rotary) c.position = Position::none;
  if (c.position == Position::rotary) {
    c.rotary_dims = random.below(2) ? c.head_dim / 2 * 2 : 2 * (1 + random.below(c.head_dim / 2));
    c.rotary_pairing = static_cast<RotaryPairing>(random.below(2));
  }
  if (c.position == Position::relative) {
    c.n_distances = random.below(3) ? 1 + 2 * random.below(20) : one_of(random, {1u, 3u, 127u, 129u, 201u});
    if (c.mask == Mask::causal && random.below(2)) ++c.n_distances;
  }
  if (random.below(2)) c.window = one_of(random, {1u, 2u, 5u, 8u, 17u, 62u, 63u, 64u, 65u, 66u, 100u});
  if (c.window && random.below(2)) {
    c.global_every = 2 + random.below(2);
    c.global_first = random.below(c.global_every);
  }
  c.local_rotary = c.window && c.position == Position::rotary && random.below(2);
}

void choose_blocks(Random& random, StackConfig& c, bool may_lie_side_by_side) {
  c.norm = random.below(2) ? Norm::layer : Norm::rms;
  c.norm_placement =
      one_of(random, {NormPlacement::before, NormPlacement::before, NormPlacement::after, NormPlacement::both});
  if (may_lie_side_by_side && c.norm_placement != NormPlacement::after && now_and_then(random, 3))
    c.sublayers = one_of(random, {Sublayers::side_by_side, Sublayers::side_by_side_two_norms});
  c.final_norm = random.below(4) != 0;
  c.input_norm = now_and_then(random, 4);
  c.activation = static_cast<Activation>(random.below(5));
  c.gated = random.below(3) != 0;
}

void choose_input(Random& random, StackConfig& c, bool small) {
  c.input = c.use == Use::generate ? Input::tokens : static_cast<Input>(random.below(4));
  if (c.input == Input::tokens) {
    c.vocab_size = 1 + random.below(40);
    if (now_and_then(random, 3)) c.n_token_types = 1 + random.below(3);
  }
  if (c.input == Input::projected || c.input == Input::convolved) c.d_input = width(random, small);
  if (c.input == Input::convolved) {
    c.strides[0] = static_cast<std::uint8_t>(1 + random.below(2));
    c.second_convolution = random.below(2) != 0;
    if (c.second_convolution) c.strides[1] = static_cast<std::uint8_t>(1 + random.below(2));
  }
  if (c.use == Use::encode && now_and_then(random, 3)) c.n_class_vectors = 1 + random.below(random.below(2) ? 2 : 6);
}

void choose_output(Random& random, StackConfig& c, bool small) {
  c.n_outputs = c.vocab_size;
  if (c.n_class_vectors && now_and_then(random, 3)) {  // logits of several of the first positions
    c.pooling = Pooling::first;
    c.n_outputs = 1 + random.below(20);
    c.n_output_heads = static_cast<std::uint8_t>(2 + random.below(c.n_class_vectors));
    c.tied_unembedding = 0;
    return;
  }
  if (now_and_then(random, 3)) {
    c.dense = 1;
    c.d_dense = random.below(2) ? c.d_model : width(random, small);
    c.dense_activation = static_cast<Activation>(random.below(7));
    c.dense_norm = random.below(2) != 0;
  }
  if (c.use == Use::encode) {
    c.pooling = static_cast<Pooling>(random.below(4));
    c.output = random.below(2) ? Output::vectors : Output::logits;
    c.n_outputs = c.output == Output::vectors ? 0 : 1 + random.below(20);
    c.unit_length = c.output == Output::vectors && random.below(2);
  }
  const bool may_be_tied = c.input == Input::tokens && c.output == Output::logits && c.d_output() == c.d_model;
  c.tied_unembedding = may_be_tied && random.below(2);
  if (c.tied_unembedding) c.n_outputs = c.vocab_size;
}

// What the first of two stacks gives.
void give_vectors(StackConfig& c) {
  c.pooling = Pooling::every;
  c.output = Output::vectors;
  c.n_outputs = 0;
  c.n_output_heads = 1;
  c.dense = c.dense_norm = c.unit_length = c.tied_unembedding = 0;
  c.d_dense = 0;
  c.dense_activation = Activation::none;
}

// Bits and groups of what there is, at random.
void choose_bits(Random& random, StackConfig& c) {
  const bool before = c.norm_placement != NormPlacement::after, undivided = c.value_map == ValueMap::undivided;
  const bool own_ffn_norm = c.sublayers != Sublayers::side_by_side;
  std::uint32_t flags = kKeyOffset, biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasFfnIn | kBiasDown;
  if (before) flags |= kAttentionGainFolded | (own_ffn_norm ? kFfnGainFolded : 0);
  if (c.final_norm) flags |= kFinalGainFolded;
  if (!undivided) biases |= kBiasValueUp;
  if (c.output == Output::logits) biases |= kBiasUnembedding;
  if (c.norm == Norm::layer || c.query_key_norm == HeadNorm::layer) biases |= kBiasNorm;
  if (c.d_input) biases |= kBiasInput;
  if (c.dense) biases |= kBiasDense;
  if (c.cross_attention) {
    flags |= kCrossKeyOffset | (before ? kCrossGainFolded : 0);
    biases |= kBiasCrossQuery | kBiasCrossKey | kBiasCrossValueDown | (undivided ? 0 : kBiasCrossValueUp);
  }
  c.flags = flags & static_cast<std::uint32_t>(random.next());
  c.biases = random.below(3) ? biases & static_cast<std::uint32_t>(random.next()) : 0;

  constexpr std::uint16_t kGroups[] = {0, 0, 32, 32, 64, 128, 256};
  const bool grouped = random.below(3) != 0;
  const auto choose = [&](Site site, bool there) {
    const std::uint16_t g = kGroups[random.below(7)];
    c.groups[static_cast<int>(site)] = grouped && there ? g : std::uint16_t{0};
  };
  choose(Site::attention_in, true);
  choose(Site::value_up_in, !undivided);
  choose(Site::ffn_in, true);
  choose(Site::down_in, true);
  choose(Site::unembed_in, c.output == Output::logits);
  choose(Site::cross_in, c.cross_attention);
  choose(Site::cross_value_up_in, c.cross_attention && !undivided);
  choose(Site::source_in, c.cross_attention);
  choose(Site::input_in, c.d_input != 0);
  choose(Site::convolution_in, c.second_convolution);
  choose(Site::dense_in, c.dense);
  if (!own_ffn_norm) c.groups[static_cast<int>(Site::ffn_in)] = c.groups[static_cast<int>(Site::attention_in)];
}

StackConfig random_stack(Random& random, bool small, Use use, bool is_source, const StackConfig* source) {
  StackConfig c;
  c.use = use;
  c.mask = use == Use::encode && random.below(4) ? Mask::two_way : Mask::causal;
  c.d_model = width(random, small);
  c.d_ff = !small && now_and_then(random, 40) ? 1025 + random.below(300) : width(random, small);
  c.n_layers = 1 + random.below(random.below(3) ? 2 : 3);
  c.max_seq = 1;
  choose_heads(random, c, small);
  choose_positions(random, c);
  choose_blocks(random, c, source == nullptr);
  choose_input(random, c, small);
  choose_output(random, c, small);
  if (is_source) give_vectors(c);
  if (source) {
    c.cross_attention = 1;
    c.d_source = source->d_model;
  }
  choose_bits(random, c);
  return c;
}

// How the numbers of one model are drawn.
struct Manner {
  enum { ordinary, spread, wild, extreme } kind;
  int exponent;  // of extreme
  explicit Manner(Random& random) {
    const std::uint32_t k = random.below(20);
    kind = k < 10 ? ordinary : k < 15 ? spread : k < 18 ? wild : extreme;
    exponent = hard_exponent(random);
  }
  float scale(Random& random, float usual) const {
    switch (kind) {
      case ordinary: return usual * (1.0f + 0.5f * random.uniform());
      case spread:
        return std::max(power(-40), std::min(power(39), usual * mantissa(random) * power(random.between(-12, 12))));
      case extreme: return power(exponent);
      default: return hard_magnitude(random);
    }
  }
};

quant::QuantizedMatrix random_matrix(Random& random, const TensorSlot& slot, const Manner& manner, bool sharp) {
  quant::QuantizedMatrix m;
  m.rows = slot.rows;
  m.cols = slot.cols;
  m.group = slot.group;
  const std::uint32_t weights = random.below(12), heavy = random.below(m.cols);
  for (std::uint32_t r = 0; r < m.rows; ++r) {
    const bool empty = random.below(16) == 0;
    for (std::uint32_t c = 0; c < m.cols; ++c) {
      int w = random.between(-127, 127);
      if (weights == 0) w = random.below(2) ? 127 : -127;
      if (weights == 1) w = random.between(-1, 1);
      if (weights == 2) w = random.below(8) ? 0 : w;
      if (weights == 3) w = c == heavy ? -127 : random.between(-3, 3);
      if (weights == 4) w = r % 2 ? 127 : -127;
      if (empty || weights == 11) w = 0;
      m.weights.push_back(static_cast<std::int8_t>(w));
    }
  }
  const float usual = (sharp ? 2.0f : 1.0f) / (73.0f * std::sqrt(static_cast<float>(m.cols)) * (m.group ? 8.0f : 1.0f));
  for (std::uint32_t r = 0; r < m.rows; ++r) m.scales.push_back(manner.scale(random, usual));
  const bool largest = random.below(8) == 0;
  for (std::uint32_t i = 0; i < m.rows * group_count(m.cols, m.group); ++i)
    m.multipliers.push_back(static_cast<std::uint8_t>(largest ? 15 : 1 + random.below(15)));
  if (slot.bias)
    for (std::uint32_t r = 0; r < m.rows; ++r)
      m.bias.push_back(random.below(6) == 0 ? (random.below(2) ? 0.0f : -0.0f)
                                            : sign(random) * manner.scale(random, 0.25f));
  return m;
}

// Gate and up of biases alone, the product of largest magnitude negative with M = 32767 behind it (2.5).
void plant_gate(Random& random, const StackConfig& c, quant::QuantizedMatrix& gate, quant::QuantizedMatrix& up) {
  const std::uint32_t row = random.below(c.d_ff);
  for (quant::QuantizedMatrix* m : {&gate, &up}) {
    std::fill(m->weights.begin(), m->weights.end(), std::int8_t{0});
    for (float& b : m->bias) b = random.uniform() * 0.01f + 0.02f;
  }
  plant_product(gate.bias[row], up.bias[row], random,
                {32767, random.between(-2, 6), random.between(-4, 4), -1.0f, false},
                [&](std::int64_t a, int e) { return spec::activated(a, e, static_cast<int>(c.activation)); });
}

bool is_gain(Role role) {
  switch (index_of(role)) {
    case 0:
    case 7:
    case 9:
    case 11:
    case 16:
    case 21: return part_of(role) != Part::output || index_of(role) == 0;
    case 3: return part_of(role) == Part::output;
    default: return false;
  }
}

std::vector<std::int32_t> random_score_bias(Random& random, const StackConfig& c) {
  std::vector<std::int32_t> bias;
  const std::uint32_t manner = random.below(5);
  const std::uint32_t n = c.n_heads * (c.position == Position::alibi ? 1 : c.n_distances);
  for (std::uint32_t i = 0; i < n; ++i) {
    if (c.position == Position::alibi) {
      const auto slope = static_cast<std::int32_t>(6051102u >> random.below(9));  // 2^-k log2(e) 2^22
      bias.push_back(manner == 0   ? static_cast<std::int32_t>(random.next() >> 33)
                     : manner == 1 ? one_of(random, {0, 1, 2048, 4095, 0x7FFFFFFF})
                                   : slope);
    } else {
      constexpr int kMost = kMaxScoreBias;
      bias.push_back(manner == 0   ? random.between(-kMost, kMost)
                     : manner == 1 ? kMost * random.between(-1, 1)
                     : manner == 2 ? random.between(-40000, 40000)
                                   : random.between(-4000, 4000));
    }
  }
  return bias;
}

std::vector<std::uint32_t> random_phases(Random& random, std::uint32_t pairs) {
  std::vector<std::uint32_t> phases;
  const bool usual = random.below(2) != 0;
  for (std::uint32_t i = 0; i < pairs; ++i)
    phases.push_back(usual             ? 683565276u >> (i < 28 ? i : 28)
                     : random.below(8) ? static_cast<std::uint32_t>(random.next())
                                       : random.below(16) << 28);
  return phases;
}

void fill_stack(Random& random, quant::TensorSection& tensors, const StackConfig& c, std::uint32_t stack,
                const Manner& manner) {
  const bool planted = c.gated && (c.biases & kBiasFfnIn) && random.below(2);
  const int offset_level = random.below(3) ? 0 : random.between(-36, 38);
  quant::QuantizedMatrix gate;
  for_each_slot(c, [&](const TensorSlot& slot) {
    if (slot.type == ElementType::s8) {
      const bool sharp = slot.role == Role::w_query || slot.role == Role::w_key || slot.role == Role::cross_w_query ||
                         slot.role == Role::cross_w_key;
      quant::QuantizedMatrix m = random_matrix(random, slot, manner, sharp);
      if (planted && slot.role == Role::w_gate) {
        gate = m;
        return;
      }
      if (planted && slot.role == Role::w_up) {
        plant_gate(random, c, gate, m);
        tensors.put(Role::w_gate, slot.layer, gate, stack);
      }
      tensors.put(slot.role, slot.layer, m, stack);
    } else if (slot.type == ElementType::f32) {
      std::vector<float> x = legal_vector(slot.cols, random);
      for (float& v : x)
        if (manner.kind == Manner::ordinary)
          v = is_gain(slot.role) ? 1.0f + 0.5f * random.uniform() : 0.25f * random.uniform();
      for (float& v : x)
        if (v != 0.0f && std::fabs(v) < power(-40)) v = 0.0f;
      tensors.put_floats(slot.role, slot.layer, x.data(), stack);
    } else if (slot.type == ElementType::u32) {
      tensors.put_phases(random_phases(random, slot.cols), slot.role, stack);
    } else if (slot.type == ElementType::s32) {
      tensors.put_score_bias(random_score_bias(random, c), stack);
    } else {
      std::vector<std::int16_t> values;
      std::vector<std::int8_t> exponents;
      for (std::uint32_t i = 0; i < slot.rows * slot.cols; ++i)
        values.push_back(
            static_cast<std::int16_t>(random.below(8) ? random.between(-32767, 32767) : 32767 * random.between(-1, 1)));
      for (std::uint32_t i = 0; i < slot.rows; ++i)
        exponents.push_back(static_cast<std::int8_t>(offset_level + random.between(-3, 3)));
      tensors.put_key_offset(slot.layer, values, exponents, slot.role, stack);
    }
  });
}

}  // namespace

ModelConfig random_config(Random& random, bool small) {
  const std::uint32_t kind = random.below(8);
  if (kind < 3) return random_stack(random, small, Use::generate, false, nullptr);
  if (kind < 6) return random_stack(random, small, Use::encode, false, nullptr);
  ModelConfig m;
  m.n_stacks = 2;
  m.stacks[0] = random_stack(random, small, Use::encode, true, nullptr);
  m.stacks[1] = random_stack(random, small, random.below(3) ? Use::generate : Use::encode, false, &m.stacks[0]);
  return m;
}

quant::ImageBytes random_image(Random& random, ModelConfig& config, Layout layout) {
  const Manner manner(random);
  for (std::uint32_t i = 0; i < config.n_stacks; ++i) {
    StackConfig& c = config.stacks[i];
    const float usual = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    c.norm_epsilon = random.below(2) ? 1e-5f : hard_magnitude(random);
    c.attention_scale = random.below(2) ? usual : hard_magnitude(random);
    if (c.cross_attention) c.cross_scale = random.below(2) ? usual : hard_magnitude(random);
    if (c.input == Input::tokens && random.below(2))
      c.embedding_scale = random.below(2) ? std::sqrt(static_cast<float>(c.d_model)) : hard_magnitude(random);
  }
  if (const Status s = check_config(config); s != Status::ok) {
    std::fprintf(stderr, "differential: a random description is refused: %s\n", to_string(s));
    std::exit(2);
  }
  quant::TensorSection tensors(config, layout);
  for (std::uint32_t i = 0; i < config.n_stacks; ++i) fill_stack(random, tensors, config.stacks[i], i, manner);
  quant::ImageBytes image;
  quant::write_image(image, config, tensors, {}, {}, *find_kernels("portable"));
  return image;
}

Inputs random_inputs(Random& random, const StackConfig& c, std::uint32_t n) {
  Inputs inputs;
  inputs.n = n;
  if (c.input == Input::tokens) {
    for (std::uint32_t i = 0; i < n; ++i) inputs.tokens.push_back(static_cast<Token>(random.below(c.vocab_size)));
    if (c.n_token_types && random.below(3))
      for (std::uint32_t i = 0; i < n; ++i)
        inputs.types.push_back(static_cast<std::uint8_t>(random.below(std::min(c.n_token_types, 256u))));
    return inputs;
  }
  inputs.width = c.input_width();
  const bool ordinary = random.below(2) != 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::vector<float> x = hard_vector(inputs.width, random);
    for (std::uint32_t d = 0; d < inputs.width; ++d) inputs.vectors.push_back(ordinary ? random.uniform() : x[d]);
  }
  return inputs;
}

std::uint32_t positions_of(const StackConfig& c, std::uint32_t n) {
  if (c.input == Input::convolved) {
    n = (n - 1) / c.strides[0] + 1;
    if (c.second_convolution) n = (n - 1) / c.strides[1] + 1;
  }
  return n + c.n_class_vectors;
}

}  // namespace heed::differential
