// SPDX-License-Identifier: Apache-2.0
// run.hpp: opens, plans, runs a prompt and goes on from it, in a guarded arena; on any table that runs here.
#pragma once
#include <memory>
#include <vector>

#include "platform/select.hpp"
#include "runtime/bits.hpp"
#include "runtime/runtime.hpp"
#include "tests/support/arena.hpp"

namespace heed::test {

// Every table of this program that this CPU runs, portable first.
std::vector<const Kernels*> runnable_kernels();

// A session and everything it needs to live. Not movable: the session knows the arena's address.
struct Running {
  Running(const Kernels& kernels, Span<const std::uint8_t> image, const Limits& limits = {}, Fill fill = Fill::random);
  Running(const Running&) = delete;
  ~Running();  // checks the guards

  Model model;
  Plan plan;
  std::unique_ptr<GuardedArena> arena;
  Session session;
};

struct RunOptions {
  Limits limits;
  std::size_t piece = 0;  // tokens per call of prefill, 0 = all
  const Parallel* parallel = nullptr;
  Fill fill = Fill::random;
  SamplerConfig sampler;  // greedy
  std::uint32_t generate = 200;
};

struct RunResult {
  std::vector<Token> tokens;  // generated
  std::uint32_t digest = 0;
};
bool operator==(const RunResult& a, const RunResult& b);
std::ostream& operator<<(std::ostream& out, const RunResult& r);

// The prompt, then `generate` tokens or as many as the context holds. A NaN fails the test.
RunResult run(const Kernels& kernels, Span<const std::uint8_t> image, Span<const Token> prompt,
              const RunOptions& options = {});

// Tokens anywhere in the vocabulary, the same for the same seed.
inline std::vector<Token> random_prompt(std::uint32_t vocab_size, std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < n; ++i) tokens.push_back(static_cast<Token>(random.below(vocab_size)));
  return tokens;
}
inline std::vector<Token> random_prompt(const Model& model, std::size_t n, std::uint64_t seed) {
  return random_prompt(model.config().main().vocab_size, n, seed);
}

// A 200-token sampled run's settings: temperature 0.8, a fixed seed.
SamplerConfig warm_sampler();

template <class V>
Span<const std::uint8_t> bytes(const V& v) {
  return {v.data(), v.size()};
}

// A copy of logits, to compare bits later.
inline std::vector<std::uint32_t> bits(Span<const float> x) {
  std::vector<std::uint32_t> b;
  for (const float v : x) b.push_back(bits_of(v));
  return b;
}

}  // namespace heed::test
