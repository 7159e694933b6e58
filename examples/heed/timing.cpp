// SPDX-License-Identifier: Apache-2.0
// timing.cpp: the operations of a step, one after the other, each with what its kind costs on the core at most.
// tests/firmware/timing.py fits the table and so has the same terms in the same order.
#include "examples/heed/timing.hpp"

#include <algorithm>
#include <cstring>

#include "examples/heed/timing_table.hpp"
#include "runtime/plan.hpp"

namespace heed::tool {
namespace {

double vector_cost(const CoreCosts& costs, VectorOperation operation, std::uint32_t n) {
  const double* x = costs.vectors[operation];
  return x[0] + x[1] * n + (n % 16 ? x[2] : 0) + x[3] * (n % 16) + (n % 8 ? x[4] : 0) + x[5] * ((n + 63) / 64);
}

double product_cost(const CoreCosts& costs, const double (&x)[14], std::uint32_t rows, std::uint32_t cols, Layout layout) {
  const std::uint32_t padded = padded_cols(layout, cols), whole = (padded + 63) / 64;
  const double r = padded_rows(layout, rows), c = padded, blocks = whole;
  double n = x[0] + x[1] * r + x[2] * c + x[3] * r * c + x[4] * blocks + x[5] * r * blocks;
  if (padded % 64) n += x[6] + x[7] * r;
  if (whole == 1) n += padded % 64 ? x[8] + x[9] * r : x[10] + x[11] * r;
  const double panels = (padded_rows(layout, rows) - 1) / costs.panel;
  return n + panels * (x[12] + x[13] * blocks);
}

// dst [rows] written or added to; what a bias costs is known for the first.
double product_cost(const CoreCosts& costs, std::uint32_t rows, std::uint32_t cols, Layout layout, bool added, bool biased) {
  const auto kind = [&](int k) { return product_cost(costs, costs.product[k], rows, cols, layout); };
  if (!biased) return kind(added ? 1 : 0);
  return kind(2) + (added ? kind(1) - kind(0) : 0.0);
}

// Costs of a head of this width: measured, or on the line between the nearest two that were.
HeadCosts head_costs(const CoreCosts& costs, std::uint32_t width) {
  static_assert(sizeof(HeadCosts) % sizeof(double) == 0);
  int i = 1;
  while (i + 1 < kWidths && width > kHeadWidths[i]) ++i;
  const double share = (width - kHeadWidths[i - 1]) / (kHeadWidths[i] - kHeadWidths[i - 1]);
  constexpr std::size_t kNumbers = sizeof(HeadCosts) / sizeof(double);
  double low[kNumbers], high[kNumbers];
  std::memcpy(low, &costs.heads[i - 1], sizeof low);
  std::memcpy(high, &costs.heads[i], sizeof high);
  for (std::size_t k = 0; k < kNumbers; ++k) low[k] += (high[k] - low[k]) * share;
  HeadCosts at;
  std::memcpy(&at, low, sizeof at);
  return at;
}

std::uint8_t build_of(const Features& f) {
  if (f.speed) return f.unrolled ? kUnrolledBuild : kSpeedBuild;
  return f.unrolled ? kAnyBuild : kSmallBuild;  // nobody unrolls what is small: that was not counted
}

StepFormula formula_of(const CoreCosts* costs, const StackConfig& c, Layout layout) {
  StepFormula formula;
  const double layers = c.n_layers, kv = c.n_kv_heads, heads = c.n_heads;
  const double per = heads / kv;
  const auto vector = [&](VectorOperation operation, std::uint32_t n) { return vector_cost(*costs, operation, n); };
  const auto norm = [&](std::uint32_t folded) {
    const bool gain = !(c.flags & folded);
    return vector(c.norm == Norm::layer ? (gain ? kLayerNormGain : kLayerNorm) : (gain ? kNormGain : kNorm), c.d_model);
  };
  const auto product = [&](std::uint32_t rows, std::uint32_t cols, bool added, std::uint32_t bias) {
    return product_cost(*costs, rows, cols, layout, added, (c.biases & bias) != 0);
  };

  double n = vector(kEmbed, c.d_model) * (c.position_table ? 2 : 1) + norm(kFinalGainFolded) +
             product(c.vocab_size, c.d_model, false, kBiasUnembedding);
  if (c.rotary_dims) n += costs->turn[0] + costs->turn[1] * (c.rotary_dims / 2);
  n += layers * (norm(kAttentionGainFolded) + norm(kFfnGainFolded));
  n += layers * (product(c.d_query(), c.d_model, false, kBiasQuery) + product(c.d_key(), c.d_model, false, kBiasKey) +
                 product(c.d_key(), c.d_model, false, kBiasValueDown) +
                 product(c.d_model, c.d_query(), true, kBiasValueUp) + vector(kQuantise, c.d_query()));
  n += layers * ((c.gated ? 2 : 1) * product(c.d_ff, c.d_model, false, kBiasFfnIn) +
                 product(c.d_model, c.d_ff, true, kBiasDown) + vector(c.gated ? kGate : kGateAlone, c.d_ff));

  const HeadCosts h = head_costs(*costs, c.head_dim);
  const double turns = static_cast<double>(c.rotary_dims) / c.head_dim;
  n += layers * heads * (h.query[0] + h.query[1] * turns + h.finish);
  n += layers * kv * (h.key[0] + h.key[1] * turns + (c.flags & kKeyOffset ? h.key[2] : 0) + h.value);
  const double* rest = costs->rest;
  const double padding = float_row(c.d_model) - c.d_model;
  n += rest[0] + layers * (rest[1] + kv * rest[2] + heads * rest[3] + heads * c.head_dim * rest[4]) + rest[6] * padding;

  // Each block calls the kernel once per KV head; only the last one can be ragged.
  const double odd = c.n_heads / c.n_kv_heads % 2;
  const double block = h.attend[0] + per * h.attend[1] + odd * h.attend[5];
  formula.constant = n + layers * kv * (block + rest[5]);
  formula.per_key = layers * (heads * h.attend[2] + kv * odd * h.attend[6]);
  formula.per_block = layers * kv * (block + rest[5] + h.attend[3] + per * h.attend[4] + odd * h.attend[7]);
  double lowest = 0;
  for (int k = 0; k < kRagged; ++k) {
    formula.ragged[k] = k ? layers * heads * h.ragged[k - 1] : 0;
    lowest = std::min(lowest, formula.ragged[k]);
  }
  for (double& r : formula.ragged) r -= lowest;
  formula.constant += lowest;
  const double most = 1.0 + costs->margin_percent / 100.0;
  for (double* n : {&formula.constant, &formula.per_key, &formula.per_block}) *n *= most;
  for (double& r : formula.ragged) r *= most;
  formula.data_percent = costs->data_percent;
  return formula;
}

}  // namespace

bool has_costs(const std::string& core) {
  for (const CoreCosts& c : kCoreCosts)
    if (core == c.core) return true;
  return false;
}

Features uncounted_features(const ModelConfig& config) {
  Features counted = kNoFeatures;
  counted.biases = counted.ungated = counted.key_offset = counted.layer_norm = counted.learned_positions = true;
  counted.gelu = counted.gelu_quick = counted.relu = true;
  return required_features(config) - counted;
}

bool step_formula(StepFormula& formula, const std::string& core, const Features* features, const ModelConfig& config,
                  Layout layout) {
  if (!is_empty(uncounted_features(config))) return false;
  const StackConfig& c = config.main();
  const std::uint8_t builds = features ? build_of(*features) : kAnyBuild;
  formula = StepFormula{};
  bool found = false;
  for (const CoreCosts& costs : kCoreCosts) {
    if (core != costs.core || !(costs.builds & builds)) continue;
    // Term by term, so that it is the most of each of them.
    const StepFormula one = formula_of(&costs, c, layout);
    formula.constant = std::max(formula.constant, one.constant);
    formula.per_key = std::max(formula.per_key, one.per_key);
    formula.per_block = std::max(formula.per_block, one.per_block);
    formula.data_percent = std::max(formula.data_percent, one.data_percent);
    for (int k = 0; k < kRagged; ++k) formula.ragged[k] = std::max(formula.ragged[k], one.ragged[k]);
    found = true;
  }
  return found;
}

}  // namespace heed::tool
