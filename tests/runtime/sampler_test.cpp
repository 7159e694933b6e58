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
#include <utility>
#include <vector>

#include "runtime/digest.hpp"
#include "runtime/numerics.hpp"
#include "runtime/sampler.hpp"
#include "tests/platform/runnable_kernels.hpp"
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

SamplerConfig penalty(float factor, std::uint32_t last = 64, float temperature = 0.0f) {
  SamplerConfig c = config(temperature);
  c.repeat_penalty = factor;
  c.repeat_last = last;
  return c;
}

SamplerConfig min_p(float share, float temperature = 1.0f) {
  SamplerConfig c = config(temperature);
  c.min_p = share;
  return c;
}

// A sampler with scratch of exactly the stated size, guarded behind.
struct Rig {
  std::vector<std::uint32_t> memory;
  Sampler sampler;
  std::size_t n;
  Rig(const SamplerConfig& c, std::size_t vocab_size, const heed::Kernels& kernels = heed::kernels_portable)
      : n(vocab_size) {
    const std::size_t bytes = heed::Sampler::scratch_bytes(n, c.repeat_penalty == 1.0f ? 0 : c.repeat_last);
    memory.assign(bytes / sizeof(std::uint32_t) + 1, 0xA5A5A5A5u);
    REQUIRE(create(sampler, c, static_cast<std::uint32_t>(n), kernels,
                   {reinterpret_cast<std::byte*>(memory.data()), bytes}) == Status::ok);
  }
  Token pick(const std::vector<float>& logits) {
    const std::vector<float> before = logits;
    Token token = -2;
    REQUIRE(sampler.pick(token, logits) == Status::ok);
    REQUIRE(std::memcmp(before.data(), logits.data(), n * sizeof(float)) == 0);
    REQUIRE(memory.back() == 0xA5A5A5A5u);
    REQUIRE(token >= 0);
    REQUIRE(static_cast<std::size_t>(token) < n);
    return token;
  }
};

Status try_create(const SamplerConfig& c) {
  alignas(4) std::byte scratch[80];
  Sampler s;
  return create(s, c, 16, heed::kernels_portable, scratch);
}

void check_picks(const GoldenPicks& golden, const heed::Kernels& kernels) {
  CAPTURE(kernels.traits.name, golden.vocab_size, golden.temperature, golden.top_k, golden.top_p, golden.seed,
          golden.coarse, golden.repeat_penalty, golden.repeat_last, golden.min_p, golden.prompt);
  Rig rig({golden.temperature, golden.top_k, golden.top_p, golden.seed, golden.repeat_penalty, golden.repeat_last,
           golden.min_p},
          golden.vocab_size, kernels);
  for (std::uint32_t i = 0; i < golden.prompt; ++i) {
    const Token token = static_cast<Token>((7 * i + 3) % golden.vocab_size);
    REQUIRE(rig.sampler.accept({&token, 1}) == Status::ok);
  }
  std::uint32_t x = 2463534242u;
  std::vector<Token> tokens;
  std::vector<float> logits(golden.vocab_size);
  for (std::uint32_t i = 0; i < golden.picks; ++i) {
    for (float& logit : logits) {
      x = x * 1664525u + 1013904223u;
      logit = golden.coarse ? static_cast<float>(x >> 26) / 4.0f - 8.0f : static_cast<float>(x >> 16) / 4096.0f - 8.0f;
    }
    tokens.push_back(rig.pick(logits));
    if (i < 4) REQUIRE(tokens.back() == golden.first[i]);
  }
  CHECK(crc32(tokens.data(), tokens.size() * sizeof(Token)) == golden.crc);
}

}  // namespace

