// SPDX-License-Identifier: Apache-2.0
// session_test.cpp: one answer on every table, for every cut of a prompt, every thread count and every arena; and
// what a session refuses.
#include <array>
#include <cfenv>
#include <cstdio>
#include <cstring>
#include <map>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>

#include "platform/linux/thread_pool.hpp"
#endif

#include "platform/tables.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"
#include "tests/support/test_data.hpp"

namespace {

using namespace heed;
using namespace heed::test;
using heed::quant::ImageBytes;

// Logits after each position, as bits.
using Rows = std::vector<std::vector<std::uint32_t>>;

Rows step_through(const Kernels& kernels, const ImageBytes& image, Span<const Token> tokens) {
  Running r(kernels, bytes(image));
  Rows rows;
  Span<const float> logits;
  for (const Token t : tokens) {
    REQUIRE(r.session.step(logits, t) == Status::ok);
    rows.push_back(bits(logits));
  }
  return rows;
}

// The next `n` rows after a prompt taken in pieces, in chunks of `chunk`.
Rows prefill_then_step(const Kernels& kernels, const ImageBytes& image, Span<const Token> tokens, std::size_t prompt,
                       std::size_t piece, std::uint32_t chunk) {
  Running r(kernels, bytes(image), {0, chunk});
  Rows rows;
  Span<const float> logits;
  for (std::size_t done = 0; done < prompt; done += piece)
    REQUIRE(r.session.prefill(logits, tokens.subspan(done, std::min(piece, prompt - done))) == Status::ok);
  rows.push_back(bits(logits));
  for (std::size_t i = prompt; i < tokens.size(); ++i) {
    REQUIRE(r.session.step(logits, tokens[i]) == Status::ok);
    rows.push_back(bits(logits));
  }
  return rows;
}

void check_cuts(const Kernels& kernels, const ImageBytes& image, std::size_t prompt, std::size_t more) {
  Model model;
  REQUIRE(open(model, bytes(image), kernels) == Status::ok);
  const std::vector<Token> tokens = random_prompt(model, prompt + more, 7);
  const Rows all = step_through(kernels, image, tokens);
  const Rows expected(all.begin() + static_cast<std::ptrdiff_t>(prompt) - 1, all.end());
  // However the caller cuts, and however the plan does.
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{64}, prompt}) {
    INFO("prefill calls of " << piece);
    CHECK(prefill_then_step(kernels, image, tokens, prompt, piece, 0) == expected);
  }
  for (const std::uint32_t chunk : {1u, 7u, 64u, static_cast<std::uint32_t>(prompt)}) {
    INFO("chunks of " << chunk);
    CHECK(prefill_then_step(kernels, image, tokens, prompt, prompt, chunk) == expected);
  }
}

}  // namespace

TEST_CASE("prefill gives the bits of stepping, in any pieces", "[session]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      const std::size_t context = c.config.max_seq, more = context > 1 ? 3 : 0;
      const std::size_t prompt = std::min<std::size_t>(context - more, context > 300 ? 305 : context);
      check_cuts(*k, random_image(c.config, k->traits.preferred, 11), std::min(prompt, context - more), more);
    }
  }
}

TEST_CASE("stories260K: prefill of 305 tokens in any pieces", "[session][data]") {
  const ImageBytes& image = stories_image();
  if (image.empty()) return;
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    check_cuts(*k, image, 305, 3);
  }
}

namespace {

// The digests of a greedy and a sampled run, the same on every target for as long as the numerics are: whoever changes
// one changes SPEC.md and says so.
struct PinnedDigests {
  std::uint32_t greedy, sampled;
};

void check_one_answer(const char* name, const ImageBytes& image, Span<const Token> prompt, std::uint32_t max_seq,
                      const PinnedDigests& pinned) {
  for (const bool warm : {false, true}) {
    RunOptions options;
    if (warm) options.sampler = warm_sampler();
    for (const Kernels* k : runnable_kernels()) {
      INFO(k->traits.name << ", " << name << (warm ? ", sampled" : ", greedy"));
      const RunResult result = run(*k, bytes(image), prompt, options);
      CHECK(result.tokens.size() == std::min(max_seq, 200u));
      std::printf("%s, %s on %s: %zu tokens, digest %08x\n", name, warm ? "sampled" : "greedy", k->traits.name,
                  result.tokens.size(), result.digest);
      CHECK(result.digest == (warm ? pinned.sampled : pinned.greedy));
    }
  }
}

}  // namespace

