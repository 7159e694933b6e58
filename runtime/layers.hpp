// SPDX-License-Identifier: Apache-2.0
// layers.hpp: what a small network needs beside attention, usable alone: a matrix, a feed-forward layer, and the norms,
// means and sums between them. Rows of floats in, rows of floats out.
#pragma once
#include "runtime/activation.hpp"
#include "runtime/attention.hpp"

namespace heed {

// ---- A feed-forward layer as a part of a block; internal to runtime/ -----------------------------------------

// Views, as in AttentionWeights; w_gate and w_up have one group size, w_down its own.
struct FeedForwardWeights {
  Tensor w_gate;  // [d_ff, d_model]; without a gate none
  Tensor w_up;    // [d_ff, d_model]
  Tensor w_down;  // [d_model, d_ff]
};

struct FeedForwardLayer {
  const FeedForwardWeights* weights = nullptr;
  bool gated = true;
  Activation activation = Activation::silu;
  float* gate = nullptr;  // [chunk, stride]
  float* up = nullptr;    // [chunk, stride], with a gate
  std::uint32_t stride = 0;
  const Kernels* kernels = nullptr;
  const Parallel* parallel = nullptr;
};

// Of n positions, whose normalised, quantised embeddings are `input`: adds (or writes) the change to dst [n, dst_stride].
// `activations` holds n quantised vectors of d_ff with w_down's group; `input` may live in the same bytes. dst may lie in
// the bytes of gate and up when nothing is added to it.
void feed_forward(const FeedForwardLayer& layer, float* dst, std::uint32_t dst_stride, bool accumulate,
                  const Activations& input, std::uint32_t n, void* activations);

// ---- A matrix alone ------------------------------------------------------------------------------------------

// y = activation(weights * x + bias)
struct LinearConfig {
  std::uint32_t d_in = 0, d_out = 0;
  std::uint32_t group = 0;                    // columns per group of the weights, 0 = one scale per row
  Activation activation = Activation::none;
};

struct LinearMemory {
  std::uint64_t arena_bytes = 0;  // exactly what `create` asks for
  std::uint32_t arena_align = 0;
  std::uint32_t chunk = 0;
  Slice activations;  // [chunk] quantised vectors of d_in
  Slice product;      // [chunk, d_out padded] f32
};

namespace layers_detail {

constexpr Status check_group(std::uint32_t group) {
  if (group != 0 && group != 32 && group != 64 && group != 128 && group != 256) return Status::bad_config;
  return group == 0 || kBuiltFeatures.groups ? Status::ok : Status::feature_not_built;
}

}  // namespace layers_detail

constexpr Status check_linear(const LinearConfig& c) {
  if (c.d_in == 0 || c.d_in > kMaxCols || c.d_out == 0 || c.d_out > 1u << 20) return Status::bad_config;
  if (const Status s = layers_detail::check_group(c.group); s != Status::ok) return s;
  return check_activation(c.activation);
}

// chunk: rows taken through the matrix together; 0 = the table's default. Fails with bad_config, feature_not_built (groups,
// the activation), or bad_argument for a chunk above kMaxChunk.
constexpr Status make_linear_plan(LinearMemory& plan, const LinearConfig& c, const KernelTraits& traits,
                                  std::uint32_t chunk = 0) {
  if (const Status s = check_linear(c); s != Status::ok) return s;
  if (chunk > kMaxChunk) return Status::bad_argument;
  plan = LinearMemory{};
  plan.chunk = chunk ? chunk : traits.default_chunk;
  plan.arena_align = traits.alignment;
  plan_detail::Stacker s(0, traits.alignment);
  s.take(plan.activations, activations_bytes(traits, c.d_in, c.group, plan.chunk));
  s.take(plan.product, std::uint64_t{4} * plan.chunk * float_row(c.d_out));
  plan.arena_bytes = s.at() + traits.slack;
  return Status::ok;
}

// A matrix over a caller's block of memory. Between two calls the block holds nothing, so layers that are not called at
// the same time may share one, as large as the largest of them asks for.
class Linear : public LayerBase<LinearMemory> {
 public:
  // Takes n rows [n, d_in] to [n, d_out]; each row is quantised (SPEC.md 2.3), multiplied (2.9) and, with an activation,
  // bent by it as floats (2.5). Any cut of the rows into calls gives the same bits. Where d_in = d_out, `out` may be `in`.
  // Fails with bad_argument (sizes, a null pointer, no `create` before), misaligned, or rounding_mode when floats no
  // longer round to nearest even; `out` is unchanged then.
  Status forward(Span<float> out, Span<const float> in);

