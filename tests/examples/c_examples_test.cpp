// SPDX-License-Identifier: Apache-2.0
// c_examples_test.cpp: examples/encode.c and translate.c print what the C++ headers give for the same images, and say why not
// where they cannot.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "tests/golden/stacks.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"
#include "tests/support/run.hpp"
#include "tests/support/sections.hpp"

namespace {

using namespace heed;
using namespace heed::test;

struct Printed {
  std::string out, error;
  int status = -1;
};

// Where the images lie as long as this program runs.
struct Folder {
  Folder() {
    char name[] = "/tmp/heed_c_examples.XXXXXX";
    if (mkdtemp(name)) path = name;
  }
  ~Folder() {
    std::error_code none;
    if (!path.empty()) std::filesystem::remove_all(path, none);
  }
  std::string path;
} const folder;

std::string file(const std::string& name, const void* data, std::size_t bytes) {
  const std::string path = folder.path + "/" + name;
  std::FILE* f = std::fopen(path.c_str(), "wb");
  REQUIRE(f);
  REQUIRE(std::fwrite(data, 1, bytes, f) == bytes);
  REQUIRE(std::fclose(f) == 0);
  return path;
}
std::string file(const std::string& name, const quant::ImageBytes& image) { return file(name, image.data(), image.size()); }

std::string content(const std::string& path) {
  std::string text;
  std::FILE* f = std::fopen(path.c_str(), "rb");
  REQUIRE(f);
  for (int c; (c = std::fgetc(f)) != EOF;) text += static_cast<char>(c);
  std::fclose(f);
  return text;
}

Printed run_program(const std::string& command) {
  Printed p;
  const std::string out = folder.path + "/out", error = folder.path + "/error";
  const int status = std::system((command + " > " + out + " 2> " + error).c_str());
  p.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  p.out = content(out);
  p.error = content(error);
  return p;
}

std::string digest_line(const Digest& digest) {
  char line[32];
  std::snprintf(line, sizeof line, "digest %08x\n", digest.value());
  return line;
}

// What encode.c prints of one output.
std::string line_of(const Model& model, Span<const float> output) {
  std::string line;
  if (model.config().main().output == Output::logits) {
    const auto best = std::max_element(output.begin(), output.end()) - output.begin();
    const Span<const char> name = model.class_name(static_cast<std::uint32_t>(best));
    return name.empty() ? "class " + std::to_string(best) + "\n" : std::string(name.data(), name.size()) + "\n";
  }
  for (const float x : output) {
    char number[32];
    std::snprintf(number, sizeof number, "%.9g", static_cast<double>(x));
    line += (line.empty() ? "" : " ") + std::string(number);
  }
  return line + "\n";
}

Printed expected_encoding(const quant::ImageBytes& image, const Sequence& input) {
  Running r(best_kernels(), bytes(image));
  struct Printing {
    const Running& running;
    Printed printed;
    Digest digest;
  } p{r, {}, {}};
  const RowSink sink{[](void* context, std::uint32_t position, Span<const float> row) {
                       auto& to = *static_cast<Printing*>(context);
                       to.printed.out += line_of(to.running.model, row);
                       to.digest.add(best_kernels(), static_cast<Token>(position), row);
                     },
                     &p};
  REQUIRE(r.session.encode(input, sink) == Status::ok);
  REQUIRE_FALSE(p.digest.saw_nan());
  p.printed.error = digest_line(p.digest);
  p.printed.status = 0;
  return p.printed;
}

void check_same(const Printed& printed, const Printed& expected) {
  CHECK(printed.out == expected.out);
  CHECK(printed.error == expected.error);
  CHECK(printed.status == expected.status);
}

std::vector<Token> tokens_of(Span<const std::uint8_t> section, const std::string& text) {
  Tokenizer tokenizer;
  REQUIRE(open(tokenizer, section, 12) == Status::ok);
  std::vector<Token> tokens(Tokenizer::max_tokens(text.size()));
  std::vector<std::uint64_t> scratch(Tokenizer::scratch_bytes(text.size()) / 8 + 1);
  std::uint32_t n = 0;
  REQUIRE(tokenizer.encode(n, {text.data(), text.size()}, {true, true}, tokens,
                           {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 8}) == Status::ok);
  tokens.resize(n);
  return tokens;
}

// An encoder of texts like two.heed's first stack, with another output.
quant::ImageBytes text_encoder(Pooling pooling, Output output) {
  StackConfig c = golden::reading_stack();
  c.pooling = pooling;
  c.output = output;
  if (output == Output::logits) c.n_outputs = 3;
  c.unit_length = output == Output::vectors;
  quant::TensorSection tensors(c, best_kernels().traits.preferred);
  golden::fill(tensors, c, golden::StackNumbers(c, 6));
  std::vector<std::uint8_t> tokenizer;
  REQUIRE(quant::build_tokenizer_section(tokenizer, golden::tiny_vocabulary()).empty());
  quant::ImageBytes image;
  quant::write_image(image, c, tensors, {tokenizer.data(), tokenizer.size()}, {}, best_kernels());
  return image;
}

}  // namespace

TEST_CASE("encode.c: the class of a sequence of vectors", "[examples]") {
  const quant::ImageBytes image = golden::frames_image(best_kernels().traits.preferred, best_kernels());
  Random random(11);
  std::vector<float> vectors(25 * 7);
  for (float& v : vectors) v = 2.0f * random.uniform();
  const std::string model = file("frames.heed", image), input = file("vectors", vectors.data(), vectors.size() * 4);
  const Printed printed = run_program(HEED_ENCODE_C " " + model + " --vectors " + input);
  check_same(printed, expected_encoding(image, {{}, {}, vectors}));
  CHECK(std::string(" up down left right stay ").find(" " + printed.out.substr(0, printed.out.size() - 1) + " ") !=
        std::string::npos);
}

