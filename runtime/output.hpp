// SPDX-License-Identifier: Apache-2.0
// output.hpp: what the blocks have moved becomes logits or vectors.
#pragma once
#include "runtime/block.hpp"

namespace heed {

// Receives the output of one position, or of a whole sequence at position 0; it is overwritten after it returns.
struct RowSink {
  void (*take)(void* context, std::uint32_t position, Span<const float> row) = nullptr;
  void* context = nullptr;
};
using LogitsSink = RowSink;

// Numbers in one output of a stack.
constexpr std::uint32_t output_width(const StackConfig& c) { return gives_logits(c) ? c.n_outputs : c.d_output(); }

// The outputs dst [n, output_stride] of n positions whose embeddings are x [n, residual_stride].
void give_rows(const Stack& stack, const Model& model, float* dst, std::uint32_t output_stride, const float* x,
               std::uint32_t n);

// The one output dst of a sequence of n positions, of a stack that pools.
void give_pooled(const Stack& stack, const Model& model, float* dst, const float* x, std::uint32_t n);

// The output vectors of a stack that another one reads, in place.
void give_source(const Stack& stack, const Model& model, float* x, std::uint32_t n);

}  // namespace heed
