// SPDX-License-Identifier: Apache-2.0
// output.cpp: the norm behind the blocks, pooling, a matrix with an activation, and logits or vectors.
#include "runtime/one_rounding.hpp"

#include "runtime/output.hpp"

#include "runtime/numerics.hpp"

namespace heed {

namespace {

// Vectors on their way out, and the norm that they have not had yet.
struct Rows {
  const float* x;
  std::uint32_t stride, cols, n;
  const NormWeights* norm;  // null: none
};

class Giver {
 public:
  Giver(const Stack& s, const Model& m)
      : stack_(s), model_(m), c_(*s.config), k_(*s.attention().kernels) {}

  const NormWeights* final_norm() const {
    return !kBuiltFeatures.norm_after || c_.final_norm ? &stack_.final_norm : nullptr;
  }

  // As a product reads them.
  Activations quantized(const Rows& rows, Site site) const {
    const Activations a = make_activations(stack_.scratch.activations, k_.traits, rows.cols, c_.group(site), rows.n);
    for (std::uint32_t t = 0; t < rows.n; ++t) {
      const float* const x = rows.x + std::size_t{t} * rows.stride;
      if (!(kBuiltFeatures.norm_after || kBuiltFeatures.pooling || kBuiltFeatures.dense) || rows.norm)
        k_.norm_s8r_f32(a, t, x, *rows.norm);
      else
        k_.quantize_s8r_f32(a, t, x);
    }
    return a;
  }
  // As they come out.
  void write(float* dst, const float* x, std::uint32_t cols, const NormWeights* norm) const {
    if (norm)
      k_.norm_f32_f32(dst, x, cols, *norm);
    else if (dst != x)
      std::memcpy(dst, x, cols * sizeof(float));
  }
  void product(float* dst, std::uint32_t stride, const Tensor& matrix, const Activations& in, std::uint32_t n) const {
    const Product p{dst, &matrix, stride};
    matmul_parallel(k_, *stack_.attention().parallel, &p, 1, false, in, n);
  }
  void logits(float* dst, std::uint32_t stride, const Rows& rows) const {
    product(dst, stride, stack_.unembedding, quantized(rows, Site::unembed_in), rows.n);
  }

  void give(float* dst, std::uint32_t stride, Rows rows) const {
    NormWeights dense_norm{};
    if (has_dense(c_)) {
      float* const y = stack_.scratch.dense;
      const std::uint32_t y_stride = float_row(c_.d_dense);
      product(y, y_stride, model_.tensor(Role::dense, 0, stack_.index()), quantized(rows, Site::dense_in), rows.n);
      for (std::uint32_t t = 0; t < rows.n; ++t) activate(y + std::size_t{t} * y_stride, c_.d_dense, c_.dense_activation);
      dense_norm = norm_weights(model_, Role::dense_gain, Role::dense_norm_bias, stack_.index());
      rows = {y, y_stride, c_.d_dense, rows.n, c_.dense_norm ? &dense_norm : nullptr};
    }
    if (gives_logits(c_)) return logits(dst, stride, rows);
    for (std::uint32_t t = 0; t < rows.n; ++t) {
      float* const y = dst + std::size_t{t} * stride;
      write(y, rows.x + std::size_t{t} * rows.stride, rows.cols, rows.norm);
      if (kBuiltFeatures.pooling && c_.unit_length) set_length(y, rows.cols);
    }
  }

  // To length 1, by the sum of squares of the quantised vector, which is an exact integer; zeros stay zeros.
  static void set_length(float* x, std::uint32_t n) {
    std::uint32_t max_bits = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::uint32_t m = magnitude_bits(x[i]);
      max_bits = m > max_bits ? m : max_bits;
    }
    const BlockFloat b = block_float(max_bits);
    float factor = 0.0f;
    if (!b.zero) {
      const std::int32_t reciprocal = reciprocal_127(b.max);
      std::int32_t squares = 0;
      for (std::uint32_t i = 0; i < n; ++i) {
        const std::int32_t q = quantize_s16(to_s16(x[i], b.to_s16_scale), reciprocal);
        squares += q * q;
      }
      const float scale = static_cast<float>(b.max) * kInverse127 * pow2(b.exponent - 15);
      factor = 1.0f / square_root(scale * scale * static_cast<float>(squares));
    }
    for (std::uint32_t i = 0; i < n; ++i) x[i] = b.zero ? 0.0f : snap(x[i] * factor);
  }

  // The mean of the normed vectors, in the order of positions.
  const float* mean(const float* x, std::uint32_t n) const {
    float *const sum = stack_.scratch.pooled, *const more = sum + stack_.scratch.residual_stride;
    write(sum, x, c_.d_model, final_norm());
    for (std::uint32_t t = 1; t < n; ++t) {
      write(more, x + std::size_t{t} * stack_.scratch.residual_stride, c_.d_model, final_norm());
      for (std::uint32_t i = 0; i < c_.d_model; ++i) sum[i] += more[i];
    }
    const float share = 1.0f / static_cast<float>(n);
    for (std::uint32_t i = 0; i < c_.d_model; ++i) sum[i] = snap(sum[i] * share);
    return sum;
  }

  // The mean of several unembeddings' logits, each of a position of its own.
  void average_heads(float* dst, const float* x) const {
    float* const heads = stack_.scratch.heads;
    const std::uint32_t stride = stack_.scratch.residual_stride, n_heads = c_.n_output_heads;
    const float share = 1.0f / static_cast<float>(n_heads);
    for (std::uint32_t h = 0; h < n_heads; ++h) {
      logits(heads, 0, {x + std::size_t{h} * stride, stride, c_.d_model, 1, final_norm()});
      const float* const own = heads + std::size_t{h} * c_.n_outputs;
      for (std::uint32_t i = 0; i < c_.n_outputs; ++i) {
        const float sum = h == 0 ? own[i] : dst[i] + own[i];
        dst[i] = h + 1 == n_heads ? sum * share : sum;
      }
    }
  }

 private:
  const Stack& stack_;
  const Model& model_;
  const StackConfig& c_;
  const Kernels& k_;
};

}  // namespace

void give_rows(const Stack& stack, const Model& model, float* dst, std::uint32_t output_stride, const float* x,
               std::uint32_t n) {
  const Giver g(stack, model);
  g.give(dst, output_stride, {x, stack.scratch.residual_stride, stack.config->d_model, n, g.final_norm()});
}

void give_pooled(const Stack& stack, const Model& model, float* dst, const float* x, std::uint32_t n) {
  const Giver g(stack, model);
  const StackConfig& c = *stack.config;
  const std::uint32_t stride = stack.scratch.residual_stride;
  if (c.pooling == Pooling::mean) return g.give(dst, 0, {g.mean(x, n), stride, c.d_model, 1, nullptr});
  if (c.n_output_heads > 1) return g.average_heads(dst, x);
  const float* const at = c.pooling == Pooling::last ? x + std::size_t{n - 1} * stride : x;
  g.give(dst, 0, {at, stride, c.d_model, 1, g.final_norm()});
}

void give_source(const Stack& stack, const Model& model, float* x, std::uint32_t n) {
  const Giver g(stack, model);
  for (std::uint32_t t = 0; t < n; ++t) {
    float* const row = x + std::size_t{t} * stack.scratch.residual_stride;
    g.write(row, row, stack.config->d_model, g.final_norm());
  }
}

}  // namespace heed
