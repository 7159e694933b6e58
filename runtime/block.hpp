// SPDX-License-Identifier: Apache-2.0
// block.hpp: one transformer block: norm, attention, residual, norm, feed-forward layer, residual.
#pragma once
#include "runtime/attention.hpp"
#include "runtime/model.hpp"

namespace heed {

// The buffers that every block of a forward pass works in.
struct BlockScratch {
  float* residual = nullptr;                // [chunk, residual_stride], the embeddings that the blocks move
  std::int16_t* rotation = nullptr;         // [chunk, rotary_dims]
  void* activations = nullptr;
  float* gate = nullptr;                    // [chunk, ffn_stride], in the bytes of the attention scratch
  float* up = nullptr;                      // [chunk, ffn_stride]
  std::uint32_t residual_stride = 0, ffn_stride = 0;
};

// What a block has beside its attention.
struct BlockWeights {
  NormWeights attention_norm{}, ffn_norm{};
  Tensor w_gate, w_up, w_down;  // without a gate no w_gate
};

// Moves the embeddings of n positions from `first` through block `attention.index`.
void block_forward(const StackConfig& config, const AttentionLayer& attention, const BlockWeights& weights,
                   const BlockScratch& scratch, std::uint32_t first, std::uint32_t n);

// Gain and bias of a norm, as far as the image has them.
NormWeights norm_weights(const Model& model, Role gain, Role bias, std::uint32_t layer);

// The weights of layer 0.
void first_layer(AttentionWeights& attention, BlockWeights& block, const Model& model);

// From the weights of one layer to those that lie `bytes` behind them: Model::layer_bytes() for the next layer.
void advance_layer(AttentionWeights& attention, BlockWeights& block, std::ptrdiff_t bytes);

}  // namespace heed
