// SPDX-License-Identifier: Apache-2.0
// torch_test.cpp: weights and outputs that PyTorch wrote (tests/golden/torch, torch_models.py): nn.TransformerEncoder, alone and
// between other parts, nn.Transformer and a decoder with nanoGPT's names through their descriptions, nn.MultiheadAttention
// through the layer that people build networks of.
#include <algorithm>

#include "quant/convert.hpp"
#include "quant/float_reference.hpp"
#include "quant/readers/safetensors.hpp"
#include "runtime/attention.hpp"
#include "tests/covering/cover_inputs.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::quant;

constexpr double kMostFloatDifference = 1e-4;  // of the largest output
constexpr double kLeastCosine = 0.999;         // at every position
constexpr int kSeeds = 3;

std::string golden(const std::string& name) { return HEED_SOURCE_DIR "/tests/golden/torch/" + name; }

test::CoverCase read_case(const std::string& name) {
  std::vector<test::CoverCase> cases;
  const std::string wrong = test::read_cover_cases(cases, golden(name + ".inputs.json"));
  INFO(name << ": " << wrong);
  REQUIRE(wrong.empty());
  REQUIRE(cases.size() == 1);
  return cases[0];
}

void check_cosines(const test::CoverCase& c, const std::vector<float>& outputs) {
  const std::vector<double> cosines = test::cosines(c, {outputs.data(), outputs.size()});
  REQUIRE_FALSE(cosines.empty());
  CHECK(*std::min_element(cosines.begin(), cosines.end()) >= kLeastCosine);
}

void take_row(void* rows, std::uint32_t, Span<const float> row) {
  auto& x = *static_cast<std::vector<float>*>(rows);
  x.insert(x.end(), row.begin(), row.end());
}

// ---- Models ---------------------------------------------------------------------------------------------------------

void check_floats(const test::CoverCase& c, const std::string& weights, const ReadOptions& read) {
  FloatModel model;
  const Error error = read_model(model, weights, read);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  FloatReference reference(model, model.config.main().max_seq);
  if (reference.source_stack()) REQUIRE(reference.set_source(c.source));
  CHECK(test::largest_difference(c, reference.encode(c.input)) <= kMostFloatDifference);
}

std::vector<float> int8_outputs(const test::CoverCase& c, const ImageBytes& image, const Kernels& kernels) {
  test::Running r(kernels, test::bytes(image));
  std::vector<float> rows;
  const RowSink sink{take_row, &rows};
  const std::vector<Token> tokens(c.input.tokens.begin(), c.input.tokens.end()),
      source(c.source.tokens.begin(), c.source.tokens.end());
  if (r.model.config().n_stacks == 2) REQUIRE(r.session.set_source({{source.data(), source.size()}, {}, {}}) == Status::ok);
  const Sequence input{{tokens.data(), tokens.size()}, {}, {c.input.vectors.data(), c.input.vectors.size()}};
  const bool generates = r.model.config().main().use == Use::generate;
  REQUIRE((generates ? r.session.evaluate(input.tokens, sink) : r.session.encode(input, sink)) == Status::ok);
  return rows;
}

void check_model(const std::string& name, const std::string& variant) {
  CAPTURE(name, variant);
  const test::CoverCase c = read_case(name + "." + variant);
  const std::string weights = golden(name + ".safetensors");
  ConvertOptions options;
  options.read.description = golden(name + "." + variant + ".json");
  check_floats(c, weights, options.read);
  for (const Kernels* kernels : test::runnable_kernels()) {
    CAPTURE(kernels->traits.name);
    options.layout = kernels->traits.preferred;
    options.quantize.run_whole = kernels == test::runnable_kernels().front();
    ImageBytes image;
    ConvertReport report;
    const Error error = convert(image, report, weights, "", options, *kernels);
    INFO(error.sentence());
    REQUIRE_FALSE(error);
    check_cosines(c, int8_outputs(c, image, *kernels));
  }
}

// ---- The layer ------------------------------------------------------------------------------------------------------
// Keys and values are made of two inputs side by side: the matrices of one have zeros where the other's columns are.

