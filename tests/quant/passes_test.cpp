// SPDX-License-Identifier: Apache-2.0
// passes_test.cpp: passes change no float result, keep what was seen of a model in step with it, undo what ruins int8, and are
// applied only where that gains.
#include <cmath>
#include <limits>

#include "quant/generator.hpp"
#include "quant/head_errors.hpp"
#include "quant/passes/choose.hpp"
#include "quant/quantize.hpp"
#include "tests/quant/checkpoints.hpp"
#include "tests/quant/described.hpp"
#include "tests/support/catch.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::quant;

namespace {

// What a model makes of the cases of a description; a decoder all the logits of a text.
std::vector<float> outputs_of(const FloatModel& model, const std::vector<test::DescribedCase>& cases) {
  std::vector<float> all;
  FloatReference reference(model, model.config.main().max_seq);
  for (const test::DescribedCase& c : cases) {
    if (model.config.n_stacks == 2) REQUIRE(reference.set_source(c.source));
    const Span<const float> out = reference.encode(c.input);
    REQUIRE_FALSE(out.empty());
    all.insert(all.end(), out.begin(), out.end());
  }
  return all;
}

double largest(const std::vector<float>& x) {
  double result = 0.0;
  for (const float v : x) result = std::fmax(result, std::fabs(v));
  return result;
}
double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double result = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) result = std::fmax(result, std::fabs(double{a[i]} - b[i]));
  return result;
}

// All numbers of a model's tensors and biases.
std::vector<float> weights_of(const FloatModel& model) {
  std::vector<float> all;
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack)
    for_each_slot(model.config.stacks[stack], [&](const TensorSlot& s) {
      const std::vector<float> x = model.read(s.role, s.layer, stack);
      all.insert(all.end(), x.begin(), x.end());
      const Span<const float> bias = model.bias(s.role, s.layer, stack);
      all.insert(all.end(), bias.begin(), bias.end());
    });
  return all;
}

SeenModel seen(FloatModel model) {
  SeenModel m{std::move(model), {}};
  m.seen = calibrate(m.model);
  return m;
}

void check_close(const std::vector<double>& a, const std::vector<double>& b, const char* what) {
  INFO(what);
  REQUIRE(a.size() == b.size());
  double size = 1e-6, off = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    size = std::fmax(size, std::fabs(b[i]));
    off = std::fmax(off, std::fabs(a[i] - b[i]));
  }
  CHECK(off <= 1e-4 * size);
}

std::vector<double> doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

// A gated decoder whose activations have outliers that its float results do not show.
FloatModel spoilt_model(double factor) {
  StackConfig c = test::llama_config(32, 48, 2, 4, 2, 8, 40, 64);
  FloatModel model = golden::numbered_model(c, 9);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    std::vector<double> f(c.d_ff, 1.0), inverse(c.d_ff, 1.0);
    f[5] = factor;
    inverse[5] = 1.0 / factor;
    model.scale_rows(Role::w_up, layer, 0, f);
    model.scale_columns(Role::w_down, layer, 0, inverse);
  }
  return model;
}

std::vector<std::string> names(const std::vector<StackPass>& passes) {
  std::vector<std::string> result;
  for (const StackPass& p : passes) result.push_back(p.pass->name);
  return result;
}

}  // namespace

TEST_CASE("each pass, and all of them, leave the float results of every kind of model as they are") {
  int applied[5] = {};
  const Pass* const all[] = {&kCentreStream, &kCentreValues, &kScaleValues, &kScaleUp, &kScaleKeys};
  for (const test::Described& described : test::described_models()) {
    INFO(described.name());
    FloatModel read;
    REQUIRE_FALSE(described.read(read));
    const SeenModel original = seen(std::move(read));
    const std::vector<float> exact = outputs_of(original.model, described.cases);
    const std::vector<float> weights = weights_of(original.model);
    std::vector<std::vector<StackPass>> trials = {passes_for(original.model.config)};
    for (const StackPass& p : trials[0]) trials.push_back({p});
    for (const std::vector<StackPass>& trial : trials) {
      INFO(trial.size() << " passes, the first of them " << trial[0].pass->name << " of stack " << trial[0].stack);
      const SeenModel rewritten = apply_passes(original, trial);
      CHECK(check_config(rewritten.model.config) == Status::ok);
      CHECK(largest_difference(outputs_of(rewritten.model, described.cases), exact) <= 1e-5 * largest(exact));
      CHECK(weights_of(rewritten.model) != weights);
      CHECK(weights_of(original.model) == weights);
      for (int i = 0; i < 5; ++i) applied[i] += trial[0].pass == all[i];
    }
  }
  for (const int n : applied) CHECK(n >= 5);
}

