// SPDX-License-Identifier: Apache-2.0
// float_reference.cpp: the forward pass as the paper writes it.
#include "quant/float_reference.hpp"

#include <cstring>

#include "quant/double_math.hpp"

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

// y = W x, W [rows, cols].
void multiply(std::vector<float>& y, const float* w, const std::vector<float>& x) {
  const auto cols = static_cast<std::uint32_t>(x.size());
  for (std::size_t r = 0; r < y.size(); ++r) y[r] = dot(w + r * cols, x.data(), cols);
}

void add_product(std::vector<float>& y, const float* w, const std::vector<float>& x) {
  const auto cols = static_cast<std::uint32_t>(x.size());
  for (std::size_t r = 0; r < y.size(); ++r) y[r] += dot(w + r * cols, x.data(), cols);
}

}  // namespace

FloatReference::FloatReference(const FloatModel& model, std::uint32_t positions)
    : model_(model), positions_(positions), stride_(round_up(positions, kLanes)) {
  const ModelConfig& c = model.config;
  const std::size_t cache = std::size_t{c.n_layers} * c.d_key_value() * stride_;
  keys_.resize(cache);
  values_.resize(cache);
  cosines_.resize(c.rotary_dims / 2);
  sines_.resize(c.rotary_dims / 2);
  x_.resize(c.d_model);
  normed_.resize(c.d_model);
  query_.resize(c.d_query());
  gathered_.resize(c.d_query());
  key_.resize(c.d_key_value());
  value_.resize(c.d_key_value());
  scores_.resize(stride_);
  gate_.resize(c.d_ff);
  up_.resize(c.d_ff);
  logits_.resize(c.vocab_size);
}

Span<const float> FloatReference::step(std::uint32_t token) {
  const ModelConfig& c = model_.config;
  if (token >= c.vocab_size || position_ >= positions_) return {};
  for (std::size_t i = 0; i < cosines_.size(); ++i) {
    const SinCosDouble turned = sin_cos_double(position_ * model_.rotary_phases[i]);
    cosines_[i] = static_cast<float>(turned.cosine);
    sines_[i] = static_cast<float>(turned.sine);
  }
  const float* embedding = model_.floats(Role::token_embedding, 0);
  x_.assign(embedding + std::size_t{token} * c.d_model, embedding + std::size_t{token + 1} * c.d_model);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    norm(Site::attention_in, layer, Role::attention_gain);
    attention(layer);
    norm(Site::ffn_in, layer, Role::ffn_gain);
    feed_forward(layer);
  }
  norm(Site::unembed_in, 0, Role::final_gain);
  multiply(logits_, c.tied_unembedding ? embedding : model_.floats(Role::unembedding, 0), normed_);
  ++position_;
  return {logits_.data(), logits_.size()};
}

// normed = x / sqrt(mean(x^2) + epsilon) * gain
void FloatReference::norm(Site site, std::uint32_t layer, Role gain_role) {
  const float mean = dot(x_.data(), x_.data(), model_.config.d_model) / static_cast<float>(x_.size());
  const float factor = 1.0f / square_root(mean + model_.config.norm_epsilon);
  for (std::size_t i = 0; i < x_.size(); ++i) normed_[i] = x_[i] * factor;
  see(site, layer, normed_);
  const float* gain = model_.floats(gain_role, layer);
  for (std::size_t i = 0; i < x_.size(); ++i) normed_[i] *= gain[i];
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
  const ModelConfig& c = model_.config;
  multiply(query_, model_.floats(Role::w_query, layer), normed_);
  multiply(key_, model_.floats(Role::w_key, layer), normed_);
  multiply(value_, model_.floats(Role::w_value_down, layer), normed_);
  for (std::uint32_t head = 0; head < c.n_heads; ++head) rotate(&query_[std::size_t{head} * c.head_dim]);
  for (std::uint32_t head = 0; head < c.n_kv_heads; ++head) {
    rotate(&key_[std::size_t{head} * c.head_dim]);
    for (std::uint32_t d = 0; d < c.head_dim; ++d) {
      keys_[cache_row(layer, head, d) + position_] = key_[std::size_t{head} * c.head_dim + d];
      values_[cache_row(layer, head, d) + position_] = value_[std::size_t{head} * c.head_dim + d];
    }
  }
  const std::uint32_t n = position_ + 1, padded = round_up(n, kLanes);
  for (std::uint32_t head = 0; head < c.n_heads; ++head) {
    const std::uint32_t kv_head = head / (c.n_heads / c.n_kv_heads);
    for (std::uint32_t p = 0; p < padded; ++p) scores_[p] = 0.0f;
    for (std::uint32_t d = 0; d < c.head_dim; ++d) {
      const float q = query_[std::size_t{head} * c.head_dim + d] * c.attention_scale;
      const float* k = &keys_[cache_row(layer, kv_head, d)];
      for (std::uint32_t p = 0; p < padded; p += kLanes)
        for (std::uint32_t l = 0; l < kLanes; ++l) scores_[p + l] += q * k[p + l];
    }
    float max = scores_[0];
    for (std::uint32_t p = 1; p < n; ++p) max = scores_[p] > max ? scores_[p] : max;
    double sum = 0.0;
    for (std::uint32_t p = 0; p < n; ++p) {
      const double e = exp_double(static_cast<double>(scores_[p]) - max);
      sum += e;
      scores_[p] = static_cast<float>(e);
    }
    const auto share = static_cast<float>(1.0 / sum);
    for (std::uint32_t d = 0; d < c.head_dim; ++d)
      gathered_[std::size_t{head} * c.head_dim + d] =
          dot(&values_[cache_row(layer, kv_head, d)], scores_.data(), n) * share;
  }
  see(Site::value_up_in, layer, gathered_);
  add_product(x_, model_.floats(Role::w_value_up, layer), gathered_);
}

// x += w_down (silu(w_gate h) * w_up h)
void FloatReference::feed_forward(std::uint32_t layer) {
  multiply(gate_, model_.floats(Role::w_gate, layer), normed_);
  multiply(up_, model_.floats(Role::w_up, layer), normed_);
  for (std::size_t i = 0; i < gate_.size(); ++i) {
    const double g = gate_[i];
    gate_[i] = static_cast<float>(g / (1.0 + exp_double(-g))) * up_[i];
  }
  see(Site::down_in, layer, gate_);
  add_product(x_, model_.floats(Role::w_down, layer), gate_);
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
