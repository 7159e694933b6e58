// SPDX-License-Identifier: Apache-2.0
// main.cpp: a consumer's program: for each image the digest of some greedy and some drawn tokens, on which every kernel
// table that runs here must agree.
#include <cstdio>
#include <cstdlib>

#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

namespace {

// Prints why not, and gives false.
bool is_ok(heed::Status status, const char* table) {
  if (status != heed::Status::ok) std::printf("%s refuses: %s\n", table, heed::to_string(status));
  return status == heed::Status::ok;
}

bool answer(std::uint32_t& digest, heed::Span<const std::uint8_t> image, const heed::Kernels& kernels) {
  const char* const table = kernels.traits.name;
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  if (!is_ok(heed::open(model, image, kernels), table) ||
      !is_ok(heed::make_plan(plan, model.config(), kernels.traits), table))
    return false;
  const auto arena_bytes = static_cast<std::size_t>((plan.arena_bytes + 63) / 64 * 64);
  const std::uint32_t vocab_size = model.config().main().vocab_size;
  const std::size_t scratch_bytes = (heed::Sampler::scratch_bytes(vocab_size) + 63) / 64 * 64;
  auto* const arena = static_cast<std::byte*>(std::aligned_alloc(64, arena_bytes));
  auto* const scratch = static_cast<std::byte*>(std::aligned_alloc(64, scratch_bytes));
  heed::Sampler samplers[2];
  bool good = is_ok(heed::create(session, model, plan, kernels, {arena, arena_bytes}), table) &&
              is_ok(heed::create(samplers[0], {}, vocab_size, kernels, {}), table) &&
              is_ok(heed::create(samplers[1], {0.9f, 0, 0.95f, 1}, vocab_size, kernels, {scratch, scratch_bytes}), table);
  heed::Digest sum;
  heed::Span<const float> logits;
  heed::Token token = 1;
  const std::uint32_t most = session.max_seq() < 72 ? session.max_seq() : 72;
  for (std::uint32_t i = 0; good && i < most; ++i) {
    good = is_ok(session.step(logits, token), table) && is_ok(samplers[i / 4 % 2].pick(token, logits), table);
    if (good) sum.add(kernels, token, logits);
  }
  digest = sum.value();
  std::free(arena);
  std::free(scratch);
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  int tables = 0;
  for (int i = 1; i < argc; ++i) {
    heed::MappedFile file;
    if (file.open(argv[i])) return 2;
    std::uint32_t first = 0;
    tables = 0;
    for (const heed::Kernels* k : heed::all_kernels()) {
      if (!heed::is_runnable(*k)) continue;
      std::uint32_t digest = 0;
      if (!answer(digest, file.bytes(), *k)) return 1;
      if (tables++ == 0) first = digest;
      if (digest != first) {
        std::printf("%s: %08x, but %s: %08x\n", argv[i], static_cast<unsigned>(first), k->traits.name,
                    static_cast<unsigned>(digest));
        return 1;
      }
    }
    std::printf("%08x ", static_cast<unsigned>(first));
  }
  std::printf("%d tables\n", tables);
  return 0;
}
