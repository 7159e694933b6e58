// SPDX-License-Identifier: Apache-2.0
// mutate_image.cpp: random mutations of images, half of them with every checksum mended so that they reach deeper.
// Each is refused with a status, or opened and run on portable and on the best table, which must agree.
// `mutate_image [--full | --count N] [--seed S]`
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <unistd.h>
#endif

#include "tests/support/images.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;
using heed::quant::ImageBytes;

struct Outcomes {
  long refused = 0, ran = 0, too_large = 0;
  long by_status[32] = {};
};

[[noreturn]] void fail(const char* what, std::uint64_t seed, long index) {
  std::fprintf(stderr, "mutate_image: %s at --seed %llu, mutation %ld\n", what, static_cast<unsigned long long>(seed),
               index);
  std::exit(1);
}

// Mutation sites: anywhere, or where the structure is.
void mutate(ImageBytes& image, Random& random) {
  const int edits = random.between(1, 4);
  for (int i = 0; i < edits && !image.empty(); ++i) {
    // The first 4 KiB hold header, sections, configuration and directory.
    const auto size = static_cast<std::uint32_t>(image.size());
    const std::uint32_t at = random.below(random.below(2) ? size : std::min(size, 4096u));
    switch (random.below(8)) {
      case 0: image[at] = static_cast<std::uint8_t>(random.next()); break;
      case 1: image[at] = static_cast<std::uint8_t>(image[at] ^ 1u << random.below(8)); break;
      case 2: image[at] = random.below(2) ? 0xFF : 0x00; break;
      case 3: image[at] = static_cast<std::uint8_t>(image[at] + (random.below(2) ? 1 : 255)); break;
      case 4: {  // a whole aligned word: something extreme
        constexpr std::uint32_t kWords[] = {0,          1,          0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                                            0x7F800000, 0x7FC00000, 0x00000001, 0x2B800000, 0x53800000,
                                            0x40,       0x100,      0x10000,    0x100000};
        const std::uint32_t word = kWords[random.below(sizeof kWords / sizeof kWords[0])];
        if (at / 4 * 4 + 4 <= size) std::memcpy(image.data() + at / 4 * 4, &word, 4);
        break;
      }
      case 5: {  // a float scale anywhere in its range and a bit beyond
        const float scale = std::ldexp(1.0f, random.between(-42, 42));
        if (at / 4 * 4 + 4 <= size) std::memcpy(image.data() + at / 4 * 4, &scale, 4);
        break;
      }
      case 6: {  // a stretch from elsewhere
        const std::uint32_t from = random.below(size), n = std::min(random.below(64), std::min(size - at, size - from));
        std::memmove(image.data() + at, image.data() + from, n);
        break;
      }
      default: {  // a field of the configuration
        const std::size_t config = 192 + random.below(640);
        if (config < image.size())
          image[config] = static_cast<std::uint8_t>(random.below(4) ? random.below(70) : random.next());
        break;
      }
    }
  }
  if (random.below(50) == 0) image.resize(random.below(static_cast<std::uint32_t>(image.size()) + 1));
}

// Mends what is inside the bounds that the bytes themselves state.
void mend(ImageBytes& image) {
  ImageHeader header;
  if (image.size() < sizeof header) return;
  std::memcpy(&header, image.data(), sizeof header);
  if (header.n_sections > kMaxSections || sizeof header + header.n_sections * sizeof(SectionEntry) > image.size()) return;
  quant::refresh_checksums({image.data(), image.size()}, *find_kernels("portable"));
}

// Something that a stack can read, of `positions` positions at most.
struct Material {
  std::vector<Token> tokens;
  std::vector<std::uint8_t> types;
  std::vector<float> vectors;
  Sequence sequence;