TEST_CASE("encode.c: an embedding, a class, or one of these at each position of a text", "[examples]") {
  for (const Pooling pooling : {Pooling::every, Pooling::first, Pooling::mean, Pooling::last})
    for (const Output output : {Output::logits, Output::vectors}) {
      CAPTURE(static_cast<int>(pooling), static_cast<int>(output));
      const quant::ImageBytes image = text_encoder(pooling, output);
      const std::string model = file("text.heed", image);
      Model opened;
      REQUIRE(open(opened, bytes(image), best_kernels()) == Status::ok);
      const std::vector<Token> tokens = tokens_of(opened.tokenizer(), "ban an");
      check_same(run_program(HEED_ENCODE_C " " + model + " 'ban an'"), expected_encoding(image, {tokens, {}, {}}));
    }
}

TEST_CASE("encode.c: the class that the encoder's firmware finds", "[examples]") {
  // examples/firmware/encoder.cpp and encoder_c99.c make the same vectors; tests/CMakeLists.txt has their digest.
  std::vector<float> vectors(40 * 7);
  for (std::size_t i = 0; i < vectors.size(); ++i) vectors[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 32.0f;
  const quant::ImageBytes image = golden::frames_image(best_kernels().traits.preferred, best_kernels());
  const std::string model = file("frames.heed", image), input = file("vectors", vectors.data(), vectors.size() * 4);
  const Printed printed = run_program(HEED_ENCODE_C " " + model + " --vectors " + input);
  CHECK(printed.out == "down\n");
  CHECK(printed.error == "digest 8d94213a\n");
}

TEST_CASE("translate.c: the text that C++ writes", "[examples]") {
  const Kernels& k = best_kernels();
  const quant::ImageBytes golden_image = golden::two_image(k.traits.preferred, k);
  // As it is, and with a vocabulary of the source's own and an ending that comes late.
  quant::Vocabulary vocabulary = golden::tiny_vocabulary();
  vocabulary.prefix_space = false;
  std::vector<std::uint8_t> tokenizer;
  REQUIRE(quant::build_tokenizer_section(tokenizer, vocabulary).empty());
  const std::vector<std::uint8_t> generation = generation_section({2, 1}, {0, 1, 2, 3}, {9});
  const quant::ImageBytes other =
      with_sections(golden_image, {{SectionKind::source_tokenizer, {tokenizer.data(), tokenizer.size()}},
                                   {SectionKind::generation, {generation.data(), generation.size()}}});
  for (const quant::ImageBytes& image : {golden_image, other}) {
    Running r(k, bytes(image));
    Tokenizer writer;
    Generation rules;
    Sampler sampler;
    REQUIRE(open(writer, r.model.tokenizer(), 12) == Status::ok);
    REQUIRE(open(rules, r.model.generation(), 12, writer.bos(), writer.eos()) == Status::ok);
    REQUIRE(create(sampler, {}, 12, k, {}) == Status::ok);
    const std::vector<Token> source = tokens_of(r.model.source_tokenizer(), "banana");
    REQUIRE(r.session.set_source({source, {}, {}}) == Status::ok);
    Printed expected;
    Digest digest;
    Span<const float> logits;
    REQUIRE(r.session.prefill(logits, rules.first()) == Status::ok);
    StreamDecoder decoder;
    for (Token token;;) {
      REQUIRE(sampler.pick(token, logits, rules.suppressed()) == Status::ok);
      digest.add(k, token, logits);
      if (rules.ends_text(token)) break;
      char piece[3 * 256];
      std::uint32_t n = 0;
      REQUIRE(decoder.push(n, writer, token, piece) == Status::ok);
      expected.out.append(piece, n);
      if (r.session.position() == r.session.max_seq()) break;
      REQUIRE(r.session.step(logits, token) == Status::ok);
    }
    expected.out += "\n";
    expected.error = digest_line(digest);
    expected.status = 0;
    check_same(run_program(HEED_TRANSLATE_C " " + file("two.heed", image) + " banana"), expected);
    CHECK(expected.out.size() > 3);
  }
}

TEST_CASE("the examples in C say why not", "[examples]") {
  const Kernels& k = best_kernels();
  const std::string two = file("two.heed", golden::two_image(k.traits.preferred, k));
  const std::string frames = file("frames.heed", golden::frames_image(k.traits.preferred, k));
  const std::string text = file("text.heed", text_encoder(Pooling::mean, Output::vectors));
  const auto refused = [](const std::string& command, int status, const std::string& says) {
    CAPTURE(command);
    const Printed p = run_program(command);
    CHECK(p.status == status);
    CHECK(p.out.empty());
    CHECK(p.error.find(says) != std::string::npos);
  };
  refused(HEED_ENCODE_C, 2, "usage: encode_c");
  refused(HEED_TRANSLATE_C " " + two, 2, "usage: translate_c");
  refused(HEED_ENCODE_C " " + folder.path + "/none.heed a", 1, "cannot read");
  refused(HEED_ENCODE_C " " + two + " a", 1, "is no encoder of texts");
  refused(HEED_ENCODE_C " " + frames + " a", 1, "is no encoder of texts");
  refused(HEED_ENCODE_C " " + text + " --vectors " + text, 1, "is no encoder of vectors");
  refused(HEED_ENCODE_C " " + text + " xyz", 1, "text cannot be expressed in this vocabulary");
  refused(HEED_ENCODE_C " " + text + " " + std::string(100, 'a'), 1, "context full");
  refused(HEED_TRANSLATE_C " " + text + " a", 1, "does not write a text from another one");
  refused(HEED_TRANSLATE_C " " + frames + " a", 1, "does not write a text from another one");
}