TEST_CASE("what was seen of a model is what would be seen of it behind the passes") {
  for (const test::Described& described : test::described_models()) {
    INFO(described.name());
    FloatModel read;
    REQUIRE_FALSE(described.read(read));
    const SeenModel original = seen(std::move(read));
    const SeenModel rewritten = apply_passes(original, passes_for(original.model.config));
    const Calibration again = calibrate(rewritten.model);
    REQUIRE(again.tokens == original.seen.tokens);  // rounding has changed no choice
    for (std::uint32_t stack = 0; stack < original.model.config.n_stacks; ++stack) {
      const StackCalibration &a = rewritten.seen.stacks[stack], &b = again.stacks[stack];
      check_close(a.key_means, b.key_means, "key_means");
      check_close(a.cross_key_means, b.cross_key_means, "cross_key_means");
      for (int i = 0; i < kSiteCount; ++i)
        check_close(doubles(a.sites[i].x), doubles(b.sites[i].x), name_of(static_cast<Site>(i)));
      for (int i = 0; i < kHeadsCount; ++i) check_close(doubles(a.heads_seen[i].x), doubles(b.heads_seen[i].x), "heads");
      for (int i = 0; i < kHeadsCount; ++i)
        for (std::uint32_t layer = 0; b.heads[i].has(layer); ++layer)
          for (std::size_t k = 0; k < original.model.config.stacks[stack].head_dim; ++k) {
            CHECK(a.heads[i].largest(layer, k) == Approx(b.heads[i].largest(layer, k)).epsilon(1e-3).margin(1e-4));
            CHECK(a.heads[i].variance(layer, k) == Approx(b.heads[i].variance(layer, k)).epsilon(1e-2).margin(1e-4));
          }
    }
  }
}

TEST_CASE("a pass is not valid where it would change something, or nothing") {
  StackConfig c;
  CHECK_FALSE(kCentreStream.is_valid(c));  // RMS norms see a mean
  c.norm = Norm::layer;
  CHECK(kCentreStream.is_valid(c));
  c.final_norm = 0;
  CHECK_FALSE(kCentreStream.is_valid(c));  // what comes out is the stream itself
  c.norm_placement = NormPlacement::after;
  CHECK(kCentreStream.is_valid(c));
  c.gated = 0;
  c.activation = Activation::gelu_tanh;
  CHECK_FALSE(kScaleUp.is_valid(c));
  c.activation = Activation::relu;
  CHECK(kScaleUp.is_valid(c));
  c.activation = Activation::silu;
  c.gated = 1;
  CHECK(kScaleUp.is_valid(c));
  c.value_map = ValueMap::undivided;
  CHECK_FALSE(kScaleValues.is_valid(c));
  CHECK_FALSE(kCentreValues.is_valid(c));
  CHECK(kCentreValues.costs(StackConfig{}));
  c.biases = kBiasValueDown | kBiasValueUp;
  CHECK_FALSE(kCentreValues.costs(c));
  c.cross_attention = 1;
  CHECK(kCentreValues.costs(c));
}

TEST_CASE("passes are chosen by what they gain together, and left out where they gain nothing") {
  const SeenModel original = seen(spoilt_model(1.0));
  const auto choose = [&](double before, auto&& distance_of) {
    int asked = 0;
    const std::vector<StackPass> chosen = choose_passes(original, before, [&](const SeenModel& m) {
      ++asked;
      return distance_of(m.model);
    });
    CHECK(asked <= 5);
    return names(chosen);
  };
  const auto unchanged = [&](const FloatModel& m, Role role) { return m.read(role, 0) == original.model.read(role, 0); };
  const std::vector<std::string> none;
  CHECK(choose(1.0, [](const FloatModel&) { return 0.86; }) == none);
  // Only what scales w_down helps; the others are dropped, whether they do harm or nothing and cost a bias.
  CHECK(choose(1.0, [&](const FloatModel& m) {
          return (unchanged(m, Role::w_down) ? 0.9 : 0.1) + (unchanged(m, Role::w_key) ? 0.0 : 0.01) +
                 (unchanged(m, Role::w_value_up) ? 0.0 : 0.01);
        }) == std::vector<std::string>{"scale_up"});
  const bool had_bias = original.model.config.main().biases & kBiasValueUp;
  CHECK_FALSE(had_bias);
  // A bias must gain more than a tenth.
  CHECK(choose(1.0, [&](const FloatModel& m) { return m.config.main().biases ? 0.1 : 0.105; }) ==
        std::vector<std::string>{"scale_values", "scale_up", "scale_keys"});
  CHECK(choose(1.0, [&](const FloatModel& m) { return m.config.main().biases ? 0.1 : 0.12; }) ==
        std::vector<std::string>{"centre_values", "scale_values", "scale_up", "scale_keys"});
  // A model that no image can hold, or that gives nothing but NaN, is no gain.
  CHECK(choose(1.0, [](const FloatModel&) { return std::numeric_limits<double>::infinity(); }) == none);
  CHECK(choose(1.0, [](const FloatModel&) { return std::nan(""); }) == none);
}

