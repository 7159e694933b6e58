// SPDX-License-Identifier: Apache-2.0
// model_cases.cpp: random models on a session, cut into calls at random, and on the oracle.
#include "tests/differential/model_cases.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "platform/linux/thread_pool.hpp"
#include "platform/select.hpp"
#include "platform/tables.hpp"
#include "tests/reference/spec_model.hpp"
#include "tests/support/arena.hpp"

namespace heed::differential {
namespace {

void require(Status s, const char* what) {
  if (s == Status::ok) return;
  std::fprintf(stderr, "differential: %s: %s\n", what, to_string(s));
  std::exit(2);
}

// A pool for each number of threads, alive to the end.
ThreadPool& pool(std::uint32_t threads) {
  static ThreadPool pools[3];
  static bool started[3] = {};
  if (!started[threads - 2]) started[threads - 2] = pools[threads - 2].start(threads);
  return pools[threads - 2];
}

// Often across a block of keys, or two; with a window now and then far enough for its ring of blocks to go round.
std::uint32_t random_length(Random& random, const StackConfig& c, bool small) {
  const std::uint32_t length = random.below(8);
  std::uint32_t n = 1 + random.below(8);
  if (length == 0) n = 60 + random.below(12);
  if (length == 1) n = 20 + random.below(30);
  if (length == 2 && random.below(3) == 0) n = 120 + random.below(40);
  if (small) n = std::min(n, length == 0 ? 70u : 20u);
  const std::uint32_t size = c.d_model * c.d_ff * c.n_layers;
  if (size > 30000) n = std::min(n, 12u);
  if (!small && c.window && size < 6000 && random.below(6) == 0) n = 130 + random.below(200);
  return n;
}

Sequence sequence_of(const Inputs& inputs) {
  return {{inputs.tokens.data(), inputs.tokens.size()},
          {inputs.types.data(), inputs.types.size()},
          {inputs.vectors.data(), inputs.vectors.size()}};
}

spec::Sequence spec_sequence_of(const Inputs& inputs) {
  spec::Sequence s;
  s.tokens.assign(inputs.tokens.begin(), inputs.tokens.end());
  s.types.assign(inputs.types.begin(), inputs.types.end());
  for (std::size_t at = 0; at < inputs.vectors.size(); at += inputs.width)
    s.vectors.emplace_back(inputs.vectors.begin() + static_cast<std::ptrdiff_t>(at),
                           inputs.vectors.begin() + static_cast<std::ptrdiff_t>(at + inputs.width));
  return s;
}

// Where the rows of one stretch go.
struct Rows {
  Words& words;
  const Kernels& kernels;
  std::size_t base;  // of position 0
  void put(std::size_t position, Span<const float> row) {
    words[base + position] = kernels.crc32c(0, row.data(), row.size() * 4);
  }
  static void take(void* context, std::uint32_t position, Span<const float> row) {
    static_cast<Rows*>(context)->put(position, row);
  }
};

void run_tokens(Session& session, const std::vector<Token>& tokens, Words& words, Random& how) {
  Rows rows{words, *session.kernels(), words.size() - session.position()};
  words.resize(words.size() + tokens.size(), kUnseen);
  for (std::size_t done = 0; done < tokens.size();) {
    const std::size_t left = tokens.size() - done, position = session.position();
    std::size_t n = how.below(2) ? left : 1 + how.below(static_cast<std::uint32_t>(left));
    Span<const float> logits;
    switch (how.below(4)) {
      case 0:
        require(session.prefill(logits, {tokens.data() + done, n}), "prefill");
        rows.put(position + n - 1, logits);
        break;
      case 1:
        n = 1;
        require(session.step(logits, tokens[done]), "step");
        rows.put(position, logits);
        break;
      default: require(session.evaluate({tokens.data() + done, n}, {Rows::take, &rows}), "evaluate");
    }
    done += n;
  }
}

// To an earlier position of a text. A window may not keep the keys in front of it: then the text is taken again.
void go_back(Session& session, const StackConfig& c, std::vector<Token>& text, std::uint32_t position) {
  text.resize(position);
  if (position == session.position()) return;
  const Status s = session.rewind(position);
  if (!c.window || s != Status::bad_argument) return require(s, "rewind");
  require(session.rewind(0), "rewind");
  Span<const float> logits;
  if (position) require(session.prefill(logits, text), "prefill");
}

void run_sequence(Session& session, const StackConfig& c, const Inputs& inputs, Words& words, Random& how) {
  const bool pooled = c.pooling != Pooling::every;
  Rows rows{words, *session.kernels(), words.size()};
  words.resize(words.size() + (pooled ? 1 : positions_of(c, inputs.n)), kUnseen);
  if (pooled && how.below(2)) {
    Span<const float> row;
    require(session.encode(row, sequence_of(inputs)), "encode");
    return rows.put(0, row);
  }
  require(session.encode(sequence_of(inputs), {Rows::take, &rows}), "encode");
}

}  // namespace

ModelCase::ModelCase(std::uint64_t seed, bool small, bool all, Layout only) {
  Random random(seed ^ 0x6D6F64656Cu);
  config = random_config(random, small);
  layout = all ? (random.below(4) ? Layout::packed : static_cast<Layout>(random.below(kLayoutCount))) : only;
  StackConfig& c = config.main();
  max_seq = 0;
  source_seq = 0;

  const auto new_source = [&] {
    sources.push_back(random_inputs(random, config.stacks[0], random_length(random, config.stacks[0], small)));
    source_seq = std::max(source_seq, positions_of(config.stacks[0], sources.back().n));
    return static_cast<int>(sources.size()) - 1;
  };
  const auto add = [&](std::uint32_t position, std::uint32_t n, int source) {
    stretches.push_back({position, random_inputs(random, c, n), source});
    max_seq = std::max(max_seq, position + positions_of(c, n));
  };
  const bool two = config.n_stacks == 2;
  if (c.use == Use::encode) {
    for (std::uint32_t i = 1 + random.below(3); i > 0; --i)
      add(0, random_length(random, c, small), two && (stretches.empty() || random.below(2)) ? new_source() : -1);
  } else {
    const std::uint32_t n = random_length(random, c, small);
    std::uint32_t position = 0;
    do {
      const bool new_text = two && (stretches.empty() || random.below(3) == 0);
      if (new_text)
        position = 0;
      else if (position > 0)
        position -= random.below(std::min(position, 70u) + 1);
      // A board knows no text that it could take again.
      if (small && c.window && !new_text && !stretches.empty())
        position = random.below(2) ? 0 : stretches.back().position + stretches.back().inputs.n;
      const std::uint32_t left = position < n ? n - position : 0;
      if (left == 0) break;
      const std::uint32_t take = random.below(3) ? left : 1 + random.below(left);
      add(position, take, new_text ? new_source() : -1);
      position += take;
    } while (position < n && stretches.size() < 3);
  }
  c.max_seq = max_seq + (random.below(2) ? 0 : random.below(70));
  if (two) config.stacks[0].max_seq = source_seq + (random.below(2) ? 0 : random.below(70));
  if (random.below(2)) max_seq = c.max_seq;
  if (two && random.below(2)) source_seq = config.stacks[0].max_seq;
  image = random_image(random, config, layout);
}

Limits ModelCase::limits(std::uint32_t chunk) const {
  Limits l;
  l.max_seq = max_seq;
  l.chunk = chunk;
  l.source_seq = source_seq;
  return l;
}

std::uint64_t ModelCase::arena_bytes() const {
  std::uint64_t most = 0;
  for (const KernelTraits* traits : traits::kAll) {
    Plan plan;
    if (make_plan(plan, config, *traits, limits(4)) == Status::ok) most = std::max(most, plan.arena_bytes);
  }
  return most;
}

bool ModelCase::takes(const Kernels& kernels) const {
  return (kernels.traits.layouts >> static_cast<unsigned>(layout) & 1) != 0;
}

Words ModelCase::run(const Kernels& kernels, Random& how) const {
  Model model;
  Plan plan;
  require(open(model, {image.data(), image.size()}, kernels), "open");
  if (how.below(16) == 0) require(verify(model, kernels), "verify");
  const std::uint32_t chunk = how.below(3) ? how.below(7) : how.below(80);
  Limits l = limits(chunk);
  l.score_rows = how.below(3) ? how.below(4) : how.below(90);
  require(make_plan(plan, model.config(), kernels.traits, l), "plan");
  test::GuardedArena arena(plan.arena_bytes, plan.arena_align, test::Fill::random);
  Session session;
  require(create(session, model, plan, kernels, arena.span()), "create");
  const std::uint32_t threads = how.below(4) ? 1 : 2 + how.below(3);
  if (threads > 1) {
    Parallel parallel = pool(threads).parallel();
    if (how.below(2)) parallel.threshold = 0;
    session.set_parallel(parallel);
  }
  Words words;
  std::vector<Token> text;
  for (const Stretch& s : stretches) {
    if (s.source >= 0) {
      require(session.set_source(sequence_of(sources[static_cast<std::size_t>(s.source)])), "set_source");
      text.clear();
    }
    if (config.main().use == Use::encode) {
      run_sequence(session, config.main(), s.inputs, words, how);
      continue;
    }
    go_back(session, config.main(), text, s.position);
    text.insert(text.end(), s.inputs.tokens.begin(), s.inputs.tokens.end());
    run_tokens(session, s.inputs.tokens, words, how);
  }
  if (!arena.intact()) {
    std::fprintf(stderr, "differential: a write outside the arena\n");
    std::exit(2);
  }
  return words;
}

Words ModelCase::oracle() const {
  spec::Model model(image.data(), image.size());
  Words words;
  const auto put = [&](const std::vector<float>& row) { words.push_back(spec::crc32c(0, row.data(), row.size() * 4)); };
  for (const Stretch& s : stretches) {
    if (s.source >= 0) model.set_source(spec_sequence_of(sources[static_cast<std::size_t>(s.source)]));
    if (config.main().use == Use::encode) {
      for (const std::vector<float>& row : model.encode(spec_sequence_of(s.inputs))) put(row);
      continue;
    }
    model.rewind(s.position);
    for (const Token token : s.inputs.tokens) put(model.step(token));
  }
  return words;
}

std::unique_ptr<Case> make_model(std::uint64_t seed) {
  return std::make_unique<ModelCase>(seed, false, true, Layout::packed);
}

}  // namespace heed::differential
