// SPDX-License-Identifier: Apache-2.0
// float_reference.cpp: the forward pass as the paper writes it.
#include "quant/float_reference.hpp"

#include <cstring>

#include "quant/double_math.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

// Sums run in 16 lanes, added pairwise at the end: fast without a compiler that may reorder them, and the same
// everywhere. GCC and Clang turn the vector type into whatever the target has.
constexpr std::uint32_t kLanes = 16;
using FourFloats = float __attribute__((vector_size(16)));

FourFloats four(const float* p) {
  FourFloats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

float dot(const float* a, const float* b, std::uint32_t n) {
  FourFloats s0{}, s1{}, s2{}, s3{};
  std::uint32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    s0 += four(a + i) * four(b + i);
    s1 += four(a + i + 4) * four(b + i + 4);
    s2 += four(a + i + 8) * four(b + i + 8);
    s3 += four(a + i + 12) * four(b + i + 12);
  }
  float rest = 0.0f;
  for (; i < n; ++i) rest += a[i] * b[i];
  const FourFloats sum = (s0 + s2) + (s1 + s3);
  return ((sum[0] + sum[2]) + (sum[1] + sum[3])) + rest;
}

}  // namespace

FloatReference::FloatReference(const FloatModel& model, std::uint32_t positions)
    : model_(model), positions_(positions), stride_(round_up(positions, kLanes)) {
  const StackConfig& c = model.config;
  if (c.position_table && positions_ > c.max_seq) positions_ = c.max_seq;
  const std::size_t cache = std::size_t{c.n_layers} * c.d_key() * stride_;
  keys_.resize(cache);
  values_.resize(cache);
  cosines_.resize(c.rotary_dims / 2);
  sines_.resize(c.rotary_dims / 2);
  x_.resize(c.d_model);
  normed_.resize(c.d_model);
  change_.resize(c.d_model);
  query_.resize(c.d_query());
  gathered_.resize(c.d_query());
  key_.resize(c.d_key());
  value_.resize(c.d_key());
  scores_.resize(stride_);
  gate_.resize(c.d_ff);
  up_.resize(c.d_ff);
  logits_.resize(c.vocab_size);
}

Span<const float> FloatReference::step(std::uint32_t token) {
  const StackConfig& c = model_.config;
  if (token >= c.vocab_size || position_ >= positions_) return {};
  for (std::size_t i = 0; i < cosines_.size(); ++i) {
    const SinCosDouble turned = sin_cos_double(position_ * model_.rotary_phases[i]);
    cosines_[i] = static_cast<float>(turned.cosine);
    sines_[i] = static_cast<float>(turned.sine);
  }
  embed(token);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    norm(Site::attention_in, layer, Role::attention_gain, Role::attention_norm_bias);
    show(Stage::attention_norm, layer, normed_);
    attention(layer);
    norm(Site::ffn_in, layer, Role::ffn_gain, Role::ffn_norm_bias);
    show(Stage::ffn_norm, layer, normed_);
    feed_forward(layer);
  }
  norm(Site::unembed_in, 0, Role::final_gain, Role::final_norm_bias);
  show(Stage::final_norm, 0, normed_);
  multiply(logits_, c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0, normed_);
  show(Stage::logits, 0, logits_);
  ++position_;
  return {logits_.data(), logits_.size()};
}

void FloatReference::multiply(std::vector<float>& y, Role role, std::uint32_t layer,
                              const std::vector<float>& x) const {
  const float* w = model_.floats(role, layer);
  const float* bias = model_.bias(role, layer);
  const auto cols = static_cast<std::uint32_t>(x.size());
  for (std::size_t r = 0; r < y.size(); ++r) {
    y[r] = dot(w + r * cols, x.data(), cols);
    if (bias) y[r] += bias[r];
  }
}

