// SPDX-License-Identifier: Apache-2.0
// sampler_board_test.cpp: on a board, with or without floats in hardware, the sampler picks what the independent reference
// picks: the first tokens of every case whose vocabulary is small, all of those whose is tiny.
#include "platform/select.hpp"
#include "runtime/sampler.hpp"
#include "tests/check.hpp"
#include "tests/reference/sampler_golden.hpp"

namespace {

using heed::Status;

constexpr std::uint32_t kMaxVocabSize = 512, kMaxLast = 300;
float logits[kMaxVocabSize];
alignas(4) std::byte scratch[heed::Sampler::scratch_bytes(kMaxVocabSize, kMaxLast)];

std::uint32_t crc32(std::uint32_t crc, std::uint32_t word) {
  for (int byte = 0; byte < 4; ++byte, word >>= 8) {
    crc ^= word & 0xFF;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return crc;
}

void check_picks(const GoldenPicks& golden) {
  heed::Sampler sampler;
  CHECK(create(sampler,
               {golden.temperature, golden.top_k, golden.top_p, golden.seed, golden.repeat_penalty, golden.repeat_last,
                golden.min_p},
               golden.vocab_size, heed::best_kernels(), scratch) == Status::ok);
  for (std::uint32_t i = 0; i < golden.prompt; ++i) {
    const auto token = static_cast<heed::Token>((7 * i + 3) % golden.vocab_size);
    CHECK(sampler.accept({&token, 1}) == Status::ok);
  }
  const bool whole = golden.vocab_size <= 16;
  std::uint32_t x = 2463534242u, crc = ~0u;
  for (std::uint32_t i = 0; i < golden.picks && (whole || i < 4); ++i) {
    for (std::uint32_t j = 0; j < golden.vocab_size; ++j) {
      x = x * 1664525u + 1013904223u;
      logits[j] = golden.coarse ? static_cast<float>(x >> 26) / 4.0f - 8.0f : static_cast<float>(x >> 16) / 4096.0f - 8.0f;
    }
    heed::Token token = heed::kNoToken;
    CHECK(sampler.pick(token, {logits, golden.vocab_size}) == Status::ok);
    if (i < 4) CHECK(token == golden.first[i]);
    crc = crc32(crc, static_cast<std::uint32_t>(token));
  }
  if (whole) CHECK(~crc == golden.crc);
}

}  // namespace

TEST_CASE("the sampler picks what the reference picks", "[sampler]") {
  std::uint32_t cases = 0;
  for (const GoldenPicks& golden : kGoldenPicks) {
    if (golden.vocab_size > kMaxVocabSize) continue;
    if (!heed::kBuiltFeatures.sampling && golden.temperature != 0.0f) continue;
    if (!heed::kBuiltFeatures.repeat_penalty && golden.repeat_penalty != 1.0f) continue;
    if (!heed::kBuiltFeatures.min_p && golden.min_p != 0.0f) continue;
    check_picks(golden);
    ++cases;
  }
  CHECK(cases >= 1);
  if (heed::kBuiltFeatures.sampling && heed::kBuiltFeatures.repeat_penalty && heed::kBuiltFeatures.min_p) CHECK(cases > 25);
}
