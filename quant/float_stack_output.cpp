// SPDX-License-Identifier: Apache-2.0
// float_stack_output.cpp: what comes out behind the last layer: pooling, the final norm, a dense layer, logits or vectors.
#include "quant/float_math.hpp"
#include "quant/float_stack.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {

// From the residual of one position, or the mean of their norms, to what comes out of it.
FloatStack::Vector FloatStack::output_of(Vector x, std::uint32_t position, std::uint32_t head) const {
  const Place at{stack_, 0, position};
  const bool norm = c_.final_norm && c_.pooling != Pooling::mean, logits = c_.output == Output::logits;
  Vector y;
  if (c_.dense) {
    y = enter(Site::dense_in, at, std::move(x));
    if (norm) show(Stage::final_norm, at, y);
    y = multiply(Role::dense, 0, y);
    for (float& v : y) v = activate(c_.dense_activation, v);
    if (c_.dense_norm) apply_norm(y, Role::dense_gain, Role::dense_norm_bias, 0);
    if (logits) see(Site::unembed_in, at, y);
  } else if (logits) {
    y = enter(Site::unembed_in, at, std::move(x));
    if (norm) show(Stage::final_norm, at, y);
  } else {
    y = std::move(x);
    if (norm) {
      apply_norm(y, Role::final_gain, Role::final_norm_bias, 0);
      show(Stage::final_norm, at, y);
    }
  }
  if (logits) {
    const Role role = c_.tied_unembedding ? Role::token_embedding : Role::unembedding;
    Vector result(c_.n_outputs);
    matrices_.multiply(result.data(), role, 0, y.data(), 1, head * c_.n_outputs, c_.n_outputs);
    show(Stage::logits, at, result);
    return result;
  }
  if (c_.unit_length) {
    const float square = dot(y.data(), y.data(), static_cast<std::uint32_t>(y.size()));
    const float factor = square > 0.0f ? 1.0f / square_root(square) : 0.0f;
    for (float& v : y) v *= factor;
  }
  return y;
}

std::vector<float> FloatStack::outputs(const std::vector<float>& x, std::uint32_t first) const {
  const std::size_t d = c_.d_model, n = x.size() / d;
  const auto at = [&](std::size_t i) { return Vector(x.begin() + static_cast<std::ptrdiff_t>(i * d),
                                                     x.begin() + static_cast<std::ptrdiff_t>((i + 1) * d)); };
  Vector result;
  switch (c_.pooling) {
    case Pooling::every:
      for (std::size_t i = 0; i < n; ++i) {
        const Vector y = output_of(at(i), first + static_cast<std::uint32_t>(i), 0);
        result.insert(result.end(), y.begin(), y.end());
      }
      return result;
    case Pooling::last: return output_of(at(n - 1), first + static_cast<std::uint32_t>(n - 1), 0);
    case Pooling::first:
      result = output_of(at(0), 0, 0);
      for (std::uint32_t head = 1; head < c_.n_output_heads; ++head) {
        const Vector more = output_of(at(head), head, head);
        for (std::size_t i = 0; i < result.size(); ++i) result[i] += more[i];
      }
      for (float& v : result) v /= static_cast<float>(c_.n_output_heads);
      return result;
    case Pooling::mean: break;
  }
  Vector sum(d, 0.0f);
  for (std::size_t i = 0; i < n; ++i) {
    Vector y = at(i);
    if (c_.final_norm) apply_norm(y, Role::final_gain, Role::final_norm_bias, 0);
    for (std::size_t k = 0; k < d; ++k) sum[k] += y[k];
  }
  for (float& v : sum) v /= static_cast<float>(n);
  return output_of(std::move(sum), 0, 0);
}

}  // namespace heed::quant
