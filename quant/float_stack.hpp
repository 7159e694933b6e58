// SPDX-License-Identifier: Apache-2.0
// float_stack.hpp: one stack of the float reference: embeddings, blocks, and what comes out behind them.
#pragma once
#include <functional>
#include <vector>

#include "quant/decoded_matrices.hpp"

namespace heed::quant {

// What a stack computes on its way, in the order in which it comes. Scores and weights come once for each query head, of
// the keys that the position sees; all others are whole vectors.
enum class Stage {
  token_embedding,         // [d_model]
  position_embedding,      // [d_model], with a table of positions
  embedding,               // [d_model], what enters the first layer
  attention_norm,          // [d_model], gain and bias applied; what feeds the matrices where no norm stands before them
  query,                   // [n_heads * head_dim], before their norm and rotation
  key,                     // [n_kv_heads * head_dim], the same
  value,                   // [n_kv_heads * value_dim]
  scores,                  // [keys seen], scaled and with their bias
  weights,                 // [keys seen], sum one
  gathered,                // [n_heads * value_dim], the heads' outputs side by side
  attention_change,        // [d_model]
  after_attention,         // [d_model]
  cross_attention_norm,    // the same five of cross-attention
  cross_query,
  cross_gathered,
  cross_attention_change,
  after_cross_attention,
  ffn_norm,                // [d_model]
  gate,                    // [d_ff], with a gate
  up,                      // [d_ff]
  activated,               // [d_ff], what feeds w_down
  ffn_change,              // [d_model]
  after_ffn,               // [d_model], what leaves the layer
  final_norm,              // [d_model]
  logits                   // [n_outputs]
};

// What attention multiplies, behind norm and rotation: what the runtime keeps in int8.
enum class HeadRole : std::uint8_t { query, key, value, cross_query, cross_key, cross_value };
inline constexpr int kHeadsCount = 6;

// Where a vector belongs.
struct Place {
  std::uint32_t stack, layer, position;
};

// What a stack reads: tokens (with types, all 0 if there are none), or vectors [n, d_input], of d_model where they
// come as they are.
struct FloatSequence {
  std::vector<std::uint32_t> tokens;
  std::vector<std::uint8_t> token_types;
  std::vector<float> vectors;
};

// Positions that a sequence has in a stack, class vectors included; 0 where the stack cannot read it, or where it is more
// than max_seq long without them.
std::uint32_t positions_of(const StackConfig& config, const FloatSequence& sequence);

struct Watchers {
  // The vector that feeds a site, before the gain and bias of the norm where `norm_before` says that there is one. At
  // source_in the position is that of the source.
  std::function<void(Site, const Place&, Span<const float>)> site;
  // Queries [n_heads * head_dim], keys [n_kv_heads * head_dim] and values [n_kv_heads * value_dim] of a position, that of the
  // source for cross_key and cross_value.
  std::function<void(HeadRole, const Place&, Span<const float>)> heads;
  // Every stage; `head` is that of scores and weights, else 0.
  std::function<void(Stage, const Place&, std::uint32_t head, Span<const float>)> stage;
};

// In float32, with the same bits on every host (no libm, no contraction, a written order of sums). Model and watchers
// must outlive it.
class FloatStack {
 public:
  // Room for `positions` of its own.
  FloatStack(const FloatModel& model, std::uint32_t stack, std::uint32_t positions, const Watchers& watchers);

  const StackConfig& config() const { return c_; }
  // As asked for; at most max_seq with a table of positions.
  std::uint32_t positions() const { return positions_; }
  // Whether the stack can read a sequence and has room for it.
  bool takes(const FloatSequence& sequence) const {
    const std::uint32_t n = positions_of(c_, sequence);
    return n != 0 && n <= positions_;
  }

  // [n, d_model]: what enters the first layer at position `first` and behind. Only at 0 do class vectors stand in
  // front, or can a convolution see its neighbours.
  std::vector<float> embed(const FloatSequence& sequence, std::uint32_t first) const;
  // Rows [n, d_source] that cross-attention reads from now on.
  void set_source(const std::vector<float>& rows);
  // Moves x [n, d_model], positions `first` and behind, through all layers. Keys before `first` are those of earlier
  // calls.
  void forward(std::vector<float>& x, std::uint32_t first);
  // What comes out of positions `first` and behind: [n, width] or, pooled, [1, width].
  std::vector<float> outputs(const std::vector<float>& x, std::uint32_t first) const;
  std::uint32_t width() const { return c_.output == Output::logits ? c_.n_outputs : c_.d_output(); }

