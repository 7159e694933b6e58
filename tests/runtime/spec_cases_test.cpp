// SPDX-License-Identifier: Apache-2.0
// spec_cases_test.cpp: the runtime against the Python that was written from SPEC.md alone: the CRCs of logits in
// golden/spec_cases.txt, for images that reference/make_random_image.py writes.
// `spec_cases_test FOLDER`, with FOLDER/SEED.heed for each line.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "runtime/session.hpp"

using namespace heed;

namespace {

constexpr std::uint32_t kTokens = 70, kPositions[] = {0, 1, 63, 64, 69};

struct Case {
  unsigned seed, image_crc, logits_crc[5];
};

// Position, then the CRC that came instead; empty when all are right.
std::string run(const Case& c, Span<const std::uint8_t> image, const Kernels& k) {
  if (k.crc32c(0, image.data(), image.size()) != c.image_crc) return "another image";
  Model model;
  Plan plan;
  Session session;
  if (const Status s = open(model, image, k); s != Status::ok) return to_string(s);
  if (const Status s = verify(model, k); s != Status::ok) return to_string(s);
  if (const Status s = make_plan(plan, model.config(), k.traits); s != Status::ok) return to_string(s);
  const std::unique_ptr<std::byte[]> memory(new std::byte[plan.arena_bytes + 64]);
  std::byte* arena = memory.get();
  while (reinterpret_cast<std::uintptr_t>(arena) % 64) ++arena;
  const Status created = create(session, model, plan, k, {arena, static_cast<std::size_t>(plan.arena_bytes)});
  if (created == Status::layout_unsupported) return {};
  if (created != Status::ok) return to_string(created);
  std::vector<Token> tokens;
  for (std::uint32_t i = 0; i < kTokens; ++i)
    tokens.push_back(static_cast<Token>((7 * i + 3) % model.config().main().vocab_size));
  struct Seen {
    const Kernels& kernels;
    std::uint32_t crc[kTokens];
  } seen{k, {}};
  const Status evaluated =
      session.evaluate(tokens, {[](void* context, std::uint32_t position, Span<const float> logits) {
                                  auto& s = *static_cast<Seen*>(context);
                                  s.crc[position] = s.kernels.crc32c(0, logits.data(), logits.size() * 4);
                                },
                                &seen});
  if (evaluated != Status::ok) return to_string(evaluated);
  for (std::size_t i = 0; i < 5; ++i) {
    if (seen.crc[kPositions[i]] == c.logits_crc[i]) continue;
    char text[64];
    std::snprintf(text, sizeof text, "logits at position %u have %08x, not %08x", kPositions[i],
                  seen.crc[kPositions[i]], c.logits_crc[i]);
    return text;
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: spec_cases_test FOLDER\n"), 2;
  std::FILE* file = std::fopen(HEED_SOURCE_DIR "/tests/golden/spec_cases.txt", "r");
  if (!file) return std::fprintf(stderr, "no tests/golden/spec_cases.txt\n"), 2;
  char line[256];
  int passed = 0, failed = 0;
  while (std::fgets(line, sizeof line, file)) {
    Case c;
    if (std::sscanf(line, "%u %x %x %x %x %x %x", &c.seed, &c.image_crc, &c.logits_crc[0], &c.logits_crc[1],
                    &c.logits_crc[2], &c.logits_crc[3], &c.logits_crc[4]) != 7)
      continue;
    MappedFile image;
    const char* error = image.open((std::string(argv[1]) + "/" + std::to_string(c.seed) + ".heed").c_str());
    for (const Kernels* k : all_kernels()) {
      if (!is_runnable(*k)) continue;
      const std::string wrong = error ? error : run(c, image.bytes(), *k);
      ++(wrong.empty() ? passed : failed);
      if (!wrong.empty()) std::printf("FAILED: seed %u on %s: %s\n", c.seed, k->traits.name, wrong.c_str());
    }
  }
  std::fclose(file);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0 || passed == 0;
}
