// SPDX-License-Identifier: Apache-2.0
// attention.cpp: queries meet keys block by block, and the weighted values move the embeddings.
#include "runtime/one_rounding.hpp"

#include "runtime/attention.hpp"

#include "runtime/numerics.hpp"

namespace heed {
namespace {

constexpr float kLog2E = 1.44269504f;

// More than there are positions.
constexpr std::uint32_t kEverything = 1u << 21;

// Whether a query may see keys behind its own, which are stored before then.
constexpr bool kLooksAhead = kBuiltFeatures.encode || kBuiltFeatures.cross_attention;

// What the KV heads of one call share. Vectors of heads lie as [n_kv_heads, n, heads per KV head], so that the queries
// of a group lie together. A query at position p sees the keys from p - behind to p + ahead, as far as there are `length`.
struct Pass {
  Activations queries;
  const std::int16_t* rotation;
  std::uint32_t first, n, per_group;
  float factor;  // of the scores, to powers of two
  std::uint32_t behind, ahead, length;
  AttentionStep step;

  bool stores() const { return !kLooksAhead || step != AttentionStep::attend; }
  bool attends() const { return !kLooksAhead || step != AttentionStep::store; }
};

// Queries that meet keys together and lie together, from `begin` on: those of the tokens [t_begin, t_end) in the query heads
// [head, head + heads), which belong to the KV heads [h, end). Several KV heads of one token, or one.
struct QuerySlice {
  std::uint32_t h, end, t_begin, t_end, head, heads, begin;
};

// The first block that a query at this position sees, and the last.
std::uint32_t first_block(const Pass& pass, std::uint32_t position) {
  return kBuiltFeatures.windows && position > pass.behind ? (position - pass.behind) / kBlockKeys : 0;
}
std::uint32_t last_block(const Pass& pass, std::uint32_t position) {
  if (!kLooksAhead) return position / kBlockKeys;
  const std::uint32_t last = position + pass.ahead;
  return (last < pass.length ? last : pass.length - 1) / kBlockKeys;
}

// How the tokens [from, to), all of which see block b, see it.
void set_sight(BlockQueries& here, const Pass& pass, std::uint32_t b, std::uint32_t from, std::uint32_t to) {
  const std::uint32_t ahead = pass.first + from - b * kBlockKeys;  // of the block's first key
  std::uint32_t limit = kBlockKeys, seen = ahead + 1;
  if (kLooksAhead) {
    const std::uint32_t left = pass.length - b * kBlockKeys;
    limit = left < limit ? left : limit;
    seen += pass.ahead;
  }
  here.visible_limit = limit;
  here.visible = seen < limit ? seen : limit;
  if (!kBuiltFeatures.windows || pass.behind == kEverything) return;
  here.hidden = static_cast<std::int32_t>(ahead - pass.behind);
  here.keys_differ = here.bias || here.hidden + static_cast<std::int32_t>(to - from) > 1;
}

// The biases of one query head's scores at `n` distances from `first` on.
void fill_biases(std::int32_t* dst, const AttentionLayer& layer, std::uint32_t head, std::int32_t first, std::uint32_t n) {
  const AttentionConfig& c = layer.config;
  const std::int32_t* const biases = layer.weights.score_bias + std::size_t{head} * (c.alibi ? 1 : c.n_distances);
  for (std::int32_t distance = first, end = first + static_cast<std::int32_t>(n); distance != end; ++distance, ++dst) {
    *dst = c.alibi ? alibi_bias(*biases, distance) : biases[bias_column(distance, c.n_distances, c.is_two_way())];
  }
}

// The tokens of `here`, from `from` on, meet block b with the biases of their heads, from `head` on.
void set_biases(BlockQueries& here, const AttentionLayer& layer, const Pass& pass, std::uint32_t b, std::uint32_t from,
                std::uint32_t head) {
  const std::uint32_t runs = here.n / here.per_position;
  const std::int32_t distance = static_cast<std::int32_t>(pass.first + from) - static_cast<std::int32_t>(b * kBlockKeys);
  constexpr std::uint32_t kBefore = kBlockKeys - 1;  // distances to the block's later keys
  here.bias_stride = layer.scratch.bias_stride;
  std::int32_t* const rows = layer.scratch.score_bias + std::size_t{head} * here.bias_stride;
  for (std::uint32_t j = 0; j < here.per_position; ++j)
    fill_biases(rows + j * here.bias_stride, layer, head + j, distance - static_cast<std::int32_t>(kBefore), runs + kBefore);
  here.bias = rows + kBefore;
  here.keys_differ = true;
}

// Hands the weights of one query to the tap: the sums are known, so each block's weights can be normalised.
void tap_row(const AttentionLayer& layer, const Pass& pass, std::uint32_t query) {
  const std::uint32_t kv_head = query / (pass.n * pass.per_group);
  const std::uint32_t head = kv_head * pass.per_group + query % pass.per_group;
  const std::uint32_t token = query / pass.per_group % pass.n, position = pass.first + token;
  const float inverse = 1.0f / layer.scratch.sums.denominators[query];
  std::uint16_t raw[kBlockKeys];
  float weights[kBlockKeys];
  const std::uint32_t last = last_block(pass, position);
  for (std::uint32_t b = first_block(pass, position); b <= last; ++b) {
    BlockQueries one{pass.queries, query, 1, 1, 0, kBlockKeys, pass.factor};
    set_sight(one, pass, b, token, token + 1);
    if (layer.config.is_biased()) set_biases(one, layer, pass, b, token, head);
    std::int32_t reference = 0;
    layer.kernels->attend_block(layer.scratch.sums, one, layer.cache.block(kv_head, b), raw, &reference);
    const float scale = pow2_or_zero(reference - layer.scratch.sums.references[query]) * inverse;
    const std::uint32_t hidden = kBuiltFeatures.windows && one.hidden > 0 ? static_cast<std::uint32_t>(one.hidden) : 0;
    for (std::uint32_t k = hidden; k < one.visible; ++k) weights[k] = static_cast<float>(raw[k]) * scale;
    layer.tap.take(layer.tap.context, layer.index, head, position, b * kBlockKeys + hidden,
                   {weights + hidden, one.visible - hidden});
  }
}

// n heads behind each other as the layer's norm leaves them, where it has one.
void norm_heads(const AttentionLayer& layer, float* heads, std::uint32_t n, const NormWeights& norm) {
  if (!kBuiltFeatures.query_key_norm || layer.config.query_key_norm == HeadNorm::none) return;
  const std::uint32_t head_dim = layer.config.head_dim;
  for (; n != 0; --n, heads += head_dim) layer.kernels->norm_f32_f32(heads, heads, head_dim, norm);
}

// Stores the keys and values of a slice, which has all tokens, and quantises its queries; or one of these.
void prepare_slice(const AttentionLayer& layer, const Pass& pass, const QuerySlice& slice) {
  const AttentionConfig& c = layer.config;
  const AttentionScratch& s = layer.scratch;
  const Kernels& k = *layer.kernels;
  const std::uint32_t head_dim = c.head_dim, value_dim = c.value_dim();
  Rotation r{nullptr, static_cast<std::uint16_t>(c.rotary_dims / 2), c.rotary_pairing == RotaryPairing::halves};
  KeyOffset offset{nullptr, 0};
  for (std::uint32_t t = 0, q = slice.begin; t != pass.n; ++t) {
    if (c.rotary_dims) r.cosine_sine = pass.rotation + t * c.rotary_dims;
    if (pass.attends()) {
      float* x = s.query + t * s.query_stride + slice.head * head_dim;
      norm_heads(layer, x, slice.heads, layer.weights.query_norm);
      const auto quantize_query = k.query_s8r_f32;
      for (const std::uint32_t behind = q + slice.heads; q != behind; ++q, x += head_dim) quantize_query(pass.queries, q, x, r);
    }
    if (!pass.stores()) continue;
    const std::uint32_t position = pass.first + t, slot = position % kBlockKeys;
    KvBlock block = layer.cache.block(slice.h, position / kBlockKeys);
    float* key = s.key + t * s.key_stride + slice.h * head_dim;
    const float* value = s.value + t * s.value_stride + slice.h * value_dim;
    norm_heads(layer, key, slice.end - slice.h, layer.weights.key_norm);
    for (std::uint32_t h = slice.h;;) {
      if (kBuiltFeatures.key_offset && layer.weights.key_offsets)
        offset = {layer.weights.key_offsets + h * head_dim, layer.weights.key_offset_exponents[h]};
      k.store_key(block, slot, key, r, offset);
      k.store_value(block, slot, value);
      if (++h == slice.end) break;
      key += head_dim;
      value += value_dim;
      layer.cache.advance(block);
    }
  }
}

// Queries meet the keys that they see, in order of position, and become the outputs of their heads. A block that none of
// them sees is not touched.
void attend_slice(const AttentionLayer& layer, const Pass& pass, const QuerySlice& slice) {
  const AttentionConfig& c = layer.config;
  const AttentionScratch& s = layer.scratch;
  const Kernels& k = *layer.kernels;
  const bool biased = c.is_biased();
  const std::uint32_t per_token = slice.heads < pass.per_group ? slice.heads : pass.per_group;  // and KV head
  const std::uint32_t tokens = slice.t_end - slice.t_begin, first = pass.first + slice.t_begin;
  const std::uint32_t last = last_block(pass, first + tokens - 1), farthest = kLooksAhead ? first + pass.ahead : first;
  const bool windowed = kBuiltFeatures.windows && pass.behind != kEverything;
  // Blocks before `whole` are seen alike by all tokens; it pays to ask where there is much to find out about the others.
  std::uint32_t whole = 0;
  if (kLooksAhead && !windowed) whole = (farthest < pass.length ? farthest + 1 : pass.length) / kBlockKeys;
  BlockQueries here;  // member by member, like a pass
  here.queries = pass.queries;
  here.per_position = per_token;
  here.factor = pass.factor;
  here.visible = here.visible_limit = kBlockKeys;
  here.n = tokens * per_token;
  for (std::uint32_t b = first_block(pass, first); b <= last; ++b) {
    here.first = slice.begin;
    // Tokens [from, end) see the block; those before them do not look so far ahead, those behind not so far back.
    std::uint32_t from = 0, end = tokens;
    const std::uint32_t block_first = b * kBlockKeys;
    if (b >= whole) {
      if (block_first > farthest) from = block_first - farthest;
      const std::uint32_t gone = block_first + kBlockKeys + pass.behind;
      if (windowed && gone < first + tokens) end = gone - first;
    }
    do {
      std::uint32_t to = end;
      if (b >= whole) {
        // For tokens from `fresh` on it is the first block, and a call's queries are fresh together.
        const std::uint32_t fresh = block_first + pass.behind;
        if (windowed && b != 0 && fresh > first + from && fresh < first + to) to = fresh - first;
        here.first = slice.begin + from * per_token;
        here.n = (to - from) * per_token;
        set_sight(here, pass, b, slice.t_begin + from, slice.t_begin + to);
      }
      KvBlock block = layer.cache.block(slice.h, b);
      for (std::uint32_t h = slice.h;;) {
        if (biased) set_biases(here, layer, pass, b, slice.t_begin + from, slice.head + (h - slice.h) * per_token);
        k.attend_block(s.sums, here, block, nullptr, nullptr);
        if (++h == slice.end) break;
        here.first += per_token;
        layer.cache.advance(block);
      }
      from = to;
    } while (windowed && from != end);
  }

  std::uint32_t q = slice.begin;
  if (kBuiltFeatures.pattern_tap && layer.tap.take)
    for (const std::uint32_t behind = q + tokens * slice.heads; q != behind; ++q) tap_row(layer, pass, q);
  // An undivided value map leaves its outputs where they are.
  const std::uint32_t dim = c.value_dim();
  float *numerators = s.sums.numerators + slice.begin * dim, *denominator = s.sums.denominators + slice.begin;
  const auto finish = k.attend_finish;
  for (std::uint32_t t = slice.t_begin; t != slice.t_end; ++t) {
    float* x = c.is_undivided() ? numerators : s.query + t * s.query_stride + slice.head * dim;
    for (const float* const behind = denominator + slice.heads; denominator != behind; x += dim, numerators += dim)
      finish(x, numerators, *denominator++, dim);
  }
}

// The change of one token whose heads' outputs are as wide as itself: their sum, in order.
void add_heads(const AttentionLayer& layer, const Pass& pass, float* dst, bool accumulate, std::uint32_t token) {
  const AttentionConfig& c = layer.config;
  const auto output = [&](std::uint32_t head) {
    const std::uint32_t kv_head = head / pass.per_group;
    return layer.scratch.sums.numerators +
           std::size_t{(kv_head * pass.n + token) * pass.per_group + head % pass.per_group} * c.d_model;
  };
  float* const sum = output(0);
  for (std::uint32_t h = 1; h < c.n_heads; ++h) {
    const float* const more = output(h);
    for (std::uint32_t i = 0; i < c.d_model; ++i) sum[i] += more[i];
  }
  for (std::uint32_t i = 0; i < c.d_model; ++i) dst[i] = accumulate ? dst[i] + sum[i] : sum[i];
}

// How the work on the KV heads is cut.
struct Cut {
  std::uint32_t slices = 1;  // of each KV head's queries: more than one where the KV heads alone would leave threads idle
  std::uint64_t work = 0;    // before the slices, if there are several, else all
};
Cut cut_heads(const AttentionLayer& layer, const Pass& pass) {
  Cut cut;
  if (!may_split(*layer.parallel)) return cut;
  const AttentionConfig& c = layer.config;
  const std::uint64_t heads = std::uint64_t{pass.n} * c.n_heads * c.head_dim, stored = std::uint64_t{pass.n} * c.n_kv_heads * c.head_dim;
  const std::uint64_t prepare = (heads + 2 * stored) * kElementWork, all = heads * (std::uint64_t{2} * pass.length + kElementWork);
  cut.work = pass.attends() ? all : prepare;
  // Biases of scores have one row per head, which tokens of several slices would share.
  if (!pass.attends() || (c.is_biased() && pass.n > 1) || all < layer.parallel->threshold) return cut;
  const std::uint32_t wanted = (2 * usable_threads(*layer.parallel) + c.n_kv_heads - 1) / c.n_kv_heads;
  const std::uint32_t most = pass.n > 1 ? pass.n : pass.per_group;
  cut.slices = wanted < most ? wanted : most;
  if (cut.slices > 1) cut.work = prepare;
  return cut;
}

}  // namespace

AttentionScratch attention_scratch(const AttentionPlan& plan, std::byte* arena, const AttentionConfig& c,
                                   std::uint32_t chunk) {
  const auto at = [arena](const Slice& s) { return arena + static_cast<std::size_t>(s.offset); };
  AttentionScratch s;
  s.query = reinterpret_cast<float*>(at(plan.query));
  s.key = reinterpret_cast<float*>(at(plan.key));
  s.value = reinterpret_cast<float*>(at(plan.value));
  s.queries = at(plan.queries);
  s.sums = {reinterpret_cast<float*>(at(plan.numerators)), reinterpret_cast<float*>(at(plan.denominators)),
            reinterpret_cast<std::int32_t*>(at(plan.references))};
  s.query_stride = float_row(c.n_heads * c.head_dim);
  s.key_stride = float_row(c.n_kv_heads * c.head_dim);
  s.value_stride = float_row(c.n_kv_heads * c.value_dim());
  if (kBuiltFeatures.score_bias) {
    s.score_bias = reinterpret_cast<std::int32_t*>(at(plan.score_bias));
    s.bias_stride = bias_row(chunk);
  }
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

void attention_forward(const AttentionLayer& layer, AttentionStep step, float* dst, std::uint32_t dst_stride,
                       bool accumulate, const Activations& input, const std::int16_t* rotation, std::uint32_t first,
                       std::uint32_t n, void* activations) {
  const AttentionConfig& c = layer.config;
  const AttentionScratch& s = layer.scratch;
  const Kernels& k = *layer.kernels;
  const Parallel& parallel = *layer.parallel;
  const Product inputs[] = {{s.query, &layer.weights.w_query, s.query_stride},
                            {s.key, &layer.weights.w_key, s.key_stride},
                            {s.value, &layer.weights.w_value_down, s.value_stride}};
  const std::uint32_t n_queries = n * c.n_heads, per_group = c.n_heads / c.n_kv_heads;
  Pass pass;  // member by member: a list would first be filled with zeros, out of line
  pass.queries = make_activations(s.queries, k.traits, c.head_dim, 0, n_queries);
  pass.rotation = rotation;
  pass.first = first;
  pass.n = n;
  pass.per_group = per_group;
  pass.factor = c.scale * kLog2E;
  pass.behind = kEverything;
  pass.ahead = 0;
  pass.step = step;
  pass.length = pass.stores() ? first + n : layer.length;
  if (c.has_source()) {
    pass.ahead = kEverything;
  } else {
    if (kBuiltFeatures.windows && c.window) pass.behind = c.window - 1;
    if (c.is_two_way()) pass.ahead = pass.behind;
  }
  const std::uint32_t skipped = pass.attends() ? 0 : 1;
  matmul_parallel(k, parallel, inputs + skipped, (pass.stores() ? 3 : 1) - skipped, false, input, n);

  // A KV head stores its keys and values, then its queries, fresh ones, attend; heads do not meet before value_up.
  if (pass.attends()) {
    for (std::uint32_t q = 0; q != n_queries; ++q) {
      s.sums.denominators[q] = 0.0f;
      s.sums.references[q] = kFreshReference;
    }
    if (!k.traits.stores_first_sums)
      for (float *x = s.sums.numerators, *const end = x + std::size_t{n_queries} * c.value_dim(); x != end; ++x) *x = 0.0f;
  }
  const Cut cut = cut_heads(layer, pass);
  for_each_range(parallel, c.n_kv_heads, cut.work, [&](std::uint32_t h, std::uint32_t end) {
    const std::uint32_t together = n == 1 ? end - h : 1, heads = together * pass.per_group;
    for (std::uint32_t head = h * pass.per_group; h != end; h += together, head += heads) {
      const QuerySlice slice{h, h + together, 0, n, head, heads, head * n};
      prepare_slice(layer, pass, slice);
      if (pass.attends() && cut.slices == 1) attend_slice(layer, pass, slice);
    }
  });
  if (!pass.attends()) return;
  if (kBuiltFeatures.threads && cut.slices > 1)
    for_each_part(parallel, c.n_kv_heads * cut.slices, [&](std::uint32_t part) {
      const std::uint32_t h = part / cut.slices, i = part % cut.slices, head = h * per_group, items = n > 1 ? n : per_group;
      const std::uint32_t from = items * i / cut.slices, to = items * (i + 1) / cut.slices;
      attend_slice(layer, pass, n > 1 ? QuerySlice{h, h + 1, from, to, head, per_group, head * n + from * per_group}
                                      : QuerySlice{h, h + 1, 0, 1, head + from, to - from, head + from});
    });

  if (c.is_undivided()) {
    for_each_range(parallel, n, std::uint64_t{n} * c.n_heads * c.d_model, [&](std::uint32_t t, std::uint32_t end) {
      for (; t < end; ++t) add_heads(layer, pass, dst + std::size_t{t} * dst_stride, accumulate, t);
    });
    return;
  }
  const std::uint32_t d_heads = c.n_heads * c.head_dim;
  const Activations heads = make_activations(activations, k.traits, d_heads, layer.weights.w_value_up.group, n);
  for_each_range(parallel, n, std::uint64_t{n} * d_heads * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
    for (; t < end; ++t) k.quantize_s8r_f32(heads, t, s.query + std::size_t{t} * s.query_stride);
  });
  const Product up{dst, &layer.weights.w_value_up, dst_stride};
  matmul_parallel(k, parallel, &up, 1, accumulate, heads, n);
}

bool keeps_before(const KvShape& shape, std::uint32_t window, std::uint32_t position, std::uint32_t furthest) {
  if (!shape.is_ring() || position == 0 || position >= furthest) return true;
  const std::uint32_t first = position > window - 1 ? position - (window - 1) : 0;
  return first / kBlockKeys + shape.ring > (furthest - 1) / kBlockKeys;
}

}  // namespace heed
