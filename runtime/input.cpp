// SPDX-License-Identifier: Apache-2.0
// input.cpp: tokens are looked up, vectors go through a matrix or convolutions; then positions are added, and a norm.
#include "runtime/one_rounding.hpp"

#include "runtime/input.hpp"

#include "runtime/numerics.hpp"

namespace heed {

namespace {

// Outputs of a convolution over n frames: output t reads the frames around stride * t.
std::uint32_t convolved_frames(std::uint32_t n, std::uint32_t stride) { return (n - 1) / stride + 1; }

// A caller's number: anything, within what a block float holds.
float limited(float v) {
  v = v == v ? snap(v) : 0.0f;
  v = v > kLargest ? kLargest : v;
  return v < -kLargest ? -kLargest : v;
}

class Embedder {
 public:
  Embedder(const Stack& s, const Model& m) : stack_(s), model_(m), c_(*s.config), k_(*s.attention().kernels) {}

  Tensor tensor(Role role) const { return model_.tensor(role, 0, stack_.index()); }
  bool has(Role role) const { return model_.has(role, stack_.index()); }
  float* row(float* x, std::uint32_t t) const { return x + std::size_t{t} * stack_.scratch.residual_stride; }
  std::uint32_t chunk() const { return stack_.chunk; }

  void add_row(float* x, const Tensor& rows, std::uint32_t index) const {
    float* const more = stack_.scratch.position;
    k_.embed_f32_s8c(more, rows, index);
    for (std::uint32_t i = 0; i < c_.d_model; ++i) x[i] += more[i];
  }

  void tokens(float* x, const Sequence& input, std::uint32_t from, std::uint32_t n) const {
    const Tensor embedding = tensor(Role::token_embedding);
    const bool typed = kBuiltFeatures.embedding_extras && c_.n_token_types != 0;
    const Tensor types = typed ? tensor(Role::token_type_embedding) : Tensor{};
    for (std::uint32_t t = 0; t < n; ++t) {
      float* const y = row(x, t);
      k_.embed_f32_s8c(y, embedding, static_cast<std::uint32_t>(input.tokens[from + t]));
      if (kBuiltFeatures.embedding_extras && bits_of(c_.embedding_scale) != bits_of(1.0f))
        for (std::uint32_t i = 0; i < c_.d_model; ++i) y[i] *= c_.embedding_scale;
      if (typed) add_row(y, types, input.token_types.empty() ? 0 : input.token_types[from + t]);
    }
  }

  void product(float* x, Role role, const Activations& in, std::uint32_t n) const {
    const Tensor matrix = tensor(role);
    const Product p{x, &matrix, stack_.scratch.residual_stride};
    matmul_parallel(k_, *stack_.attention().parallel, &p, 1, false, in, n);
  }

  // n outputs from `first` on of a convolution; frame(i) is one of its input vectors [d], or null outside.
  template <class Frame>
  void convolve(float* x, Role role, Site site, std::uint32_t d, std::uint32_t stride, std::uint32_t first, std::uint32_t n,
                Frame frame) const {
    float* const together = stack_.scratch.frames;
    for (std::uint32_t done = 0; done < n; done += chunk()) {
      const std::uint32_t m = n - done < chunk() ? n - done : chunk();
      const Activations in = make_activations(stack_.scratch.activations, k_.traits, 3 * d, c_.group(site), m);
      for (std::uint32_t t = 0; t < m; ++t) {
        for (std::uint32_t tap = 0; tap < 3; ++tap) {
          const float* const from = frame(stride * (first + done + t) + tap);  // of the frame before the tap's
          for (std::uint32_t i = 0; i < d; ++i) together[tap * d + i] = from ? from[i] : 0.0f;
        }
        k_.quantize_s8r_f32(in, t, together);
      }
      product(row(x, done), role, in, m);
      for (std::uint32_t t = 0; t < m; ++t) activate(row(x, done + t), c_.d_model, c_.activation);
    }
  }

  // A tap of index i + 1 reads frame i, so that the one in front of the first is 0.
  void convolved(float* x, const Sequence& input, std::uint32_t from, std::uint32_t n) const {
    const auto n_frames = static_cast<std::uint32_t>(input.vectors.size() / c_.d_input);
    const auto input_frame = [&](std::uint32_t i) {
      return i >= 1 && i <= n_frames ? input.vectors.data() + std::size_t{i - 1} * c_.d_input : nullptr;
    };
    if (!c_.second_convolution)
      return convolve(x, Role::convolution_1, Site::input_in, c_.d_input, c_.strides[0], from, n, input_frame);
    // What the second one's taps read of the first one's outputs; they overlap between chunks and are computed again.
    const std::uint32_t outputs = convolved_frames(n_frames, c_.strides[0]);
    const std::uint32_t tap = c_.strides[1] * from, behind = c_.strides[1] * (from + n - 1) + 3;
    const std::uint32_t begin = tap ? tap : 1, end = behind < outputs + 1 ? behind : outputs + 1;
    float* const between = stack_.scratch.convolved;  // of tap `begin` and on
    convolve(between, Role::convolution_1, Site::input_in, c_.d_input, c_.strides[0], begin - 1, end - begin, input_frame);
    convolve(x, Role::convolution_2, Site::convolution_in, c_.d_model, c_.strides[1], from, n, [&](std::uint32_t i) {
      return i >= begin && i < end ? row(between, i - begin) : nullptr;
    });
  }

