// SPDX-License-Identifier: Apache-2.0
// pack_test.cpp: the four layouts hold the same numbers, and nothing else.
#include "quant/pack.hpp"

#include <cstring>

#include "quant/convert.hpp"
#include "tests/golden/stacks.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/random.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::quant;

namespace {

constexpr Layout kLayouts[] = {Layout::row, Layout::packed, Layout::pair, Layout::block64};

QuantizedMatrix random_matrix(test::Random& random, std::uint32_t rows, std::uint32_t cols, std::uint32_t group) {
  QuantizedMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.group = group;
  for (std::size_t i = 0; i < std::size_t{rows} * cols; ++i)
    m.weights.push_back(static_cast<std::int8_t>(random.between(-127, 127)));
  for (std::uint32_t r = 0; r < rows; ++r) m.scales.push_back(1.0f + 0.5f * random.uniform());
  for (std::size_t i = 0; i < std::size_t{rows} * group_count(cols, group); ++i)
    m.multipliers.push_back(static_cast<std::uint8_t>(random.between(1, 15)));
  return m;
}

}  // namespace

TEST_CASE("pack and unpack are inverse in every layout, and the padding is what SPEC says") {
  test::Random random(1);
  for (const Layout layout : kLayouts) {
    for (const std::uint32_t rows : {1u, 3u, 4u, 15u, 16u, 17u, 40u}) {
      for (const std::uint32_t cols : {1u, 2u, 4u, 7u, 12u, 63u, 64u, 65u, 80u, 130u}) {
        for (const std::uint32_t group : {0u, 32u, 64u}) {
          const QuantizedMatrix m = random_matrix(random, rows, cols, group);
          const TensorBytes at = tensor_bytes(layout, rows, cols, group, false);
          ImageBytes bytes(static_cast<std::size_t>(at.total), 0xEE);
          pack(bytes.data(), m, layout);
          const Tensor t = view(bytes.data(), m, layout);
          const QuantizedMatrix back = unpack(t);
          REQUIRE(back.weights == m.weights);
          REQUIRE(back.scales == m.scales);
          REQUIRE(back.multipliers == m.multipliers);

          // Undo what a weight means to find what the other bytes hold.
          const std::uint32_t padded = padded_rows(layout, rows), width = padded_cols(layout, cols);
          for (std::uint32_t r = 0; r < padded; ++r) {
            for (std::uint32_t c = 0; c < width; ++c)
              if (r >= rows || c >= cols) REQUIRE(weight_at(t, r, c) == 0);
            if (r >= rows) REQUIRE(t.scales[r] == 1.0f);
          }
          const std::uint32_t groups = group_count(cols, group);
          for (std::uint32_t r = rows; r < padded; ++r)
            for (std::uint32_t g = 0; g < groups; ++g)
              REQUIRE(t.multipliers[multiplier_index(layout, groups, r, g)] == 1);
          for (std::size_t i = std::size_t{padded} * width; i < at.scales; ++i) REQUIRE(bytes[i] == 0);
          for (std::size_t i = static_cast<std::size_t>(at.multipliers) + std::size_t{padded} * groups; i < at.total;
               ++i)
            REQUIRE(bytes[i] == 0);
        }
      }
    }
  }
}

TEST_CASE("a pair of weights is the int16 256 * odd + even, whatever the two are") {
  for (int even = -127; even <= 127; ++even) {
    for (int odd = -127; odd <= 127; ++odd) {
      QuantizedMatrix m;
      m.rows = 1;
      m.cols = 2;
      m.weights = {static_cast<std::int8_t>(even), static_cast<std::int8_t>(odd)};
      m.scales = {1.0f};
      alignas(64) std::uint8_t bytes[128];
      pack(bytes, m, Layout::pair);
      std::int16_t pair;
      std::memcpy(&pair, bytes, sizeof pair);
      REQUIRE(pair == 256 * odd + even);
      REQUIRE(unpack(view(bytes, m, Layout::pair)).weights == m.weights);
    }
  }
}

TEST_CASE("an image through all layouts and back has the same bytes, and every form of it is accepted") {
  StackConfig grouped = test::llama_config(40, 300, 2, 4, 2, 10, 21, 64);
  grouped.tied_unembedding = 0;
  grouped.flags = kKeyOffset | kFfnGainFolded;
  const std::uint16_t groups[] = {32, 0, 64, 128, 256};
  for (int i = 0; i < 5; ++i) grouped.groups[i] = groups[i];
  const std::vector<std::uint8_t> tokenizer(77, 3);
  for (const StackConfig& config : {test::llama_config(24, 44, 1, 3, 1, 8, 19, 16), grouped}) {
    const ImageBytes first = test::random_image(config, Layout::row, 5, {tokenizer.data(), tokenizer.size()});
    ImageBytes image = first;
    for (const Layout layout : {Layout::packed, Layout::pair, Layout::block64, Layout::row}) {
      Model model;
      REQUIRE(open(model, {image.data(), image.size()}, kernels_portable) == Status::ok);
      ImageBytes next;
      REQUIRE_FALSE(relayout(next, model, layout, kernels_portable));
      Model check;
      REQUIRE(open(check, {next.data(), next.size()}, kernels_portable) == Status::ok);
      REQUIRE(verify(check, kernels_portable) == Status::ok);
      CHECK(check.layout() == layout);
      CHECK(std::memcmp(check.metadata().data(), model.metadata().data(), model.metadata().size()) == 0);
      CHECK(check.tokenizer().size() == 77);
      image = next;
    }
    CHECK(image == first);
  }
}

TEST_CASE("the golden image is the one that make_tiny writes") {
  SourceFile file;
  const Error error = file.open(HEED_SOURCE_DIR "/tests/golden/tiny.heed");
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  const ImageBytes image = golden::tiny_image(Layout::row, kernels_portable);
  CHECK(file.bytes().size() <= 2624);
  CHECK(ImageBytes(file.bytes().begin(), file.bytes().end()) == image);
}

TEST_CASE("the second golden image is the one that make_small writes, in every layout that firmware carries") {
  const std::pair<const char*, Layout> files[] = {
      {"small.heed", Layout::row}, {"small_pair.heed", Layout::pair}, {"small_block64.heed", Layout::block64}};
  for (const auto& [name, layout] : files) {
    SourceFile file;
    const Error error = file.open(std::string(HEED_SOURCE_DIR "/tests/golden/") + name);
    INFO(name << ": " << error.sentence());
    REQUIRE_FALSE(error);
    const ImageBytes image = golden::small_image(layout, kernels_portable);
    CHECK(ImageBytes(file.bytes().begin(), file.bytes().end()) == image);
  }
}

TEST_CASE("the golden images of stacks are those that make_stacks writes") {
  const std::pair<const char*, ImageBytes> files[] = {{"two.heed", golden::two_image(Layout::row, kernels_portable)},
                                                      {"frames.heed", golden::frames_image(Layout::row, kernels_portable)},
                                                      {"frames_pair.heed", golden::frames_image(Layout::pair, kernels_portable)},
                                                      {"frames_block64.heed", golden::frames_image(Layout::block64, kernels_portable)}};
  for (const auto& [name, image] : files) {
    SourceFile file;
    const Error error = file.open(std::string(HEED_SOURCE_DIR "/tests/golden/") + name);
    INFO(name << ": " << error.sentence());
    REQUIRE_FALSE(error);
    CHECK(ImageBytes(file.bytes().begin(), file.bytes().end()) == image);
  }
}