  // Component d of a key that has been stored, rotated where keys are; of cross-attention: of the source's position.
  float key(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t d, std::uint32_t position) const {
    return own_.keys[row(own_, layer, kv_head, d, c_.head_dim) + position];
  }
  float source_key(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t d, std::uint32_t position) const {
    return source_.keys[row(source_, layer, kv_head, d, c_.head_dim) + position];
  }
  std::uint32_t source_positions() const { return source_.n; }

 private:
  // Keys and values by component, positions side by side: [n_layers, n_kv_heads, head_dim or value_dim, stride].
  struct Cache {
    std::uint32_t n = 0, stride = 0;
    std::vector<float> keys, values;
  };
  // Tensors of self- or cross-attention.
  struct AttentionRoles;
  static const AttentionRoles kSelf, kCross;
  // Cosines and sines of the pairs at one position.
  struct Rotation {
    std::vector<float> cosines, sines;
  };

  std::size_t row(const Cache& cache, std::uint32_t layer, std::uint32_t kv_head, std::uint32_t d,
                  std::uint32_t dims) const {
    return ((std::size_t{layer} * c_.n_kv_heads + kv_head) * dims + d) * cache.stride;
  }
  void make_room(Cache& cache, std::uint32_t positions) const;
  const float* floats(Role role, std::uint32_t layer) const { return model_.floats(role, layer, stack_); }
  using Vector = std::vector<float>;

  // y = W x + bias of the matrix, for vectors x that lie behind each other.
  Vector multiply(Role role, std::uint32_t layer, const Vector& x) const;
  void normalise(float* x, std::uint32_t n, Norm kind) const;
  void scale_and_shift(Vector& x, Role gain, Role bias, std::uint32_t layer) const;
  // The norm of x without a site of its own.
  void apply_norm(Vector& x, Role gain, Role bias, std::uint32_t layer) const;
  // What the matrices of a site read, which sees it: x, normed where a norm stands before the site.
  Vector enter(Site site, const Place& at, Vector x) const;
  void norm_heads(Vector& heads, Role gain, Role bias, std::uint32_t layer) const;
  Rotation rotation(const std::vector<std::uint32_t>& phases, std::uint32_t position) const;
  void rotate(Vector& heads, const Rotation& by) const;
  void store(Cache& cache, std::uint32_t layer, std::uint32_t position, const Vector& key, const Vector& value) const;
  void self_keys(const Place& at, const Vector& input, Vector& query);
  // The heads' outputs of one position, side by side; keys [begin, end) are seen.
  Vector attend(const Cache& cache, const Place& at, const Vector& query, std::uint32_t begin, std::uint32_t end,
                bool cross) const;
  Vector attention_change(const AttentionRoles& roles, const Place& at, const Vector& gathered) const;
  Vector feed_forward_change(const Place& at, const Vector& input) const;
  void add(float* x, Vector change, Role after_gain, Role after_bias, std::uint32_t layer) const;
  Vector convolve(Role role, const Vector& frames, std::uint32_t width, std::uint32_t stride, Site site) const;
  Vector output_of(Vector x, std::uint32_t position, std::uint32_t head) const;
  void see(Site site, const Place& at, const Vector& x) const {
    if (watchers_.site) watchers_.site(site, at, {x.data(), x.size()});
  }
  void see(HeadRole heads, const Place& at, const Vector& x) const {
    if (watchers_.heads) watchers_.heads(heads, at, {x.data(), x.size()});
  }
  void show(Stage stage, const Place& at, const float* x, std::size_t n, std::uint32_t head = 0) const {
    if (watchers_.stage) watchers_.stage(stage, at, head, {x, n});
  }
  void show(Stage stage, const Place& at, const Vector& x) const { show(stage, at, x.data(), x.size()); }

  const FloatModel& model_;
  const StackConfig c_;
  const std::uint32_t stack_;
  std::uint32_t positions_;
  const Watchers& watchers_;
  mutable DecodedMatrices matrices_;  // decodes when it must
  Cache own_, source_;
};

}  // namespace heed::quant