  void vectors(float* x, const Sequence& input, std::uint32_t from, std::uint32_t n) const {
    if (is_convolved(c_)) return convolved(x, input, from, n);
    const std::uint32_t d = c_.input_width();
    const float* const first = input.vectors.data() + std::size_t{from} * d;
    if (!is_projected(c_)) {
      for (std::uint32_t t = 0; t < n; ++t)
        for (std::uint32_t i = 0; i < d; ++i) row(x, t)[i] = limited(first[std::size_t{t} * d + i]);
      return;
    }
    const Activations in = make_activations(stack_.scratch.activations, k_.traits, d, c_.group(Site::input_in), n);
    for (std::uint32_t t = 0; t < n; ++t) k_.quantize_s8r_f32(in, t, first + std::size_t{t} * d);
    product(x, Role::input_projection, in, n);
  }

  void finish(float* x, std::uint32_t first, std::uint32_t n) const {
    if (kBuiltFeatures.learned_positions && c_.position_table) {
      const Tensor positions = tensor(Role::position_embedding);
      for (std::uint32_t t = 0; t < n; ++t) add_row(row(x, t), positions, first + t);
    }
    if (kBuiltFeatures.embedding_extras && c_.input_norm) {
      const NormWeights norm = norm_weights(model_, Role::input_gain, Role::input_norm_bias, stack_.index());
      for (std::uint32_t t = 0; t < n; ++t) k_.norm_f32_f32(row(x, t), row(x, t), c_.d_model, norm);
    }
    // Products add to padded rows too; what the arena held there could be a denormal or a signalling NaN.
    for (std::uint32_t t = 0; t < n; ++t)
      for (std::uint32_t i = c_.d_model; i < stack_.scratch.residual_stride; ++i) row(x, t)[i] = 0.0f;
  }

 private:
  const Stack& stack_;
  const Model& model_;
  const StackConfig& c_;
  const Kernels& k_;
};

}  // namespace

Status check_sequence(std::uint32_t& positions, const StackConfig& c, const Sequence& input, std::uint32_t max_seq) {
  std::size_t n = input.tokens.size();
  if (reads_tokens(c)) {
    if (n == 0 || !input.tokens.data() || !input.vectors.empty()) return Status::bad_argument;
    if (!input.token_types.empty() && (input.token_types.size() != n || !input.token_types.data()))
      return Status::bad_argument;
    for (const Token t : input.tokens)
      if (t < 0 || static_cast<std::uint32_t>(t) >= c.vocab_size) return Status::bad_token;
    for (const std::uint8_t t : input.token_types)
      if (t >= c.n_token_types) return Status::bad_token;
  } else {
    const std::uint32_t d = c.input_width();
    if (n != 0 || !input.token_types.empty() || !input.vectors.data() || input.vectors.empty() || input.vectors.size() % d != 0)
      return Status::bad_argument;
    if (!is_aligned(input.vectors.data(), 4)) return Status::misaligned;
    n = input.vectors.size() / d;
    if (n > std::size_t{4} << 20) return Status::context_full;  // two strides of 2 leave no more
    if (is_convolved(c)) {
      n = convolved_frames(static_cast<std::uint32_t>(n), c.strides[0]);
      if (c.second_convolution) n = convolved_frames(static_cast<std::uint32_t>(n), c.strides[1]);
    }
  }
  if (n > max_seq - c.n_class_vectors || max_seq < c.n_class_vectors) return Status::context_full;
  positions = static_cast<std::uint32_t>(n) + c.n_class_vectors;
  return Status::ok;
}

void embed(const Stack& stack, const Model& model, float* x, const Sequence& input, std::uint32_t from, std::uint32_t first,
           std::uint32_t n) {
  const Embedder e(stack, model);
  std::uint32_t classes = 0;
  if (kBuiltFeatures.embedding_extras && first < stack.config->n_class_vectors) {
    const std::uint32_t left = stack.config->n_class_vectors - first;
    classes = left < n ? left : n;
    const Tensor vectors = e.tensor(Role::class_vectors);
    for (std::uint32_t t = 0; t < classes; ++t)
      stack.attention().kernels->embed_f32_s8c(e.row(x, t), vectors, first + t);
  }
  if (n > classes) {
    if (reads_tokens(*stack.config))
      e.tokens(e.row(x, classes), input, from, n - classes);
    else
      e.vectors(e.row(x, classes), input, from, n - classes);
  }
  e.finish(x, first, n);
}

}  // namespace heed
