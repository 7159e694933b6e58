// SPDX-License-Identifier: Apache-2.0
// layers.cpp: the layers beside attention; a model's block runs the same feed_forward.
#include "runtime/one_rounding.hpp"

#include "runtime/layers.hpp"

#include "runtime/layer_calls.hpp"

namespace heed {

void feed_forward(const FeedForwardLayer& layer, float* dst, std::uint32_t dst_stride, bool accumulate,
                  const Activations& input, std::uint32_t n, void* activations) {
  const Kernels& k = *layer.kernels;
  const Parallel& parallel = *layer.parallel;
  const FeedForwardWeights& w = *layer.weights;
  const bool gated = !kBuiltFeatures.ungated || layer.gated;
  const Product inputs[] = {{layer.gate, gated ? &w.w_gate : &w.w_up, layer.stride}, {layer.up, &w.w_up, layer.stride}};
  matmul_parallel(k, parallel, inputs, gated ? 2 : 1, false, input, n);

  const std::uint32_t d_ff = w.w_down.cols;
  const Activations down_in = make_activations(activations, k.traits, d_ff, w.w_down.group, n);
  for_each_range(parallel, n, std::uint64_t{n} * d_ff * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
    for (; t < end; ++t) {
      const std::size_t row = std::size_t{t} * layer.stride;
      k.gate_s8r_f32(down_in, t, layer.gate + row, gated ? layer.up + row : nullptr, activation_factor(layer.activation));
    }
  });
  const Product down{dst, &w.w_down, dst_stride};
  matmul_parallel(k, parallel, &down, 1, accumulate, down_in, n);
}

namespace {

Status check_matrix(const KernelTraits& traits, const Tensor& t, std::uint32_t rows, std::uint32_t cols,
                    std::uint32_t group) {
  if (t.rows != rows || t.cols != cols || t.group != group) return Status::bad_argument;
  return check_weights(traits, t);
}

}  // namespace

Status create(Linear& linear, const LinearConfig& config, const Tensor& weights, const LinearMemory& plan,
              const Kernels& kernels, Span<std::byte> arena) {
  LinearMemory expected;
  if (const Status s = make_linear_plan(expected, config, kernels.traits, plan.chunk); s != Status::ok) return s;
  if (const Status s = check_arena(plan, expected, arena); s != Status::ok) return s;
  if (const Status s = check_matrix(kernels.traits, weights, config.d_out, config.d_in, config.group); s != Status::ok)
    return s;
  linear = Linear{};
  linear.config_ = config;
  linear.weights_ = weights;
  linear.kernels_ = &kernels;
  linear.arena_ = arena.data();
  linear.plan_ = expected;
  return Status::ok;
}

Status Linear::forward(Span<float> out, Span<const float> in) {
  const LinearConfig& c = config_;
  if (!arena_) return Status::bad_argument;
  if (const Status s = check_call(out, c.d_out, in, c.d_in); s != Status::ok) return s;
  const std::uint32_t stride = float_row(c.d_out);
  auto* const product = at<float>(arena_, plan_.product);
  for_each_chunk(in.size() / c.d_in, plan_.chunk, [&](std::size_t first, std::uint32_t n) {
    const Activations input = quantize_rows(at<void>(arena_, plan_.activations), *kernels_, parallel_,
                                            in.data() + first * c.d_in, c.d_in, c.group, n);
    const Product one{product, &weights_, stride};
    matmul_parallel(*kernels_, parallel_, &one, 1, false, input, n);
    for_each_range(parallel_, n, std::uint64_t{n} * c.d_out * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
      for (; t < end; ++t) activate(product + std::size_t{t} * stride, c.d_out, c.activation);
    });
    copy_rows(out.data() + first * c.d_out, product, stride, c.d_out, n);
  });
  return Status::ok;
}

