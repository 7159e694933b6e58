// SPDX-License-Identifier: Apache-2.0
// float_reference_test.cpp: the float model is the one whose loss the data's README states.
#include "quant/float_reference.hpp"

#include <cmath>

#include "quant/convert.hpp"
#include "quant/readers/llama2c_tokenizer.hpp"
#include "runtime/tokenizer.hpp"
#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/test_data.hpp"

using namespace heed;
using namespace heed::quant;

namespace {

// The same model written down a second time, in double, all positions at once and without a cache.
std::vector<double> naive_logits(const FloatModel& model, const std::vector<std::uint32_t>& tokens) {
  const ModelConfig& c = model.config;
  using Vector = std::vector<double>;
  const auto multiply = [](const float* w, const Vector& x, std::size_t rows) {
    Vector y(rows, 0.0);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t k = 0; k < x.size(); ++k) y[r] += double{w[r * x.size() + k]} * x[k];
    return y;
  };
  const auto norm = [&](const Vector& x, const float* gain) {
    double mean = 0.0;
    for (const double v : x) mean += v * v / static_cast<double>(x.size());
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / std::sqrt(mean + double{c.norm_epsilon}) * gain[i];
    return y;
  };
  const std::size_t n = tokens.size(), head_dim = c.head_dim;
  std::vector<Vector> x(n);
  for (std::size_t t = 0; t < n; ++t) {
    const float* row = model.floats(Role::token_embedding, 0) + std::size_t{tokens[t]} * c.d_model;
    x[t].assign(row, row + c.d_model);
  }
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    std::vector<Vector> q(n), k(n), v(n);
    for (std::size_t t = 0; t < n; ++t) {
      const Vector h = norm(x[t], model.floats(Role::attention_gain, layer));
      q[t] = multiply(model.floats(Role::w_query, layer), h, c.d_query());
      k[t] = multiply(model.floats(Role::w_key, layer), h, c.d_key_value());
      v[t] = multiply(model.floats(Role::w_value_down, layer), h, c.d_key_value());
      for (Vector* heads : {&q[t], &k[t]}) {
        for (std::size_t i = 0; i < heads->size(); i += 2) {
          const double angle = static_cast<double>(t) *
                               std::pow(10000.0, -static_cast<double>(i % head_dim) / static_cast<double>(head_dim));
          const double a = (*heads)[i], b = (*heads)[i + 1];
          (*heads)[i] = a * std::cos(angle) - b * std::sin(angle);
          (*heads)[i + 1] = a * std::sin(angle) + b * std::cos(angle);
        }
      }
    }
    for (std::size_t t = 0; t < n; ++t) {
      Vector gathered(c.d_query(), 0.0);
      for (std::size_t head = 0; head < c.n_heads; ++head) {
        const std::size_t kv = head / (c.n_heads / c.n_kv_heads) * head_dim;
        double sum = 0.0;
        for (std::size_t s = 0; s <= t; ++s) {
          double score = 0.0;
          for (std::size_t d = 0; d < head_dim; ++d) score += q[t][head * head_dim + d] * k[s][kv + d];
          const double weight = std::exp(score * double{c.attention_scale});
          sum += weight;
          for (std::size_t d = 0; d < head_dim; ++d) gathered[head * head_dim + d] += weight * v[s][kv + d];
        }
        for (std::size_t d = 0; d < head_dim; ++d) gathered[head * head_dim + d] /= sum;
      }
      const Vector up = multiply(model.floats(Role::w_value_up, layer), gathered, c.d_model);
      for (std::size_t i = 0; i < up.size(); ++i) x[t][i] += up[i];
      const Vector h = norm(x[t], model.floats(Role::ffn_gain, layer));
      Vector gate = multiply(model.floats(Role::w_gate, layer), h, c.d_ff);
      const Vector raised = multiply(model.floats(Role::w_up, layer), h, c.d_ff);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * raised[i];
      const Vector down = multiply(model.floats(Role::w_down, layer), gate, c.d_model);
      for (std::size_t i = 0; i < down.size(); ++i) x[t][i] += down[i];
    }
  }
  return multiply(model.floats(c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0),
                  norm(x.back(), model.floats(Role::final_gain, 0)), c.vocab_size);
}

}  // namespace