void FloatReference::add_product(Stage change, Stage after, Role role, std::uint32_t layer,
                                 const std::vector<float>& x) {
  multiply(change_, role, layer, x);
  show(change, layer, change_);
  for (std::size_t i = 0; i < x_.size(); ++i) x_[i] += change_[i];
  show(after, layer, x_);
}

void FloatReference::embed(std::uint32_t token) {
  const StackConfig& c = model_.config;
  const auto row = [&](Role role, std::uint32_t r) {
    const float* first = model_.floats(role, 0) + std::size_t{r} * c.d_model;
    return std::vector<float>(first, first + c.d_model);
  };
  x_ = row(Role::token_embedding, token);
  show(Stage::token_embedding, 0, x_);
  if (c.position_table) {
    const std::vector<float> position = row(Role::position_embedding, position_);
    show(Stage::position_embedding, 0, position);
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] += position[i];
  }
  show(Stage::embedding, 0, x_);
}

// RMS norm: normed = x / sqrt(mean(x^2) + epsilon) * gain. Layer norm: the same of x - mean(x), plus bias.
void FloatReference::norm(Site site, std::uint32_t layer, Role gain_role, Role bias_role) {
  normed_ = x_;
  if (model_.config.norm == Norm::layer) {
    double sum = 0.0;
    for (const float x : x_) sum += x;
    const auto mean = static_cast<float>(sum / static_cast<double>(x_.size()));
    for (float& x : normed_) x -= mean;
  }
  const float square = dot(normed_.data(), normed_.data(), model_.config.d_model) / static_cast<float>(normed_.size());
  const float factor = 1.0f / square_root(square + model_.config.norm_epsilon);
  for (float& x : normed_) x *= factor;
  see(site, layer, normed_);
  const float* gain = model_.floats(gain_role, layer);
  for (std::size_t i = 0; i < x_.size(); ++i) normed_[i] *= gain[i];
  if (const float* bias = model_.floats(bias_role, layer))
    for (std::size_t i = 0; i < x_.size(); ++i) normed_[i] += bias[i];
}

void FloatReference::rotate(float* head) const {
  const bool halves = model_.config.rotary_pairing == RotaryPairing::halves;
  const std::size_t pairs = cosines_.size(), step = halves ? 1 : 2, other = halves ? pairs : 1;
  for (std::size_t i = 0; i < pairs; ++i) {
    const float a = head[i * step], b = head[i * step + other];
    head[i * step] = a * cosines_[i] - b * sines_[i];
    head[i * step + other] = a * sines_[i] + b * cosines_[i];
  }
}

void FloatReference::attention(std::uint32_t layer) {
  const StackConfig& c = model_.config;
  multiply(query_, Role::w_query, layer, normed_);
  multiply(key_, Role::w_key, layer, normed_);
  multiply(value_, Role::w_value_down, layer, normed_);
  show(Stage::query, layer, query_);
  show(Stage::key, layer, key_);
  show(Stage::value, layer, value_);
  for (std::uint32_t head = 0; head < c.n_heads; ++head) rotate(&query_[std::size_t{head} * c.head_dim]);
  for (std::uint32_t head = 0; head < c.n_kv_heads; ++head) {
    rotate(&key_[std::size_t{head} * c.head_dim]);
    for (std::uint32_t d = 0; d < c.head_dim; ++d) {
      keys_[cache_row(layer, head, d) + position_] = key_[std::size_t{head} * c.head_dim + d];
      values_[cache_row(layer, head, d) + position_] = value_[std::size_t{head} * c.head_dim + d];
    }
  }
  for (std::uint32_t head = 0; head < c.n_heads; ++head) attend(layer, head);
  show(Stage::gathered, layer, gathered_);
  see(Site::value_up_in, layer, gathered_);
  add_product(Stage::attention_change, Stage::after_attention, Role::w_value_up, layer, gathered_);
}

