// SPDX-License-Identifier: Apache-2.0
// budget.cpp: a board's memory budget as a compile error. The plan is integer arithmetic over the configuration, so a
// firmware knows its RAM to the byte before it is linked.
#include <cstdio>
#include <initializer_list>

#include "platform/tables.hpp"
#include "runtime/plan.hpp"

namespace {

// stories260K, as its checkpoint says.
constexpr heed::StackConfig make_config() {
  heed::StackConfig c;
  c.d_model = 64;
  c.d_ff = 172;
  c.n_layers = 5;
  c.n_heads = 8;
  c.n_kv_heads = 4;
  c.head_dim = 8;
  c.vocab_size = c.n_outputs = 512;
  c.max_seq = 512;
  c.rotary_dims = 8;
  c.attention_scale = 0.35355339f;
  c.flags = heed::kAttentionGainFolded | heed::kFfnGainFolded | heed::kKeyOffset;
  return c;
}

constexpr heed::Plan plan_for(const heed::KernelTraits& traits, std::uint32_t positions, std::uint32_t chunk) {
  heed::Plan plan;
  return heed::make_plan(plan, make_config(), traits, {positions, chunk}) == heed::Status::ok ? plan : heed::Plan{};
}

// An LM3S6965 has 64 KiB of RAM; 12 KiB of it are for the stack and the rest of the program.
constexpr heed::Plan kBoard = plan_for(heed::traits::kCortexM3, /*positions=*/96, /*chunk=*/1);
static_assert(kBoard.arena_bytes > 0, "the configuration is one that heed can run");
static_assert(kBoard.arena_bytes <= 52 * 1024, "96 positions of stories260K fit an LM3S6965");

}  // namespace

int main() {
  std::printf("%-10s %10s %12s\n", "positions", "chunk", "arena bytes");
  for (const std::uint32_t positions : {16u, 96u, 256u, 512u}) {
    const heed::Plan plan = plan_for(heed::traits::kCortexM3, positions, 1);
    std::printf("%-10u %10u %12llu\n", plan.max_seq, plan.chunk, static_cast<unsigned long long>(plan.arena_bytes));
  }
  return 0;
}