Status create(FeedForward& layer, const FeedForwardConfig& config, const FeedForwardWeights& weights,
              const FeedForwardMemory& plan, const Kernels& kernels, Span<std::byte> arena) {
  FeedForwardMemory expected;
  if (const Status s = make_feed_forward_plan(expected, config, kernels.traits, plan.chunk); s != Status::ok) return s;
  if (const Status s = check_arena(plan, expected, arena); s != Status::ok) return s;
  const KernelTraits& traits = kernels.traits;
  const std::uint32_t d_model = config.d_model, d_ff = config.d_ff;
  if (const Status s = check_matrix(traits, weights.w_up, d_ff, d_model, config.group_in); s != Status::ok) return s;
  if (const Status s = check_matrix(traits, weights.w_down, d_model, d_ff, config.group_down); s != Status::ok) return s;
  if (!config.gated && weights.w_gate.weights) return Status::bad_argument;
  if (config.gated) {
    if (const Status s = check_matrix(traits, weights.w_gate, d_ff, d_model, config.group_in); s != Status::ok) return s;
    if (weights.w_gate.layout != weights.w_up.layout) return Status::bad_argument;
  }
  // Products of one input are cut into parts together, so they have one layout; w_down has it as well.
  if (weights.w_down.layout != weights.w_up.layout) return Status::bad_argument;

  layer = FeedForward{};
  layer.config_ = config;
  layer.arena_ = arena.data();
  layer.plan_ = expected;
  layer.weights_ = weights;
  layer.layer_.gated = config.gated;
  layer.layer_.activation = config.activation;
  layer.layer_.gate = at<float>(arena.data(), expected.gate);
  layer.layer_.up = at<float>(arena.data(), expected.up);
  layer.layer_.stride = float_row(d_ff);
  layer.layer_.kernels = &kernels;
  return Status::ok;
}

Status FeedForward::forward(Span<float> change, Span<const float> embeddings) {
  const FeedForwardConfig& c = config_;
  if (!arena_) return Status::bad_argument;
  if (const Status s = check_call(change, c.d_model, embeddings, c.d_model); s != Status::ok) return s;
  layer_.weights = &weights_;
  layer_.parallel = &parallel_;
  const std::uint32_t stride = float_row(c.d_model);
  void* const activations = at<void>(arena_, plan_.activations);
  auto* const padded = at<float>(arena_, plan_.change);
  for_each_chunk(embeddings.size() / c.d_model, plan_.chunk, [&](std::size_t first, std::uint32_t n) {
    const Activations input = quantize_rows(activations, *layer_.kernels, parallel_,
                                            embeddings.data() + first * c.d_model, c.d_model, c.group_in, n);
    feed_forward(layer_, padded, stride, false, input, n, activations);
    copy_rows(change.data() + first * c.d_model, padded, stride, c.d_model, n);
  });
  return Status::ok;
}

Status norm(Span<float> out, Span<const float> in, std::uint32_t d, const NormWeights& weights, const Kernels& kernels) {
  if (d > 65536 || !in_range(weights.epsilon)) return Status::bad_argument;
  if (const Status s = check_weights(weights); s != Status::ok) return s;
  if (!kNormsToFloats) return Status::feature_not_built;
  if (const Status s = check_call(out, d, in, d); s != Status::ok) return s;
  for (std::size_t i = 0; i < in.size(); i += d) kernels.norm_f32_f32(out.data() + i, in.data() + i, d, weights);
  return Status::ok;
}

Status activate(Span<float> x, std::uint32_t d, Activation activation) {
  if (const Status s = check_activation(activation); s != Status::ok)
    return s == Status::bad_config ? Status::bad_argument : s;
  if (const Status s = check_call(x, d, x, d); s != Status::ok) return s;
  for (std::size_t i = 0; i < x.size(); i += d) activate(x.data() + i, d, activation);
  return Status::ok;
}

Status mean(Span<float> out, Span<const float> rows) {
  const std::size_t d = out.size();
  if (rows.empty() || d == 0 || rows.size() % d != 0 || !out.data() || !rows.data()) return Status::bad_argument;
  if (!is_aligned(out.data(), 4) || !is_aligned(rows.data(), 4)) return Status::misaligned;
  if (!float_mode_is_default()) return Status::rounding_mode;
  const float share = 1.0f / static_cast<float>(static_cast<std::uint32_t>(rows.size() / d));
  for (std::size_t i = 0; i < d; ++i) {
    float sum = rows[i];
    for (std::size_t at = i + d; at < rows.size(); at += d) sum += rows[at];
    out[i] = snap(sum * share);
  }
  return Status::ok;
}

Status add(Span<float> x, Span<const float> change) {
  if (x.size() != change.size() || (!x.empty() && (!x.data() || !change.data()))) return Status::bad_argument;
  if (!is_aligned(x.data(), 4) || !is_aligned(change.data(), 4)) return Status::misaligned;
  if (!float_mode_is_default()) return Status::rounding_mode;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += change[i];
  return Status::ok;
}

}  // namespace heed