TEST_CASE("random images: the same digests on every table and every machine", "[session]") {
  constexpr PinnedDigests kPinned[] = {{0xCEFAAE88, 0x68C24683}, {0xEDE0E957, 0xF8756488}, {0xC242CE63, 0xD7BB45FA},
                                       {0xC6B4F1FF, 0x1EDA0584}, {0x924D09E8, 0xA9B47F59}, {0xAACC5C60, 0x93EC7660},
                                       {0xAA1D6AB2, 0x1E627015}, {0x89534D14, 0xE4D93E55}, {0x0F72E790, 0x57DAC2C4}};
  REQUIRE(sizeof kPinned / sizeof kPinned[0] == edge_configs().size());
  for (std::size_t i = 0; i < edge_configs().size(); ++i) {
    const NamedConfig& c = edge_configs()[i];
    check_one_answer(c.name, random_image(c.config, Layout::packed, 3), random_prompt(c.config.vocab_size, 1, 5),
                     c.config.max_seq, kPinned[i]);
  }
}

TEST_CASE("stories260K: the same digests on every table and every machine", "[session][data]") {
  const ImageBytes& image = stories_image();
  if (image.empty()) return;
  const std::vector<Token> bos = {1};
  check_one_answer("stories260K", image, bos, 512, {0x575BF19B, 0x726E48D2});
}

TEST_CASE("every layout gives the same bits", "[session]") {
  const Kernels& portable = *find_kernels("portable");
  for (const NamedConfig& c : edge_configs()) {
    const std::vector<Token> prompt = random_prompt(c.config.vocab_size, std::min(c.config.max_seq, 40u), 9);
    RunOptions options;
    options.generate = 5;
    const RunResult expected = run(portable, bytes(random_image(c.config, Layout::row, 21)), prompt, options);
    for (const Kernels* k : runnable_kernels()) {
      for (int layout = 0; layout < kLayoutCount; ++layout) {
        INFO(k->traits.name << ", " << c.name << ", layout " << layout);
        const ImageBytes image = random_image(c.config, static_cast<Layout>(layout), 21);
        if (k->traits.layouts >> layout & 1) {
          CHECK(run(*k, bytes(image), prompt, options) == expected);
          continue;
        }
        Model model;
        Plan plan;
        Session session;
        REQUIRE(open(model, bytes(image), *k) == Status::ok);
        REQUIRE(make_plan(plan, model.config(), k->traits) == Status::ok);
        GuardedArena arena(plan.arena_bytes, plan.arena_align);
        CHECK(create(session, model, plan, *k, arena.span()) == Status::layout_unsupported);
        CHECK(arena.intact());
      }
    }
  }
}

#if defined(__linux__)
TEST_CASE("threads do not change a bit", "[session]") {
  for (const std::uint32_t threads : {1u, 2u, 3u}) {
    ThreadPool pool;
    REQUIRE(pool.start(threads));
    Parallel parallel = pool.parallel();
    parallel.threshold = 0;  // splits everything
    for (const Kernels* k : runnable_kernels()) {
      for (const NamedConfig& c : edge_configs()) {
        INFO(k->traits.name << ", " << c.name << ", " << threads << " threads");
        const ImageBytes image = random_image(c.config, k->traits.preferred, 13);
        const std::vector<Token> prompt = random_prompt(c.config.vocab_size, std::min(c.config.max_seq, 70u), 15);
        RunOptions options;
        options.generate = 5;
        const RunResult expected = run(*k, bytes(image), prompt, options);
        options.parallel = &parallel;
        CHECK(run(*k, bytes(image), prompt, options) == expected);
      }
    }
  }
}