constexpr std::uint32_t kModel = 16, kHeads = 2, kHeadDim = 8, kSource = 12 + 20;

struct Matrix {
  std::uint32_t rows = 0, cols = 0;
  std::vector<float> weights, bias;
};

class LayerFile {
 public:
  explicit LayerFile(const std::string& path) {
    REQUIRE_FALSE(file_.open(path));
    REQUIRE_FALSE(tensors_.open(file_.bytes()));
  }
  Matrix matrix(const std::string& name) const {
    Matrix m;
    const SafeTensor* const tensor = tensors_.find(name);
    REQUIRE(tensor);
    REQUIRE(tensor->shape.size() == 2);
    m.rows = static_cast<std::uint32_t>(tensor->shape[0]);
    m.cols = static_cast<std::uint32_t>(tensor->shape[1]);
    REQUIRE_FALSE(read_floats(m.weights, *tensor));
    REQUIRE_FALSE(read_floats(m.bias, *tensors_.find(name + ".bias")));
    return m;
  }

 private:
  SourceFile file_;
  SafeTensors tensors_;
};

struct PackedMatrix {
  QuantizedMatrix quantized;
  ImageBytes bytes;
  Tensor tensor;
  PackedMatrix(const Matrix& m, Layout layout)
      : quantized(quantize_matrix(m.weights.data(), nullptr, m.rows, m.cols, 0)) {
    quantized.bias = m.bias;
    bytes.resize(static_cast<std::size_t>(tensor_bytes(layout, m.rows, m.cols, 0, true).total));
    pack(bytes.data(), quantized, layout);
    tensor = view(bytes.data(), quantized, layout);
  }
};

std::vector<float> layer_outputs(const LayerFile& file, const test::CoverCase& c, const Kernels& kernels) {
  const Layout layout = kernels.traits.preferred;
  const PackedMatrix query(file.matrix("w_query"), layout), key(file.matrix("w_key"), layout),
      value_down(file.matrix("w_value_down"), layout), value_up(file.matrix("w_value_up"), layout);
  AttentionWeights weights;
  weights.w_query = query.tensor;
  weights.w_key = key.tensor;
  weights.w_value_down = value_down.tensor;
  weights.w_value_up = value_up.tensor;
  AttentionConfig config;
  config.d_model = kModel;
  config.n_heads = config.n_kv_heads = kHeads;
  config.head_dim = kHeadDim;
  config.d_source = kSource;
  config.max_seq = static_cast<std::uint32_t>(c.source.vectors.size() / kSource);
  AttentionMemory plan;
  REQUIRE(make_attention_plan(plan, config, kernels.traits) == Status::ok);
  test::GuardedArena arena(plan.arena_bytes, plan.arena_align);
  Attention layer;
  REQUIRE(create(layer, config, weights, plan, kernels, arena.span()) == Status::ok);
  REQUIRE(layer.set_source({c.source.vectors.data(), c.source.vectors.size()}) == Status::ok);
  std::vector<float> change(c.input.vectors.size());
  REQUIRE(layer.forward({change.data(), change.size()}, {c.input.vectors.data(), c.input.vectors.size()}) == Status::ok);
  CHECK(arena.intact());
  return change;
}