  Material(const StackConfig& c, std::uint32_t positions) {
    const std::uint32_t n = std::min(positions - c.n_class_vectors, 70u);  // strides only make frames fewer
    Random random(n);
    if (c.input == Input::tokens) {
      for (std::uint32_t i = 0; i < n; ++i) tokens.push_back(static_cast<Token>(random.below(c.vocab_size)));
      for (std::uint32_t i = 0; c.n_token_types && i < n; ++i)
        types.push_back(static_cast<std::uint8_t>(random.below(std::min(c.n_token_types, 256u))));
    } else {
      const std::uint32_t width = c.input_width();
      for (std::size_t i = 0; i < std::size_t{n} * width; ++i) vectors.push_back(random.uniform());
    }
    sequence = {tokens, types, vectors};
  }
};

struct Rows {
  const Kernels& kernels;
  Digest digest;
  static void take(void* self, std::uint32_t, Span<const float> row) {
    static_cast<Rows*>(self)->digest.add(static_cast<Rows*>(self)->kernels, 0, row);
  }
};

// What generates: a prefill of 70 tokens and 4 steps, or as many as the context holds; what encodes: one sequence; the
// source before either. The digest of all outputs seen, 0 when the model is too large to run here, a few seconds being what
// a mutation is worth.
std::uint32_t run_model(const Model& model, const Kernels& kernels, std::uint64_t seed, long index) {
  const ModelConfig& m = model.config();
  const StackConfig &c = m.main(), &source = m.source();
  // Class vectors, and an input behind them.
  const auto limit = [](const StackConfig& s) { return std::min(s.max_seq, std::max(74u, s.n_class_vectors + 1)); };
  Plan plan;
  Limits limits{limit(c), 0};
  if (m.n_stacks == 2) limits.source_seq = limit(source);
  if (make_plan(plan, m, kernels.traits, limits) != Status::ok) fail("no plan", seed, index);
  if (plan.arena_bytes > 256u << 20) return 0;
  GuardedArena arena(plan.arena_bytes, plan.arena_align, Fill::random);
  Session session;
  if (create(session, model, plan, kernels, arena.span()) != Status::ok) fail("no session", seed, index);
  Rows rows{kernels, {}};
  if (m.n_stacks == 2) {
    const Material material(source, limits.source_seq);
    if (session.set_source(material.sequence) != Status::ok) fail("no source", seed, index);
  }
  if (c.use == Use::encode) {
    const Material material(c, limits.max_seq);
    if (session.encode(material.sequence, {Rows::take, &rows}) != Status::ok) fail("no encoding", seed, index);
  } else {
    const std::vector<Token> tokens = random_prompt(model, 74, 1);
    const std::size_t n = std::min<std::size_t>(plan.max_seq, 70);
    Span<const float> logits;
    if (session.prefill(logits, Span<const Token>(tokens).subspan(0, n)) != Status::ok) fail("no prefill", seed, index);
    rows.digest.add(kernels, 0, logits);
    for (std::size_t i = n; i < std::min<std::size_t>(plan.max_seq, 74); ++i) {
      if (session.step(logits, tokens[i]) != Status::ok) fail("no step", seed, index);
      rows.digest.add(kernels, 0, logits);
    }
  }
  if (rows.digest.saw_nan()) fail("a NaN", seed, index);
  if (!arena.intact()) fail("a write outside the arena", seed, index);
  return rows.digest.value();
}

void open_and_run(ImageBytes& image, Outcomes& outcomes, std::uint64_t seed, long index) {
  Model model;
  const Kernels& portable = *find_kernels("portable");
  const Kernels& best = best_kernels();
  const Status status = open(model, bytes(image), portable);
  ++outcomes.by_status[static_cast<int>(status)];
  Model other;
  if (image.size() && open(other, bytes(image), best) != status) fail("tables disagree about opening", seed, index);
  if (status != Status::ok) {
    ++outcomes.refused;
    return;
  }
  if (verify(model, portable) != verify(model, best)) fail("tables disagree about verifying", seed, index);
  if (!model.tokenizer().empty()) {
    Tokenizer tokenizer;
    if (open(tokenizer, model.tokenizer(), model.config().main().vocab_size) == Status::ok) {
      std::uint32_t n = 0;
      std::vector<Token> tokens(Tokenizer::max_tokens(12));
      std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(12) / 4);
      (void)tokenizer.encode(n, {"hello there!", 12}, {}, tokens,
                             {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4});
    }
  }
  const std::uint32_t digest = run_model(model, portable, seed, index);
  if (digest == 0) {
    ++outcomes.too_large;
    return;
  }
  ++outcomes.ran;
  // A weight of -128 is allowed to give other numbers on another table: `verify` is there to refuse it.
  const bool comparable = verify(model, portable) != Status::bad_value;
  if (&best != &portable && (best.traits.layouts >> static_cast<unsigned>(model.layout()) & 1) &&
      run_model(model, best, seed, index) != digest && comparable && verify(model, portable) == Status::ok)
    fail("tables disagree about the logits", seed, index);
}

}  // namespace

