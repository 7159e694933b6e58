// SPDX-License-Identifier: Apache-2.0
// llama2c_test.cpp: both float forms are read exactly; anything else is refused with a sentence.
#include "quant/readers/llama2c.hpp"

#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"
#include "tests/support/test_data.hpp"

using namespace heed;
using namespace heed::quant;

namespace {

// An exact copy on the heap, so that a sanitizer sees every read beyond it; `shift` bytes off alignment.
Error read(FloatModel& model, const std::vector<std::uint8_t>& bytes, std::size_t shift = 0) {
  static std::vector<std::uint8_t> memory;
  memory.assign(shift, 0);
  memory.insert(memory.end(), bytes.begin(), bytes.end());
  memory.shrink_to_fit();
  return read_llama2c(model, {memory.data() + shift, bytes.size()});
}

std::string refusal(const std::vector<std::uint8_t>& bytes) {
  FloatModel model;
  return read(model, bytes).sentence();
}

void set_header(std::vector<std::uint8_t>& bytes, std::size_t index, std::int32_t value) {
  std::memcpy(bytes.data() + 4 * index, &value, 4);
}

}  // namespace

TEST_CASE("llama2.c: versions 0 and 1, tied and untied, aligned or not, give the model that was written") {
  for (const bool tied : {true, false}) {
    const FloatModel model = golden::numbered_model(test::small_config(tied), 3);
    for (const int version : {0, 1}) {
      for (const std::size_t shift : {0u, 1u}) {
        FloatModel got;
        const Error error = read(got, test::checkpoint_bytes(model, version), shift);
        INFO(error.sentence());
        REQUIRE_FALSE(error);
        CHECK(std::memcmp(&got.config.main(), &model.config.main(), sizeof(StackConfig)) == 0);
        CHECK(got.rotary_phases[0] == model.rotary_phases[0]);
        CHECK(got.format == "llama2.c version " + std::to_string(version));
        for (std::uint32_t layer = 0; layer < 2; ++layer) {
          for (int r = 0; r < kOptionalRoles; ++r) {
            const auto role = static_cast<Role>(r);
            CHECK(got.read(role, layer) == model.read(role, layer));
          }
        }
      }
    }
  }
}

TEST_CASE("llama2.c: rotary phases are those of theta 10000") {
  // 2^32 / (2 pi) is 683565275.576, and 10000^(2/8) is 10.
  CHECK(rotary_phases(8, 10000.0) == std::vector<std::uint32_t>{683565276, 68356528, 6835653, 683565});
}

namespace {

// Heads of 16 and 128 positions, so that an error of theta has room to show.
FloatModel rotating_model() {
  return golden::numbered_model(test::llama_config(32, 40, 1, 2, 2, 16, 9, 128), 3);
}

}  // namespace

TEST_CASE("llama2.c: version 0 is read with the theta of its tables") {
  for (const double theta : {10000.0, 500000.0, 1000000.0, 26443.2, 100.0, 1e7, 10010.0}) {
    FloatModel model;
    const Error error = read(model, test::checkpoint_bytes(rotating_model(), 0, theta), theta > 1e6 ? 1 : 0);
    INFO(theta << ": " << error.sentence());
    REQUIRE_FALSE(error);
    CHECK(model.rope_theta == theta);
    CHECK(model.rotary_phases[0] == rotary_phases(16, theta));
  }
  // Tables of zeros, as some programs write them, are none.
  FloatModel model;
  REQUIRE_FALSE(read(model, test::checkpoint_bytes(rotating_model(), 0, 0.0)));
  CHECK(model.rotary_phases[0] == rotary_phases(16, 10000.0));
}

TEST_CASE("llama2.c: tables in bfloat16 are those of their theta still") {
  for (const double theta : {10000.0, 500000.0}) {
    std::vector<std::uint8_t> bytes = test::checkpoint_bytes(rotating_model(), 0, theta);
    for (std::size_t at = bytes.size() - 4 * 128 * 16; at < bytes.size(); at += 4) {
      std::uint32_t bits;
      std::memcpy(&bits, &bytes[at], 4);
      bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u;
      std::memcpy(&bytes[at], &bits, 4);
    }
    FloatModel model;
    REQUIRE_FALSE(read(model, bytes));
    CHECK(model.rotary_phases[0] == rotary_phases(16, theta));
  }
}

TEST_CASE("llama2.c: tables of no theta are refused, unless one is given") {
  const std::vector<std::uint8_t> scaled = test::checkpoint_bytes(rotating_model(), 0, 10000.0, 4.0f);
  CHECK(refusal(scaled).find("rotary tables") != std::string::npos);
  const std::vector<std::uint8_t> good = test::checkpoint_bytes(rotating_model(), 0);
  const std::size_t tables = good.size() - 4 * 128 * 16;
  for (const std::uint32_t bits : {0x7FC00000u, 0x7F800000u, 0x3F000000u}) {  // NaN, infinity, 0.5
    for (const std::size_t entry : {0u, 8u * 128 - 1, 8u * 128, 2 * 8u * 128 - 1}) {
      std::vector<std::uint8_t> bytes = good;
      std::memcpy(&bytes[tables + 4 * entry], &bits, 4);
      INFO(bits << " at " << entry);
      CHECK(refusal(bytes).find("rotary tables") != std::string::npos);
      FloatModel model;
      REQUIRE_FALSE(read_llama2c(model, {bytes.data(), bytes.size()}, {10000.0}));
      CHECK(model.rotary_phases[0] == rotary_phases(16, 10000.0));
    }
  }
  // Given, it counts for files without tables too.
  const std::vector<std::uint8_t> versioned = test::checkpoint_bytes(rotating_model(), 1);
  FloatModel model;
  REQUIRE_FALSE(read_llama2c(model, {versioned.data(), versioned.size()}, {500000.0}));
  CHECK(model.rope_theta == 500000.0);
  CHECK(model.rotary_phases[0] == rotary_phases(16, 500000.0));
}

