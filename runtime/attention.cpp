// SPDX-License-Identifier: Apache-2.0
// attention.cpp: queries meet keys block by block, and the weighted values move the embeddings.
#include "runtime/one_rounding.hpp"

#include "runtime/attention.hpp"

#include "runtime/numerics.hpp"

namespace heed {
namespace {

constexpr float kLog2E = 1.44269504f;

// What the KV heads of one call share. Vectors of heads lie as [n_kv_heads, n, heads per KV head], so that the queries
// of a group lie together.
struct Pass {
  Activations queries;
  const std::int16_t* rotation;
  std::uint32_t first, n, per_group;
  float factor;  // of the scores, to powers of two
};

// Queries of the KV heads [h, end): those of the tokens [t_begin, t_end) in the heads [j_begin, j_end) of each group. All
// tokens and heads of the groups, or a part of one KV head's: so they lie together, from `begin` to `behind`.
struct QuerySlice {
  std::uint32_t h, end, t_begin, t_end, j_begin, j_end;
  std::uint32_t begin, behind;
};

QuerySlice slice_of(const Pass& pass, std::uint32_t h, std::uint32_t end) {
  const std::uint32_t per_head = pass.n * pass.per_group;
  return {h, end, 0, pass.n, 0, pass.per_group, h * per_head, end * per_head};
}

// visit(q, behind, t, x) for queries of a slice that lie together, q to behind: those of token t, with their floats, which
// later are their outputs.
template <class Visit>
void for_each_row(const AttentionLayer& layer, const Pass& pass, const QuerySlice& slice, Visit visit) {
  // One token's heads lie together, whatever their group.
  const std::uint32_t together = pass.n == 1 ? slice.behind - slice.begin : pass.per_group;
  std::uint32_t head = slice.h * pass.per_group + slice.j_begin;
  for (std::uint32_t q = slice.begin; q != slice.behind; head += together)
    for (std::uint32_t t = slice.t_begin; t != slice.t_end; ++t, q += together)
      visit(q, q + together, t, layer.scratch.query + t * layer.scratch.query_stride + head * layer.config.head_dim);
}

// Hands the weights of one query to the tap: the sums are known, so each block's weights can be normalised.
void tap_row(const AttentionLayer& layer, const Pass& pass, std::uint32_t query) {
  const std::uint32_t kv_head = query / (pass.n * pass.per_group);
  const std::uint32_t head = kv_head * pass.per_group + query % pass.per_group;
  const std::uint32_t position = pass.first + query / pass.per_group % pass.n;
  const float inverse = 1.0f / layer.scratch.sums.denominators[query];
  std::uint16_t raw[kBlockKeys];
  float weights[kBlockKeys];
  for (std::uint32_t first = 0; first <= position; first += kBlockKeys) {
    const KvBlock block = layer.cache.block(kv_head, first / kBlockKeys);
    const std::uint32_t left = position + 1 - first;
    const std::uint32_t visible = left < kBlockKeys ? left : kBlockKeys;
    const BlockQueries one{pass.queries, query, 1, 1, visible, visible, pass.factor};
    std::int32_t reference = 0;
    layer.kernels->attend_block(layer.scratch.sums, one, block, raw, &reference);
    const float scale = pow2_or_zero(reference - layer.scratch.sums.references[query]) * inverse;
    for (std::uint32_t k = 0; k < visible; ++k) weights[k] = static_cast<float>(raw[k]) * scale;
    layer.tap.take(layer.tap.context, layer.index, head, position, first, {weights, visible});
  }
}

// The keys and values of the KV heads of a slice into the cache, and its queries quantised, none of which has met a key yet.
void store_slice(const AttentionLayer& layer, const Pass& pass, const QuerySlice& slice) {
  const AttentionConfig& c = layer.config;
  const AttentionScratch& s = layer.scratch;
  const Kernels& k = *layer.kernels;
  const std::uint32_t head_dim = c.head_dim;
  for (std::uint32_t q = slice.begin; q != slice.behind; ++q) {
    s.sums.denominators[q] = 0.0f;
    s.sums.references[q] = kFreshReference;
  }
  if (!k.traits.stores_first_sums)
    for (std::uint32_t i = slice.begin * head_dim; i != slice.behind * head_dim; ++i) s.sums.numerators[i] = 0.0f;

  Rotation r{nullptr, static_cast<std::uint16_t>(c.rotary_dims / 2), c.rotary_pairing == RotaryPairing::halves};
  const auto rotate = [&](std::uint32_t t) {
    if (c.rotary_dims) r.cosine_sine = pass.rotation + t * c.rotary_dims;
  };
  for_each_row(layer, pass, slice, [&](std::uint32_t q, std::uint32_t behind, std::uint32_t t, const float* x) {
    rotate(t);
    const auto quantize_query = k.query_s8r_f32;
    for (; q != behind; ++q, x += head_dim) quantize_query(pass.queries, q, x, r);
  });
  KeyOffset offset{nullptr, 0};
  for (std::uint32_t t = 0; t != pass.n; ++t) {
    rotate(t);
    const std::uint32_t position = pass.first + t, slot = position % kBlockKeys;
    KvBlock block = layer.cache.block(slice.h, position / kBlockKeys);
    const float* key = s.key + t * s.key_stride + slice.h * head_dim;
    const float* value = s.value + t * s.key_stride + slice.h * head_dim;
    for (std::uint32_t h = slice.h; h != slice.end; ++h, key += head_dim, value += head_dim) {
      if (kBuiltFeatures.key_offset && layer.weights.key_offsets)
        offset = {layer.weights.key_offsets + h * head_dim, layer.weights.key_offset_exponents[h]};
      k.store_key(block, slot, key, r, offset);
      k.store_value(block, slot, value);
      KvCache::advance(block, layer.cache.head_bytes);
    }
  }
}

// Queries meet the keys in order of position.
void attend_slice(const AttentionLayer& layer, const Pass& pass, const QuerySlice& slice) {
  const Kernels& k = *layer.kernels;
  const AttentionSums& sums = layer.scratch.sums;
  const std::uint32_t per_token = slice.j_end - slice.j_begin, n = (slice.t_end - slice.t_begin) * per_token;
  const std::uint32_t first = pass.first + slice.t_begin, last = (pass.first + slice.t_end - 1) / kBlockKeys;
  BlockQueries here{pass.queries, slice.begin, n, per_token, 0, kBlockKeys, pass.factor};
  for (std::uint32_t h = slice.h, begin = slice.begin; h != slice.end; ++h, begin += n) {
    here.first = begin;
    here.n = n;
    for (std::uint32_t b = 0; b <= last; ++b) {
      here.visible = first + 1 - b * kBlockKeys;
      if (b * kBlockKeys > first) {  // the tokens before it do not see it
        here.visible = 1;
        here.first = begin + (b * kBlockKeys - first) * per_token;
        here.n = begin + n - here.first;
      } else if (here.visible > kBlockKeys) {
        here.visible = kBlockKeys;
      }
      k.attend_block(sums, here, layer.cache.block(h, b), nullptr, nullptr);
    }
  }
  const std::uint32_t head_dim = layer.config.head_dim;
  for_each_row(layer, pass, slice, [&](std::uint32_t q, std::uint32_t behind, std::uint32_t, float* x) {
    const auto finish = k.attend_finish;
    const float* numerators = sums.numerators + q * head_dim;
    for (; q != behind; ++q, x += head_dim, numerators += head_dim) {
      if (kBuiltFeatures.pattern_tap && layer.tap.take) tap_row(layer, pass, q);
      finish(x, numerators, sums.denominators[q], head_dim);
    }
  });
}

// Into how many slices the queries of a KV head are cut: more than one where the KV heads alone would leave threads idle.
std::uint32_t slices_per_head(const Parallel& parallel, std::uint32_t n_kv_heads, std::uint32_t per_group,
                              std::uint32_t n, std::uint64_t head_work) {
  if (!may_split(parallel) || head_work * n_kv_heads < parallel.threshold) return 1;
  const std::uint32_t wanted = (2 * usable_threads(parallel) + n_kv_heads - 1) / n_kv_heads;
  const std::uint32_t most = n > 1 ? n : per_group;
  return wanted < most ? wanted : most;
}

}  // namespace

AttentionScratch attention_scratch(const AttentionPlan& plan, std::byte* arena, std::uint32_t n_heads,
                                   std::uint32_t n_kv_heads, std::uint32_t head_dim) {
  const auto at = [arena](const Slice& s) { return arena + static_cast<std::size_t>(s.offset); };
  AttentionScratch s;
  s.query = reinterpret_cast<float*>(at(plan.query));
  s.key = reinterpret_cast<float*>(at(plan.key));
  s.value = reinterpret_cast<float*>(at(plan.value));
  s.queries = at(plan.queries);
  s.sums = {reinterpret_cast<float*>(at(plan.numerators)), reinterpret_cast<float*>(at(plan.denominators)),
            reinterpret_cast<std::int32_t*>(at(plan.references))};
  s.query_stride = float_row(n_heads * head_dim);
  s.key_stride = float_row(n_kv_heads * head_dim);
  return s;
}

void fill_rotation(std::int16_t* dst, const std::uint32_t* phases, std::uint32_t pairs, std::uint32_t first,
                   std::uint32_t n) {
  for (std::uint32_t t = 0; t < n; ++t) {
    for (std::uint32_t i = 0; i < pairs; ++i) {
      const SinCos sc = sin_cos(phases[i] * (first + t));
      *dst++ = sc.cosine;
      *dst++ = sc.sine;
    }
  }
}

void matmul_parallel(const Kernels& kernels, const Parallel& parallel, const Product* products, std::uint32_t count,
                     bool accumulate, const Activations& lhs, std::uint32_t n) {
  const auto whole_rows = [](const Product& p) { return padded_rows(p.rhs->layout, p.rhs->rows); };
  if (!may_split(parallel)) {
    for (const Product* p = products; p != products + count; ++p)
      kernels.matmul_f32_s8r_s8c(p->dst, lhs, *p->rhs, {n, 0, whole_rows(*p), p->dst_stride, accumulate});
    return;
  }
  // The rows of all products behind each other, in blocks; parts are cut where tiles of the tables end.
  const std::uint32_t block = row_block(products->rhs->layout);
  std::uint32_t blocks = 0;
  for (std::uint32_t i = 0; i < count; ++i) blocks += whole_rows(products[i]) / block;
  const std::uint64_t work = std::uint64_t{blocks} * block * products->rhs->cols * (n + kWeightWork);
  std::uint32_t grain = kernels.traits.blocks_together(n);
  if (blocks / grain < 2 * usable_threads(parallel)) grain = 1;
  for_each_range(parallel, (blocks + grain - 1) / grain, work, [&](std::uint32_t begin, std::uint32_t end) {
    begin *= grain;
    end = end * grain < blocks ? end * grain : blocks;
    std::uint32_t first = 0;  // of the product
    for (const Product* p = products; p != products + count && first < end; ++p) {
      const std::uint32_t behind = first + whole_rows(*p) / block;
      if (begin < behind) {
        const std::uint32_t to = end < behind ? end : behind;
        kernels.matmul_f32_s8r_s8c(p->dst, lhs, *p->rhs, {n, (begin - first) * block, (to - first) * block,
                                                          p->dst_stride, accumulate, true});
        begin = to;
      }
      first = behind;
    }
  });
}

void attention_forward(const AttentionLayer& layer, float* dst, std::uint32_t dst_stride, bool accumulate,
                       const Activations& input, const std::int16_t* rotation, std::uint32_t first, std::uint32_t n,
                       void* activations) {
  const AttentionConfig& c = layer.config;
  const AttentionScratch& s = layer.scratch;
  const Kernels& k = *layer.kernels;
  const Parallel& parallel = *layer.parallel;
  const Product inputs[] = {{s.query, &layer.weights.w_query, s.query_stride},
                            {s.key, &layer.weights.w_key, s.key_stride},
                            {s.value, &layer.weights.w_value_down, s.key_stride}};
  matmul_parallel(k, parallel, inputs, 3, false, input, n);

  // A KV head stores its keys and values, then its queries attend; heads do not meet before value_up.
  const std::uint32_t d_query = c.n_heads * c.head_dim, per_group = c.n_heads / c.n_kv_heads;
  const Pass pass{make_activations(s.queries, k.traits, c.head_dim, 0, n * c.n_heads), rotation, first, n, per_group,
                  c.scale * kLog2E};
  const std::uint64_t head_work = std::uint64_t{n} * per_group * (std::uint64_t{2} * (first + n) + kElementWork) * c.head_dim;
  const std::uint32_t slices = slices_per_head(parallel, c.n_kv_heads, per_group, n, head_work);
  const std::uint64_t store_work = std::uint64_t{n} * (per_group + 2) * kElementWork * c.head_dim;
  const std::uint64_t first_work = (slices == 1 ? head_work : store_work) * c.n_kv_heads;
  for_each_range(parallel, c.n_kv_heads, first_work, [&](std::uint32_t h, std::uint32_t end) {
    const QuerySlice slice = slice_of(pass, h, end);
    store_slice(layer, pass, slice);
    if (slices == 1) attend_slice(layer, pass, slice);
  });
  if (kBuiltFeatures.threads && slices > 1)
    for_each_part(parallel, c.n_kv_heads * slices, [&](std::uint32_t part) {
      const std::uint32_t h = part / slices, i = part % slices, begin = h * n * per_group;
      const auto cut = [&](std::uint32_t items, std::uint32_t at) { return items * at / slices; };
      const std::uint32_t from = cut(n > 1 ? n : per_group, i), to = cut(n > 1 ? n : per_group, i + 1);
      attend_slice(layer, pass,
                   n > 1 ? QuerySlice{h, h + 1, from, to, 0, per_group, begin + from * per_group, begin + to * per_group}
                         : QuerySlice{h, h + 1, 0, 1, from, to, begin + from, begin + to});
    });

  const Activations heads = make_activations(activations, k.traits, d_query, layer.weights.w_value_up.group, n);
  for_each_range(parallel, n, std::uint64_t{n} * d_query * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
    for (; t < end; ++t) k.quantize_s8r_f32(heads, t, s.query + std::size_t{t} * s.query_stride);
  });
  const Product up{dst, &layer.weights.w_value_up, dst_stride};
  matmul_parallel(k, parallel, &up, 1, accumulate, heads, n);
}

