// SPDX-License-Identifier: Apache-2.0
// stacks_test.cpp: encoders, sources, windows and everything else that a description may have: one answer however a call
// is cut, exactly the planned memory, and what is refused.
#include <algorithm>

#include "platform/linux/thread_pool.hpp"
#include "platform/tables.hpp"
#include "tests/differential/random_models.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;
using differential::Inputs;
using quant::ImageBytes;
using Rows = std::vector<std::vector<std::uint32_t>>;

Sequence sequence_of(const Inputs& i) {
  return {{i.tokens.data(), i.tokens.size()}, {i.types.data(), i.types.size()}, {i.vectors.data(), i.vectors.size()}};
}

RowSink into(Rows& rows) {
  return {[](void* to, std::uint32_t, Span<const float> row) { static_cast<Rows*>(to)->push_back(bits(row)); }, &rows};
}

// A random description with room for n inputs, its image in a table's layout, and the inputs.
struct Case {
  ModelConfig config;
  ImageBytes image;
  Inputs source, input;

  Case(std::uint64_t seed, std::uint32_t n, Layout layout) {
    Random random(seed);
    config = differential::random_config(random, true);
    StackConfig& c = config.main();
    if (config.n_stacks == 2) {
      source = differential::random_inputs(random, config.stacks[0], n);
      config.stacks[0].max_seq = differential::positions_of(config.stacks[0], n);
    }
    input = differential::random_inputs(random, c, n);
    c.max_seq = differential::positions_of(c, n);
    image = differential::random_image(random, config, layout);
  }
  bool encodes() const { return config.main().use == Use::encode; }
};

// All outputs, in one of several ways.
Rows outputs(const Case& c, const Kernels& k, const Limits& limits, const Parallel* parallel, std::size_t piece) {
  Running r(k, bytes(c.image), limits);
  if (parallel) r.session.set_parallel(*parallel);
  if (c.config.n_stacks == 2) REQUIRE(r.session.set_source(sequence_of(c.source)) == Status::ok);
  Rows rows;
  if (c.encodes()) {
    REQUIRE(r.session.encode(sequence_of(c.input), into(rows)) == Status::ok);
    return rows;
  }
  const Span<const Token> tokens(c.input.tokens.data(), c.input.tokens.size());
  for (std::size_t done = 0; done < tokens.size(); done += piece) {
    const auto part = tokens.subspan(done, std::min(piece, tokens.size() - done));
    if (piece != 1) {
      REQUIRE(r.session.evaluate(part, into(rows)) == Status::ok);
      continue;
    }
    Span<const float> logits;
    REQUIRE(r.session.step(logits, part[0]) == Status::ok);
    rows.push_back(bits(logits));
  }
  return rows;
}

// A layer of a window of 64 in each of two, and a description around it.
StackConfig windowed(std::uint32_t max_seq) {
  StackConfig c = llama_config(32, 48, 2, 2, 1, 8, 40, max_seq);
  c.window = 64;
  return c;
}

}  // namespace

TEST_CASE("any description: the same outputs in every chunk, cut, thread count and number of rows", "[stacks]") {
  ThreadPool pools[2];
  Parallel parallel[2];
  for (int i = 0; i < 2; ++i) {
    REQUIRE(pools[i].start(static_cast<std::uint32_t>(i) + 2));
    parallel[i] = pools[i].parallel();
    parallel[i].threshold = 0;  // splits everything
  }
  int encoders = 0, sources = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    const std::uint32_t n = seed % 5 == 0 ? 70 : 3 + static_cast<std::uint32_t>(seed % 17);
    const Kernels& k = seed % 2 ? best_kernels() : *find_kernels("portable");
    const Case c(seed, n, k.traits.preferred);
    INFO("seed " << seed << " on " << k.traits.name);
    encoders += c.encodes();
    sources += c.config.n_stacks == 2;
    const Rows expected = outputs(c, k, {}, nullptr, n);
    CHECK(!expected.empty());
    for (const std::uint32_t chunk : {1u, 7u, 64u, 4096u}) {
      const Limits limits{0, chunk, 0, chunk % 5 + 1};
      INFO("chunks of " << chunk);
      if (outputs(c, k, limits, nullptr, chunk == 7 ? 1 : 5) != expected) FAIL_CHECK("differs");
    }
    for (const Parallel& p : parallel)
      if (outputs(c, k, {0, 16, 0, 3}, &p, n) != expected) FAIL_CHECK("differs on " << p.threads << " threads");
  }
  CHECK(encoders > 20);
  CHECK(sources > 20);
}

