// SPDX-License-Identifier: Apache-2.0
// fuzz_image.cpp: any bytes as an image: refused with a status, or opened and run within bounds.
// The checksum of the header is mended first, so that a fuzzer gets past it.
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "platform/select.hpp"
#include "runtime/runtime.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// Bytes on the heap, aligned and not one more.
struct Aligned {
  explicit Aligned(std::size_t n) : p(static_cast<std::uint8_t*>(::operator new (n, std::align_val_t{64}))) {}
  ~Aligned() { ::operator delete (p, std::align_val_t{64}); }
  Aligned(const Aligned&) = delete;
  std::uint8_t* p;
};

void mend_header(std::uint8_t* image, std::size_t size, const heed::Kernels& kernels) {
  heed::ImageHeader header;
  if (size < sizeof header) return;
  std::memcpy(&header, image, sizeof header);
  if (header.n_sections > heed::kMaxSections || sizeof header + header.n_sections * sizeof(heed::SectionEntry) > size) return;
  header.header_crc = 0;
  std::uint32_t crc = kernels.crc32c(0, &header, sizeof header);
  crc = kernels.crc32c(crc, image + sizeof header, header.n_sections * sizeof(heed::SectionEntry));
  header.header_crc = crc;
  std::memcpy(image, &header, sizeof header);
}

constexpr std::uint32_t kPositions = 70;

// Something that a stack can read, behind its class vectors; strides only make frames fewer.
struct Material {
  explicit Material(const heed::StackConfig& c) {
    using namespace heed;
    const std::uint32_t room = limit(c) - c.n_class_vectors, n = room < 66 ? room : 66;
    if (c.input == Input::tokens) {
      for (std::uint32_t i = 0; i < n; ++i) tokens[i] = static_cast<Token>(i * 7 % c.vocab_size);
      sequence.tokens = {tokens, n};
      return;
    }
    const std::uint32_t width = c.input_width();
    for (std::uint32_t i = 0; i < n * width; ++i) vectors.push_back(static_cast<float>(i % 13) - 6.0f);
    sequence.vectors = vectors;
  }
  static std::uint32_t limit(const heed::StackConfig& c) {
    const std::uint32_t wanted = c.n_class_vectors < kPositions ? kPositions : c.n_class_vectors + 1;
    return c.max_seq < wanted ? c.max_seq : wanted;
  }
  heed::Token tokens[66];
  std::vector<float> vectors;
  heed::Sequence sequence;
};

void look_at(void* width, std::uint32_t, heed::Span<const float> row) {
  require(row.size() == *static_cast<const std::uint32_t*>(width));
  for (const float x : row) require(x == x);
}

void run(const heed::Model& model, const heed::Kernels& kernels) {
  using namespace heed;
  const ModelConfig& m = model.config();
  const StackConfig& c = m.main();
  Limits limits{Material::limit(c), 64};
  if (m.n_stacks == 2) limits.source_seq = Material::limit(m.source());
  Plan plan;
  require(make_plan(plan, m, kernels.traits, limits) == Status::ok);
  if (plan.arena_bytes > 64u << 20) return;
  Aligned arena(static_cast<std::size_t>(plan.arena_bytes));
  std::memset(arena.p, 0xFF, static_cast<std::size_t>(plan.arena_bytes));
  Session session;
  const Status created = create(session, model, plan, kernels,
                                {reinterpret_cast<std::byte*>(arena.p), static_cast<std::size_t>(plan.arena_bytes)});
  require(created == Status::ok || created == Status::layout_unsupported);
  if (created != Status::ok) return;
  if (m.n_stacks == 2) require(session.set_source(Material(m.source()).sequence) == Status::ok);
  const Material material(c);
  if (c.use == Use::encode) {
    std::uint32_t width = output_width(c);
    require(session.encode(material.sequence, {look_at, &width}) == Status::ok);
    return;
  }
  const Span<const Token> prompt = material.sequence.tokens;
  Span<const float> logits;
  require(session.prefill(logits, prompt) == Status::ok);
  require(logits.size() == c.vocab_size);
  for (const float logit : logits) require(logit == logit);
  while (session.position() < plan.max_seq) require(session.step(logits, prompt[prompt.size() / 2]) == Status::ok);
  require(session.step(logits, prompt[0]) == Status::context_full);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heed;
  if (size == 0) return 0;
  const Kernels& best = best_kernels();
  const Kernels& portable = *find_kernels("portable");
  Aligned image(size);
  std::memcpy(image.p, data, size);
  mend_header(image.p, size, best);
  Model model;
  if (open(model, {image.p, size}, best) != Status::ok) return 0;
  const Status verified = verify(model, best);
  require(verified == verify(model, portable));
  if (!model.tokenizer().empty()) {
    Tokenizer tokenizer;
    (void)open(tokenizer, model.tokenizer(), model.config().main().vocab_size);
  }
  Generation generation;
  if (open(generation, model.generation(), model.config().main().vocab_size) == Status::ok)
    for (const Token t : generation.first()) require(static_cast<std::uint32_t>(t) < model.config().main().vocab_size);
  for (std::uint32_t i = 0; i < 3; ++i) (void)model.class_name(i);
  run(model, portable);
  if (&best != &portable) run(model, best);
  return 0;
}
