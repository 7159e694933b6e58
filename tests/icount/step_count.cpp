// SPDX-License-Identifier: Apache-2.0
// step_count.cpp: tokens of a model between the marks of icount_mark.hpp, for tests/bench/count_arm.py.
//
//   step_count TABLE IMAGE TOKENS    steps through greedy tokens, the choice of each included, after eight that warm up
#include <cstdio>
#include <cstdlib>

#include "examples/require.hpp"
#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"
#include "tests/icount/icount_mark.hpp"
#include "tests/support/arena.hpp"

using namespace heed;

namespace {

void steps(Session& session, const Kernels& kernels, Span<const float>& logits, std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i)
    require(session.step(logits, kernels.argmax(logits.data(), static_cast<std::uint32_t>(logits.size()))));
}

}  // namespace

int main(int argc, char* argv[]) {
  const Kernels* kernels = argc == 4 ? find_kernels(argv[1]) : nullptr;
  MappedFile file;
  if (!kernels || file.open(argv[2])) {
    std::fputs("usage: step_count TABLE IMAGE TOKENS, with a table that runs here\n", stderr);
    return 2;
  }
  Model model;
  Plan plan;
  Session session;
  require(open(model, file.bytes(), *kernels));
  require(make_plan(plan, model.config(), kernels->traits));
  test::GuardedArena arena(plan.arena_bytes, plan.arena_align);
  require(create(session, model, plan, *kernels, arena.span()));
  Span<const float> logits;
  require(session.step(logits, 1));
  steps(session, *kernels, logits, 7);
  const auto n = static_cast<std::uint32_t>(std::atoi(argv[3]));
  icount::start_region();
  steps(session, *kernels, logits, n);
  icount::stop_region();
  std::printf("%u tokens\n", n);
  return 0;
}