TEST_CASE("sampler picks what the independent reference picks, on every table", "[sampler]") {
  for (const GoldenPicks& golden : kGoldenPicks)
    for (const heed::Kernels* kernels : heed::runnable_kernels()) check_picks(golden, *kernels);
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

TEST_CASE("a penalty divides logits above 0 and multiplies the others, once for each token that was seen", "[sampler]") {
  const Token prompt[5] = {0, 2, 0, 0, 3};
  Rig rig(penalty(2.0f, 5), 6);
  REQUIRE(rig.sampler.accept(prompt) == Status::ok);
  CHECK(rig.pick({7.9f, 4.0f, 1.0f, 1.0f, 0.0f, 0.0f}) == 1);     // 3.95, 4; not twice: 1.975
  CHECK(rig.pick({8.5f, 8.1f, 0.0f, 0.0f, 4.2f, 0.0f}) == 0);     // 4.25, 4.05, 4.2
  // 2 has been forgotten by now: -2, -2, -1.95, -3.4, -1.99, -3.
  CHECK(rig.pick({-1.0f, -1.0f, -1.95f, -1.7f, -1.99f, -3.0f}) == 2);
}

TEST_CASE("a penalty is one rounding of the quotient or the product", "[sampler]") {
  std::uint32_t x = 1;
  const auto drawn = [&] { return static_cast<float>((x = x * 1664525u + 1013904223u) >> 8) * 0x1p-24f; };
  for (int i = 0; i < 2000; ++i) {
    const float c = 1.0f + drawn(), above = 4.0f * drawn() + 1.0f, below = -above;
    // Of two binary32 numbers, rounded once more, which is the same.
    const auto divided = static_cast<float>(static_cast<double>(above) / static_cast<double>(c));
    const auto multiplied = static_cast<float>(static_cast<double>(below) * static_cast<double>(c));
    CAPTURE(c, above);
    for (const Token seen : {0, 1}) {
      Rig first(penalty(c, 2), 2), second(penalty(c, 2), 2);
      REQUIRE(first.sampler.accept({&seen, 1}) == Status::ok);
      REQUIRE(second.sampler.accept({&seen, 1}) == Status::ok);
      // Equal to its rival, so the lower id is picked, whichever of them is the one that was seen.
      CHECK(first.pick(seen ? std::vector<float>{divided, above} : std::vector<float>{above, divided}) == 0);
      CHECK(second.pick(seen ? std::vector<float>{multiplied, below} : std::vector<float>{below, multiplied}) == 0);
    }
  }
}

TEST_CASE("only the last tokens are penalised, a prompt's included", "[sampler]") {
  const std::vector<float> logits = {4.0f, 3.0f, 2.5f, 2.25f, 2.1f};
  Rig two(penalty(2.0f, 2), 5);
  const Token first[3] = {0, 0, 1};
  REQUIRE(two.sampler.accept(first) == Status::ok);  // 0 and 1 are the last two
  CHECK(two.pick(logits) == 2);                      // now 1 and 2
  CHECK(two.pick(logits) == 0);                      // now 2 and 0
  CHECK(two.pick(logits) == 1);
  CHECK(two.pick(logits) == 2);
  Rig none(config(0.0f), 5);
  REQUIRE(none.sampler.accept(first) == Status::ok);
  CHECK(none.pick(logits) == 0);
}

TEST_CASE("what is accepted must be a token, and nothing is remembered otherwise", "[sampler]") {
  const std::vector<float> logits = {4.0f, 3.0f};
  for (const Token wrong : {-1, 2, 1 << 30}) {
    Rig rig(penalty(2.0f), 2);
    const Token tokens[2] = {0, wrong};
    CHECK(rig.sampler.accept(tokens) == Status::bad_token);
    CHECK(rig.pick(logits) == 0);
    CHECK(rig.pick(logits) == 1);
  }
  CHECK(Sampler{}.accept({}) == Status::ok);
}

TEST_CASE("a penalty of what is no ordinary number", "[sampler]") {
  const Token all[4] = {0, 1, 2, 3};
  for (const float temperature : {0.0f, 1.0f}) {
    CAPTURE(temperature);
    Rig rig(penalty(100.0f, 4, temperature), 4);
    const auto pick = [&](const std::vector<float>& logits) {
      REQUIRE(rig.sampler.accept(all) == Status::ok);
      return rig.pick(logits);
    };
    for (int i = 0; i < 50; ++i) {
      CHECK(pick({kNan, kInfinity, 1.0f, kInfinity}) == 1);
      CHECK(pick({-3e38f, -kInfinity, -3e38f, kNan}) == 0);  // all minus infinity now: the lowest id
      CHECK(pick({kNan, -kInfinity, kNan, kNan}) == 1);
    }
    Token token = 77;
    const float none[4] = {kNan, kNan, kNan, kNan};
    CHECK(rig.sampler.pick(token, none) == Status::bad_argument);
    CHECK(token == 77);
  }
  // A result below 2^-40 is +0, denormals or not.
  Rig tiny(penalty(2.0f, 4), 4);
  const Token two[2] = {1, 2};
  REQUIRE(tiny.sampler.accept(two) == Status::ok);
  CHECK(tiny.pick({0.0f, 1.5e-12f, -1e-45f, -1.0f}) == 0);
  Rig just(penalty(2.0f, 4), 4);
  REQUIRE(just.sampler.accept(two) == Status::ok);
  CHECK(just.pick({0.0f, 1.8189894035458565e-12f, 0.0f, -1.0f}) == 1);  // 2^-39
}

TEST_CASE("min-p keeps what is as likely as its share of the likeliest", "[sampler]") {
  // ln 2 apart: weights 2^22, 2^21, 2^20, ... to a unit or two.
  const std::vector<float> logits = {0.0f, -0.6931471f, -1.3862943f, -2.0794415f};
  for (const auto& [share, most] : {std::pair(0.0f, 3), {0.1f, 3}, {0.2f, 2}, {0.3f, 1}, {0.6f, 0}, {1.0f, 0}}) {
    CAPTURE(share);
    Rig rig(min_p(share), 4);
    int largest = 0;
    for (int i = 0; i < 500; ++i) largest = std::max(largest, static_cast<int>(rig.pick(logits)));
    CHECK(largest == most);
  }
  // To the unit: the smallest weight is rounded up from the share in 2^-24.
  std::uint32_t w[4];
  heed::kernels_portable.sample_weights(w, logits.data(), 4, 0.0f, 1.0f);
  for (const auto& [more, stays] : {std::pair(0u, true), {1u, false}}) {
    Rig rig(min_p(static_cast<float>(4 * w[1] + more) * 0x1p-24f), 4);
    bool seen = false;
    for (int i = 0; i < 100; ++i) seen |= rig.pick(logits) == 1;
    CHECK(seen == stays);
  }
  Rig ties(min_p(1.0f, 100.0f), 4), greedy(min_p(0.5f, 0.0f), 4);
  int seen[4] = {};
  for (int i = 0; i < 500; ++i) ++seen[ties.pick({2.0f, 1.0f, 2.0f, 1.9f})];
  CHECK((seen[0] > 0 && seen[2] > 0 && seen[1] == 0 && seen[3] == 0));
  CHECK(greedy.pick(logits) == 0);
  CHECK(ties.pick({2.0f, kInfinity, 1.0f, kInfinity}) == 1);
}

TEST_CASE("the largest logit has no precedence over others of its weight", "[sampler]") {
  // The second is larger by less than a weight can tell.
  Rig one(config(1.0f, 1), 2);
  CHECK(one.pick({1.0f, 1.00000012f}) == 0);
}

TEST_CASE("numbers out of range are refused", "[sampler]") {
  for (const float wrong : {0.0f, -1.0f, 0.0099f, 100.01f, kNan, kInfinity, -kInfinity}) {
    CAPTURE(wrong);
    CHECK(try_create(penalty(wrong, 4)) == Status::bad_argument);
  }
  CHECK(try_create(penalty(0.01f, 1)) == Status::ok);
  CHECK(try_create(penalty(100.0f, 1)) == Status::ok);
  CHECK(try_create(penalty(2.0f, 0)) == Status::bad_argument);
  CHECK(try_create(penalty(1.0f, 0)) == Status::ok);
  CHECK(try_create(penalty(2.0f, 0xFFFFFFFFu)) == Status::bad_argument);  // more than the scratch
  for (const float wrong : {-0.001f, 1.0001f, kNan, kInfinity, -kInfinity}) {
    CAPTURE(wrong);
    CHECK(try_create(min_p(wrong)) == Status::bad_argument);
  }
  CHECK(try_create(min_p(1.0f)) == Status::ok);
  CHECK(try_create(min_p(-0.0f)) == Status::ok);
  {
    Sampler s;
    alignas(4) std::byte scratch[84];
    const heed::Kernels& k = heed::kernels_portable;
    CHECK(heed::Sampler::scratch_bytes(16, 4) == 80);
    for (const float temperature : {0.0f, 1.0f}) {
      CHECK(create(s, penalty(2.0f, 4, temperature), 16, k, {scratch, 79}) == Status::bad_argument);
      CHECK(create(s, penalty(2.0f, 4, temperature), 16, k, {scratch + 1, 80}) == Status::misaligned);
      CHECK(create(s, penalty(2.0f, 4, temperature), 16, k, {scratch, 80}) == Status::ok);
    }
  }
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

TEST_CASE("suppressed tokens count as NaN, with a penalty, by chance and without scratch", "[sampler]") {
  const std::vector<Token> suppressed = {3, 17, 0, 17, 39};
  for (const SamplerConfig& c : {config(0.0f), config(0.9f), config(0.8f, 5, 0.9f), penalty(1.3f), penalty(1.3f, 9, 0.7f)}) {
    CAPTURE(c.temperature, c.repeat_penalty);
    Rig rig(c, 40), reference(c, 40), without(c, 40);
    std::uint32_t x = 1, changed = 0;
    for (int round = 0; round < 300; ++round) {
      std::vector<float> logits(40);
      for (float& logit : logits) {
        x = x * 1664525u + 1013904223u;
        logit = static_cast<float>(x >> 26) / 8.0f - 4.0f;  // many are equal
      }
      logits[1 + round % 39] = kNan;
      if (round % 3 == 0) logits[17] = round % 2 ? kInfinity : 8.0f;
      std::vector<float> other = logits;
      for (const Token t : suppressed) other[t] = kNan;
      const std::vector<float> before = logits;
      Token token = -2;
      REQUIRE(rig.sampler.pick(token, logits, suppressed) == Status::ok);
      REQUIRE(std::memcmp(before.data(), logits.data(), 40 * sizeof(float)) == 0);
      REQUIRE(rig.memory.back() == 0xA5A5A5A5u);
      REQUIRE(token == reference.pick(other));
      changed += without.pick(logits) != token;
    }
    CHECK(changed > 50);
  }
  // An empty list is no list.
  Rig rig(config(0.9f), 40), reference(config(0.9f), 40);
  std::vector<float> logits(40, 0.5f);
  logits[7] = 2.0f;
  for (int i = 0; i < 50; ++i) {
    Token token = -2;
    REQUIRE(rig.sampler.pick(token, logits, {}) == Status::ok);
    CHECK(token == reference.pick(logits));
  }
}

TEST_CASE("what cannot be suppressed is refused, and no random number is used up", "[sampler]") {
  std::vector<float> logits = {1.0f, kNan, 2.0f, -kInfinity};
  const std::vector<Token> all = {0, 2, 3}, outside = {0, 4}, negative = {-1};
  for (const SamplerConfig& c : {config(0.0f), config(1.0f), penalty(2.0f)}) {
    Rig rig(c, 4), reference(c, 4);
    Token token = -2;
    CHECK(rig.sampler.pick(token, logits, all) == Status::bad_argument);
    CHECK(rig.sampler.pick(token, logits, outside) == Status::bad_token);
    CHECK(rig.sampler.pick(token, logits, negative) == Status::bad_token);
    CHECK(rig.sampler.pick(token, {logits.data(), 3}, {}) == Status::bad_argument);
    CHECK(token == -2);
    for (int i = 0; i < 20; ++i) CHECK(rig.pick(logits) == reference.pick(logits));
  }
  // The last one that may be picked, however small.
  Rig rig(config(0.0f), 4);
  const std::vector<Token> larger = {0, 2};
  Token token = -2;
  REQUIRE(rig.sampler.pick(token, logits, larger) == Status::ok);
  CHECK(token == 3);
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
