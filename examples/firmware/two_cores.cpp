// SPDX-License-Identifier: Apache-2.0
// two_cores.cpp: the same tokens on one core and on all that the port's parallel_for has: the digests are equal. (There is
// no tokenizer, so no token ends a text.) With HEED_COUNT each core marks its share of the work for the counting plugin,
// waiting not included.
#include "platform/baremetal/semihosting.hpp"
#include "platform/port.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace {

constexpr std::uint32_t kTokens = 40;  // share.py knows it, and that a prompt comes before
constexpr std::uint32_t kPrompt = 9;   // two chunks of four tokens, which share their products, and a last one
alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[256 * 1024];

void put(const char* text) { heed::port::log(text, __builtin_strlen(text)); }

void put_line(const char* name, std::uint32_t hex) {
  char text[10] = {};
  for (int i = 0; i < 8; ++i) text[i] = "0123456789abcdef"[hex >> (28 - 4 * i) & 15];
  text[8] = '\n';
  put(name);
  put(text);
}

#ifdef HEED_COUNT
// One region per part, on the core that runs it.
void counted_parallel_for(void* context, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  struct Marked {
    void (*task)(void*, std::uint32_t);
    void* argument;
  } marked{task, argument};
  heed::port::parallel_for(
      context, count,
      [](void* m, std::uint32_t i) {
        const Marked& it = *static_cast<const Marked*>(m);
        heed::icount::start_region();
        it.task(it.argument, i);
        heed::icount::stop_region();
      },
      &marked);
}
constexpr auto kRun = counted_parallel_for;
#else
constexpr auto kRun = heed::port::parallel_for;
#endif

// The digest of greedy tokens, or 0 when anything is refused.
std::uint32_t tell(const heed::Parallel& parallel) {
  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  const auto image_bytes = static_cast<std::size_t>(heed_model_image_end - heed_model_image);
  if (heed::open(model, {heed_model_image, image_bytes}, kernels) != heed::Status::ok ||
      heed::make_plan(plan, model.config(), kernels.traits) != heed::Status::ok ||
      heed::create(session, model, plan, kernels, g_arena) != heed::Status::ok)
    return 0;
  session.set_parallel(parallel);
  heed::Digest digest;
  const std::uint32_t vocabulary = model.config().main().vocab_size;
  heed::Token prompt[kPrompt], token = 1;
  for (std::uint32_t i = 0; i < kPrompt; ++i) prompt[i] = static_cast<heed::Token>(1 + 37 * i % (vocabulary - 1));
  for (std::uint32_t i = 0; i <= kTokens; ++i) {
    heed::Span<const float> logits;
#ifdef HEED_COUNT
    if (!parallel.run) heed::icount::start_region();
#endif
    const heed::Status status = i == 0 ? session.prefill(logits, {prompt, kPrompt}) : session.step(logits, token);
#ifdef HEED_COUNT
    if (!parallel.run) heed::icount::stop_region();
#endif
    if (status != heed::Status::ok) return 0;
    token = static_cast<heed::Token>(kernels.argmax(logits.data(), vocabulary));
    digest.add(kernels, token, logits);
  }
  return digest.value();
}

}  // namespace

int main() {
  const std::uint32_t alone = tell({});
  heed::Parallel parallel;
  parallel.run = kRun;
  parallel.threads = heed::port::cores();
  parallel.threshold = 0;  // split everything: handing over costs some tens of instructions
  const std::uint32_t together = tell(parallel);
  put_line("one core   ", alone);
  put_line("all cores  ", together);
  put(alone != 0 && alone == together ? "the same\n" : "DIFFERENT\n");
  return alone != 0 && alone == together ? 0 : 1;
}