TEST_CASE("an outlier channel is undone, and the report says how far int8 is") {
  const auto quantized = [](QuantizeReport& report, double factor, bool measure) {
    QuantizedModel result;
    QuantizeOptions options;
    options.run_whole = measure;
    REQUIRE_FALSE(quantize_model(result, report, spoilt_model(factor), Layout::packed, options, kernels_portable));
  };
  QuantizeReport plain, spoilt, unmeasured;
  quantized(plain, 1.0, true);
  quantized(spoilt, 300.0, true);
  quantized(unmeasured, 300.0, false);
  CHECK(plain.fidelity.outputs > 1000);
  CHECK(plain.fidelity.is_text);
  CHECK(plain.fidelity.kl > 0.0);
  CHECK(std::fabs(plain.fidelity.loss - plain.fidelity.float_loss) < 0.1);
  CHECK(plain.fidelity.agreement > 0.9);
  CHECK(spoilt.decided_before.kl > 3.0 * plain.decided_before.kl);
  CHECK(spoilt.decided.kl < 1.2 * plain.decided_before.kl);
  CHECK(spoilt.fidelity.kl < 1.2 * plain.fidelity.kl);
  bool scaled = false;
  for (const PassReport& p : spoilt.passes) scaled = scaled || std::string(p.name) == "scale_up";
  CHECK(scaled);
  CHECK(unmeasured.passes.empty());
  CHECK(unmeasured.fidelity.outputs == 0);
  CHECK(unmeasured.sites[0][static_cast<int>(Site::down_in)].group != 0);
}

TEST_CASE("what decides and what is reported are different texts; given texts are halved") {
  const FloatModel model = spoilt_model(1.0);
  ProbeOptions o;
  o.positions = 128;
  o.seed = 2;
  const std::vector<Probe> a = make_probes(model, o), same = make_probes(model, o);
  o.seed = 3;
  const std::vector<Probe> b = make_probes(model, o);
  REQUIRE(a.size() >= 2);
  CHECK(a[0].sequence.tokens == same[0].sequence.tokens);
  CHECK(a[0].sequence.tokens != b[0].sequence.tokens);
  for (const Probe& p : a) {
    CHECK(p.sequence.tokens.size() == p.n + 1);
    CHECK(p.rows.size() == std::size_t{p.n} * 40);
    CHECK(p.n <= 64);
  }
  std::vector<FloatSequence> texts(4);
  for (std::uint32_t i = 0; i < 4; ++i) texts[i].tokens = {1, i + 3, i + 4, i + 5};
  o.inputs = &texts;
  for (const std::uint32_t first : {0u, 1u}) {
    o.first_input = first;
    const std::vector<Probe> given = make_probes(model, o);
    REQUIRE(given.size() == 2);
    for (const Probe& p : given) CHECK((p.sequence.tokens[1] - 3) % 2 == first);
    CHECK(given[0].sequence.tokens != given[1].sequence.tokens);
    CHECK(given[1].n == 3);
  }
}

TEST_CASE("errors of int8 heads: steps of the largest number, powers of two for values") {
  StackConfig c = test::llama_config(8, 8, 1, 1, 1, 4, 8, 8);
  StackCalibration s;
  s.key_means = {10.0, 0.0, 0.0, 0.0};
  for (SiteSamples& heads : s.heads_seen) heads = {1, {12.7f, 0.04f, 0.0f, 0.0f}};
  const double size = std::sqrt(12.7 * 12.7 + 0.04 * 0.04);
  CHECK(head_error(c, s, HeadRole::query, true) == Approx(0.04 / size).epsilon(0.01));  // a step of 0.1
  CHECK(head_error(c, s, HeadRole::key, false) == Approx(0.04 / size).epsilon(0.05));
  // Less its mean the largest number is 2.7: steps of about 0.0213, 0.04 becomes two of them.
  CHECK(head_error(c, s, HeadRole::key, true) < 0.012 / 2.7);
  CHECK(head_error(c, s, HeadRole::value, true) == Approx(std::sqrt(0.04 * 0.04 + 0.05 * 0.05) / size).epsilon(0.05));
  s.heads_seen[0].n = 0;
  CHECK(head_error(c, s, HeadRole::query, true) == 0.0);
}