TEST_CASE("any description: the planned bytes are enough, and one less is refused", "[stacks]") {
  for (std::uint64_t seed = 201; seed <= 260; ++seed) {
    INFO("seed " << seed);
    const Kernels& k = best_kernels();
    const Case c(seed, 9, k.traits.preferred);
    Running r(k, bytes(c.image));  // checks what lies around the arena
    Session session;
    const Span<std::byte> arena = r.arena->span();
    CHECK(arena.size() == r.plan.arena_bytes);
    CHECK(create(session, r.model, r.plan, k, arena.subspan(0, arena.size() - 1)) == Status::arena_too_small);
    for (const KernelTraits* t : traits::kAll) {
      Plan p;
      REQUIRE(make_plan(p, c.config, *t) == Status::ok);
      CHECK(p.cache.offset + p.cache.bytes <= p.kv_cache.bytes);
      CHECK(p.sequence.offset + p.sequence.bytes <= p.kv_cache.bytes);
    }
  }
}

TEST_CASE("a window's ring gives the bits of a cache that keeps everything", "[stacks]") {
  constexpr std::uint32_t kLength = 2000;
  for (const std::uint32_t every : {0u, 2u}) {
    StackConfig config = windowed(kLength);
    config.global_every = every;
    const Kernels& k = best_kernels();
    const ImageBytes image = random_image(config, k.traits.preferred, 5);
    const std::vector<Token> tokens = random_prompt(config.vocab_size, kLength, 7);
    const auto last_rows = [&](std::uint32_t chunk, std::size_t piece) {
      Running r(k, bytes(image), {0, chunk, 0, 0});
      Rows rows;
      Span<const float> logits;
      for (std::size_t done = 0; done < kLength; done += piece) {
        REQUIRE(r.session.prefill(logits, Span<const Token>(tokens).subspan(done, std::min(piece, kLength - done))) == Status::ok);
        if (piece != 1 || done % 125 == 124) rows.push_back(bits(logits));
      }
      return rows;
    };
    const auto kept = [&](std::uint32_t chunk) {
      Plan p;
      REQUIRE(make_plan(p, config, k.traits, {0, chunk, 0, 0}) == Status::ok);
      return p.cache.bytes;
    };
    CHECK(kept(64) < kept(kLength));
    const Rows everything = last_rows(kLength, 125);  // so large a chunk leaves no ring
    for (const std::uint32_t chunk : {7u, 64u}) {
      INFO("chunks of " << chunk << ", all keys in one of " << every);
      CHECK(last_rows(chunk, 125) == everything);
    }
    CHECK(last_rows(1, 1) == everything);
  }
  // Whatever is kept of one layer does not grow with the text: a window of 64 and a chunk of 4 meet three blocks at most.
  for (const KernelTraits* t : traits::kAll) {
    Plan shorter, longer;
    REQUIRE(make_plan(shorter, windowed(kLength), *t, {0, 4, 0, 0}) == Status::ok);
    REQUIRE(make_plan(longer, windowed(1u << 20), *t, {0, 4, 0, 0}) == Status::ok);
    CHECK(shorter.arena_bytes == longer.arena_bytes);
    CHECK(shorter.cache.bytes == 2 * KvShape{1, 8, 3 * kBlockKeys, t->alignment}.layer_bytes());
  }
}

TEST_CASE("a layer with a window of 64 keeps window + chunk - 1 keys, in whole blocks, of 2,000", "[stacks]") {
  // `keys` can lie across one block more than they fill. A key and a value of 8 dimensions take 21 bytes.
  constexpr struct {
    std::uint32_t chunk, keys, kept;
  } kCases[] = {{1, 64, 128}, {2, 65, 128}, {3, 66, 192}, {4, 67, 192}, {64, 127, 192}, {66, 129, 192}, {67, 130, 256}};
  for (const KernelTraits* t : traits::kAll) {
    for (const auto& c : kCases) {
      INFO(t->name << ", chunks of " << c.chunk);
      CHECK(c.keys == 64 + c.chunk - 1);
      Plan p;
      StackConfig config = windowed(2000);
      REQUIRE(make_plan(p, config, *t, {0, c.chunk, 0, 0}) == Status::ok);
      CHECK(p.cache.bytes == 2u * 21 * c.kept);
      config.global_every = 2;  // the other layer sees all keys, and keeps them
      REQUIRE(make_plan(p, config, *t, {0, c.chunk, 0, 0}) == Status::ok);
      CHECK(p.cache.bytes >= 21u * (2000 + c.kept));
      CHECK(p.cache.bytes < 21u * (2000 + c.kept) + 64);
      config.window = config.global_every = 0;
      REQUIRE(make_plan(p, config, *t, {0, c.chunk, 0, 0}) == Status::ok);
      CHECK(p.cache.bytes >= 2u * 21 * 2000);
      CHECK(p.cache.bytes < 2u * (21 * 2000 + 64));
    }
  }
}