TEST_CASE("stories260K: threads do not change a bit", "[session][data]") {
  const ImageBytes& image = stories_image();
  if (image.empty()) return;
  const std::vector<Token> prompt = random_prompt(512, 305, 17);
  for (const Kernels* k : runnable_kernels()) {
    RunOptions options;
    options.sampler = warm_sampler();
    const RunResult expected = run(*k, bytes(image), prompt, options);
    for (const std::uint32_t threads : {1u, 2u, 3u}) {
      INFO(k->traits.name << ", " << threads << " threads");
      ThreadPool pool;
      REQUIRE(pool.start(threads));
      Parallel parallel = pool.parallel();
      parallel.threshold = 0;
      options.parallel = &parallel;
      CHECK(run(*k, bytes(image), prompt, options) == expected);
    }
  }
}

TEST_CASE("an image in read-only memory runs", "[session]") {
  const NamedConfig& c = edge_configs()[0];
  const ImageBytes image = random_image(c.config, Layout::packed, 19);
  void* pages = mmap(nullptr, image.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(pages != MAP_FAILED);
  std::memcpy(pages, image.data(), image.size());
  REQUIRE(mprotect(pages, image.size(), PROT_READ) == 0);
  const std::vector<Token> prompt = {3, 1, 4};
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    RunOptions options;
    options.generate = 5;
    const Span<const std::uint8_t> mapped{static_cast<const std::uint8_t*>(pages), image.size()};
    CHECK(run(*k, mapped, prompt, options) == run(*k, bytes(image), prompt, options));
  }
  munmap(pages, image.size());
}
#endif

TEST_CASE("what the arena held before does not matter", "[session]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      const ImageBytes image = random_image(c.config, k->traits.preferred, 23);
      const std::vector<Token> prompt = random_prompt(c.config.vocab_size, std::min(c.config.max_seq, 67u), 25);
      RunOptions options;
      options.generate = 4;
      options.fill = Fill::zeros;
      const RunResult expected = run(*k, bytes(image), prompt, options);
      for (const Fill fill : {Fill::ones, Fill::random}) {
        options.fill = fill;
        CHECK(run(*k, bytes(image), prompt, options) == expected);
      }
    }
  }
}

TEST_CASE("scales anywhere in their range: the same bits everywhere, no NaN", "[session]") {
  for (const NamedConfig& c : edge_configs()) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      const ImageBytes image = wild_image(c.config, Layout::packed, seed);
      const std::vector<Token> prompt = random_prompt(c.config.vocab_size, std::min(c.config.max_seq, 70u), seed);
      RunOptions options;
      options.generate = 3;
      const RunResult expected = run(*find_kernels("portable"), bytes(image), prompt, options);
      for (const Kernels* k : runnable_kernels()) {
        INFO(k->traits.name << ", " << c.name << ", seed " << seed);
        CHECK(run(*k, bytes(image), prompt, options) == expected);
        options.piece = 3;
        CHECK(run(*k, bytes(image), prompt, options) == expected);
        options.piece = 0;
      }
    }
  }
}

TEST_CASE("evaluate gives the logits of stepping at every position", "[session]") {
  struct Seen {
    Rows rows;
    std::vector<std::uint32_t> positions;
  };
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      const ImageBytes image = random_image(c.config, k->traits.preferred, 27);
      const std::size_t n = std::min(c.config.max_seq, 135u);
      const std::vector<Token> tokens = random_prompt(c.config.vocab_size, n, 29);
      Running r(*k, bytes(image));
      Seen seen;
      const LogitsSink sink{[](void* context, std::uint32_t position, Span<const float> logits) {
                              auto& s = *static_cast<Seen*>(context);
                              s.rows.push_back(bits(logits));
                              s.positions.push_back(position);
                            },
                            &seen};
      // In two calls, so that a position other than 0 begins one.
      const Span<const Token> span{tokens.data(), n};
      if (n > 1) REQUIRE(r.session.evaluate(span.subspan(0, n / 2), sink) == Status::ok);
      REQUIRE(r.session.evaluate(span.subspan(n / 2, n - n / 2), sink) == Status::ok);
      CHECK(seen.rows == step_through(*k, image, tokens));
      for (std::size_t i = 0; i < seen.positions.size(); ++i) CHECK(seen.positions[i] == i);
    }
  }
}

