// SPDX-License-Identifier: Apache-2.0
// float_reference.hpp: the float model itself, one or two stacks: what the int8 runtime is measured against.
#pragma once
#include <memory>

#include "quant/float_stack.hpp"

namespace heed::quant {

// The model must outlive it. Movable neither nor copyable: the stacks point at its watchers.
class FloatReference {
 public:
  // Room for `positions` of the main stack, from 1 to any number, and for `source_positions` of the source of two
  // stacks (0 = its max_seq); more than max_seq is beyond what the stack was trained for, and impossible with a table of
  // positions: those stop there.
  FloatReference(const FloatModel& model, std::uint32_t positions, std::uint32_t source_positions = 0);
  FloatReference(const FloatReference&) = delete;
  FloatReference& operator=(const FloatReference&) = delete;

  // Of two stacks: runs the first one and computes the keys and values that the second one reads; back to position 0.
  // False where `source` is no sequence that the stack can read, or too long.
  bool set_source(const FloatSequence& source);

  // A stack that generates: back to position 0; the source stays.
  void restart() { position_ = 0; }
  std::uint32_t position() const { return position_; }
  std::uint32_t positions() const { return main_->positions(); }

  // The logits [n_outputs] behind `token`, valid until the next step. Empty when the token is outside the vocabulary,
  // no position is left, or the source is missing.
  Span<const float> step(std::uint32_t token);

  // A whole sequence: a row of width() for each position, or one row where the stack pools; valid until the next call.
  // Empty where the sequence is none that the stack can read, is too long, or the source is missing. A stack that
  // generates answers here too, as if it had stepped over the tokens from position 0.
  Span<const float> encode(const FloatSequence& sequence);
  std::uint32_t width() const { return main_->width(); }

  const FloatStack& main_stack() const { return *main_; }
  // Component d of the rotated key of a head at a position already stepped over, of the main stack.
  float key(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t d, std::uint32_t position) const {
    return main_->key(layer, kv_head, d, position);
  }
  // The stack that the source goes through; null with one stack.
  const FloatStack* source_stack() const { return source_.get(); }

  Watchers watchers;

 private:
  bool is_ready() const { return !source_ || main_->source_positions() != 0; }

  std::unique_ptr<FloatStack> source_, main_;
  std::uint32_t position_ = 0;
  std::vector<float> row_;
};

// Log of the probability that softmax(logits) gives to `token`, in nats.
double log_probability(Span<const float> logits, std::uint32_t token);

// softmax(logits) in double, its logarithm into `log_p`; both [n].
void softmax(std::vector<double>& p, std::vector<double>& log_p, Span<const float> logits);

}  // namespace heed::quant
