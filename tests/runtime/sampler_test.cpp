// SPDX-License-Identifier: Apache-2.0
// sampler_test.cpp: the sampler against an independent reference, its edges, its exp, and the digest.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "runtime/digest.hpp"
#include "runtime/numerics.hpp"
#include "runtime/sampler.hpp"
#include "tests/reference/sampler_golden.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

namespace {

using heed::Sampler;
using heed::SamplerConfig;
using heed::Status;
using heed::Token;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::uint32_t crc32(const void* data, std::size_t bytes) {
  const auto* p = static_cast<const std::uint8_t*>(data);
  std::uint32_t crc = ~0u;
  for (std::size_t i = 0; i < bytes; ++i) {
    crc ^= p[i];
    for (int b = 0; b < 8; ++b) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

SamplerConfig config(float temperature, std::uint32_t top_k = 0, float top_p = 1.0f, std::uint64_t seed = 1) {
  return {temperature, top_k, top_p, seed};
}

// A sampler with scratch of exactly the stated size, guarded behind.
struct Rig {
  std::vector<std::uint32_t> memory;
  Sampler sampler;
  std::size_t n;
  Rig(const SamplerConfig& c, std::size_t vocab_size) : memory(vocab_size + 1, 0xA5A5A5A5u), n(vocab_size) {
    REQUIRE(create(sampler, c, static_cast<std::uint32_t>(n), heed::kernels_portable,
                   {reinterpret_cast<std::byte*>(memory.data()), Sampler::scratch_bytes(n)}) == Status::ok);
  }
  Token pick(const std::vector<float>& logits) {
    Token token = -2;
    REQUIRE(sampler.pick(token, logits) == Status::ok);
    REQUIRE(memory[n] == 0xA5A5A5A5u);
    REQUIRE(token >= 0);
    REQUIRE(static_cast<std::size_t>(token) < n);
    return token;
  }
};

Status try_create(const SamplerConfig& c) {
  alignas(4) std::byte scratch[64];
  Sampler s;
  return create(s, c, 16, heed::kernels_portable, scratch);
}

}  // namespace

TEST_CASE("sampler picks what the independent reference picks", "[sampler]") {
  for (const GoldenPicks& golden : kGoldenPicks) {
    CAPTURE(golden.vocab_size, golden.temperature, golden.top_k, golden.top_p, golden.seed, golden.coarse);
    Rig rig({golden.temperature, golden.top_k, golden.top_p, golden.seed}, golden.vocab_size);
    std::uint32_t x = 2463534242u;
    std::vector<Token> tokens;
    std::vector<float> logits(golden.vocab_size);
    for (std::uint32_t i = 0; i < golden.picks; ++i) {
      for (float& logit : logits) {
        x = x * 1664525u + 1013904223u;
        logit =
            golden.coarse ? static_cast<float>(x >> 26) / 4.0f - 8.0f : static_cast<float>(x >> 16) / 4096.0f - 8.0f;
      }
      tokens.push_back(rig.pick(logits));
      if (i < 4) REQUIRE(tokens.back() == golden.first[i]);
    }
    CHECK(crc32(tokens.data(), tokens.size() * sizeof(Token)) == golden.crc);
  }
}

TEST_CASE("the reference's generator is SplitMix64", "[sampler]") {
  CHECK(kSplitMix64[0] == 0xE220A8397B1DCDAFull);
  CHECK(kSplitMix64[1] == 0x6E789E6AA1B965F4ull);
  CHECK(kSplitMix64[2] == 0x06C45D188009454Full);
}

TEST_CASE("temperature 0 takes the largest logit, the lowest of equals, and no scratch", "[sampler]") {
  Sampler s;
  REQUIRE(create(s, config(0.0f), 4, heed::kernels_portable, {}) == Status::ok);
  Token token;
  const float logits[4] = {1.0f, 3.0f, 3.0f, kNan};
  REQUIRE(s.pick(token, logits) == Status::ok);
  CHECK(token == 1);
  REQUIRE(create(s, config(1e-30f), 4, heed::kernels_portable, {}) == Status::ok);
  REQUIRE(s.pick(token, logits) == Status::ok);
  CHECK(token == 1);
}

TEST_CASE("top-k of 1 and a tiny top-p keep one token: the largest, the lowest of equals", "[sampler]") {
  const std::vector<float> logits = {0.0f, 2.0f, 5.0f, 5.0f, 5.0f, 1.0f};
  Rig k(config(100.0f, 1), 6), p(config(100.0f, 0, 1e-30f), 6);
  for (int i = 0; i < 200; ++i) {
    CHECK(k.pick(logits) == 2);
    CHECK(p.pick(logits) == 2);
  }
}

TEST_CASE("ties at the edge go to the lower ids", "[sampler]") {
  const std::vector<float> logits = {1.0f, 1.0f, 5.0f, 1.0f, 1.0f};
  Rig k(config(100.0f, 3), 5);
  int seen[5] = {};
  for (int i = 0; i < 500; ++i) ++seen[k.pick(logits)];
  CHECK((seen[0] > 0 && seen[1] > 0 && seen[2] > 0));
  CHECK((seen[3] == 0 && seen[4] == 0));

  const std::vector<float> flat(8, 0.0f);
  Rig half(config(1.0f, 0, 0.5f), 8), above(config(1.0f, 0, 0.50000006f), 8);
  int most[2] = {};
  for (int i = 0; i < 500; ++i) {
    most[0] = std::max(most[0], half.pick(flat));
    most[1] = std::max(most[1], above.pick(flat));
  }
  CHECK(most[0] == 3);  // 4 of 8 are exactly a half
  CHECK(most[1] == 4);
}

TEST_CASE("top-k and top-p out of play change nothing", "[sampler]") {
  std::vector<float> logits(300);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 37 % 101) * 0.0625f;
  for (const SamplerConfig& off :
       {config(1.0f, 300), config(1.0f, 1000000), config(1.0f, 0, 7.0f), config(1.0f, 0, 0.0f), config(1.0f, 0, -3.0f),
        config(1.0f, 0, kInfinity), config(1.0f, 0, -kInfinity)}) {
    Rig plain(config(1.0f), 300), other(off, 300);
    for (int i = 0; i < 100; ++i) CHECK(plain.pick(logits) == other.pick(logits));
  }
}

TEST_CASE("a seed is a stream, and streams differ", "[sampler]") {
  const std::vector<float> flat(512, 1.0f);
  Rig a(config(1.0f, 0, 1.0f, 0), 512), b(config(1.0f, 0, 1.0f, 0), 512), c(config(1.0f, 0, 1.0f, 1), 512);
  int same = 0;
  for (int i = 0; i < 200; ++i) {
    const Token token = a.pick(flat);
    CHECK(token == b.pick(flat));
    same += token == c.pick(flat);
  }
  CHECK(same < 20);
}

TEST_CASE("NaN is never picked, and infinities do no harm", "[sampler]") {
  Rig rig(config(1.0f), 4);
  for (int i = 0; i < 200; ++i) {
    CHECK(rig.pick({kNan, 0.0f, kNan, 0.0f}) % 2 == 1);
    CHECK(rig.pick({0.0f, kInfinity, 1.0f, kInfinity}) == 1);
    CHECK(rig.pick({kNan, -kInfinity, -kInfinity, kNan}) == 1);
    CHECK(rig.pick({-kInfinity, -3e38f, -kInfinity, kNan}) == 1);
    CHECK(rig.pick({3e38f, -3e38f, 3e38f, kNan}) % 2 == 0);
  }
  Rig greedy(config(0.0f), 4);
  CHECK(greedy.pick({kNan, -kInfinity, kNan, kNan}) == 1);
  Token token = 77;
  const float none[4] = {kNan, kNan, kNan, kNan};
  CHECK(rig.sampler.pick(token, none) == Status::bad_argument);
  CHECK(greedy.sampler.pick(token, none) == Status::bad_argument);
  CHECK(token == 77);
}

TEST_CASE("another rounding mode is refused where a temperature computes, and uses up no random number", "[sampler]") {
  const std::vector<float> logits = {0.1f, 0.7f, 0.3f, 0.69f};
  std::vector<std::uint32_t> scratch(4);
  const heed::Span<std::byte> bytes(reinterpret_cast<std::byte*>(scratch.data()), 16);
  const auto create = [&](Sampler& s, float temperature) {
    return heed::create(s, {temperature, 0, 1.0f, 7}, 4, heed::kernels_portable, bytes);
  };
  Sampler drawn, expected, greedy, refused;
  REQUIRE(create(drawn, 1.0f) == Status::ok);
  REQUIRE(create(expected, 1.0f) == Status::ok);
  REQUIRE(create(greedy, 0.0f) == Status::ok);
  for (int i = 0; i < 30; ++i) {
    const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    Token token = -5, largest = -5, right;
    REQUIRE(std::fesetround(modes[i % 3]) == 0);
    const Status status = drawn.pick(token, logits), greedy_status = greedy.pick(largest, logits);
    const Status created = create(refused, 0.8f);
    std::fesetround(FE_TONEAREST);
    CHECK(status == Status::rounding_mode);
    CHECK(token == -5);
    CHECK(created == Status::rounding_mode);
    CHECK(greedy_status == Status::ok);
    CHECK(largest == 1);
    REQUIRE(drawn.pick(token, logits) == Status::ok);
    REQUIRE(expected.pick(right, logits) == Status::ok);
    CHECK(token == right);
  }
}

TEST_CASE("numbers out of range are refused", "[sampler]") {
  CHECK(try_create(config(0.7f, 5, 0.9f)) == Status::ok);
  CHECK(try_create(config(100.0f)) == Status::ok);
  CHECK(try_create(config(-0.0f)) == Status::ok);
  for (float t : {-1.0f, -1e-30f, 100.001f, kNan, kInfinity, -kInfinity}) {
    CAPTURE(t);
    CHECK(try_create(config(t)) == Status::bad_argument);
  }
  CHECK(try_create(config(1.0f, 0, kNan)) == Status::bad_argument);
  Sampler s;
  alignas(4) std::byte scratch[68];
  const heed::Kernels& k = heed::kernels_portable;
  CHECK(create(s, config(1.0f), 0, k, scratch) == Status::bad_argument);
  CHECK(create(s, config(1.0f), 16, k, {scratch, 63}) == Status::bad_argument);
  CHECK(create(s, config(1.0f), 16, k, {scratch + 1, 64}) == Status::misaligned);
  CHECK(create(s, config(1.0f), 16, k, {scratch, 64}) == Status::ok);
  const float logits[15] = {};
  Token token;
  CHECK(s.pick(token, logits) == Status::bad_argument);
  CHECK(Sampler{}.pick(token, {}) == Status::bad_argument);
}

TEST_CASE("exp_f32 keeps what it claims", "[sampler][numerics]") {
  for (const GoldenExp& golden : kGoldenExp) {
    CAPTURE(golden.x);
    CHECK(heed::bits_of(heed::exp_f32(golden.x)) == golden.bits);
  }
  CHECK(heed::exp_f32(0.0f) == 1.0f);
  CHECK(heed::exp_f32(-0.0f) == 1.0f);
  CHECK(heed::exp_f32(kNan) == heed::exp_f32(-87.0f));
  CHECK(heed::exp_f32(-kInfinity) == heed::exp_f32(-87.0f));
  // Every 37th float from -2^-30 down to -87, and the same upwards to 87; the largest errors of all floats are at these two.
  const auto error_of = [](float x) { return std::fabs(heed::exp_f32(x) / std::exp(static_cast<double>(x)) - 1.0); };
  CHECK(std::fabs(error_of(heed::float_of(0xC28E01D3u)) - 1.81952e-7) < 1e-12);
  CHECK(std::fabs(error_of(heed::float_of(0x40A7CED1u)) - 1.82157e-7) < 1e-12);
  std::uint32_t steps_down = 0, too_far = 0;
  for (std::uint32_t sign : {0x80000000u, 0u}) {
    float before = 1.0f;
    for (std::uint32_t u = heed::bits_of(9.3e-10f); u <= heed::bits_of(87.0f); u += 37) {
      const float x = heed::float_of(u | sign), y = heed::exp_f32(x);
      too_far += error_of(x) > (sign ? 1.8196e-7 : 1.8216e-7);
      steps_down += sign ? y > before : y < before;
      before = y;
    }
  }
  CHECK(too_far == 0);
  CHECK(steps_down == 0);
}

TEST_CASE("the digest covers ids and logits and notices a NaN", "[digest]") {
  const float logits[2] = {1.5f, -2.0f};
  heed::Digest digest;
  CHECK(digest.value() == 0);
  digest.add(heed::kernels_portable, 7, logits);
  digest.add(heed::kernels_portable, -1, logits);
  const std::uint8_t bytes[24] = {7,    0,    0,    0,    0, 0, 0xC0, 0x3F, 0, 0, 0, 0xC0,
                                  0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0xC0, 0x3F, 0, 0, 0, 0xC0};
  CHECK(digest.value() == heed::kernels_portable.crc32c(0, bytes, sizeof bytes));
  CHECK(heed::kernels_portable.crc32c(0, "123456789", 9) == 0xE3069283u);
  CHECK_FALSE(digest.saw_nan());
  const float infinite[1] = {-kInfinity};
  digest.add(heed::kernels_portable, 0, infinite);
  CHECK_FALSE(digest.saw_nan());
  const float nan[2] = {0.0f, -kNan};
  digest.add(heed::kernels_portable, 0, nan);
  CHECK(digest.saw_nan());
}