// The float reference has no layer alone, but a stack whose vectors are a query's, a key's and a value's input side by side
// gives the same change.
std::vector<float> float_outputs(const LayerFile& file, const test::CoverCase& c) {
  const std::uint32_t wide = kModel + kSource, queries = static_cast<std::uint32_t>(c.rows),
                      n = static_cast<std::uint32_t>(c.source.vectors.size() / kSource);
  FloatModel model;
  StackConfig& s = model.config.stacks[0];
  model.config.n_stacks = 1;
  s.use = Use::encode;
  s.input = Input::vectors;
  s.mask = Mask::two_way;
  s.norm_placement = NormPlacement::after;  // so that attention reads the vectors themselves
  s.final_norm = s.gated = s.tied_unembedding = 0;
  s.position = Position::none;
  s.output = Output::vectors;
  s.biases = kBiasQuery | kBiasKey | kBiasValueDown | kBiasValueUp;
  s.d_model = wide;
  s.d_ff = s.n_layers = 1;
  s.n_heads = s.n_kv_heads = kHeads;
  s.head_dim = kHeadDim;
  s.max_seq = n;
  s.norm_epsilon = 1e-5f;
  s.attention_scale = 0.353553391f;  // 1 / sqrt(8)
  const auto put = [&](Role role, const std::string& name, std::uint32_t rows, std::uint32_t first_col) {
    const Matrix m = file.matrix(name);
    const std::uint32_t cols = role == Role::w_value_up ? m.cols : wide;
    std::vector<float> x(std::size_t{rows} * cols, 0.0f), bias(rows, 0.0f);
    for (std::uint32_t r = 0; r < m.rows; ++r) {
      bias[r] = m.bias[r];
      for (std::uint32_t k = 0; k < m.cols; ++k) x[std::size_t{r} * cols + first_col + k] = m.weights[std::size_t{r} * m.cols + k];
    }
    model.own(role, 0, x);
    model.set_bias(role, 0, bias);
  };
  put(Role::w_query, "w_query", kModel, 0);
  put(Role::w_key, "w_key", kModel, kModel);
  put(Role::w_value_down, "w_value_down", kModel, kModel);
  put(Role::w_value_up, "w_value_up", wide, 0);
  model.own(Role::w_up, 0, std::vector<float>(wide, 0.0f));
  model.own(Role::w_down, 0, std::vector<float>(wide, 0.0f));
  for (const Role gain : {Role::attention_after_gain, Role::ffn_after_gain}) model.own(gain, 0, std::vector<float>(wide, 1.0f));
  const Error error = check(model);
  INFO(error.sentence());
  REQUIRE_FALSE(error);

  FloatReference reference(model, n);
  std::vector<float> changes;
  reference.watchers.stage = [&](Stage stage, const Place& at, std::uint32_t, Span<const float> x) {
    if (stage == Stage::attention_change && at.position < queries) changes.insert(changes.end(), x.begin(), x.begin() + kModel);
  };
  FloatSequence together;
  for (std::uint32_t t = 0; t < n; ++t) {
    for (std::uint32_t i = 0; i < kModel; ++i)
      together.vectors.push_back(t < queries ? c.input.vectors[std::size_t{t} * kModel + i] : 0.0f);
    const auto source = c.source.vectors.begin() + std::ptrdiff_t{t} * kSource;
    together.vectors.insert(together.vectors.end(), source, source + kSource);
  }
  REQUIRE_FALSE(reference.encode(together).empty());
  return changes;
}

}  // namespace

TEST_CASE("nn.TransformerEncoder, norms before and behind, ReLU and GELU") {
  for (int seed = 1; seed <= kSeeds; ++seed)
    for (const char* variant : {"before.relu", "before.gelu", "after.relu", "after.gelu"})
      check_model("encoder." + std::to_string(seed), variant);
}

TEST_CASE("nn.Transformer, norms before and behind") {
  for (int seed = 1; seed <= kSeeds; ++seed)
    for (const char* variant : {"before", "after"}) check_model("transformer." + std::to_string(seed), variant);
}

TEST_CASE("nn.TransformerEncoder between other parts: a classifier, a tagger, an embedder, a decoder") {
  for (const char* name : {"classifier.1", "tagger.1", "embedder.1", "decoder.1"}) check_model(name, "before");
}

TEST_CASE("a decoder with nanoGPT's names, with biases and without") {
  for (const char* name : {"gpt.2", "gpt_unbiased.2"}) check_model(name, "before");
}

TEST_CASE("nn.MultiheadAttention with keys and values of different widths") {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    const std::string name = "attention." + std::to_string(seed);
    const test::CoverCase c = read_case(name + ".cross");
    const LayerFile file(golden(name + ".safetensors"));
    const std::vector<float> floats = float_outputs(file, c);
    CHECK(test::largest_difference(c, {floats.data(), floats.size()}) <= kMostFloatDifference);
    for (const Kernels* kernels : test::runnable_kernels()) {
      CAPTURE(kernels->traits.name);
      check_cosines(c, layer_outputs(file, c, *kernels));
    }
  }
}