void FloatReference::attend(std::uint32_t layer, std::uint32_t head) {
  const StackConfig& c = model_.config;
  const std::uint32_t n = position_ + 1, padded = round_up(n, kLanes);
  const std::uint32_t kv_head = head / (c.n_heads / c.n_kv_heads);
  for (std::uint32_t p = 0; p < padded; ++p) scores_[p] = 0.0f;
  for (std::uint32_t d = 0; d < c.head_dim; ++d) {
    const float q = query_[std::size_t{head} * c.head_dim + d] * c.attention_scale;
    const float* k = &keys_[cache_row(layer, kv_head, d)];
    for (std::uint32_t p = 0; p < padded; p += kLanes)
      for (std::uint32_t l = 0; l < kLanes; ++l) scores_[p + l] += q * k[p + l];
  }
  if (trace) trace(Stage::scores, layer, head, {scores_.data(), n});
  float max = scores_[0];
  for (std::uint32_t p = 1; p < n; ++p) max = scores_[p] > max ? scores_[p] : max;
  double sum = 0.0;
  for (std::uint32_t p = 0; p < n; ++p) {
    const double e = exp_double(static_cast<double>(scores_[p]) - max);
    sum += e;
    scores_[p] = static_cast<float>(e);
  }
  const auto share = static_cast<float>(1.0 / sum);
  if (trace) {
    std::vector<float> weights(scores_.begin(), scores_.begin() + n);
    for (float& w : weights) w *= share;
    trace(Stage::weights, layer, head, {weights.data(), n});
  }
  for (std::uint32_t d = 0; d < c.head_dim; ++d)
    gathered_[std::size_t{head} * c.head_dim + d] =
        dot(&values_[cache_row(layer, kv_head, d)], scores_.data(), n) * share;
}

float FloatReference::activate(float v) const {
  const double x = v;
  switch (model_.config.activation) {
    case Activation::relu: return v > 0.0f ? v : 0.0f;
    case Activation::gelu_tanh: {
      constexpr double kSqrt2OverPi = 0.7978845608028654;
      return static_cast<float>(0.5 * x * (1.0 + tanh_double(kSqrt2OverPi * (x + 0.044715 * x * x * x))));
    }
    case Activation::gelu_erf: return static_cast<float>(0.5 * x * (1.0 + erf_double(x * 0.7071067811865476)));
    default: break;  // SiLU
  }
  return static_cast<float>(x / (1.0 + exp_double(-x)));
}

// x += w_down (F(w_gate h) * w_up h), or without a gate x += w_down F(w_up h)
void FloatReference::feed_forward(std::uint32_t layer) {
  const bool gated = model_.config.gated != 0;
  if (gated) {
    multiply(gate_, Role::w_gate, layer, normed_);
    show(Stage::gate, layer, gate_);
  }
  multiply(up_, Role::w_up, layer, normed_);
  show(Stage::up, layer, up_);
  for (std::size_t i = 0; i < up_.size(); ++i) gate_[i] = gated ? activate(gate_[i]) * up_[i] : activate(up_[i]);
  show(Stage::activated, layer, gate_);
  see(Site::down_in, layer, gate_);
  add_product(Stage::ffn_change, Stage::after_ffn, Role::w_down, layer, gate_);
}

void softmax(std::vector<double>& p, std::vector<double>& log_p, Span<const float> logits) {
  p.resize(logits.size());
  log_p.resize(logits.size());
  float max = logits[0];
  for (const float x : logits) max = x > max ? x : max;
  double sum = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) sum += p[i] = exp_double(static_cast<double>(logits[i]) - max);
  const double log_sum = log_double(sum);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    p[i] /= sum;
    log_p[i] = static_cast<double>(logits[i]) - max - log_sum;
  }
}

double log_probability(Span<const float> logits, std::uint32_t token) {
  float max = logits[0];
  for (const float x : logits) max = x > max ? x : max;
  double sum = 0.0;
  for (const float x : logits) sum += exp_double(static_cast<double>(x) - max);
  return static_cast<double>(logits[token]) - max - log_double(sum);
}

}  // namespace heed::quant