Status create(Attention& attention, const AttentionConfig& config, const AttentionWeights& weights,
              const AttentionMemory& plan, const Kernels& kernels, Span<std::byte> arena) {
  AttentionMemory expected;
  if (const Status s = make_attention_plan(expected, config, kernels.traits, plan.chunk); s != Status::ok) return s;
  if (plan.arena_bytes != expected.arena_bytes || !arena.data()) return Status::bad_argument;
  if (reinterpret_cast<std::uintptr_t>(arena.data()) % expected.arena_align) return Status::misaligned;
  if (arena.size() < expected.arena_bytes) return Status::arena_too_small;
  if (!float_mode_is_default() || !products_are_rounded()) return Status::rounding_mode;
  const std::uint32_t dq = config.n_heads * config.head_dim, dk = config.n_kv_heads * config.head_dim;
  const struct { const Tensor* t; std::uint32_t rows, cols; } matrices[] = {{&weights.w_query, dq, config.d_model},
                                                                            {&weights.w_key, dk, config.d_model},
                                                                            {&weights.w_value_down, dk, config.d_model},
                                                                            {&weights.w_value_up, config.d_model, dq}};
  for (const auto& m : matrices) {
    if (m.t->rows != m.rows || m.t->cols != m.cols || m.t->group || m.t->bias) return Status::bad_argument;
    if (const Status s = check_weights(kernels.traits, *m.t); s != Status::ok) return s;
    // Products of one input are cut into parts together, so they have one layout; value_up has it as well.
    if (m.t->layout != weights.w_query.layout) return Status::bad_argument;
  }
  if (config.rotary_dims && !weights.rotary_phases) return Status::bad_argument;
  if (weights.key_offsets && !weights.key_offset_exponents) return Status::bad_argument;
  if (const Status s = check_weights(KeyOffset{weights.key_offsets, 0}); s != Status::ok) return s;
  if (!is_aligned(weights.rotary_phases, 4)) return Status::misaligned;

  attention = Attention{};
  attention.plan_ = expected;
  attention.arena_ = arena.data();
  AttentionLayer& layer = attention.layer_;
  layer.config = config;
  if (config.scale == 0.0f) layer.config.scale = 1.0f / square_root(static_cast<float>(config.head_dim));
  layer.weights = weights;
  layer.cache = {{config.n_kv_heads, config.head_dim, config.max_seq, kernels.traits.alignment},
                 arena.data() + static_cast<std::size_t>(expected.kv_cache.offset)};
  layer.scratch =
      attention_scratch(expected.buffers, arena.data(), config.n_heads, config.n_kv_heads, config.head_dim);
  layer.kernels = &kernels;
  return Status::ok;
}

