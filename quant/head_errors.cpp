// SPDX-License-Identifier: Apache-2.0
// head_errors.cpp: int8 heads, in double.
#include "quant/head_errors.hpp"

#include "quant/double_math.hpp"
#include "quant/quantize.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

bool is_query(HeadRole h) { return h == HeadRole::query || h == HeadRole::cross_query; }
bool is_key(HeadRole h) { return h == HeadRole::key || h == HeadRole::cross_key; }

// The step of a head whose largest magnitude is `largest` > 0. `s16` is that of its block float, M its largest number.
double step_of(HeadRole heads, double largest) {
  const BlockFloat b = block_float(magnitude_bits(static_cast<float>(largest)));
  if (b.zero) return 0.0;
  const double s16 = 1.0 / b.to_s16_scale, most = round_even(largest / s16);
  if (is_query(heads)) return most / 127.0 * s16;
  if (is_key(heads)) {  // a mantissa of eight bits, rounded up
    const auto m = static_cast<std::uint32_t>(most);
    const std::uint32_t mantissa = (m + 126) / 127;
    return mantissa > 255 ? 2.0 * ((m + 253) / 254) * s16 : mantissa * s16;
  }
  return (static_cast<std::uint32_t>(most) + 128) >> 8 <= 127 ? 256.0 * s16 : 512.0 * s16;
}

void add_head(SquaredError& sum, HeadRole heads, const float* x, const double* mean, std::uint32_t n) {
  double largest = 0.0;
  const auto at = [&](std::uint32_t d) { return mean ? x[d] - mean[d] : double{x[d]}; };
  for (std::uint32_t d = 0; d < n; ++d) largest = at(d) > largest ? at(d) : -at(d) > largest ? -at(d) : largest;
  const double step = step_of(heads, largest);
  for (std::uint32_t d = 0; d < n; ++d) {
    const double rounded = step > 0.0 ? round_even(at(d) / step) * step : 0.0, off = rounded - at(d);
    sum.error += off * off;
    sum.reference += at(d) * at(d);
  }
}

}  // namespace

double head_error(const StackConfig& c, const StackCalibration& seen, HeadRole heads, bool key_offset) {
  const SiteSamples& samples = seen.heads_seen[static_cast<int>(heads)];
  const bool values = heads == HeadRole::value || heads == HeadRole::cross_value;
  const std::uint32_t n_heads = is_query(heads) ? c.n_heads : c.n_kv_heads, dim = values ? c.value_dim() : c.head_dim;
  const std::vector<double>& means = heads == HeadRole::key ? seen.key_means : seen.cross_key_means;
  const float* x = samples.x.data();
  SquaredError sum;
  for (std::uint32_t layer = 0; layer < c.n_layers && samples.n; ++layer)
    for (std::uint32_t i = 0; i < samples.n; ++i)
      for (std::uint32_t head = 0; head < n_heads; ++head, x += dim)
        add_head(sum, heads, x,
                 is_key(heads) && key_offset ? &means[(std::size_t{layer} * n_heads + head) * dim] : nullptr, dim);
  return sum.relative();
}

}  // namespace heed::quant
