// SPDX-License-Identifier: Apache-2.0
// image_v1_test.cpp: images of version 1 become the images of version 2 that the same numbers give, and nothing else does.
#include <cstring>

#include "quant/convert.hpp"
#include "quant/image_v1.hpp"
#include "tests/support/catch.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

namespace {

using namespace heed;
using namespace heed::quant;

ImageBytes golden(const std::string& name) {
  SourceFile file;
  REQUIRE_FALSE(file.open(HEED_SOURCE_DIR "/tests/golden/" + name));
  return {file.bytes().begin(), file.bytes().end()};
}

Span<const std::uint8_t> bytes(const ImageBytes& image) { return {image.data(), image.size()}; }

// Kind 1 of either version: the configuration then, the stacks now.
std::size_t offset_of(const ImageBytes& image, std::uint32_t kind, std::size_t* size = nullptr) {
  ImageHeader header;
  std::memcpy(&header, image.data(), sizeof header);
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    SectionEntry s;
    std::memcpy(&s, image.data() + sizeof header + i * sizeof s, sizeof s);
    if (size) *size = static_cast<std::size_t>(s.bytes);
    if (s.kind == kind) return static_cast<std::size_t>(s.offset);
  }
  FAIL("no such section");
  return 0;
}

// Signed again, so that only what was changed is wrong.
Error upgraded(ImageBytes& result, ImageBytes image) {
  refresh_checksums({image.data(), image.size()}, kernels_portable);
  return upgrade_image_v1(result, bytes(image), kernels_portable);
}

}  // namespace

TEST_CASE("an image of version 1 gives the golden image of version 2, to the byte, in its own layout") {
  for (const char* name : {"tiny", "small"}) {
    const std::string source = HEED_SOURCE_DIR "/tests/golden/" + std::string(name) + "_v1.heed";
    ImageBytes image;
    ConvertReport report;
    const Error error = convert(image, report, source, "", {}, kernels_portable);
    INFO(error.sentence());
    REQUIRE_FALSE(error);
    CHECK(report.layout == Layout::row);
    CHECK(image == golden(std::string(name) + ".heed"));
    ConvertOptions pair;
    pair.layout = Layout::pair;
    REQUIRE_FALSE(convert(image, report, source, "", pair, kernels_portable));
    CHECK(image == golden(std::string(name) + "_pair.heed"));
  }
}

TEST_CASE("the runtime refuses version 1 by name, and only version 1 is upgraded") {
  for (const char* name : {"tiny_v1.heed", "small_v1.heed"}) {
    const ImageBytes image = golden(name);
    Model model;
    CHECK(open(model, bytes(image), kernels_portable) == Status::version_unsupported);
    CHECK(is_image_v1(bytes(image)));
    for (const std::size_t n : {0u, 1u, 12u, 63u}) CHECK_FALSE(is_image_v1({image.data(), n}));
  }
  CHECK_FALSE(is_image_v1(bytes(golden("tiny.heed"))));
}

TEST_CASE("what was no image of version 1 is refused") {
  const ImageBytes good = golden("small_v1.heed");
  ImageBytes result;
  REQUIRE_FALSE(upgraded(result, good));
  for (std::size_t n = 64; n < good.size(); n += n < 2048 ? 1 : 97) {
    const ImageBytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK(upgrade_image_v1(result, bytes(cut), kernels_portable));
  }
  // Unsigned changes of whatever is signed.
  std::size_t size = 0;
  for (const std::uint32_t kind : {1u, 2u, 3u, 4u, 5u}) {
    ImageBytes image = good;
    image[offset_of(image, kind, &size) + 1] ^= 1;
    CHECK(upgrade_image_v1(result, bytes(image), kernels_portable).sentence().find("checksum") != std::string::npos);
  }
  // Signed ones: of each field of the configuration that version 1 did not carry, and of the reserved ones.
  const std::size_t config = offset_of(good, 1);
  for (const std::size_t at : {0, 1, 2, 4, 9, 11, 28, 52, 56, 60, 90, 92, 127}) {
    ImageBytes image = good;
    image[config + at] ^= 1;
    CHECK(upgraded(result, image));
  }
  for (const auto& [at, value] : {std::pair<std::size_t, int>{3, 2}, {5, 4}, {6, 2}, {7, 2}, {7, 4}, {8, 2}, {10, 2}, {12, 64},
                                  {14, 16}, {40, 0}, {44, 0}, {76, 1}}) {
    ImageBytes image = good;
    image[config + at] = static_cast<std::uint8_t>(value);
    CHECK(upgraded(result, image));
  }
  // Each byte of the directory.
  const std::size_t directory = offset_of(good, 2, &size);
  for (std::size_t i = 0; i < size; ++i) {
    ImageBytes image = good;
    image[directory + i] ^= 1;
    const Error error = upgraded(result, image);
    Model model;  // the first entry's layout is that of all, which then are not where they were, or not what they were
    CHECK((error || open(model, bytes(result), kernels_portable) != Status::ok));
  }
}

TEST_CASE("any byte of header, configuration and directory may be anything, and no upgrade goes astray") {
  const ImageBytes good = golden("tiny_v1.heed");
  for (std::size_t i = 8; i < 768; ++i) {
    for (const int value : {0, 1, 0x7F, 0x80, 0xFF}) {
      ImageBytes image = good;
      image[i] = static_cast<std::uint8_t>(value);
      ImageBytes result;
      if (!is_image_v1(bytes(image))) continue;
      Model model;
      if (!upgrade_image_v1(result, bytes(image), kernels_portable))
        CHECK(open(model, bytes(result), kernels_portable) == Status::ok);
      ImageHeader header;
      std::memcpy(&header, image.data(), sizeof header);
      if (header.n_sections > 5) continue;  // nothing to sign
      if (!upgraded(result, image)) (void)open(model, bytes(result), kernels_portable);
    }
  }
}
