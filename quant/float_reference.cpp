// SPDX-License-Identifier: Apache-2.0
// float_reference.cpp: one or two stacks, and the positions of the one that generates.
#include "quant/float_reference.hpp"

#include "quant/double_math.hpp"

namespace heed::quant {

FloatReference::FloatReference(const FloatModel& model, std::uint32_t positions, std::uint32_t source_positions) {
  const std::uint32_t main = model.config.n_stacks - 1;
  main_ = std::make_unique<FloatStack>(model, main, positions, watchers);
  if (main == 0) return;
  if (source_positions == 0) source_positions = model.config.stacks[0].max_seq;
  source_ = std::make_unique<FloatStack>(model, 0, source_positions, watchers);
}

bool FloatReference::set_source(const FloatSequence& source) {
  if (!source_ || !source_->takes(source)) return false;
  std::vector<float> x = source_->embed(source, 0);
  source_->forward(x, 0);
  main_->set_source(source_->outputs(x, 0));
  position_ = 0;
  return true;
}

Span<const float> FloatReference::step(std::uint32_t token) {
  if (token >= main_->config().vocab_size || position_ >= main_->positions() || !is_ready()) return {};
  FloatSequence one;
  one.tokens = {token};
  std::vector<float> x = main_->embed(one, position_);
  main_->forward(x, position_);
  row_ = main_->outputs(x, position_);
  ++position_;
  return {row_.data(), row_.size()};
}

Span<const float> FloatReference::encode(const FloatSequence& sequence) {
  if (!main_->takes(sequence) || !is_ready()) return {};
  std::vector<float> x = main_->embed(sequence, 0);
  main_->forward(x, 0);
  row_ = main_->outputs(x, 0);
  return {row_.data(), row_.size()};
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
