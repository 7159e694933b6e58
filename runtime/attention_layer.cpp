// SPDX-License-Identifier: Apache-2.0
// attention_layer.cpp: the attention layer alone: what it asks of its caller's weights and memory, then rows through
// attention_forward.
#include "runtime/one_rounding.hpp"

#include "runtime/attention.hpp"

#include "runtime/layer_calls.hpp"

namespace heed {
namespace {

// Whether the matrices of a layer are those that its configuration asks for.
Status check_matrices(const AttentionConfig& config, const AttentionWeights& weights, const KernelTraits& traits) {
  const std::uint32_t dq = config.n_heads * config.head_dim, dk = config.n_kv_heads * config.head_dim;
  const std::uint32_t dv = config.n_kv_heads * config.value_dim(), from = config.key_width();
  const struct { const Tensor* t; std::uint32_t rows, cols; } matrices[] = {{&weights.w_query, dq, config.d_model},
                                                                            {&weights.w_key, dk, from},
                                                                            {&weights.w_value_down, dv, from},
                                                                            {&weights.w_value_up, config.d_model, dq}};
  for (const auto& m : matrices) {
    if (config.is_undivided() && m.t == &weights.w_value_up) {
      if (m.t->weights) return Status::bad_argument;
      continue;
    }
    if (m.t->rows != m.rows || m.t->cols != m.cols || m.t->group) return Status::bad_argument;
    if (const Status s = check_weights(traits, *m.t); s != Status::ok) return s;
    // Products of one input are cut into parts together, so they have one layout; value_up has it as well.
    if (m.t->layout != weights.w_query.layout) return Status::bad_argument;
  }
  return Status::ok;
}

// The same of everything else. What the configuration has no use for is refused: it would change nothing.
Status check_vectors(const AttentionConfig& config, const AttentionWeights& weights) {
  if (!weights.key_offsets != !weights.key_offset_exponents || !config.rotary_dims != !weights.rotary_phases ||
      config.is_biased() != (weights.score_bias != nullptr))
    return Status::bad_argument;
  if (const Status s = check_weights(KeyOffset{weights.key_offsets, 0}); s != Status::ok) return s;
  if (!is_aligned(weights.rotary_phases, 4) || !is_aligned(weights.score_bias, 4)) return Status::misaligned;
  const bool normed = kBuiltFeatures.query_key_norm && config.query_key_norm != HeadNorm::none;
  const NormWeights* const norms[] = {&weights.query_norm, &weights.key_norm};
  for (const NormWeights* const w : norms) {
    if ((w->gain && !normed) || (w->bias && !(normed && config.query_key_norm == HeadNorm::layer)))
      return Status::bad_argument;
    if (!is_aligned(w->gain, 4) || !is_aligned(w->bias, 4)) return Status::misaligned;
  }
  return Status::ok;
}

}  // namespace

Status create(Attention& attention, const AttentionConfig& config, const AttentionWeights& weights,
              const AttentionMemory& plan, const Kernels& kernels, Span<std::byte> arena) {
  AttentionMemory expected;
  if (const Status s = make_attention_plan(expected, config, kernels.traits, plan.chunk); s != Status::ok) return s;
  if (const Status s = check_arena(plan, expected, arena); s != Status::ok) return s;
  if (const Status s = check_matrices(config, weights, kernels.traits); s != Status::ok) return s;
  if (const Status s = check_vectors(config, weights); s != Status::ok) return s;

  attention = Attention{};
  attention.plan_ = expected;
  attention.arena_ = arena.data();
  AttentionLayer& layer = attention.layer_;
  layer.config = config;
  if (config.scale == 0.0f) layer.config.scale = 1.0f / square_root(static_cast<float>(config.head_dim));
  layer.weights = weights;
  NormWeights* const norms[] = {&layer.weights.query_norm, &layer.weights.key_norm};
  for (NormWeights* const w : norms) {
    w->epsilon = config.norm_epsilon;
    w->centred = config.query_key_norm == HeadNorm::layer;
  }
  layer.cache = {kv_shape(config, expected.chunk, kernels.traits.alignment),
                 arena.data() + static_cast<std::size_t>(expected.kv_cache.offset)};
  layer.scratch = attention_scratch(expected.buffers, arena.data(), config, expected.chunk);
  layer.kernels = &kernels;
  return Status::ok;
}

Status Attention::rewind(std::uint32_t position) {
  if (position > position_ || layer_.config.has_source()) return Status::bad_argument;
  if (!keeps_before(layer_.cache.shape, layer_.config.window, position, furthest_)) return Status::bad_argument;
  position_ = position;
  if (position == 0) furthest_ = 0;
  return Status::ok;
}

Status Attention::forward(Span<float> change, Span<const float> embeddings) {
  const AttentionConfig& c = layer_.config;
  if (!arena_ || embeddings.size() % c.d_model != 0 || change.size() != embeddings.size()) return Status::bad_argument;
  if (embeddings.empty()) return Status::ok;
  if (!embeddings.data() || !change.data()) return Status::bad_argument;
  if (!is_aligned(embeddings.data(), 4) || !is_aligned(change.data(), 4)) return Status::misaligned;
  const std::size_t total = embeddings.size() / c.d_model;
  const bool two_way = c.is_two_way() && !c.has_source();
  if (c.has_source() ? position_ == 0 : total > c.max_seq - (two_way ? 0 : position_))
    return c.has_source() ? Status::bad_argument : Status::context_full;
  if (!float_mode_is_default()) return Status::rounding_mode;
  layer_.parallel = &parallel_;
  auto* const rotation = at<std::int16_t>(arena_, plan_.rotation);
  void* const memory = at<void>(arena_, plan_.activations);
  auto* const padded = at<float>(arena_, plan_.change);
  const std::uint32_t stride = float_row(c.d_model), start = two_way || c.has_source() ? 0 : position_;
  const auto pass = [&](AttentionStep step) {
    for_each_chunk(total, plan_.chunk, [&](std::size_t done, std::uint32_t n) {
      const auto first = c.has_source() ? 0 : start + static_cast<std::uint32_t>(done);
      if (c.rotary_dims) fill_rotation(rotation, layer_.weights.rotary_phases, c.rotary_dims / 2, first, n);
      const Activations input =
          quantize_rows(memory, *layer_.kernels, parallel_, embeddings.data() + done * c.d_model, c.d_model, 0, n);
      attention_forward(layer_, step, padded, stride, false, input, rotation, first, n, memory);
      if (step != AttentionStep::store) copy_rows(change.data() + done * c.d_model, padded, stride, c.d_model, n);
    });
  };
  layer_.length = c.has_source() ? position_ : static_cast<std::uint32_t>(total);
  if (two_way) pass(AttentionStep::store);
  pass(two_way || c.has_source() ? AttentionStep::attend : AttentionStep::both);
  if (two_way || c.has_source()) return Status::ok;
  position_ += static_cast<std::uint32_t>(total);
  if (furthest_ < position_) furthest_ = position_;
  return Status::ok;
}

Status Attention::set_source(Span<const float> vectors) {
  const AttentionConfig& c = layer_.config;
  if (!arena_ || !c.has_source() || vectors.empty() || vectors.size() % c.d_source != 0 || !vectors.data())
    return Status::bad_argument;
  if (!is_aligned(vectors.data(), 4)) return Status::misaligned;
  const std::size_t total = vectors.size() / c.d_source;
  if (total > c.max_seq) return Status::context_full;
  if (!float_mode_is_default()) return Status::rounding_mode;
  layer_.parallel = &parallel_;
  for_each_chunk(total, plan_.chunk, [&](std::size_t done, std::uint32_t n) {
    const Activations source = quantize_rows(at<void>(arena_, plan_.activations), *layer_.kernels, parallel_,
                                             vectors.data() + done * c.d_source, c.d_source, 0, n);
    attention_forward(layer_, AttentionStep::store, nullptr, 0, false, source, nullptr, static_cast<std::uint32_t>(done), n,
                      nullptr);
  });
  position_ = static_cast<std::uint32_t>(total);
  return Status::ok;
}

}  // namespace heed