 private:
  friend Status create(Linear&, const LinearConfig&, const Tensor&, const LinearMemory&, const Kernels&,
                       Span<std::byte>);
  LinearConfig config_;
  Tensor weights_;
  const Kernels* kernels_ = nullptr;
};

// `weights` [d_out, d_in], with a bias or without. `arena` must hold plan.arena_bytes, aligned to plan.arena_align, and
// outlive the layer, as must the weights, whose numbers are trusted (AttentionWeights). The plan must come from the same
// configuration and kernels.traits. Fails with bad_argument (also a matrix of another shape or group size), bad_config,
// misaligned (the arena, or a part of the weights), arena_too_small, layout_unsupported, feature_not_built (biases, groups,
// the activation) or rounding_mode (also of a build whose compiler fused products with sums).
Status create(Linear& linear, const LinearConfig& config, const Tensor& weights, const LinearMemory& plan,
              const Kernels& kernels, Span<std::byte> arena);

// ---- A feed-forward layer alone ------------------------------------------------------------------------------

// change = w_down * (activation(w_gate * x) * (w_up * x)); without a gate w_down * activation(w_up * x). Each matrix may
// have a bias.
struct FeedForwardConfig {
  std::uint32_t d_model = 0, d_ff = 0;
  bool gated = true;
  Activation activation = Activation::silu;            // neither tanh nor none
  std::uint32_t group_in = 0;                          // columns per group of w_gate and w_up, 0 = one scale per row
  std::uint32_t group_down = 0;                        // the same of w_down
};

struct FeedForwardMemory {
  std::uint64_t arena_bytes = 0;  // exactly what `create` asks for
  std::uint32_t arena_align = 0;
  std::uint32_t chunk = 0;
  Slice activations;  // [chunk] quantised vectors of d_model, then of d_ff
  Slice gate;         // [chunk, d_ff padded] f32
  Slice up;           // the same, with a gate
  Slice change;       // [chunk, d_model padded] f32, in the bytes of gate and up
};

constexpr Status check_feed_forward(const FeedForwardConfig& c) {
  if (c.d_model == 0 || c.d_model > 65536 || c.d_ff == 0 || c.d_ff > kMaxCols) return Status::bad_config;
  if (c.activation == Activation::tanh || c.activation == Activation::none) return Status::bad_config;
  if (const Status s = layers_detail::check_group(c.group_in); s != Status::ok) return s;
  if (const Status s = layers_detail::check_group(c.group_down); s != Status::ok) return s;
  if (const Status s = check_gate(c.gated); s != Status::ok) return s;
  return check_activation(c.activation);
}

// As make_linear_plan; feature_not_built also without a gate where `ungated` is not built.
constexpr Status make_feed_forward_plan(FeedForwardMemory& plan, const FeedForwardConfig& c, const KernelTraits& traits,
                                        std::uint32_t chunk = 0) {
  if (const Status s = check_feed_forward(c); s != Status::ok) return s;
  if (chunk > kMaxChunk) return Status::bad_argument;
  plan = FeedForwardMemory{};
  plan.chunk = chunk ? chunk : traits.default_chunk;
  plan.arena_align = traits.alignment;
  plan_detail::Stacker s(0, traits.alignment);
  s.take(plan.activations, plan_detail::larger(activations_bytes(traits, c.d_model, c.group_in, plan.chunk),
                                                activations_bytes(traits, c.d_ff, c.group_down, plan.chunk)));
  plan_detail::Stacker products = s, change = s;
  const std::uint64_t ff_bytes = std::uint64_t{4} * plan.chunk * float_row(c.d_ff);
  products.take(plan.gate, ff_bytes);
  products.take(plan.up, c.gated ? ff_bytes : 0);
  change.take(plan.change, std::uint64_t{4} * plan.chunk * float_row(c.d_model));
  plan.arena_bytes = plan_detail::larger(products.at(), change.at()) + traits.slack;
  return Status::ok;
}

// A feed-forward layer over a caller's block of memory, which holds nothing between two calls (see Linear).
class FeedForward : public LayerBase<FeedForwardMemory> {
 public:
  // Takes n embeddings [n, d_model] and writes the change to each [n, d_model]; nothing is added to the embeddings
  // themselves, and a norm in front of the layer is the caller's. `change` may be `embeddings`. Any cut of the rows into
  // calls gives the same bits. Fails as Linear::forward does.
  Status forward(Span<float> change, Span<const float> embeddings);

 private:
  friend Status create(FeedForward&, const FeedForwardConfig&, const FeedForwardWeights&, const FeedForwardMemory&,
                       const Kernels&, Span<std::byte>);
  FeedForwardConfig config_;
  FeedForwardWeights weights_;
  FeedForwardLayer layer_;
};

// Fails as for a Linear; bad_argument also for matrices of several layouts, or a w_gate without a gate.
Status create(FeedForward& feed_forward, const FeedForwardConfig& config, const FeedForwardWeights& weights,
              const FeedForwardMemory& plan, const Kernels& kernels, Span<std::byte> arena);

// ---- Between layers ------------------------------------------------------------------------------------------

// The norm of each row [n, d] as floats (SPEC.md 2.4). `out` may be `in`. The gain and the bias, where there is one, are
// [d], within 2^-40..2^40 in magnitude or 0; epsilon is 2^-40 to 2^40. Fails with bad_argument (sizes, a null pointer, d of 0 or
// above 65536, epsilon, a bias without `centred`), misaligned, feature_not_built (layer norm; any in a build without
// a feature that needs norms as floats, kNormsToFloats) or rounding_mode; `out` is unchanged then.
Status norm(Span<float> out, Span<const float> in, std::uint32_t d, const NormWeights& weights, const Kernels& kernels);

// The activation of each row of x [n, d] (activation.hpp), in place. Fails with bad_argument, misaligned,
// feature_not_built (the activation) or rounding_mode.
Status activate(Span<float> x, std::uint32_t d, Activation activation);

// The mean of n >= 1 rows [n, d], where d is out.size(): their sum in their order, times 1 / n, snapped
// (SPEC.md 2.0). `out` may be the first row. Fails with bad_argument, misaligned or rounding_mode.
Status mean(Span<float> out, Span<const float> rows);

// x += change, element by element. Fails with bad_argument, misaligned or rounding_mode.
Status add(Span<float> x, Span<const float> change);

}  // namespace heed
