// SPDX-License-Identifier: Apache-2.0
// float_reference_test.cpp: the float model is the one whose loss the data's README states.
#include "quant/float_reference.hpp"

#include <cmath>
#include <cstdlib>
#include <string_view>

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
  const StackConfig& c = model.config.main();
  using Vector = std::vector<double>;
  const auto multiply = [&](Role role, std::uint32_t layer, const Vector& x, std::size_t rows) {
    const float *w = model.floats(role, layer), *bias = model.bias(role, layer).data();
    Vector y(bias ? Vector(bias, bias + rows) : Vector(rows, 0.0));
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t k = 0; k < x.size(); ++k) y[r] += double{w[r * x.size() + k]} * x[k];
    return y;
  };
  const auto norm = [&](const Vector& x, const float* gain, const float* bias) {
    const auto n = static_cast<double>(x.size());
    double mean = 0.0, square = 0.0;
    if (c.norm == Norm::layer)
      for (const double v : x) mean += v / n;
    for (const double v : x) square += (v - mean) * (v - mean) / n;
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      y[i] = (x[i] - mean) / std::sqrt(square + double{c.norm_epsilon}) * gain[i] + (bias ? double{bias[i]} : 0.0);
    return y;
  };
  const auto activate = [&](double v) {
    switch (c.activation) {
      case Activation::relu: return std::fmax(v, 0.0);
      case Activation::gelu_tanh:
        return 0.5 * v * (1.0 + std::tanh(std::sqrt(2.0 / 3.141592653589793) * (v + 0.044715 * v * v * v)));
      case Activation::gelu_erf: return 0.5 * v * (1.0 + std::erf(v / std::sqrt(2.0)));
      default: break;
    }
    return v / (1.0 + std::exp(-v));
  };
  const std::size_t n = tokens.size(), head_dim = c.head_dim;
  std::vector<Vector> x(n);
  for (std::size_t t = 0; t < n; ++t) {
    const float* row = model.floats(Role::token_embedding, 0) + std::size_t{tokens[t]} * c.d_model;
    x[t].assign(row, row + c.d_model);
    if (const float* position = model.floats(Role::position_embedding, 0))
      for (std::size_t i = 0; i < c.d_model; ++i) x[t][i] += position[t * c.d_model + i];
  }
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    std::vector<Vector> q(n), k(n), v(n);
    for (std::size_t t = 0; t < n; ++t) {
      const Vector h =
          norm(x[t], model.floats(Role::attention_gain, layer), model.floats(Role::attention_norm_bias, layer));
      q[t] = multiply(Role::w_query, layer, h, c.d_query());
      k[t] = multiply(Role::w_key, layer, h, c.d_key());
      v[t] = multiply(Role::w_value_down, layer, h, c.d_key());
      for (Vector* heads : {&q[t], &k[t]}) {
        for (std::size_t i = 0; i < heads->size() && c.position == Position::rotary; i += 2) {
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
      const Vector up = multiply(Role::w_value_up, layer, gathered, c.d_model);
      for (std::size_t i = 0; i < up.size(); ++i) x[t][i] += up[i];
      const Vector h = norm(x[t], model.floats(Role::ffn_gain, layer), model.floats(Role::ffn_norm_bias, layer));
      Vector raised = multiply(Role::w_up, layer, h, c.d_ff);
      const Vector gate = c.gated ? multiply(Role::w_gate, layer, h, c.d_ff) : Vector();
      for (std::size_t i = 0; i < raised.size(); ++i)
        raised[i] = c.gated ? activate(gate[i]) * raised[i] : activate(raised[i]);
      const Vector down = multiply(Role::w_down, layer, raised, c.d_model);
      for (std::size_t i = 0; i < down.size(); ++i) x[t][i] += down[i];
    }
  }
  return multiply(c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0,
                  norm(x.back(), model.floats(Role::final_gain, 0), model.floats(Role::final_norm_bias, 0)),
                  c.vocab_size);
}

}  // namespace

namespace {

// The Llama family, then everything else, mixed.
std::vector<StackConfig> configs_to_compare() {
  std::vector<StackConfig> list = {test::small_config(true), test::small_config(false)};
  for (const Activation activation :
       {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf, Activation::silu}) {
    for (const bool gated : {false, true}) {
      StackConfig c = test::small_config(gated);
      c.activation = activation;
      c.gated = gated;
      c.norm = Norm::layer;
      c.position = Position::none;
      c.position_table = !gated;
      c.rotary_dims = 0;
      c.biases = gated ? kBiasFfnIn | kBiasNorm : 255u;
      list.push_back(c);
    }
  }
  return list;
}

FloatModel with_biases(const StackConfig& config) {
  FloatModel model = golden::numbered_model(config, 11);
  golden::Numbers numbers(12);
  for (const golden::NumberedTensor& t : golden::numbered_tensors(config)) {
    const TensorSlot slot = tensor_slot(config, t.role, t.layer);
    if (!slot.bias) continue;
    std::vector<float> bias(slot.rows);
    for (float& b : bias) b = numbers.next();
    model.set_bias(t.role, t.layer, std::move(bias));
  }
  return model;
}

}  // namespace

TEST_CASE("the float reference agrees with the formulas written down twice") {
  for (const StackConfig& config : configs_to_compare()) {
    const FloatModel model = with_biases(config);
    REQUIRE_FALSE(check(model));
    const std::vector<std::uint32_t> tokens = {1, 29, 4, 4, 17, 0, 8, 21, 3, 12, 30 - 1, 6, 6, 6, 2, 9};
    FloatReference reference(model, model.config.main().max_seq);
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
  REQUIRE(read_llama2c_tokenizer(vocabulary, vocabulary_file.bytes(), model.config.main().vocab_size).empty());
  std::vector<std::uint8_t> section;
  REQUIRE(build_tokenizer_section(section, vocabulary).empty());
  Tokenizer tokenizer;
  REQUIRE(open(tokenizer, {section.data(), section.size()}, model.config.main().vocab_size) == Status::ok);

  constexpr std::size_t kChunk = 900;
  std::vector<Token> tokens(Tokenizer::max_tokens(kChunk));
  std::vector<std::byte> scratch(Tokenizer::scratch_bytes(kChunk));
  FloatReference reference(model, model.config.main().max_seq);
  double nats = 0.0;
  std::uint32_t count = 0;
  // Three minutes under an emulator, which takes all of the text with --full only; of four chunks the host's loss.
  const char* full = std::getenv("HEED_FULL");
  const bool sample = HEED_SAMPLE_CHUNKS && !(full && std::string_view(full) == "1");
  for (std::size_t chunk = 0; chunk < (sample ? HEED_SAMPLE_CHUNKS : 60); ++chunk) {
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
  CHECK(count == (sample ? 1728 : 26663));
  INFO(nats / count);
  CHECK(std::fabs(nats / count - (sample ? 1.542736844 : 1.620854)) < 1e-6);
}
