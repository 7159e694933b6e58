// SPDX-License-Identifier: Apache-2.0
// block.hpp: one transformer block: attention, attention to another sequence and the feed-forward layer, each with its norms
// around it, move the embeddings.
#pragma once
#include "runtime/layers.hpp"
#include "runtime/model.hpp"

namespace heed {

// The buffers that every block of a forward pass works in.
struct BlockScratch {
  float* residual = nullptr;                // [chunk, residual_stride], the embeddings that the blocks move
  std::int16_t* rotation = nullptr;         // [chunk, rotary_dims]
  std::int16_t* local_rotation = nullptr;   // the same of windowed layers with phases of their own, else `rotation`
  void* activations = nullptr;
  void* kept = nullptr;                     // the feed-forward layer's input beside attention
  float* change = nullptr;                  // [chunk, residual_stride], with norms on both sides
  float* gate = nullptr;                    // [chunk, ffn_stride], in the bytes of the attention scratch
  float* up = nullptr;                      // [chunk, ffn_stride]
  // In front of the blocks and behind them; StackPlan has their shapes.
  float *position = nullptr, *frames = nullptr, *convolved = nullptr, *pooled = nullptr, *dense = nullptr, *heads = nullptr;
  std::uint32_t residual_stride = 0, ffn_stride = 0;
};

// The norms around a sublayer, as far as there are any.
struct SublayerNorms {
  NormWeights before{}, after{};
};

// What a block has beside its attention.
struct BlockWeights {
  SublayerNorms attention, cross, ffn;
  FeedForwardWeights feed_forward;
};

// A stack at one of its layers.
struct Stack {
  const StackConfig* config = nullptr;
  std::uint32_t place = 0;  // in the model
  std::uint32_t chunk = 0;
  // Self-attention, and behind it, where there is one, cross-attention; the layer is attention().index.
  AttentionLayer attentions[kBuiltFeatures.cross_attention ? 2 : 1];
  BlockWeights block;
  std::ptrdiff_t layer_bytes = 0;  // from a weight of one layer to the next layer's
  // Behind the blocks.
  NormWeights final_norm{};
  Tensor unembedding;  // of a stack that gives logits
  BlockScratch scratch;

  // Known where there is one stack, so that a firmware looks nothing up.
  std::uint32_t index() const { return kMaxStacks == 1 ? 0 : place; }
  AttentionLayer& attention() { return attentions[0]; }
  const AttentionLayer& attention() const { return attentions[0]; }
  AttentionLayer& cross() { return attentions[kBuiltFeatures.cross_attention ? 1 : 0]; }
  const AttentionLayer& cross() const { return attentions[kBuiltFeatures.cross_attention ? 1 : 0]; }
};

// Moves the embeddings x [n, residual_stride] of n positions from `first` through the stack's block. With `attend` their
// keys and values are in the cache already.
void block_forward(const Stack& stack, float* x, std::uint32_t first, std::uint32_t n, AttentionStep step);

// Only stores the keys and values of these positions.
void block_store(const Stack& stack, const float* x, std::uint32_t first, std::uint32_t n);

// Gain and bias of a norm, as far as the image has them.
NormWeights norm_weights(const Model& model, Role gain, Role bias, std::uint32_t stack);

// The weights of layer 0, and of what is behind the layers.
void first_layer(Stack& stack, const Model& model);

// To the weights so many layers on, or back; attention().index is the caller's.
void advance_layers(Stack& stack, std::ptrdiff_t layers);

}  // namespace heed