Status Attention::rewind(std::uint32_t position) {
  if (position > position_) return Status::bad_argument;
  position_ = position;
  return Status::ok;
}

Status Attention::forward(Span<float> change, Span<const float> embeddings) {
  const AttentionConfig& c = layer_.config;
  if (!arena_ || embeddings.size() % c.d_model != 0 || change.size() != embeddings.size()) return Status::bad_argument;
  if (embeddings.empty()) return Status::ok;
  if (!embeddings.data() || !change.data()) return Status::bad_argument;
  if (!is_aligned(embeddings.data(), 4) || !is_aligned(change.data(), 4)) return Status::misaligned;
  const std::size_t total = embeddings.size() / c.d_model;
  if (total > c.max_seq - position_) return Status::context_full;
  if (!float_mode_is_default()) return Status::rounding_mode;
  layer_.parallel = &parallel_;
  const Kernels& k = *layer_.kernels;
  auto* rotation = reinterpret_cast<std::int16_t*>(arena_ + static_cast<std::size_t>(plan_.rotation.offset));
  std::byte* memory = arena_ + static_cast<std::size_t>(plan_.activations.offset);
  auto* padded = reinterpret_cast<float*>(arena_ + static_cast<std::size_t>(plan_.change.offset));
  const std::uint32_t stride = float_row(c.d_model);
  for (std::size_t done = 0; done < total;) {
    const auto n = static_cast<std::uint32_t>(total - done < plan_.chunk ? total - done : plan_.chunk);
    if (c.rotary_dims) fill_rotation(rotation, layer_.weights.rotary_phases, c.rotary_dims / 2, position_, n);
    const Activations input = make_activations(memory, k.traits, c.d_model, 0, n);
    for (std::uint32_t t = 0; t < n; ++t) k.quantize_s8r_f32(input, t, embeddings.data() + (done + t) * c.d_model);
    // Products come in padded rows, the caller's are not.
    attention_forward(layer_, padded, stride, false, input, rotation, position_, n, memory);
    for (std::uint32_t t = 0; t < n; ++t)
      std::memcpy(change.data() + (done + t) * c.d_model, padded + std::size_t{t} * stride, c.d_model * sizeof(float));
    position_ += n;
    done += n;
  }
  return Status::ok;
}

}  // namespace heed