TEST_CASE("rewind forgets what came after", "[session]") {
  const StackConfig& c = edge_configs()[0].config;
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    const ImageBytes image = random_image(c, k->traits.preferred, 31);
    const std::vector<Token> tokens = random_prompt(c.vocab_size, 150, 33),
                             other = random_prompt(c.vocab_size, 150, 35);
    const Rows expected = step_through(*k, image, tokens);
    // Back to the beginning, into a block, to a block's edge, and nowhere.
    for (const std::uint32_t position : {0u, 1u, 63u, 64u, 65u, 100u, 128u, 149u}) {
      INFO("to " << position);
      Running r(*k, bytes(image));
      Span<const float> logits;
      if (position) REQUIRE(r.session.prefill(logits, Span<const Token>(tokens).subspan(0, position)) == Status::ok);
      REQUIRE(r.session.prefill(logits, Span<const Token>(other).subspan(position, 150 - position)) == Status::ok);
      CHECK(r.session.position() == 150);
      CHECK(r.session.rewind(151) == Status::bad_argument);
      CHECK(r.session.position() == 150);
      REQUIRE(r.session.rewind(position) == Status::ok);
      CHECK(r.session.position() == position);
      for (std::uint32_t i = position; i < 150; ++i) {
        REQUIRE(r.session.step(logits, tokens[i]) == Status::ok);
        if (bits(logits) != expected[i]) FAIL_CHECK("differs at " << i);
      }
    }
  }
}

TEST_CASE("before it is created a session has no kernels and refuses every call", "[session]") {
  Session session;
  Span<const float> logits;
  CHECK(session.kernels() == nullptr);
  CHECK(session.step(logits, 0) == Status::bad_argument);
  CHECK(session.encode(logits, {}) == Status::bad_argument);
  CHECK(session.set_source({}) == Status::bad_argument);
  CHECK(session.rewind(0) == Status::ok);
  CHECK(session.rewind(1) == Status::bad_argument);
  CHECK(session.source_positions() == 0);
}

TEST_CASE("a refused call leaves the session as it was", "[session]") {
  const StackConfig& c = edge_configs()[0].config;
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    const ImageBytes image = random_image(c, k->traits.preferred, 37);
    Running r(*k, bytes(image), {70, 16});
    CHECK(r.session.max_seq() == 70);
    const std::vector<Token> tokens = random_prompt(c.vocab_size, 80, 39);
    const Rows expected = step_through(*k, image, tokens);
    const Span<const Token> span(tokens);
    Span<const float> logits;
    REQUIRE(r.session.prefill(logits, span.subspan(0, 60)) == Status::ok);
    const Span<const float> before = logits;
    const std::vector<std::uint32_t> logits_before = bits(logits);
    const Span<std::byte> memory = r.arena->span();
    const std::vector<std::byte> arena_before(memory.begin(), memory.end());

    const auto unchanged = [&] {
      CHECK(r.session.position() == 60);
      CHECK(logits.data() == before.data());
      CHECK(bits(before) == logits_before);
      CHECK(std::memcmp(arena_before.data(), memory.data(), memory.size()) == 0);
    };
    const LogitsSink sink{[](void*, std::uint32_t, Span<const float>) { FAIL("called"); }, nullptr};
    CHECK(r.session.prefill(logits, span.subspan(0, 11)) == Status::context_full);
    unchanged();
    CHECK(r.session.evaluate(span.subspan(0, 11), sink) == Status::context_full);
    unchanged();
    for (const Token bad : {-1, static_cast<Token>(c.vocab_size), -2147483647 - 1, 2147483647}) {
      std::vector<Token> with_bad(tokens.begin(), tokens.begin() + 5);
      with_bad[4] = bad;
      CHECK(r.session.prefill(logits, with_bad) == Status::bad_token);
      CHECK(r.session.step(logits, bad) == Status::bad_token);
      CHECK(r.session.evaluate(with_bad, sink) == Status::bad_token);
      unchanged();
    }
    CHECK(r.session.prefill(logits, {}) == Status::bad_argument);
    const Span<const Token> null(nullptr, 3);
    CHECK(r.session.prefill(logits, null) == Status::bad_argument);
    CHECK(r.session.evaluate(null, sink) == Status::bad_argument);
    CHECK(r.session.evaluate(span.subspan(0, 1), {}) == Status::bad_argument);
    unchanged();

    for (std::uint32_t i = 60; i < 70; ++i) {
      REQUIRE(r.session.step(logits, tokens[i]) == Status::ok);
      CHECK(bits(logits) == expected[i]);
    }
    CHECK(r.session.step(logits, tokens[70]) == Status::context_full);
    CHECK(bits(logits) == expected[69]);
    CHECK(r.session.position() == 70);
  }
}

