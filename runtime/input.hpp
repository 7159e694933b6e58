// SPDX-License-Identifier: Apache-2.0
// input.hpp: what comes in becomes the embeddings that a stack's blocks move.
#pragma once
#include "runtime/block.hpp"
#include "runtime/token.hpp"

namespace heed {

// What a stack reads, all at once: tokens, or feature vectors.
struct Sequence {
  Span<const Token> tokens;
  Span<const std::uint8_t> token_types;  // one for each token, or none: all are 0
  Span<const float> vectors;             // [n, d_input], or [n, d_model] as they are
};

// Positions that a sequence takes, class vectors included, and whether the stack can read it: bad_argument (empty, of
// another kind or width, a null pointer), misaligned, bad_token (or a type that there is not) or context_full.
Status check_sequence(std::uint32_t& positions, const StackConfig& config, const Sequence& input, std::uint32_t max_seq);

// The embeddings x [n, residual_stride] of n positions from `first`, at most a chunk. The first of them that is no class
// vector's reads input `from`.
void embed(const Stack& stack, const Model& model, float* x, const Sequence& input, std::uint32_t from, std::uint32_t first,
           std::uint32_t n);

}  // namespace heed
