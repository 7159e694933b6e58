// SPDX-License-Identifier: Apache-2.0
// spec_model.hpp: whole models of one or two stacks, from SPEC.md alone: an image's tensors (parts 1 and 4), and the
// computation of 2.0, position by position, over the pieces of spec_oracle.hpp.
#pragma once
#include <array>
#include <functional>
#include <map>

#include "tests/reference/spec_oracle.hpp"

namespace spec {

// 1.3, of one stack. Choices are numbers as in the image.
struct Config {
  int use, input, mask, cross_attention, norm, norm_placement, sublayers, input_norm, final_norm, position_table,
      position, rotary_pairing, query_key_norm, value_map, is_gated, activation, pooling, dense, dense_activation,
      dense_norm, output, tied_unembedding, unit_length, second_convolution, strides[2], n_output_heads;
  std::int64_t biases, flags, d_model, d_ff, n_layers, n_heads, n_kv_heads, head_dim, vocab_size, n_outputs, max_seq,
      window, global_every, global_first, n_sinks, rotary_dims, local_rotary, n_distances, d_input, d_source,
      n_token_types, n_class_vectors, d_dense;
  float norm_epsilon, attention_scale, cross_scale, embedding_scale;
  int groups[11];

  std::int64_t value_dim() const { return value_map == 1 ? d_model : head_dim; }
};

struct Tensor {
  Matrix matrix;
  Floats floats;
  std::vector<std::uint32_t> phases;
  std::vector<std::int32_t> integers;  // [rows, cols]
  std::vector<Offset> offsets;         // of each KV head
  std::int64_t cols = 0;
};

// The roles of 1.4.
enum Role {
  kTokenEmbedding = 0,
  kPositionEmbedding = 1,
  kTokenTypeEmbedding = 2,
  kClassVectors = 3,
  kInputProjection = 4,
  kConvolution1 = 5,
  kConvolution2 = 6,
  kInputGain = 7,
  kInputNormBias = 8,
  kRotaryPhases = 9,
  kLocalRotaryPhases = 10,
  kScoreBias = 11,
  kSelf = 32,
  kCross = 64,  // and one of these:
  kGain = 0,
  kNormBias = 1,
  kWQuery = 2,
  kWKey = 3,
  kWValueDown = 4,
  kWValueUp = 5,
  kKeyOffset = 6,
  kQueryGain = 7,
  kQueryNormBias = 8,
  kKeyGain = 9,
  kKeyNormBias = 10,
  kAfterGain = 11,
  kAfterBias = 12,
  kFfnGain = 16,
  kFfnNormBias = 17,
  kWGate = 18,
  kWUp = 19,
  kWDown = 20,
  kFfnAfterGain = 21,
  kFfnAfterBias = 22,
  kFinalGain = 96,
  kFinalNormBias = 97,
  kDense = 98,
  kDenseGain = 99,
  kDenseNormBias = 100,
  kUnembedding = 101
};

class Image {
 public:
  // Throws std::runtime_error for what it cannot read.
  Image(const std::uint8_t* image, std::size_t bytes);
  // Null where there is none.
  const Tensor* find(int stack, int role, std::int64_t layer = 0) const;

  std::vector<Config> stacks;

 private:
  void read_tensors(const std::uint8_t* directory, std::size_t bytes, const std::uint8_t* section);
  std::map<std::array<std::int64_t, 3>, Tensor> tensors_;  // stack, role, layer
};

// Tokens, with their types or none, or vectors, one for each input.
struct Sequence {
  std::vector<std::int32_t> tokens;
  std::vector<int> types;
  std::vector<Floats> vectors;
  std::size_t size() const { return vectors.empty() ? tokens.size() : vectors.size(); }
};

class Stack {
 public:
  Stack(const Image& image, int index);
  const Config& config() const { return config_; }
  // The vectors of the source, for all layers' cross-attention.
  void read_source(const std::vector<Floats>& source);
  // Rows of logits or vectors: one for each position, or one. `first`: the position of the first input, behind the
  // positions that were taken before (0 begins again).
  std::vector<Floats> forward(const Sequence& sequence, std::size_t first);
  // Sees what each sublayer makes of the positions of a call, before a norm behind it: kSelf or kCross, or kFfnGain of the
  // feed-forward layer.
  std::function<void(int sublayer, std::int64_t layer, const std::vector<Floats>& changes)> see_changes;

 private:
  struct Keys {                      // of one layer
    std::vector<Cache> self, cross;  // [n_kv_heads]
  };
  // One kind of attention in one layer.
  struct Attention {
    int base;  // kSelf or kCross
    std::int64_t layer;
    std::vector<Cache>* caches;
    bool is_cross() const { return base == kCross; }
  };
  using Vectors = std::vector<Floats>;
  const Tensor* find(int role, std::int64_t layer = 0) const { return image_.find(index_, role, layer); }
  const Matrix& matrix(int role, std::int64_t layer = 0) const { return find(role, layer)->matrix; }
  const Floats* floats(int role, std::int64_t layer = 0) const;
  Activation quantised(const Floats& x, int site) const;
  Activation norm_at(const Floats& x, int gain, int bias, std::int64_t layer, int site) const;
  Floats normed_by(const Floats& x, int gain, int bias, std::int64_t layer) const;
  Vectors convolved(const Vectors& frames, int role, int stride, int site) const;
  Vectors input(const Sequence& sequence, std::size_t first) const;
  bool sees_all(std::int64_t layer) const;
  Rotation rotation_of(std::int64_t layer, std::size_t position) const;
  Floats head_of(const Floats& all, std::size_t head, std::size_t dim) const;
  Floats normed_head(const Floats& x, int gain, int bias, std::int64_t layer) const;
  void keep(const Attention& a, const Activation& y, std::size_t position);
  Floats attend(const Attention& a, const Activation& y, std::size_t position, std::size_t n) const;
  Floats feed_forward(std::int64_t layer, const Activation& y) const;
  bool runs_side_by_side() const { return config_.sublayers != 0; }
  Activation sublayer_input(const Floats& x, int gain, int bias, std::int64_t layer, int site) const;
  Floats changed(const Floats& x, const Floats& change, int after_gain, int after_bias, std::int64_t layer) const;
  void layer_forward(std::int64_t layer, Vectors& x, std::size_t first);
  Floats pooled_mean(const Vectors& x) const;
  Floats output(const Floats& x, std::size_t head, bool is_mean) const;
  Vectors outputs(const Vectors& x) const;

  const Image& image_;
  int index_;
  Config config_;
  std::vector<Keys> keys_;  // [n_layers]
};

class Model {
 public:
  Model(const std::uint8_t* image, std::size_t bytes);
  Model(const Model&) = delete;
  const Config& config() const { return stacks_.back().config(); }
  const Config& source_config() const { return stacks_.front().config(); }
  std::vector<Stack>& stacks() { return stacks_; }
  // Of two stacks: runs the first. Position 0 comes next.
  void set_source(const Sequence& source);
  // Of a stack to generate: the logits behind one more token.
  Floats step(std::int32_t token);
  void rewind(std::size_t position) { position_ = position; }
  // Of a stack to encode: the rows of a sequence.
  std::vector<Floats> encode(const Sequence& sequence) { return stacks_.back().forward(sequence, 0); }

 private:
  Image image_;
  std::vector<Stack> stacks_;
  std::size_t position_ = 0;
};

}  // namespace spec
