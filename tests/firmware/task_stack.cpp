// SPDX-License-Identifier: Apache-2.0
// task_stack.cpp: firmware that measures what a task needs that only runs a session: model, plan and session are static, and
// the stack is painted around a prefill and around steps past a block of keys. Prints the bytes below the caller's frame.
#include "platform/baremetal/semihosting.hpp"
#include "platform/baremetal/stack_paint.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

namespace io = heed::semihosting;

// The bytes of the model; model.cpp puts them into flash.
extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace {

alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[HEED_ARENA_BYTES];
heed::Model g_model;
heed::Plan g_plan;
heed::Session g_session;
heed::Span<const float> g_logits;
heed::Token g_prompt[9];  // more than a chunk
heed::Status g_status;

}  // namespace

// What the task calls: functions that stay functions, so that stack.py finds them.
extern "C" {
__attribute__((noipa)) void task_prefill() { g_status = g_session.prefill(g_logits, g_prompt); }
__attribute__((noipa)) void task_step() { g_status = g_session.step(g_logits, g_prompt[0]); }
}

int main() {
  const heed::Kernels& kernels = heed::best_kernels();
  const auto image_bytes = static_cast<std::size_t>(heed_model_image_end - heed_model_image);
  if (heed::open(g_model, {heed_model_image, image_bytes}, kernels) != heed::Status::ok ||
      heed::make_plan(g_plan, g_model.config(), kernels.traits) != heed::Status::ok ||
      heed::create(g_session, g_model, g_plan, kernels, g_arena) != heed::Status::ok)
    return 1;
  std::int32_t token = 0;
  for (heed::Token& t : g_prompt) t = ++token % static_cast<std::int32_t>(g_model.config().main().vocab_size);
  const auto put = [](const char* name, std::size_t bytes) {
    io::put_text(name);
    io::put_decimal(static_cast<std::uint32_t>(bytes));
    io::put_text("\n");
  };

  heed::stack_paint::paint();
  task_prefill();
  if (g_status != heed::Status::ok) return 1;
  put("prefill stack bytes ", heed::stack_paint::peak_bytes() - heed::stack_paint::used_bytes());
  heed::stack_paint::paint();
  while (g_session.position() < 70 && g_session.position() < g_session.max_seq()) {
    task_step();
    if (g_status != heed::Status::ok) return 1;
  }
  put("step stack bytes ", heed::stack_paint::peak_bytes() - heed::stack_paint::used_bytes());
  return 0;
}
