// SPDX-License-Identifier: Apache-2.0
// scale_keys.cpp: dimensions of keys times a factor, and those of the queries that meet them divided by it. The two numbers
// that rotate together share one. What a norm of the heads leaves is scaled by the norm's gain and bias, which the heads of a
// layer share.
#include "quant/passes/pass.hpp"

namespace heed::quant {
namespace {

// For each dimension of a head the first one that shares its factor.
std::vector<std::uint32_t> groups_of(const StackConfig& c, bool cross) {
  std::vector<std::uint32_t> group(c.head_dim);
  const std::uint32_t rotating = c.position == Position::rotary && !cross ? c.rotary_dims : 0, pairs = rotating / 2;
  for (std::uint32_t d = 0; d < c.head_dim; ++d)
    group[d] = d >= rotating ? d : c.rotary_pairing == RotaryPairing::halves ? d % pairs : d - d % 2;
  return group;
}

// Mean squares of the queries and of the keys less their mean, which the key offset takes away; what one factor scales is
// summed up at its first dimension.
struct Squares {
  std::vector<double> queries, keys;  // [n_kv_heads, head_dim], or [head_dim] where heads share factors
};
Squares squares_of(const StackConfig& c, const AttentionTensors& a, const StackCalibration& seen, std::uint32_t layer) {
  const ChannelStatistics &queries = seen.heads[static_cast<int>(a.queries)], &keys = seen.heads[static_cast<int>(a.keys)];
  const std::vector<std::uint32_t> group = groups_of(c, a.cross);
  const bool shared = c.query_key_norm != HeadNorm::none;
  Squares s{std::vector<double>(shared ? c.head_dim : c.d_key(), 0.0), {}};
  s.keys = s.queries;
  const std::uint32_t share = c.n_heads / c.n_kv_heads;
  for (std::uint32_t head = 0; head < c.n_heads; ++head)
    for (std::uint32_t d = 0; d < c.head_dim; ++d)
      s.queries[(shared ? 0 : head / share) * c.head_dim + group[d]] +=
          queries.mean_square(layer, std::size_t{head} * c.head_dim + d) / share;
  for (std::uint32_t head = 0; head < c.n_kv_heads; ++head)
    for (std::uint32_t d = 0; d < c.head_dim; ++d)
      s.keys[(shared ? 0 : head) * c.head_dim + group[d]] += keys.variance(layer, std::size_t{head} * c.head_dim + d);
  return s;
}

void scale_layer(FloatModel& model, StackCalibration& seen, const AttentionTensors& a, std::uint32_t layer,
                 std::uint32_t stack) {
  const StackConfig& c = model.config.stacks[stack];
  ChannelStatistics &queries = seen.heads[static_cast<int>(a.queries)], &keys = seen.heads[static_cast<int>(a.keys)];
  if (!queries.has(layer) || !keys.has(layer)) return;
  const Squares squares = squares_of(c, a, seen, layer);
  const std::vector<std::uint32_t> group = groups_of(c, a.cross);
  std::vector<double> factors(squares.keys.size());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const std::size_t first = i - i % c.head_dim + group[i % c.head_dim];
    factors[i] = balance(__builtin_sqrt(squares.queries[first]), __builtin_sqrt(squares.keys[first]));
  }
  std::vector<double> of_keys(c.d_key());
  for (std::size_t i = 0; i < of_keys.size(); ++i) of_keys[i] = factors[i % factors.size()];
  const std::vector<double> of_queries = inverse_of(for_query_heads(c, of_keys));
  if (c.query_key_norm == HeadNorm::none) {
    model.scale_rows(a.key, layer, stack, of_keys);
    model.scale_rows(a.query, layer, stack, of_queries);
  } else {
    for (const Role role : {a.key_gain, a.key_norm_bias}) model.scale_rows(role, layer, stack, factors);
    for (const Role role : {a.query_gain, a.query_norm_bias}) model.scale_rows(role, layer, stack, inverse_of(factors));
  }
  scale_samples(seen.heads_seen[static_cast<int>(a.keys)], layer, of_keys);
  scale_samples(seen.heads_seen[static_cast<int>(a.queries)], layer, of_queries);
  keys.scale(layer, of_keys);
  queries.scale(layer, of_queries);
  for (std::vector<double>* means : seen.means_of_keys(a.cross))
    for (std::size_t i = 0; i < of_keys.size() && !means->empty(); ++i) (*means)[layer * of_keys.size() + i] *= of_keys[i];
}

void apply(FloatModel& model, StackCalibration& seen, std::uint32_t stack) {
  const StackConfig& c = model.config.stacks[stack];
  for (const AttentionTensors& a : attentions_of(c))
    for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) scale_layer(model, seen, a, layer, stack);
}

}  // namespace

const Pass kScaleKeys = {"scale_keys", "key dimensions against those of the queries",
                         [](const StackConfig&) { return false; }, [](const StackConfig&) { return true; }, apply};

}  // namespace heed::quant