int main(int argc, char** argv) {
  long count = 20000;
  std::uint64_t seed = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--full") == 0)
      count = 100000;
    else if (std::strcmp(argv[i], "--count") == 0 && i + 1 < argc)
      count = std::atol(argv[++i]);
    else if (std::strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
      seed = std::strtoull(argv[++i], nullptr, 10);
    else
      return std::fprintf(stderr, "usage: mutate_image [--full | --count N] [--seed S]\n"), 2;
  }
  // Small ones with everything an image can have.
  StackConfig grouped = llama_config(24, 40, 1, 2, 1, 8, 280, 90);
  grouped.groups[static_cast<int>(Site::down_in)] = 32;
  grouped.flags = kKeyOffset;
  grouped.tied_unembedding = 0;
  StackConfig gpt2 = llama_config(20, 24, 1, 2, 2, 10, 13, 84);
  gpt2.norm = Norm::layer;
  gpt2.activation = Activation::gelu_tanh;
  gpt2.gated = 0;
  gpt2.position = Position::none;
  gpt2.position_table = 1;
  gpt2.rotary_dims = 0;
  gpt2.tied_unembedding = 0;
  gpt2.biases = 255;
  const ImageBytes bases[] = {
      random_image(llama_config(16, 20, 1, 2, 2, 6, 11, 80), Layout::packed, 1),
      random_image(grouped, Layout::packed, 2, bytes(small_tokenizer(280))),
      random_image(llama_config(12, 16, 2, 3, 3, 4, 9, 100), Layout::packed, 3),
      random_image(llama_config(16, 16, 1, 1, 1, 8, 9, 80), Layout::pair, 4),
      random_image(gpt2, Layout::packed, 5),
      random_image(two_stacks_config(), Layout::packed, 6),
      random_image(classifier_config(), Layout::packed, 7),
  };

  Outcomes outcomes;
  long truncations = 0;
  for (const ImageBytes& base : bases) {
    for (std::size_t n = 0; n < base.size(); ++n, ++truncations) {
      ImageBytes cut(base.begin(), base.begin() + static_cast<std::ptrdiff_t>(n));
      Model model;
      if (open(model, bytes(cut), best_kernels()) == Status::ok)
        fail("a truncated image opens", seed, static_cast<long>(n));
    }
  }
  Random random(seed);
  for (long i = 0; i < count; ++i) {
    ImageBytes image = bases[random.below(sizeof bases / sizeof bases[0])];
    mutate(image, random);
    if (i % 2) mend(image);
#if defined(__linux__)
    alarm(60);  // a hang ends the program
#endif
    open_and_run(image, outcomes, seed, i);
  }
  std::printf(
      "%ld truncations refused; %ld mutations: %ld refused, %ld opened and ran, %ld opened and too large to run here\n",
      truncations, count, outcomes.refused, outcomes.ran, outcomes.too_large);
  for (int s = 0; s < 32; ++s)
    if (outcomes.by_status[s]) std::printf("  %6ld %s\n", outcomes.by_status[s], to_string(static_cast<Status>(s)));
  const bool enough = count < 20000 || (outcomes.refused > 1000 && outcomes.ran > 1000);
  if (!enough) std::fprintf(stderr, "mutate_image: each outcome must come more than 1,000 times\n");
  return enough ? 0 : 1;
}
