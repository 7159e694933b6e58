// SPDX-License-Identifier: Apache-2.0
// spec_cases_test.cpp: the runtime against the Python that was written from SPEC.md alone: the CRCs of outputs in
// golden/spec_cases.txt, for images that reference/make_random_image.py writes, which also says what goes into them.
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

constexpr std::uint32_t kInputs = 70, kPositions[] = {0, 1, 63, 64, 69};

struct Case {
  unsigned seed, image_crc, output_crc[5];
};

// Inputs of a stack by their numbers.
struct Inputs {
  std::vector<Token> tokens;
  std::vector<std::uint8_t> types;
  std::vector<float> vectors;
  std::size_t width;
  explicit Inputs(const StackConfig& c) : width(c.d_input ? c.d_input : c.d_model) {
    for (std::uint32_t i = 0; i < kInputs; ++i) {
      if (c.input == Input::tokens) {
        tokens.push_back(static_cast<Token>((7 * i + 3) % c.vocab_size));
        if (c.n_token_types) types.push_back(static_cast<std::uint8_t>(i % c.n_token_types));
        continue;
      }
      for (std::uint32_t d = 0; d < width; ++d)
        vectors.push_back(static_cast<float>(static_cast<int>((131 * i + 37 * d) % 255) - 127) / 64.0f);
    }
  }
  // The first n of them.
  Sequence sequence(std::size_t n) const {
    if (tokens.empty()) return {{}, {}, {vectors.data(), n * width}};
    return {{tokens.data(), n}, {types.data(), types.empty() ? 0 : n}, {}};
  }
};

// The last row of what is encoded, or of the logits of a stack to generate at each position.
struct Seen {
  const Kernels& kernels;
  std::uint32_t crc[kInputs] = {};
  std::uint32_t last = 0;
  static void take(void* context, std::uint32_t position, Span<const float> row) {
    auto& s = *static_cast<Seen*>(context);
    s.last = s.kernels.crc32c(0, row.data(), row.size() * 4);
    if (position < kInputs) s.crc[position] = s.last;
  }
};

// What came instead of an output; empty when all are right.
std::string run(const Case& c, Span<const std::uint8_t> image, const Kernels& k) {
  if (k.crc32c(0, image.data(), image.size()) != c.image_crc) return "another image";
  Model model;
  Plan plan;
  Session session;
  if (const Status s = open(model, image, k); s == Status::layout_unsupported)
    return {};
  else if (s != Status::ok)
    return to_string(s);
  if (const Status s = verify(model, k); s != Status::ok) return to_string(s);
  if (const Status s = make_plan(plan, model.config(), k.traits); s != Status::ok) return to_string(s);
  const std::unique_ptr<std::byte[]> memory(new std::byte[plan.arena_bytes + 64]);
  std::byte* arena = memory.get();
  while (reinterpret_cast<std::uintptr_t>(arena) % 64) ++arena;
  const Status created = create(session, model, plan, k, {arena, static_cast<std::size_t>(plan.arena_bytes)});
  if (created == Status::layout_unsupported) return {};
  if (created != Status::ok) return to_string(created);

  const ModelConfig& config = model.config();
  if (config.n_stacks == 2) {
    const Inputs source(config.source());
    if (const Status s = session.set_source(source.sequence(kInputs)); s != Status::ok) return to_string(s);
  }
  const Inputs inputs(config.main());
  Seen seen{k};
  if (config.main().use == Use::generate)
    if (const Status s = session.evaluate(inputs.tokens, {Seen::take, &seen}); s != Status::ok) return to_string(s);
  for (std::size_t i = 0; i < 5; ++i) {
    const std::uint32_t position = kPositions[i];
    if (config.main().use == Use::encode) {
      if (const Status s = session.encode(inputs.sequence(position + 1), {Seen::take, &seen}); s != Status::ok)
        return to_string(s);
      seen.crc[position] = seen.last;
    }
    if (seen.crc[position] == c.output_crc[i]) continue;
    char text[64];
    std::snprintf(text, sizeof text, "the output at position %u has %08x, not %08x", position, seen.crc[position],
                  c.output_crc[i]);
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
    if (std::sscanf(line, "%u %x %x %x %x %x %x", &c.seed, &c.image_crc, &c.output_crc[0], &c.output_crc[1],
                    &c.output_crc[2], &c.output_crc[3], &c.output_crc[4]) != 7)
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
