// SPDX-License-Identifier: Apache-2.0
// generation_test.cpp: how a text begins and ends by an image's generation section, and the names of its outputs.
#include <initializer_list>
#include <string>
#include <vector>

#include "platform/select.hpp"
#include "runtime/generation.hpp"
#include "tests/golden/tiny.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/sections.hpp"

namespace {

using namespace heed;

// A section of these words, as an image holds it.
std::vector<std::uint32_t> words(std::initializer_list<std::uint32_t> list) { return list; }

Span<const std::uint8_t> bytes_of(const std::vector<std::uint32_t>& section, std::size_t left_out = 0) {
  return {reinterpret_cast<const std::uint8_t*>(section.data()), section.size() * 4 - left_out};
}

std::vector<Token> list(Span<const Token> tokens) { return {tokens.begin(), tokens.end()}; }

std::vector<Token> endings(const Generation& generation, Token vocab_size) {
  std::vector<Token> all;
  for (Token token = kNoToken; token < vocab_size; ++token)
    if (generation.ends_text(token)) all.push_back(token);
  return all;
}

using Tokens = std::vector<Token>;

}  // namespace

TEST_CASE("without a generation section BOS begins a text, and EOS or BOS ends it", "[generation]") {
  Generation g;
  CHECK(list(g.first()).empty());
  CHECK(endings(g, 10).empty());
  REQUIRE(open(g, {}, 10, 1, 2) == Status::ok);
  CHECK(list(g.first()) == Tokens{1});
  CHECK(list(g.suppressed()).empty());
  CHECK(endings(g, 10) == Tokens{1, 2});
  const Generation copy = g;  // must not look into the other
  g = {};
  CHECK(list(copy.first()) == Tokens{1});
  REQUIRE(open(g, {}, 10) == Status::ok);
  CHECK(list(g.first()).empty());
  CHECK(endings(g, 10).empty());
}

TEST_CASE("the section's lists take the place of BOS and EOS, each for itself", "[generation]") {
  const auto all = words({2, 3, 2, 7, 8, 0, 4, 0, 9, 5});
  Generation g;
  REQUIRE(open(g, bytes_of(all), 10, 1, 2) == Status::ok);
  CHECK(list(g.first()) == Tokens{7, 8});
  CHECK(list(g.suppressed()) == Tokens{0, 4, 0});
  CHECK(endings(g, 10) == Tokens{5, 9});
  const auto no_first = words({0, 1, 1, 3, 4});
  REQUIRE(open(g, bytes_of(no_first), 10, 1, 2) == Status::ok);
  CHECK(list(g.first()) == Tokens{1});
  CHECK(list(g.suppressed()) == Tokens{3});
  CHECK(endings(g, 10) == Tokens{4});
  const auto no_endings = words({1, 0, 0, 6});
  REQUIRE(open(g, bytes_of(no_endings), 10, 1, 2) == Status::ok);
  CHECK(list(g.first()) == Tokens{6});
  CHECK(endings(g, 10) == Tokens{1, 2});
  const auto nothing = words({0, 0, 0});
  REQUIRE(open(g, bytes_of(nothing), 10, 1, 2) == Status::ok);
  CHECK(list(g.first()) == Tokens{1});
  CHECK(list(g.suppressed()).empty());
}

TEST_CASE("a section that is not three counts and their tokens is refused", "[generation]") {
  Generation g;
  REQUIRE(open(g, {}, 10, 1, 2) == Status::ok);
  const auto refused = [&](const std::vector<std::uint32_t>& section, std::size_t left_out = 0) {
    return open(g, bytes_of(section, left_out), 10, 3, 4) == Status::bad_section;
  };
  const auto odd = words({0, 0, 0, 0});
  CHECK(open(g, {reinterpret_cast<const std::uint8_t*>(odd.data()) + 1, 12}, 10) == Status::misaligned);
  CHECK(refused(words({0, 0})));
  CHECK(refused(words({0, 0, 1})));
  CHECK(refused(words({0, 0, 0, 1})));
  CHECK(refused(words({1, 1, 1, 1, 2})));
  CHECK(refused(words({1, 0, 1, 1, 2}), 1));
  CHECK(refused(words({1, 0, 0, 1}), 4));
  CHECK(refused(words({0xFFFFFFFF, 1, 1, 1})));   // a sum that wraps around to what there is
  CHECK(refused(words({0x80000000, 0x80000000, 1, 1})));
  CHECK(refused(words({1, 0, 0, 10})));
  CHECK(refused(words({0, 1, 0, 0xFFFFFFFF})));
  CHECK(refused(words({0, 0, 2, 1, 0x80000001})));
  CHECK(list(g.first()) == Tokens{1});  // as before
}

TEST_CASE("an image has its generation section and the names of its outputs", "[generation]") {
  const std::string names = "no\nperhaps\nyes, always\n";
  const auto generation = words({0, 1, 1, 11, 9});
  const Kernels& k = *find_kernels("portable");
  const quant::ImageBytes plain = golden::tiny_image(Layout::row, k);
  const Span<const std::uint8_t> lines{reinterpret_cast<const std::uint8_t*>(names.data()), names.size()};
  const quant::ImageBytes image = test::with_sections(
      plain, {{SectionKind::classes, lines}, {SectionKind::generation, bytes_of(generation)}});
  Model model;
  REQUIRE(open(model, {image.data(), image.size()}, k) == Status::ok);
  const auto name = [&](std::uint32_t index) {
    const Span<const char> line = model.class_name(index);
    return std::string(line.data() ? line.data() : "-", line.data() ? line.size() : 1);
  };
  CHECK(name(0) == "no");
  CHECK(name(1) == "perhaps");
  CHECK(name(2) == "yes, always");
  CHECK(name(3) == "-");
  CHECK(name(0xFFFFFFFF) == "-");
  Generation g;
  REQUIRE(open(g, model.generation(), 12) == Status::ok);
  CHECK(list(g.suppressed()) == Tokens{11});
  CHECK(endings(g, 12) == Tokens{9});

  REQUIRE(open(model, {plain.data(), plain.size()}, k) == Status::ok);
  CHECK(name(0) == "-");
  CHECK(model.generation().empty());
}
