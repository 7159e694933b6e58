// SPDX-License-Identifier: Apache-2.0
// main.cpp: a consumer's program: opens an image and prints the digest of a few greedy tokens.
#include <cstdio>
#include <cstdlib>

#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

int main(int argc, char** argv) {
  heed::MappedFile file;
  if (argc != 2 || file.open(argv[1])) return 2;
  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  if (heed::open(model, file.bytes(), kernels) != heed::Status::ok ||
      heed::make_plan(plan, model.config(), kernels.traits) != heed::Status::ok)
    return 1;
  const auto bytes = static_cast<std::size_t>((plan.arena_bytes + 63) / 64 * 64);
  auto* arena = static_cast<std::byte*>(std::aligned_alloc(64, bytes));
  if (heed::create(session, model, plan, kernels, {arena, bytes}) != heed::Status::ok) return 1;
  heed::Digest digest;
  heed::Span<const float> logits;
  heed::Token token = 1;
  for (int i = 0; i < 64; ++i) {
    if (session.step(logits, token) != heed::Status::ok) return 1;
    token = static_cast<heed::Token>(kernels.argmax(logits.data(), static_cast<std::uint32_t>(logits.size())));
    digest.add(kernels, token, logits);
  }
  std::printf("%08x\n", static_cast<unsigned>(digest.value()));
  std::free(arena);
  return 0;
}
