// SPDX-License-Identifier: Apache-2.0
// dot.hpp: the multiplication of int8 by int8 on each instruction set, as policies for the templates beside this file.
//
// A policy multiplies kLanes rows (or keys) by kColumns columns of kTokens activation vectors at a time:
//   Acc         sums of kLanes rows for kTokens vectors; start(what the policy's sum() says of the activations),
//               result(acc, token) in row order
//   Activation  kColumns activations of each vector: activation(x, stride)
//   Operand     kPieceColumns columns of kLanes rows, from the packed layout: load, or load_panel for the kUnits units of
//               a panel, behind which the pointer is left; `half`: of eight columns only four exist
//   multiply    adds one piece of the columns; multiply<P> where an Activation has several pieces
//   Tile<T>     the policy for T tokens at once, where a larger tile has a better one
//   units(T)    how many kLanes rows are multiplied by T tokens at once, as the registers allow; units_of_short_rows() by
//               one token where rows are short
//   kGroupedTokens  tokens of a tile whose totals over groups are kept in registers beside its sums; 0 = none
//   kPrefetches while a large tile multiplies, the next one's weights are prefetched
//   kArranges   the tile would rather have a panel in the order of arrange()
// and decides what the cache looks like: key_bytes() of four dimensions of a key, kValueKeys keys side by side in the
// values [key / kValueKeys][head_dim][kValueKeys], and multiply-adds of 15-bit weights with a strip of kStripDims of them.
#pragma once
#include <cstring>
#include <type_traits>

#include "platform/simd/lanes.hpp"

namespace heed::simd {

// Where operands are read from.
enum class Source { weights, arranged, keys };

// Weights of up to 64 keys, as they are; other policies keep them in a form of their own.
struct alignas(64) FoldedWords {
  std::int16_t words[kBlockKeys];
};

}  // namespace heed::simd

#if defined(__SSE2__)
#include "platform/simd/dot_sse2.hpp"
#endif
#if defined(__AVX2__)
#include "platform/simd/dot_avx2.hpp"
#include "platform/simd/dot_vnni.hpp"
#endif
#if defined(__ARM_NEON)
#include "platform/simd/dot_neon.hpp"
#endif