TEST_CASE("llama2.c: a file cut at any byte, or longer by one, is refused with a sentence") {
  for (const int version : {0, 1}) {
    std::vector<std::uint8_t> bytes =
        test::checkpoint_bytes(golden::numbered_model(golden::tiny_config(), 3), version);
    REQUIRE(refusal(bytes).empty());
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      const std::vector<std::uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
      REQUIRE_FALSE(refusal(cut).empty());
    }
    bytes.push_back(0);
    CHECK(refusal(bytes).find("bytes") != std::string::npos);
  }
}

TEST_CASE("llama2.c: each size of the header is refused by name") {
  const std::vector<std::uint8_t> good = test::checkpoint_bytes(golden::numbered_model(golden::tiny_config(), 3), 0);
  struct Wrong {
    std::size_t index;
    std::int32_t value;
    const char* says;
  };
  constexpr std::int32_t kMin = INT32_MIN, kMax = INT32_MAX;
  for (const Wrong& w : std::initializer_list<Wrong>{
           {0, 0, "d_model"},    {0, -8, "d_model"},    {0, kMax, "d_model"}, {0, 65537, "d_model"},
           {1, 0, "d_ff"},       {1, kMin, "d_ff"},     {1, kMax, "d_ff"},    {2, 0, "n_layers"},
           {2, kMax, "n_layers"}, {3, 0, "n_heads"},    {3, 3, "n_heads"},    {3, -2, "n_heads"},
           {3, 8, "head_dim"},   {4, 0, "n_kv_heads"},  {4, 3, "n_kv_heads"}, {4, -1, "n_kv_heads"},
           {5, 0, "vocab_size"}, {5, kMin, "vocab_size"}, {5, kMax, "vocab_size"}, {6, 0, "context"},
           {6, kMax, "context"}, {6, -1, "context"}}) {
    std::vector<std::uint8_t> bytes = good;
    set_header(bytes, w.index, w.value);
    INFO(w.index << " " << w.value << ": " << refusal(bytes));
    CHECK(refusal(bytes).find(w.says) != std::string::npos);
  }
  // Every size at its limit: the sum of the bytes must not wrap.
  std::vector<std::uint8_t> huge = good;
  const std::int32_t limits[7] = {65536, 131072, 4096, 1024, 1024, -(1 << 20), 1 << 20};
  std::memcpy(huge.data(), limits, sizeof limits);
  CHECK(refusal(huge).find("bytes") != std::string::npos);
}

TEST_CASE("llama2.c: versions and flags that are not read are refused by name") {
  const std::vector<std::uint8_t> good = test::checkpoint_bytes(golden::numbered_model(golden::tiny_config(), 3), 1);
  std::vector<std::uint8_t> bytes = good;
  set_header(bytes, 1, 2);
  CHECK(refusal(bytes).find("version 2 (int8 groups)") != std::string::npos);
  set_header(bytes, 1, 77);
  CHECK(refusal(bytes).find("version 77") != std::string::npos);
  bytes = good;
  bytes[36] = 2;
  CHECK(refusal(bytes).find("shared classifier") != std::string::npos);
  bytes = good;
  bytes[255] = 1;
  CHECK(refusal(bytes).find("padding") != std::string::npos);
}

TEST_CASE("llama2.c: numbers that are not finite are refused with the tensor's name") {
  const std::vector<std::uint8_t> good = test::checkpoint_bytes(golden::numbered_model(golden::tiny_config(), 3), 0);
  for (const std::uint32_t bits : {0x7FC00000u, 0xFF800000u, 0x7F800000u, 0x7F000000u}) {
    std::vector<std::uint8_t> bytes = good;
    std::memcpy(bytes.data() + 28 + 4 * (12 * 8 + 8), &bits, 4);  // behind the embeddings and the attention gain
    CHECK(refusal(bytes).find("w_query of layer 0") != std::string::npos);
  }
}

TEST_CASE("llama2.c: garbage is refused") {
  test::Random random(5);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::uint8_t> bytes(random.below(400));
    for (auto& b : bytes) b = static_cast<std::uint8_t>(random.next() >> 56);
    if (round % 2 && bytes.size() >= 8) {
      set_header(bytes, 0, 0x616B3432);
      set_header(bytes, 1, 1);
    }
    refused += !refusal(bytes).empty();
  }
  CHECK(refused == 2000);
}

TEST_CASE("llama2.c: stories260K", "[data]") {
  const std::string path = test::data_path("stories260K/stories260K.bin");
  if (path.empty()) return;
  FloatModel model;
  Span<const std::uint8_t> bytes;
  REQUIRE_FALSE(model.open(bytes, path));
  CHECK(is_llama2c(bytes));
  REQUIRE_FALSE(read_llama2c(model));
  CHECK(parameter_count(model.config) == 260032);
  CHECK(model.config.main().n_kv_heads == 4);
  CHECK(model.config.main().tied_unembedding == 1);
}
