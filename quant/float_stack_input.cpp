// SPDX-License-Identifier: Apache-2.0
// float_stack_input.cpp: what enters the first layer: tokens, vectors, convolutions, positions, a norm.
#include "quant/float_math.hpp"
#include "quant/float_stack.hpp"

namespace heed::quant {

std::uint32_t positions_of(const StackConfig& c, const FloatSequence& s) {
  std::size_t n = 0;
  if (c.input == Input::tokens) {
    for (const std::uint32_t token : s.tokens)
      if (token >= c.vocab_size) return 0;
    for (const std::uint32_t type : s.token_types)
      if (type >= c.n_token_types) return 0;
    if (!s.vectors.empty() || (!s.token_types.empty() && s.token_types.size() != s.tokens.size())) return 0;
    n = s.tokens.size();
  } else {
    const std::size_t width = c.input_width();
    if (!s.tokens.empty() || !s.token_types.empty() || s.vectors.size() % width != 0) return 0;
    n = s.vectors.size() / width;
    if (c.input == Input::convolved && n != 0) {
      n = (n - 1) / c.strides[0] + 1;
      if (c.second_convolution) n = (n - 1) / c.strides[1] + 1;
    }
  }
  return n == 0 || n > c.max_seq ? 0 : static_cast<std::uint32_t>(n) + c.n_class_vectors;
}

// A product over three neighbouring frames, frames outside being 0, and the activation.
FloatStack::Vector FloatStack::convolve(Role role, const Vector& frames, std::uint32_t width, std::uint32_t stride,
                                        Site site) const {
  const std::size_t n = frames.size() / width;
  Vector result;
  for (std::size_t middle = 0; middle < n; middle += stride) {
    Vector three(3 * std::size_t{width}, 0.0f);
    for (std::size_t i = 0; i < 3; ++i) {
      if (middle + i == 0 || middle + i - 1 >= n) continue;
      const float* frame = &frames[(middle + i - 1) * width];
      for (std::uint32_t k = 0; k < width; ++k) three[i * width + k] = frame[k];
    }
    see(site, {stack_, 0, static_cast<std::uint32_t>(middle / stride)}, three);
    for (const float y : multiply(role, 0, three)) result.push_back(activate(c_.activation, y));
  }
  return result;
}

std::vector<float> FloatStack::embed(const FloatSequence& s, std::uint32_t first) const {
  const std::size_t d = c_.d_model;
  Vector x;
  const auto append = [&](Role role, std::size_t row) {
    x.resize(x.size() + d);
    matrices_.look_up(&x[x.size() - d], role, static_cast<std::uint32_t>(row));
  };
  for (std::uint32_t i = 0; first == 0 && i < c_.n_class_vectors; ++i) append(Role::class_vectors, i);
  const std::size_t in_front = x.size() / d;
  switch (c_.input) {
    case Input::tokens:
      for (std::size_t i = 0; i < s.tokens.size(); ++i) {
        append(Role::token_embedding, s.tokens[i]);
        float* row = &x[x.size() - d];
        for (std::size_t k = 0; k < d; ++k) row[k] *= c_.embedding_scale;
        show(Stage::token_embedding, {stack_, 0, first + static_cast<std::uint32_t>(in_front + i)}, row, d);
      }
      break;
    case Input::vectors: x.insert(x.end(), s.vectors.begin(), s.vectors.end()); break;
    case Input::projected:
      for (std::size_t i = 0; i < s.vectors.size(); i += c_.d_input) {
        const Vector frame(&s.vectors[i], &s.vectors[i] + c_.d_input);
        see(Site::input_in, {stack_, 0, static_cast<std::uint32_t>(i / c_.d_input)}, frame);
        const Vector y = multiply(Role::input_projection, 0, frame);
        x.insert(x.end(), y.begin(), y.end());
      }
      break;
    case Input::convolved: {
      Vector y = convolve(Role::convolution_1, s.vectors, c_.d_input, c_.strides[0], Site::input_in);
      if (c_.second_convolution)
        y = convolve(Role::convolution_2, y, c_.d_model, c_.strides[1], Site::convolution_in);
      x.insert(x.end(), y.begin(), y.end());
      break;
    }
  }
  for (std::size_t i = 0; i < x.size() / d; ++i) {
    const Place at{stack_, 0, first + static_cast<std::uint32_t>(i)};
    float* row = &x[i * d];
    Vector added(d);
    if (c_.n_token_types && i >= in_front) {
      matrices_.look_up(added.data(), Role::token_type_embedding, s.token_types.empty() ? 0 : s.token_types[i - in_front]);
      for (std::size_t k = 0; k < d; ++k) row[k] += added[k];
    }
    if (c_.position_table) {
      matrices_.look_up(added.data(), Role::position_embedding, at.position);
      show(Stage::position_embedding, at, added);
      for (std::size_t k = 0; k < d; ++k) row[k] += added[k];
    }
    if (c_.input_norm) {
      Vector normed(row, row + d);
      apply_norm(normed, Role::input_gain, Role::input_norm_bias, 0);
      for (std::size_t k = 0; k < d; ++k) row[k] = normed[k];
    }
    show(Stage::embedding, at, row, d);
  }
  return x;
}

}  // namespace heed::quant