TEST_CASE("a session is created only in a block that holds it", "[session]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      const ImageBytes image = random_image(c.config, k->traits.preferred, 41);
      Model model;
      Plan plan;
      Session session;
      REQUIRE(open(model, bytes(image), *k) == Status::ok);
      REQUIRE(make_plan(plan, model.config(), k->traits) == Status::ok);
      GuardedArena arena(plan.arena_bytes + plan.arena_align, plan.arena_align);
      const Span<std::byte> memory = arena.span();
      const auto bytes_needed = static_cast<std::size_t>(plan.arena_bytes);
      CHECK(create(session, model, plan, *k, memory.subspan(0, bytes_needed - 1)) == Status::arena_too_small);
      CHECK(create(session, model, plan, *k, {}) == Status::bad_argument);
      for (const std::size_t off : {std::size_t{1}, std::size_t{4}, std::size_t{plan.arena_align} / 2})
        CHECK(create(session, model, plan, *k, memory.subspan(off, bytes_needed)) == Status::misaligned);
      Plan other = plan;
      other.arena_bytes -= 1;
      CHECK(create(session, model, other, *k, memory) == Status::bad_argument);
      CHECK(create(session, Model{}, plan, *k, memory) == Status::bad_argument);
      CHECK(session.position() == 0);
      Span<const float> logits;
      CHECK(session.step(logits, 0) == Status::bad_argument);  // never created
      CHECK(create(session, model, plan, *k, memory.subspan(0, bytes_needed)) == Status::ok);
      CHECK(arena.intact());
    }
  }
}

TEST_CASE("a block per region: the same bits, and nothing outside of the planned bytes", "[session]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      const ImageBytes image = random_image(c.config, k->traits.preferred, 43);
      Model model;
      Plan plan;
      REQUIRE(open(model, bytes(image), *k) == Status::ok);
      REQUIRE(make_plan(plan, model.config(), k->traits) == Status::ok);
      const std::vector<Token> tokens = random_prompt(model, std::min<std::size_t>(plan.max_seq, 9), 3);
      Session session;
      Span<const float> logits;
      Rows rows;
      {
        GuardedArena kv_cache(plan.region(Region::kv_cache).bytes, plan.arena_align);
        GuardedArena scratch(plan.region(Region::scratch).bytes, plan.arena_align);
        GuardedArena last(plan.region(Region::logits).bytes, plan.arena_align);
        REQUIRE(create(session, model, plan, *k, {kv_cache.span(), scratch.span(), last.span()}) == Status::ok);
        for (const Token t : tokens) {
          REQUIRE(session.step(logits, t) == Status::ok);
          CHECK(reinterpret_cast<const std::byte*>(logits.data()) == last.span().data());
          rows.push_back(bits(logits));
        }
        CHECK(kv_cache.intact());
        CHECK(scratch.intact());
        CHECK(last.intact());
      }
      CHECK(rows == step_through(*k, image, tokens));
    }
  }
}

