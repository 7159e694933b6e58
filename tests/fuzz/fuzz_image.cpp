// SPDX-License-Identifier: Apache-2.0
// fuzz_image.cpp: any bytes as an image: refused with a status, or opened and run within bounds.
// The checksum of the header is mended first, so that a fuzzer gets past it.
#include <cstdlib>
#include <cstring>
#include <new>

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

void run(const heed::Model& model, const heed::Kernels& kernels) {
  using namespace heed;
  const StackConfig& c = model.config().main();
  Plan plan;
  require(make_plan(plan, c, kernels.traits, {c.max_seq < 70 ? c.max_seq : 70, 64}) == Status::ok);
  if (plan.arena_bytes > 64u << 20) return;
  Aligned arena(static_cast<std::size_t>(plan.arena_bytes));
  std::memset(arena.p, 0xFF, static_cast<std::size_t>(plan.arena_bytes));
  Session session;
  const Status created = create(session, model, plan, kernels,
                                {reinterpret_cast<std::byte*>(arena.p), static_cast<std::size_t>(plan.arena_bytes)});
  require(created == Status::ok || created == Status::layout_unsupported);
  if (created != Status::ok) return;
  Token prompt[66];
  for (std::size_t i = 0; i < 66; ++i) prompt[i] = static_cast<Token>(i * 7 % c.vocab_size);
  const std::size_t n = plan.max_seq < 66 ? plan.max_seq : 66;
  Span<const float> logits;
  require(session.prefill(logits, {prompt, n}) == Status::ok);
  require(logits.size() == c.vocab_size);
  for (const float logit : logits) require(logit == logit);
  while (session.position() < plan.max_seq) require(session.step(logits, prompt[1]) == Status::ok);
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
  run(model, portable);
  if (&best != &portable) run(model, best);
  return 0;
}
