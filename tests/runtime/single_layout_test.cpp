// SPDX-License-Identifier: Apache-2.0
// single_layout_test.cpp: a build for one layout, as one for a board is, opens images in it and names the fault of others, also
// where their rows and columns are padded differently. It is made of runtime/model.cpp alone.
#include <cstdio>
#include <string>

#include "runtime/kernels.hpp"
#include "runtime/model.hpp"
#include "tests/check.hpp"

namespace {

alignas(64) std::uint8_t g_image[64 * 1024];

heed::Span<const std::uint8_t> read_image(const std::string& name) {
  std::FILE* const file = std::fopen((HEED_SOURCE_DIR "/tests/golden/" + name + ".heed").c_str(), "rb");
  REQUIRE(file != nullptr);
  const std::size_t n = std::fread(g_image, 1, sizeof g_image, file);
  std::fclose(file);
  REQUIRE(n != sizeof g_image);
  return {g_image, n};
}

std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t bytes) {
  crc = ~crc;
  for (std::size_t i = 0; i < bytes; ++i) {
    crc ^= static_cast<const std::uint8_t*>(data)[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1u)));
  }
  return ~crc;
}

}  // namespace

TEST_CASE("a build for one layout says of an image in another that it is the layout", "[model]") {
  heed::Kernels kernels{};
  kernels.crc32c = crc32c;
  for (const char* name : {"tiny", "small", "frames", "tiny_pair", "small_pair", "frames_pair", "tiny_block64", "small_block64",
                           "frames_block64"}) {
    INFO(name);
    const bool other = std::string(name).find('_') != std::string::npos;
    heed::Model model;
    CHECK(open(model, read_image(name), kernels) == (other ? heed::Status::layout_unsupported : heed::Status::ok));
  }
}