TEST_CASE("regions that are null, misaligned, short or overlap are refused", "[session]") {
  const Kernels& k = best_kernels();
  const ImageBytes image = random_image(edge_configs()[0].config, k.traits.preferred, 44);
  Model model;
  Plan plan;
  REQUIRE(open(model, bytes(image), k) == Status::ok);
  REQUIRE(make_plan(plan, model.config(), k.traits) == Status::ok);
  GuardedArena arena(plan.arena_bytes + 4 * std::uint64_t{plan.arena_align} + 4 * k.traits.slack, plan.arena_align);
  Span<std::byte> good[kRegionCount];
  std::size_t at = 0;
  for (int i = 0; i < kRegionCount; ++i) {
    const auto n = static_cast<std::size_t>(plan.region(static_cast<Region>(i)).bytes);
    good[i] = arena.span().subspan(at, n);
    at += static_cast<std::size_t>(align_up(n, plan.arena_align));
  }
  const auto created = [&](const Span<std::byte>(&blocks)[kRegionCount]) {
    Session session;
    const Status s = create(session, model, plan, k, SessionMemory{blocks[0], blocks[1], blocks[2]});
    Span<const float> logits;
    if (s != Status::ok) CHECK(session.step(logits, 0) == Status::bad_argument);  // never created
    return s;
  };
  CHECK(created(good) == Status::ok);
  for (int i = 0; i < kRegionCount; ++i) {
    INFO("region " << i);
    const auto region = static_cast<Region>(i);
    const auto refused = [&](Span<std::byte> bad, Status why) {
      Span<std::byte> blocks[kRegionCount] = {good[0], good[1], good[2]};
      blocks[i] = bad;
      CHECK(created(blocks) == why);
      CHECK(check_region(plan, region, {bad.data(), bad.size()}) == why);
    };
    refused({}, Status::bad_argument);
    refused({good[i].data() + 4, good[i].size()}, Status::misaligned);
    refused({good[i].data(), good[i].size() - 1}, Status::arena_too_small);
    Span<std::byte> blocks[kRegionCount] = {good[0], good[1], good[2]};
    blocks[i] = {good[(i + 1) % kRegionCount].data(), good[i].size()};
    CHECK(created(blocks) == Status::bad_argument);
  }
  Plan other = plan;
  other.arena_bytes += 1;
  Session session;
  CHECK(create(session, model, other, k, SessionMemory{good[0], good[1], good[2]}) == Status::bad_argument);
  CHECK(check_region(Plan{}, Region::scratch, {good[1].data(), good[1].size()}) == Status::bad_argument);
  CHECK(arena.intact());
}

TEST_CASE("two sessions share an image, not a bit of memory", "[session]") {
  const StackConfig& c = edge_configs()[0].config;
  for (const Kernels* k : runnable_kernels()) {
    const ImageBytes image = random_image(c, k->traits.preferred, 43);
    const std::vector<Token> a = random_prompt(c.vocab_size, 70, 1), b = random_prompt(c.vocab_size, 70, 2);
    const Rows expected_a = step_through(*k, image, a), expected_b = step_through(*k, image, b);
    Running first(*k, bytes(image)), second(*k, bytes(image));
    Span<const float> logits_a, logits_b;
    for (std::size_t i = 0; i < 70; ++i) {
      REQUIRE(first.session.step(logits_a, a[i]) == Status::ok);
      REQUIRE(second.session.step(logits_b, b[i]) == Status::ok);
      if (bits(logits_a) != expected_a[i] || bits(logits_b) != expected_b[i]) FAIL_CHECK("differs at " << i);
    }
  }
}

namespace {

struct PatternRows {
  std::map<std::array<std::uint32_t, 3>, std::vector<float>> rows;  // of layer, head, position
  bool in_order = true;
};

void tap(Session& session, PatternRows& pattern) {
  session.set_tap({[](void* context, std::uint32_t layer, std::uint32_t head, std::uint32_t position,
                      std::uint32_t first_key, Span<const float> weights) {
                     auto& p = *static_cast<PatternRows*>(context);
                     std::vector<float>& row = p.rows[{layer, head, position}];
                     p.in_order = p.in_order && row.size() == first_key && weights.size() <= kBlockKeys;
                     row.insert(row.end(), weights.begin(), weights.end());
                   },
                   &pattern});
}

}  // namespace