TEST_CASE("rewinding a window goes as far as its keys are kept", "[stacks]") {
  const StackConfig config = windowed(600);
  const Kernels& k = best_kernels();
  const ImageBytes image = random_image(config, k.traits.preferred, 9);
  const std::vector<Token> tokens = random_prompt(config.vocab_size, 600, 11);
  const Span<const Token> span(tokens);
  Running straight(k, bytes(image), {0, 4, 0, 0}), r(k, bytes(image), {0, 4, 0, 0});
  Span<const float> expected, logits;
  REQUIRE(straight.session.prefill(expected, span.subspan(0, 395)) == Status::ok);
  REQUIRE(r.session.prefill(logits, span.subspan(0, 400)) == Status::ok);
  // Three blocks are kept, 256 to 447; position 319 sees 256 and on.
  CHECK(r.session.rewind(318) == Status::bad_argument);
  CHECK(r.session.position() == 400);
  REQUIRE(r.session.rewind(319) == Status::ok);
  REQUIRE(r.session.prefill(logits, span.subspan(319, 76)) == Status::ok);
  CHECK(bits(logits) == bits(expected));
  CHECK(r.session.rewind(318) == Status::bad_argument);
  REQUIRE(r.session.rewind(0) == Status::ok);
  REQUIRE(r.session.prefill(logits, span.subspan(0, 395)) == Status::ok);
  CHECK(bits(logits) == bits(expected));
}

TEST_CASE("an encoder of twelve layers takes the memory of one", "[stacks]") {
  StackConfig one = llama_config(48, 96, 1, 4, 2, 12, 60, 300);
  one.use = Use::encode;
  one.mask = Mask::two_way;
  one.output = Output::vectors;
  one.n_outputs = one.tied_unembedding = 0;
  StackConfig twelve = one;
  twelve.n_layers = 12;
  for (const KernelTraits* t : traits::kAll) {
    Plan a, b;
    REQUIRE(make_plan(a, one, *t) == Status::ok);
    REQUIRE(make_plan(b, twelve, *t) == Status::ok);
    CHECK(a.arena_bytes == b.arena_bytes);
  }
}

TEST_CASE("what a stack is not made for is refused, and changes nothing", "[stacks]") {
  const Kernels& k = best_kernels();
  int generating = 0, encoding = 0, two = 0;
  for (std::uint64_t seed = 301; seed <= 380; ++seed) {
    INFO("seed " << seed);
    const Case c(seed, 6, k.traits.preferred);
    Running r(k, bytes(c.image));
    Rows rows;
    Span<const float> row;
    const Sequence input = sequence_of(c.input), source = sequence_of(c.source);
    if (c.config.n_stacks == 2) {
      ++two;
      CHECK(r.session.source_positions() == 0);
      if (c.encodes())
        CHECK(r.session.encode(input, into(rows)) == Status::bad_argument);  // no source yet
      else
        CHECK(r.session.prefill(row, c.input.tokens) == Status::bad_argument);
      REQUIRE(r.session.set_source(source) == Status::ok);
      const std::uint32_t positions = r.session.source_positions();
      CHECK(positions == differential::positions_of(c.config.stacks[0], 6));
      CHECK(r.session.set_source({}) == Status::bad_argument);
      CHECK(r.session.source_positions() == positions);
    } else {
      CHECK(r.session.set_source(input) == Status::bad_argument);
    }
    if (c.encodes()) {
      ++encoding;
      CHECK(r.session.prefill(row, {c.input.tokens.data(), c.input.tokens.size()}) == Status::bad_argument);
      CHECK(r.session.encode({}, into(rows)) == Status::bad_argument);
      CHECK(r.session.encode({{nullptr, 3}, {}, {}}, into(rows)) == Status::bad_argument);
      CHECK(r.session.encode({{}, {}, {nullptr, std::size_t{3} * c.config.main().d_model}}, into(rows)) == Status::bad_argument);
      CHECK(r.session.encode(input, RowSink{}) == Status::bad_argument);
      const bool pooled = c.config.main().pooling != Pooling::every;
      CHECK(r.session.encode(row, input) == (pooled ? Status::ok : Status::bad_argument));
      if (c.config.main().input == Input::tokens) {
        std::vector<Token> bad = c.input.tokens;
        bad[3] = static_cast<Token>(c.config.main().vocab_size);
        CHECK(r.session.encode({bad, {}, {}}, into(rows)) == Status::bad_token);
        bad.assign(c.config.main().max_seq + 1, 0);
        CHECK(r.session.encode({bad, {}, {}}, into(rows)) == Status::context_full);
      }
    } else {
      ++generating;
      CHECK(r.session.encode(input, into(rows)) == Status::bad_argument);
    }
    CHECK(rows.empty());
  }
  CHECK(generating > 10);
  CHECK(encoding > 10);
  CHECK(two > 10);
}