TEST_CASE("the float reference agrees with the formulas written down twice") {
  for (const bool tied : {true, false}) {
    const FloatModel model = golden::numbered_model(test::small_config(tied), 11);
    const std::vector<std::uint32_t> tokens = {1, 29, 4, 4, 17, 0, 8, 21, 3, 12, 30 - 1, 6, 6, 6, 2, 9};
    FloatReference reference(model, model.config.max_seq);
    for (int round = 0; round < 2; ++round) {
      reference.restart();
      Span<const float> logits;
      for (const std::uint32_t token : tokens) logits = reference.step(token);
      const std::vector<double> expected = naive_logits(model, tokens);
      REQUIRE(logits.size() == expected.size());
      double error = 0.0, size = 0.0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        error += (logits[i] - expected[i]) * (logits[i] - expected[i]);
        size += expected[i] * expected[i];
      }
      CHECK(std::sqrt(error / size) < 1e-5);
    }
    CHECK(reference.step(0).empty());  // no position left
    reference.restart();
    CHECK(reference.step(30).empty());  // no such token
    CHECK(reference.position() == 0);
  }
}

TEST_CASE("softmax and log_probability") {
  const float logits[4] = {0.0f, 1.0f, -2.0f, 1.0f};
  std::vector<double> p, log_p;
  softmax(p, log_p, logits);
  double sum = 0.0;
  for (std::uint32_t i = 0; i < 4; ++i) {
    sum += p[i];
    CHECK(std::fabs(log_p[i] - std::log(p[i])) < 1e-14);
    CHECK(log_probability(logits, i) == log_p[i]);
  }
  CHECK(std::fabs(sum - 1.0) < 1e-14);
}

TEST_CASE("the float reference has the stated loss on stories260K", "[data]") {
  const std::string model_path = test::data_path("stories260K/stories260K.bin"),
                    vocabulary_path = test::data_path("stories260K/tok512.bin"),
                    text_path = test::data_path("text/tinystories.txt");
  if (model_path.empty() || vocabulary_path.empty() || text_path.empty()) return;
  FloatModel model;
  REQUIRE_FALSE(read_model(model, model_path));
  SourceFile vocabulary_file, text;
  REQUIRE_FALSE(vocabulary_file.open(vocabulary_path));
  REQUIRE_FALSE(text.open(text_path));
  Vocabulary vocabulary;
  REQUIRE(read_llama2c_tokenizer(vocabulary, vocabulary_file.bytes(), model.config.vocab_size).empty());
  std::vector<std::uint8_t> section;
  REQUIRE(build_tokenizer_section(section, vocabulary).empty());
  Tokenizer tokenizer;
  REQUIRE(open(tokenizer, {section.data(), section.size()}, model.config.vocab_size) == Status::ok);

  constexpr std::size_t kChunk = 900;
  std::vector<Token> tokens(Tokenizer::max_tokens(kChunk));
  std::vector<std::byte> scratch(Tokenizer::scratch_bytes(kChunk));
  FloatReference reference(model, model.config.max_seq);
  double nats = 0.0;
  std::uint32_t count = 0;
  for (std::size_t chunk = 0; chunk < 60; ++chunk) {
    std::uint32_t n = 0;
    REQUIRE(tokenizer.encode(n, {reinterpret_cast<const char*>(text.bytes().data()) + chunk * kChunk, kChunk}, {},
                             {tokens.data(), tokens.size()}, {scratch.data(), scratch.size()}) == Status::ok);
    reference.restart();
    for (std::uint32_t i = 0; i + 1 < n; ++i) {
      const Span<const float> logits = reference.step(static_cast<std::uint32_t>(tokens[i]));
      nats -= log_probability(logits, static_cast<std::uint32_t>(tokens[i + 1]));
    }
    count += n - 1;
  }
  CHECK(count == 26663);
  INFO(nats / count);
  CHECK(std::fabs(nats / count - 1.620854) < 1e-6);
}
