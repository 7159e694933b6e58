// SPDX-License-Identifier: Apache-2.0
// attention.cpp: queries meet keys block by block, and the weighted values move the embeddings.
#include "runtime/one_rounding.hpp"

#include "runtime/attention.hpp"

#include "runtime/numerics.hpp"

namespace heed {
namespace {

constexpr float kLog2E = 1.44269504f;

// Whether the build's only table is M55's. It stores the first block of a query instead of merging it with zeros, and its
// kernels are short enough for what is between them to count.
constexpr bool kOnlyHelium = known_layout(Layout::row) == Layout::block64;
// The latter holds where M4's table is unrolled as well.
constexpr bool kOnlyPairs = known_layout(Layout::row) == Layout::pair && kBuiltFeatures.unrolled;
// Whether one token's KV heads go through step_kv_heads, to the same answer. With every table built, those that eat the
// boards' layouts take it, which is the portable one: so a host runs both ways, and its tables are compared.
bool takes_short_steps(const KernelTraits& traits) {
  constexpr bool kOneTable = known_layout(Layout::row) == known_layout(Layout::packed);
  return kOneTable ? kOnlyHelium || kOnlyPairs : (traits.layouts >> static_cast<unsigned>(Layout::pair) & 1) != 0;
}

// What the KV heads of one call share. Vectors of heads lie as [n_kv_heads, n, heads per KV head], so that the queries
// of a group lie together.
struct Pass {
  Activations queries;
  const std::int16_t* rotation;
  std::uint32_t first, n, per_group;
  float factor;  // of the scores, to powers of two
};

// Hands the weights of one query to the tap: the sums are known, so each block's weights can be normalised.
void tap_row(const AttentionLayer& layer, const Pass& pass, std::uint32_t kv_head, std::uint32_t head,
             std::uint32_t query, std::uint32_t position) {
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

// Queries of one KV head: those of the tokens [t_begin, t_end) in the heads [j_begin, j_end) of its group. All heads of
// the group, or one token.
struct QuerySlice {
  std::uint32_t kv_head, t_begin, t_end, j_begin, j_end;
};

// They meet the keys in order of position.
void attend_slice(const AttentionLayer& layer, const Pass& pass, const QuerySlice& slice) {
  const AttentionConfig& c = layer.config;
  const Kernels& k = *layer.kernels;
  const AttentionSums& sums = layer.scratch.sums;
  const std::uint32_t per_token = slice.j_end - slice.j_begin, first_position = pass.first + slice.t_begin;
  const std::uint32_t begin = (slice.kv_head * pass.n + slice.t_begin) * pass.per_group + slice.j_begin;
  const std::uint32_t end = begin + (slice.t_end - slice.t_begin) * per_token;
  for (std::uint32_t q = begin; q < end; ++q) {
    sums.denominators[q] = 0.0f;
    sums.references[q] = kFreshReference;
  }

  BlockQueries here{pass.queries, begin, end - begin, per_token, 0, kBlockKeys, pass.factor};
  const std::uint32_t last = pass.first + slice.t_end - 1;
  for (std::uint32_t b = 0, block_first = 0; block_first <= last; ++b, block_first += kBlockKeys) {
    std::uint32_t seen = first_position + 1 - block_first;  // by the first token that sees the block
    if (block_first > first_position) {
      seen = 1;
      here.first = begin + (block_first - first_position) * per_token;
      here.n = end - here.first;
    }
    here.visible = seen < kBlockKeys ? seen : kBlockKeys;
    k.attend_block(sums, here, layer.cache.block(slice.kv_head, b), nullptr, nullptr);
  }
  const std::uint32_t first_head = slice.kv_head * pass.per_group + slice.j_begin;
  for (std::uint32_t t = slice.t_begin, q = begin; t < slice.t_end; ++t) {
    float* dst = layer.scratch.query + std::size_t{t} * layer.scratch.query_stride + first_head * c.head_dim;
    for (std::uint32_t j = 0; j < per_token; ++j, ++q, dst += c.head_dim) {
      if (kBuiltFeatures.pattern_tap && layer.tap.take)
        tap_row(layer, pass, slice.kv_head, first_head + j, q, pass.first + t);
      k.attend_finish(dst, sums.numerators + std::size_t{q} * c.head_dim, sums.denominators[q], c.head_dim);
    }
  }
}

// Keys and values of one KV head into the cache, and its queries quantised.
void store_kv_head(const AttentionLayer& layer, const Pass& pass, std::uint32_t kv_head) {
  const AttentionConfig& c = layer.config;
  const AttentionScratch& s = layer.scratch;
  const Kernels& k = *layer.kernels;
  Rotation r{nullptr, static_cast<std::uint16_t>(c.rotary_dims / 2), c.rotary_pairing == RotaryPairing::halves};
  if (c.rotary_dims) r.cosine_sine = pass.rotation;
  KeyOffset offset{nullptr, 0};
  if (kBuiltFeatures.key_offset && layer.weights.key_offsets)
    offset = {layer.weights.key_offsets + std::size_t{kv_head} * c.head_dim, layer.weights.key_offset_exponents[kv_head]};
  const float *key = s.key + kv_head * c.head_dim, *value = s.value + kv_head * c.head_dim;
  const float* query = s.query + kv_head * pass.per_group * c.head_dim;
  std::uint32_t q = kv_head * pass.n * pass.per_group;
  for (std::uint32_t t = 0; t < pass.n; ++t) {
    const std::uint32_t position = pass.first + t, slot = position % kBlockKeys;
    const KvBlock block = layer.cache.block(kv_head, position / kBlockKeys);
    k.store_key(block, slot, key + std::size_t{t} * s.key_stride, r, offset);
    k.store_value(block, slot, value + std::size_t{t} * s.key_stride);
    for (std::uint32_t j = 0; j < pass.per_group; ++j)
      k.query_s8r_f32(pass.queries, q++, query + std::size_t{t} * s.query_stride + j * c.head_dim, r);
    if (c.rotary_dims) r.cosine_sine += c.rotary_dims;
  }
}

// store_kv_head and attend_slice for one token and the KV heads [h, end), step by step for all of them, with blocks that are
// found from each other.
void step_kv_heads(const AttentionLayer& layer, const Pass& pass, std::uint32_t h, std::uint32_t end) {
  const AttentionConfig& c = layer.config;
  const std::uint32_t head_dim = c.head_dim, position = pass.first, per_group = pass.per_group;
  const std::uint32_t begin = h * per_group, behind = end * per_group;
  const Kernels& k = *layer.kernels;
  const AttentionSums sums = layer.scratch.sums;
  const Rotation r{c.rotary_dims ? pass.rotation : nullptr, static_cast<std::uint16_t>(c.rotary_dims / 2),
                   c.rotary_pairing == RotaryPairing::halves};
  float* x = layer.scratch.query + std::size_t{begin} * head_dim;
  for (std::uint32_t q = begin; q != behind; ++q) {
    sums.denominators[q] = 0.0f;
    sums.references[q] = kFreshReference;
  }
  const auto quantize_query = k.query_s8r_f32;
  for (std::uint32_t q = begin; q != behind; ++q, x += head_dim) quantize_query(pass.queries, q, x, r);

  const std::size_t head_bytes = layer.cache.head_bytes, block_bytes = layer.cache.block_bytes;
  const std::uint32_t last = position / kBlockKeys, slot = position % kBlockKeys;
  const float *key = layer.scratch.key + h * head_dim, *value = layer.scratch.value + h * head_dim;
  KvBlock last_block = layer.cache.block(h, last), first_block = last_block;
  if (last) first_block = layer.cache.block(h, 0);
  BlockQueries here{pass.queries, begin, per_group, per_group, 0, kBlockKeys, pass.factor};
  KeyOffset offset{nullptr, 0};
  const std::int16_t* offsets = nullptr;
  if (kBuiltFeatures.key_offset && layer.weights.key_offsets) offsets = layer.weights.key_offsets + std::size_t{h} * head_dim;
  for (; h != end; ++h, key += head_dim, value += head_dim, here.first += per_group) {
    if (kBuiltFeatures.key_offset && offsets) {
      offset = {offsets, layer.weights.key_offset_exponents[h]};
      offsets += head_dim;
    }
    k.store_key(last_block, slot, key, r, offset);
    k.store_value(last_block, slot, value);
    if (last) {
      here.visible = kBlockKeys;
      KvBlock block = first_block;
      for (std::uint32_t b = last; b; --b, KvCache::advance(block, block_bytes))
        k.attend_block(sums, here, block, nullptr, nullptr);
      KvCache::advance(first_block, head_bytes);
    }
    here.visible = slot + 1;
    k.attend_block(sums, here, last_block, nullptr, nullptr);
    KvCache::advance(last_block, head_bytes);
  }

  x = layer.scratch.query + std::size_t{begin} * head_dim;
  const float* numerators = sums.numerators + std::size_t{begin} * head_dim;
  const float* denominator = sums.denominators + begin;
  const auto finish = k.attend_finish;
  for (std::uint32_t q = begin; q != behind; ++q, x += head_dim, numerators += head_dim) {
    if (kBuiltFeatures.pattern_tap && layer.tap.take) tap_row(layer, pass, q / per_group, q, q, position);
    finish(x, numerators, *denominator++, head_dim);
  }
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
  if (!kOnlyHelium)
    for (float *x = s.sums.numerators, *const end = x + std::size_t{n} * d_query; x != end; ++x) *x = 0.0f;
  const std::uint64_t head_work = std::uint64_t{n} * per_group * (std::uint64_t{2} * (first + n) + kElementWork) * c.head_dim;
  const std::uint32_t slices = slices_per_head(parallel, c.n_kv_heads, per_group, n, head_work);
  const std::uint64_t store_work = std::uint64_t{n} * (per_group + 2) * kElementWork * c.head_dim;
  const std::uint64_t first_work = (slices == 1 ? head_work : store_work) * c.n_kv_heads;
  for_each_range(parallel, c.n_kv_heads, first_work, [&](std::uint32_t h, std::uint32_t end) {
    if (n == 1 && slices == 1 && takes_short_steps(k.traits)) return step_kv_heads(layer, pass, h, end);
    for (; h < end; ++h) {
      store_kv_head(layer, pass, h);
      if (slices == 1) attend_slice(layer, pass, {h, 0, n, 0, per_group});
    }
  });
  if (kBuiltFeatures.threads && slices > 1)
    for_each_part(parallel, c.n_kv_heads * slices, [&](std::uint32_t part) {
      const std::uint32_t i = part % slices;
      const auto cut = [&](std::uint32_t items, std::uint32_t at) { return items * at / slices; };
      QuerySlice slice{part / slices, 0, n, 0, per_group};
      if (n > 1) {
        slice.t_begin = cut(n, i);
        slice.t_end = cut(n, i + 1);
      } else {
        slice.j_begin = cut(per_group, i);
        slice.j_end = cut(per_group, i + 1);
      }
      attend_slice(layer, pass, slice);
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
