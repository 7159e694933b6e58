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

// The mean of each column over blocks of d_model rows, taken away there, and that of the bias.
void centre_rows(FloatModel& model, Role role, std::uint32_t layer, std::uint32_t stack) {
  const std::uint32_t d = model.config.stacks[stack].d_model;
  const StoredTensor stored = *model.tensor(role, layer, stack);
  const std::uint32_t blocks = stored.rows() / d, cols = stored.cols();
  std::vector<double> terms(std::size_t{blocks} * cols, 0.0);
  for_each_row(model, role, layer, stack, [&](std::uint32_t r, const float* w) {
    for (std::uint32_t c = 0; c < cols; ++c) terms[std::size_t{r / d} * cols + c] -= w[c];
  });
  for (double& t : terms) t /= d;
  if (blocks == 1) {
    model.set(role, layer, stored.columns_plus(terms), stack);
  } else {  // undivided value maps, each of which is small
    std::vector<float> x = stored.read();
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(x[i] + terms[i / cols / d * cols + i % cols]);
    model.set(role, layer, StoredTensor::of(std::move(x), blocks * d, cols), stack);
  }
  if (model.bias(role, layer, stack).empty()) return;
  std::vector<double> bias = bias_of(model, role, layer, stack), means(blocks, 0.0);
  for (std::size_t r = 0; r < bias.size(); ++r) means[r / d] += bias[r] / d;
  for (std::size_t r = 0; r < bias.size(); ++r) bias[r] -= means[r / d];
  set_bias(model, role, layer, stack, bias);
}

// Rows that are added to the stream, such as embeddings: the mean of each is taken away.
void centre_table(FloatModel& model, Role role, std::uint32_t stack) {
  const StoredTensor* table = model.tensor(role, 0, stack);
  if (!table) return;
  std::vector<double> terms(table->rows(), 0.0);
  for_each_row(model, role, 0, stack, [&](std::uint32_t r, const float* x) {
    for (std::uint32_t c = 0; c < table->cols(); ++c) terms[r] -= x[c];
    terms[r] /= table->cols();
  });
  model.set(role, 0, table->rows_plus(terms), stack);
}

void apply(FloatModel& model, StackCalibration&, std::uint32_t stack) {
  const StackConfig& c = model.config.stacks[stack];
  if (reads_embeddings(c)) {
    // A tied embedding also gives the logits, which would see it.
    if (!c.tied_unembedding || c.output != Output::logits) centre_table(model, Role::token_embedding, stack);
    for (const Role role : {Role::position_embedding, Role::token_type_embedding, Role::class_vectors})
      centre_table(model, role, stack);
    if (c.input == Input::projected) centre_rows(model, Role::input_projection, 0, stack);
  }
  if (!reads_changes(c)) return;
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    for (const AttentionTensors& a : attentions_of(c))
      centre_rows(model, c.value_map == ValueMap::factors ? a.value_up : a.value_down, layer, stack);
    centre_rows(model, Role::w_down, layer, stack);
  }
}

}  // namespace

const Pass kCentreStream = {"centre_stream", "what is added to a stream that layer norms read, centred",
                            [](const StackConfig&) { return false; },
                            [](const StackConfig& c) { return reads_embeddings(c) || reads_changes(c); }, apply};

}  // namespace heed::quant
