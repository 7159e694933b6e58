// SPDX-License-Identifier: Apache-2.0
// run.cpp: what every test of a running model does.
#include "tests/support/run.hpp"

#include <iomanip>
#include <ostream>

#include "tests/support/catch.hpp"

namespace heed::test {

std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> list;
  for (const Kernels* k : all_kernels())
    if (is_runnable(*k)) list.push_back(k);
  return list;
}

Running::Running(const Kernels& kernels, Span<const std::uint8_t> image, const Limits& limits, Fill fill) {
  REQUIRE(open(model, image, kernels) == Status::ok);
  REQUIRE(make_plan(plan, model.config(), kernels.traits, limits) == Status::ok);
  arena = std::make_unique<GuardedArena>(plan.arena_bytes, plan.arena_align, fill);
  REQUIRE(create(session, model, plan, kernels, arena->span()) == Status::ok);
}

Running::~Running() {
  if (arena) CHECK(arena->intact());
}

bool operator==(const RunResult& a, const RunResult& b) { return a.tokens == b.tokens && a.digest == b.digest; }

std::ostream& operator<<(std::ostream& out, const RunResult& r) {
  return out << r.tokens.size() << " tokens, digest " << std::hex << std::setw(8) << std::setfill('0') << r.digest
             << std::dec;
}

RunResult run(const Kernels& kernels, Span<const std::uint8_t> image, Span<const Token> prompt,
              const RunOptions& options) {
  Running r(kernels, image, options.limits, options.fill);
  if (options.parallel) r.session.set_parallel(*options.parallel);
  Sampler sampler;
  std::vector<std::uint32_t> scratch(r.model.config().main().vocab_size);
  REQUIRE(create(sampler, options.sampler, r.model.config().main().vocab_size, kernels,
                 {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4}) == Status::ok);
  Span<const float> logits;
  const std::size_t piece = options.piece ? options.piece : prompt.size();
  for (std::size_t done = 0; done < prompt.size(); done += piece) {
    const std::size_t n = prompt.size() - done < piece ? prompt.size() - done : piece;
    REQUIRE(r.session.prefill(logits, prompt.subspan(done, n)) == Status::ok);
  }
  RunResult result;
  Digest digest;
  while (result.tokens.size() < options.generate) {
    Token token = kNoToken;
    REQUIRE(sampler.pick(token, logits) == Status::ok);
    digest.add(kernels, token, logits);
    result.tokens.push_back(token);
    if (r.session.position() == r.session.max_seq()) break;
    REQUIRE(r.session.step(logits, token) == Status::ok);
  }
  REQUIRE_FALSE(digest.saw_nan());
  result.digest = digest.value();
  return result;
}

SamplerConfig warm_sampler() {
  SamplerConfig c;
  c.temperature = 0.8f;
  c.seed = 20260101;
  return c;
}

}  // namespace heed::test