TEST_CASE("the pattern's rows sum to one, end at the query and are the same step by step", "[session]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      const ImageBytes image = random_image(c.config, k->traits.preferred, 45);
      const std::vector<Token> tokens = random_prompt(c.config.vocab_size, std::min(c.config.max_seq, 130u), 47);
      Running plain(*k, bytes(image)), tapped(*k, bytes(image)), stepped(*k, bytes(image));
      PatternRows pattern, by_steps;
      tap(tapped.session, pattern);
      tap(stepped.session, by_steps);
      Span<const float> a, b;
      REQUIRE(plain.session.prefill(a, tokens) == Status::ok);
      REQUIRE(tapped.session.prefill(b, tokens) == Status::ok);
      CHECK(bits(a) == bits(b));
      for (const Token token : tokens) REQUIRE(stepped.session.step(b, token) == Status::ok);
      CHECK(bits(a) == bits(b));
      CHECK(by_steps.in_order);
      const bool same = by_steps.rows == pattern.rows;
      CHECK(same);
      CHECK(pattern.in_order);
      CHECK(pattern.rows.size() == c.config.n_layers * c.config.n_heads * tokens.size());
      for (const auto& [key, row] : pattern.rows) {
        double sum = 0;
        bool sane = row.size() == key[2] + 1;
        for (const float w : row) {
          sane = sane && w >= 0.0f && w <= 1.001f;
          sum += static_cast<double>(w);
        }
        if (!sane || std::abs(sum - 1.0) > 1e-3)
          FAIL_CHECK("position " << key[2] << " has " << row.size() << " weights, sum " << sum);
      }
    }
  }
}

TEST_CASE("an altered rounding mode is refused", "[session]") {
  const StackConfig& c = edge_configs()[0].config;
  const Kernels& k = best_kernels();
  const ImageBytes image = random_image(c, k.traits.preferred, 49);
  Model model;
  Plan plan;
  REQUIRE(open(model, bytes(image), k) == Status::ok);
  REQUIRE(make_plan(plan, model.config(), k.traits) == Status::ok);
  GuardedArena arena(plan.arena_bytes, plan.arena_align);
  Session session;
  const auto created = [&] { return create(session, model, plan, k, arena.span()); };
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    REQUIRE(std::fesetround(mode) == 0);
    const Status status = created();
    std::fesetround(FE_TONEAREST);
    CHECK(status == Status::rounding_mode);
  }
  CHECK(created() == Status::ok);
}

TEST_CASE("a rounding mode that changes after creation is refused by every call that computes", "[session]") {
  const StackConfig& c = edge_configs()[0].config;
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    const ImageBytes image = random_image(c, k->traits.preferred, 49);
    const std::vector<Token> tokens = random_prompt(Running(*k, bytes(image)).model, 12, 50);
    const Rows expected = step_through(*k, image, tokens);
    Running r(*k, bytes(image));
    int taken = 0;
    const LogitsSink sink{[](void* count, std::uint32_t, Span<const float>) { ++*static_cast<int*>(count); }, &taken};
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const float untouched = 0.0f;
      Span<const float> logits(&untouched, 1);
      const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
      REQUIRE(std::fesetround(modes[i % 3]) == 0);
      const Status stepped = r.session.step(logits, tokens[i]);
      const Status filled = r.session.prefill(logits, tokens);
      const Status evaluated = r.session.evaluate(tokens, sink);
      std::fesetround(FE_TONEAREST);
      CHECK(stepped == Status::rounding_mode);
      CHECK(filled == Status::rounding_mode);
      CHECK(evaluated == Status::rounding_mode);
      CHECK(taken == 0);
      CHECK(logits.data() == &untouched);
      REQUIRE(r.session.position() == i);
      REQUIRE(r.session.step(logits, tokens[i]) == Status::ok);
      CHECK(bits(logits) == expected[i]);
    }
  }
}

