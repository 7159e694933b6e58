// SPDX-License-Identifier: Apache-2.0
// float_reference.hpp: the float model itself, one position at a time: what the int8 runtime is measured against.
#pragma once
#include <functional>
#include <vector>

#include "quant/source.hpp"

namespace heed::quant {

// What a forward pass computes on its way, in the order in which it comes. Scores and weights come once for each query
// head, of the keys up to the position; all others are whole vectors.
enum class Stage {
  token_embedding,     // [d_model]
  position_embedding,  // [d_model], with learned positions
  embedding,           // [d_model], their sum
  attention_norm,      // [d_model], gain and bias applied
  query,               // [n_heads * head_dim], before rotation
  key,                 // [n_kv_heads * head_dim], before rotation
  value,               // [n_kv_heads * head_dim]
  scores,              // [position + 1], scaled
  weights,             // [position + 1], sum one
  gathered,            // [n_heads * head_dim], the heads' outputs side by side
  attention_change,    // [d_model]
  after_attention,     // [d_model]
  ffn_norm,            // [d_model]
  gate,                // [d_ff], with a gate
  up,                  // [d_ff]
  activated,           // [d_ff], what feeds w_down
  ffn_change,          // [d_model]
  after_ffn,           // [d_model], what leaves the layer
  final_norm,          // [d_model]
  logits               // [vocab_size]
};

// A decoder in float32, with the same bits on every host (no libm, no contraction, a written order of sums). The model
// must outlive it.
class FloatReference {
 public:
  // Room for `positions`, from 1 to any number; more than model.config.max_seq is beyond what the model was trained
  // for, and impossible with learned positions: those stop there.
  FloatReference(const FloatModel& model, std::uint32_t positions);

  // Back to position 0.
  void restart() { position_ = 0; }
  std::uint32_t position() const { return position_; }
  std::uint32_t positions() const { return positions_; }

  // The logits [vocab_size] behind `token`, valid until the next step. Empty when the token is outside the
  // vocabulary or no position is left.
  Span<const float> step(std::uint32_t token);

  // Component d of the rotated key of a head at a position already stepped over.
  float key(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t d, std::uint32_t position) const {
    return keys_[cache_row(layer, kv_head, d) + position];
  }

  // If set, sees the vector that feeds each site, before the gain and bias of the norm where there is one.
  std::function<void(Site, std::uint32_t layer, Span<const float>)> watch;

  // If set, sees every stage; `head` is that of scores and weights, else 0.
  std::function<void(Stage, std::uint32_t layer, std::uint32_t head, Span<const float>)> trace;

 private:
  std::size_t cache_row(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t d) const {
    const StackConfig& c = model_.config;
    return ((std::size_t{layer} * c.n_kv_heads + kv_head) * c.head_dim + d) * stride_;
  }
  void embed(std::uint32_t token);
  void norm(Site site, std::uint32_t layer, Role gain, Role bias);
  void rotate(float* head) const;
  void attention(std::uint32_t layer);
  void attend(std::uint32_t layer, std::uint32_t head);
  void feed_forward(std::uint32_t layer);
  float activate(float x) const;
  // y = W x + bias; x_ += W x + bias.
  void multiply(std::vector<float>& y, Role role, std::uint32_t layer, const std::vector<float>& x) const;
  void add_product(Stage change, Stage after, Role role, std::uint32_t layer, const std::vector<float>& x);
  void see(Site site, std::uint32_t layer, const std::vector<float>& x) const {
    if (watch) watch(site, layer, {x.data(), x.size()});
  }
  void show(Stage stage, std::uint32_t layer, const std::vector<float>& x) const {
    if (trace) trace(stage, layer, 0, {x.data(), x.size()});
  }

  const FloatModel& model_;
  std::uint32_t positions_, stride_, position_ = 0;
  std::vector<float> keys_, values_;      // [n_layers, n_kv_heads, head_dim, stride]
  std::vector<float> cosines_, sines_;    // [rotary_dims / 2] of this position
  std::vector<float> x_, normed_;         // [d_model]
  std::vector<float> change_;             // [d_model]
  std::vector<float> query_, gathered_;   // [n_heads * head_dim]
  std::vector<float> key_, value_;        // [n_kv_heads * head_dim]
  std::vector<float> scores_;             // [stride]
  std::vector<float> gate_, up_;          // [d_ff]
  std::vector<float> logits_;             // [vocab_size]
};

// Log of the probability that softmax(logits) gives to `token`, in nats.
double log_probability(Span<const float> logits, std::uint32_t token);

// softmax(logits) in double, its logarithm into `log_p`; both [n].
void softmax(std::vector<double>& p, std::vector<double>& log_p, Span<const float> logits);

}  // namespace heed::quant
