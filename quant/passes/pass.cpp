// SPDX-License-Identifier: Apache-2.0
// pass.cpp: what passes have in common.
#include "quant/passes/pass.hpp"

namespace heed::quant {

std::vector<AttentionTensors> attentions_of(const StackConfig& c) {
  std::vector<AttentionTensors> all = {{false, Role::w_query, Role::w_key, Role::w_value_down, Role::w_value_up,
                                        Role::query_gain, Role::query_norm_bias, Role::key_gain, Role::key_norm_bias,
                                        kBiasValueDown, kBiasValueUp, HeadRole::query, HeadRole::key, HeadRole::value,
                                        Site::value_up_in}};
  if (c.cross_attention)
    all.push_back({true, Role::cross_w_query, Role::cross_w_key, Role::cross_w_value_down, Role::cross_w_value_up,
                   Role::cross_query_gain, Role::cross_query_norm_bias, Role::cross_key_gain, Role::cross_key_norm_bias,
                   kBiasCrossValueDown, kBiasCrossValueUp, HeadRole::cross_query, HeadRole::cross_key, HeadRole::cross_value,
                   Site::cross_value_up_in});
  return all;
}

std::vector<double> for_query_heads(const StackConfig& c, const std::vector<double>& of_kv_heads) {
  std::vector<double> result(c.d_query());
  for (std::uint32_t head = 0; head < c.n_heads; ++head)
    for (std::uint32_t d = 0; d < c.head_dim; ++d)
      result[std::size_t{head} * c.head_dim + d] =
          of_kv_heads[std::size_t{head / (c.n_heads / c.n_kv_heads)} * c.head_dim + d];
  return result;
}

double balance(double first, double second) {
  constexpr double kLeast = 0x1p-24, kMost = 0x1p24;
  if (!(first > 0.0) || !(second > 0.0)) return 1.0;
  const double factor = __builtin_sqrt(first / second);
  return factor < kLeast ? kLeast : factor > kMost ? kMost : factor;
}

std::vector<double> bias_of(const FloatModel& model, Role role, std::uint32_t layer, std::uint32_t stack) {
  const Span<const float> bias = model.bias(role, layer, stack);
  std::vector<double> result(bias.begin(), bias.end());
  result.resize(tensor_slot(model.config.stacks[stack], role, layer).rows, 0.0);
  return result;
}

void set_bias(FloatModel& model, Role role, std::uint32_t layer, std::uint32_t stack, const std::vector<double>& bias) {
  std::vector<float> x(bias.size());
  for (std::size_t r = 0; r < x.size(); ++r) x[r] = static_cast<float>(bias[r]);
  model.set_bias(role, layer, std::move(x), stack);
}

void for_each_row(const FloatModel& model, Role role, std::uint32_t layer, std::uint32_t stack,
                  const std::function<void(std::uint32_t r, const float* numbers)>& row) {
  constexpr std::uint32_t kTogether = 64;
  const StoredTensor& t = *model.tensor(role, layer, stack);
  std::vector<float> rows(std::size_t{kTogether} * t.cols());
  for (std::uint32_t r = 0; r < t.rows(); ++r) {
    const std::uint32_t left = t.rows() - r;
    if (r % kTogether == 0) t.read_rows(rows.data(), r, left < kTogether ? left : kTogether);
    row(r, &rows[std::size_t{r % kTogether} * t.cols()]);
  }
}

std::vector<double> inverse_of(std::vector<double> factors) {
  for (double& f : factors) f = 1.0 / f;
  return factors;
}

namespace {

template <class F>
void change_samples(SiteSamples& samples, std::uint32_t layer, std::size_t cols, F&& changed) {
  float* x = samples.x.data() + std::size_t{layer} * samples.n * cols;
  for (std::size_t i = 0; i < samples.n; ++i)
    for (std::size_t k = 0; k < cols; ++k, ++x) *x = static_cast<float>(changed(double{*x}, k));
}

}  // namespace

void scale_samples(SiteSamples& samples, std::uint32_t layer, const std::vector<double>& factors) {
  change_samples(samples, layer, factors.size(), [&](double x, std::size_t k) { return x * factors[k]; });
}
void subtract_from_samples(SiteSamples& samples, std::uint32_t layer, const std::vector<double>& terms) {
  change_samples(samples, layer, terms.size(), [&](double x, std::size_t k) { return x - terms[k]; });
}

}  // namespace heed::quant