#if defined(__x86_64__)
TEST_CASE("flushing denormals changes no bit", "[session]") {
  constexpr unsigned kFlushes = 0x8040;  // FTZ and DAZ
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      const ImageBytes image = random_image(c.config, k->traits.preferred, 55);
      Running r(*k, bytes(image));
      const std::vector<Token> tokens = random_prompt(r.model, std::min(r.session.max_seq(), 70u), 56);
      const unsigned usual = _mm_getcsr();
      Rows rows[2];
      for (int i = 0; i < 2; ++i) {
        Span<const float> logits;
        _mm_setcsr(i == 0 ? usual : usual | kFlushes);
        REQUIRE(r.session.rewind(0) == Status::ok);
        for (const Token t : tokens) {
          if (r.session.step(logits, t) != Status::ok) break;
          rows[i].push_back(bits(logits));
        }
        _mm_setcsr(usual);
      }
      CHECK(rows[0].size() == tokens.size());
      CHECK(rows[0] == rows[1]);
    }
  }
}

// 32-bit NEON and Helium flush denormals and other cores do not. With ordinary scales none even appears.
namespace {

void check_flags(const Kernels& k, const ImageBytes& image) {
  constexpr unsigned kFlags = 0x3F;
  constexpr unsigned kStrange = 0x1F;  // invalid, denormal, division by zero, overflow, underflow: all but inexact
  Running r(k, bytes(image));
  const std::vector<Token> tokens = random_prompt(r.model, std::min(r.session.max_seq(), 133u), 51);
  Span<const float> logits;
  _mm_setcsr(_mm_getcsr() & ~kFlags);
  const Status status = r.session.prefill(logits, tokens);
  const unsigned flags = _mm_getcsr();
  REQUIRE(status == Status::ok);
  CHECK((flags & kStrange) == 0);
  if (r.session.position() == r.session.max_seq()) return;
  _mm_setcsr(_mm_getcsr() & ~kFlags);
  const Status stepped = r.session.step(logits, tokens[0]);
  const unsigned step_flags = _mm_getcsr();
  REQUIRE(stepped == Status::ok);
  CHECK((step_flags & kStrange) == 0);
}

}  // namespace

TEST_CASE("no denormal, no underflow and nothing else strange in a run", "[session]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      INFO(k->traits.name << ", " << c.name);
      check_flags(*k, random_image(c.config, k->traits.preferred, 53));
    }
  }
}

TEST_CASE("stories260K: nothing strange in a run", "[session][data]") {
  const ImageBytes& image = stories_image();
  if (image.empty()) return;
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    check_flags(*k, image);
  }
}

TEST_CASE("a program that flushes denormals gets the same bits", "[session]") {
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  for (const Kernels* k : runnable_kernels()) {
    for (const NamedConfig& c : edge_configs()) {
      std::vector<ImageBytes> images = {random_image(c.config, k->traits.preferred, 55)};
      for (std::uint64_t seed = 1; seed <= 4; ++seed) images.push_back(wild_image(c.config, k->traits.preferred, seed));
      for (const int exponent : {-40, 40}) images.push_back(extreme_image(c.config, k->traits.preferred, exponent));
      for (std::size_t i = 0; i < images.size(); ++i) {
        INFO(k->traits.name << ", " << c.name << ", image " << i);
        const std::vector<Token> prompt = random_prompt(c.config.vocab_size, std::min(c.config.max_seq, 70u), 57);
        RunOptions options;
        options.generate = 4;
        const RunResult expected = run(*k, bytes(images[i]), prompt, options);
        const unsigned mode = _mm_getcsr();
        _mm_setcsr(mode | kFlushToZero | kDenormalsAreZero);
        const RunResult flushed = run(*k, bytes(images[i]), prompt, options);
        _mm_setcsr(mode);
        CHECK(flushed == expected);
      }
    }
  }
}
#endif
