// SPDX-License-Identifier: Apache-2.0
// gguf_models_test.cpp: models that their original implementation ran and the gguf package wrote (tests/golden/gguf,
// gguf_models.py): our float reference within 1e-4 of its outputs, the int8 image close behind.
#include <algorithm>

#include "quant/convert.hpp"
#include "quant/float_reference.hpp"
#include "tests/covering/cover_inputs.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::quant;

constexpr double kMostFloatDifference = 1e-4;  // of the largest output
constexpr double kLeastCosine = 0.99;          // of int8: tiny matrices of random numbers

std::string golden(const std::string& name) { return HEED_SOURCE_DIR "/tests/golden/gguf/" + name; }

test::CoverCase read_case(const std::string& name) {
  std::vector<test::CoverCase> cases;
  const std::string wrong = test::read_cover_cases(cases, golden(name + ".inputs.json"));
  INFO(name << ": " << wrong);
  REQUIRE(wrong.empty());
  return cases[0];
}

FloatModel read(const std::string& name) {
  FloatModel model;
  const Error error = read_model(model, golden(name + ".gguf"));
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  return model;
}

void take_row(void* rows, std::uint32_t, Span<const float> row) {
  auto& x = *static_cast<std::vector<float>*>(rows);
  x.insert(x.end(), row.begin(), row.end());
}

std::vector<float> int8_outputs(const test::CoverCase& c, const ImageBytes& image, const Kernels& kernels) {
  test::Running r(kernels, test::bytes(image));
  std::vector<float> rows;
  const RowSink sink{take_row, &rows};
  const std::vector<Token> tokens(c.input.tokens.begin(), c.input.tokens.end()),
      source(c.source.tokens.begin(), c.source.tokens.end());
  if (r.model.config().n_stacks == 2)
    REQUIRE(r.session.set_source({{source.data(), source.size()}, {}, {}}) == Status::ok);
  if (r.model.config().main().use == Use::generate)
    REQUIRE(r.session.evaluate({tokens.data(), tokens.size()}, sink) == Status::ok);
  else
    REQUIRE(r.session.encode(
                {{tokens.data(), tokens.size()}, {c.input.token_types.data(), c.input.token_types.size()}, {}}, sink) ==
            Status::ok);
  return rows;
}

constexpr const char* kModels[] = {"llama",   "llama3",          "llama_linear", "llama_yarn", "mistral",   "qwen2",
                                   "qwen3",   "gemma",           "gemma3",       "phi2",       "phi3",      "gpt2",
                                   "gptneox", "gptneox_in_turn", "bloom",        "bert",       "bert_mean", "bert_rank",
                                   "t5",      "flan_t5",         "t5encoder"};

}  // namespace

TEST_CASE("GGUF: float outputs are those of the original implementation", "[gguf]") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const test::CoverCase c = read_case(name);
    const FloatModel model = read(name);
    FloatReference reference(model, model.config.main().max_seq);
    if (reference.source_stack()) REQUIRE(reference.set_source(c.source));
    CHECK(test::largest_difference(c, reference.encode(c.input)) <= kMostFloatDifference);
  }
}

TEST_CASE("GGUF: images of all architectures run", "[gguf]") {
  const Kernels& kernels = *test::runnable_kernels()[0];
  for (const char* name : kModels) {
    CAPTURE(name);
    const test::CoverCase c = read_case(name);
    ImageBytes image;
    ConvertReport report;
    ConvertOptions options;
    options.layout = kernels.traits.preferred;
    options.quantize.measure = false;
    const Error error = convert(image, report, golden(name + std::string(".gguf")), "", options, kernels);
    INFO(error.sentence());
    REQUIRE_FALSE(error);
    const std::vector<float> outputs = int8_outputs(c, image, kernels);
    std::vector<double> cosines = test::cosines(c, {outputs.data(), outputs.size()});
    std::nth_element(cosines.begin(), cosines.begin() + static_cast<std::ptrdiff_t>(cosines.size() / 2), cosines.end());
    CHECK(cosines[cosines.size() / 2] >= kLeastCosine);
  }
}

TEST_CASE("GGUF: what the metadata says beside the tensors", "[gguf]") {
  const FloatModel llama = read("llama");
  CHECK(llama.format == "GGUF llama");
  CHECK(llama.bos == 1);
  CHECK(llama.eos == 2);
  CHECK(llama.generation.empty());
  const FloatModel rank = read("bert_rank");
  CHECK(rank.classes == std::vector<std::string>{"bad", "so so", "good"});
  const FloatModel t5 = read("t5");
  CHECK(t5.generation.first == std::vector<std::uint32_t>{0});
  CHECK(t5.bos == 0);
}
