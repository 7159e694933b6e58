// SPDX-License-Identifier: Apache-2.0
// centre_stream.cpp: what is added to a residual stream loses its mean over d_model where layer norms alone read the sum, since
// they take the mean away themselves.
#include "quant/passes/pass.hpp"

namespace heed::quant {
namespace {

// Whether the embeddings' sum is read by layer norms alone: by its own, or by those before the sublayers and the final one.
bool reads_embeddings(const StackConfig& c) {
  if (c.norm != Norm::layer) return false;
  return c.input_norm || (c.norm_placement != NormPlacement::after && c.final_norm);
}
// The same of what a sublayer adds: the norm behind it reads the sum with the stream, or the change alone.
bool reads_changes(const StackConfig& c) {
  return c.norm == Norm::layer && (c.norm_placement != NormPlacement::before || c.final_norm);
}

// The mean of each column over rows [first, first + n), taken away there, and that of the bias.
void centre_rows(FloatModel& model, const MatrixPlace& at, std::uint32_t first, std::uint32_t n) {
  const TensorSlot s = slot_of(model, at);
  const float* w = matrix_of(model, at);
  std::vector<double> terms(s.cols, 0.0);
  for (std::size_t r = first; r < std::size_t{first} + n; ++r)
    for (std::uint32_t c = 0; c < s.cols; ++c) terms[c] -= w[r * s.cols + c];
  for (double& t : terms) t /= n;
  add_to_columns(model, at, terms, first, n);
  if (!model.bias(at.role, at.layer, at.stack)) return;
  std::vector<double> bias = bias_of(model, at);
  double sum = 0.0;
  for (std::size_t r = first; r < std::size_t{first} + n; ++r) sum += bias[r];
  for (std::size_t r = first; r < std::size_t{first} + n; ++r) bias[r] -= sum / n;
  set_bias(model, at, bias);
}

// Rows that are added to the stream, such as embeddings: the mean of each is taken away.
void centre_table(FloatModel& model, Role role, std::uint32_t stack) {
  const float* from = model.floats(role, 0, stack);
  if (!from) return;
  const TensorSlot s = tensor_slot(model.config.stacks[stack], role, 0);
  std::vector<float> x(std::size_t{s.rows} * s.cols);
  for (std::size_t r = 0; r < s.rows; ++r) {
    double sum = 0.0;
    for (std::size_t c = 0; c < s.cols; ++c) sum += from[r * s.cols + c];
    for (std::size_t c = 0; c < s.cols; ++c)
      x[r * s.cols + c] = static_cast<float>(from[r * s.cols + c] - sum / static_cast<double>(s.cols));
  }
  model.own(role, 0, std::move(x), stack);
}

void apply(FloatModel& model, StackCalibration&, std::uint32_t stack) {
  const StackConfig& c = model.config.stacks[stack];
  const std::uint32_t d = c.d_model;
  if (reads_embeddings(c)) {
    // A tied embedding also gives the logits, which would see it.
    if (!c.tied_unembedding || c.output != Output::logits) centre_table(model, Role::token_embedding, stack);
    for (const Role role : {Role::position_embedding, Role::token_type_embedding, Role::class_vectors})
      centre_table(model, role, stack);
    if (c.input == Input::projected) centre_rows(model, {Role::input_projection, 0, stack}, 0, d);
  }
  if (!reads_changes(c)) return;
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    for (const AttentionTensors& a : attentions_of(c)) {
      if (c.value_map == ValueMap::factors)
        centre_rows(model, {a.value_up, layer, stack}, 0, d);
      else
        for (std::uint32_t head = 0; head < c.n_kv_heads; ++head)
          centre_rows(model, {a.value_down, layer, stack}, head * d, d);
    }
    centre_rows(model, {Role::w_down, layer, stack}, 0, d);
  }
}

}  // namespace

const Pass kCentreStream = {"centre_stream", "what is added to a stream that layer norms read, centred",
                            [](const StackConfig&) { return false; },
                            [](const StackConfig& c) { return reads_embeddings(c) || reads_changes(c); }, apply};

}  // namespace heed::quant
