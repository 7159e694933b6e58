// SPDX-License-Identifier: Apache-2.0
// no_heap_test.cpp: from open to the last token nothing calls the heap, on any thread.
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

#include "platform/linux/thread_pool.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"

namespace {

std::atomic<bool> watching{false};
std::atomic<int> calls{0};
void count() {
  if (watching.load(std::memory_order_relaxed)) calls.fetch_add(1);
}

}  // namespace

// The address sanitizer has its own heap and tells of every call; elsewhere the C library's names are taken over.
// What operator new and new[] do ends in malloc or aligned_alloc.
#if defined(HEED_TEST_ASAN)
// In clang's <sanitizer/allocator_interface.h>, which GCC does not install.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, std::size_t),
                                                         void (*)(const volatile void*));
static const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { count(); }, [](const volatile void*) { count(); });
#elif defined(__GLIBC__)
static const int installed = 1;
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
void* malloc(std::size_t n) {
  count();
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  count();
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  count();
  return __libc_realloc(p, n);
}
void* memalign(std::size_t align, std::size_t n) {
  count();
  return __libc_memalign(align, n);
}
void* aligned_alloc(std::size_t align, std::size_t n) {
  count();
  return __libc_memalign(align, n);
}
int posix_memalign(void** p, std::size_t align, std::size_t n) {
  count();
  *p = __libc_memalign(align, n);
  return *p ? 0 : ENOMEM;
}
void free(void* p) {
  count();
  __libc_free(p);
}
}
#else
static const int installed = 0;
#endif

namespace {

using namespace heed;
using namespace heed::test;

struct Heapless {
  Status status = Status::ok;
  int calls = 0;
  std::uint32_t tokens = 0, text_bytes = 0, digest = 0;
};

// Everything between open and the last token. All memory exists before.
Heapless tell(const Kernels& kernels, Span<const std::uint8_t> image, const Parallel& parallel, Span<std::byte> arena,
              Span<std::byte> sampler_scratch, Span<std::byte> tokenizer_scratch, Span<Token> prompt_room,
              Span<char> out) {
  Heapless result;
  const auto run = [&]() -> Status {
    Model model;
    if (const Status s = open(model, image, kernels); s != Status::ok) return s;
    if (const Status s = verify(model, kernels); s != Status::ok) return s;
    Plan plan;
    if (const Status s = make_plan(plan, model.config(), kernels.traits); s != Status::ok) return s;
    Tokenizer tokenizer;
    if (const Status s = open(tokenizer, model.tokenizer(), model.config().main().vocab_size); s != Status::ok) return s;
    Session session;
    if (const Status s = create(session, model, plan, kernels, arena); s != Status::ok) return s;
    session.set_parallel(parallel);
    Sampler sampler;
    const SamplerConfig warm = warm_sampler();
    if (const Status s = create(sampler, warm, model.config().main().vocab_size, kernels, sampler_scratch); s != Status::ok)
      return s;
    std::uint32_t n_prompt = 0;
    const char text[] = "the rain in Spain stays mainly in the plain";
    if (const Status s = tokenizer.encode(n_prompt, {text, sizeof text - 1}, {}, prompt_room, tokenizer_scratch);
        s != Status::ok)
      return s;
    Span<const float> logits;
    if (const Status s = session.prefill(logits, prompt_room.subspan(0, n_prompt)); s != Status::ok) return s;
    Digest digest;
    StreamDecoder decoder;
    while (result.tokens < 50) {
      Token token;
      if (const Status s = sampler.pick(token, logits); s != Status::ok) return s;
      digest.add(kernels, token, logits);
      std::uint32_t written = 0;
      if (const Status s = decoder.push(written, tokenizer, token, out); s != Status::ok) return s;
      result.text_bytes += written;
      ++result.tokens;
      if (const Status s = session.step(logits, token); s != Status::ok) return s;
    }
    result.digest = digest.value();
    return Status::ok;
  };
  calls.store(0);
  watching.store(true);
  result.status = run();
  watching.store(false);
  result.calls = calls.load();
  return result;
}

void check_no_heap(const quant::ImageBytes& image) {
  for (const Kernels* k : runnable_kernels()) {
    for (const std::uint32_t threads : {1u, 3u}) {
      INFO(k->traits.name << ", " << threads << " threads");
      Model model;
      Plan plan;
      REQUIRE(open(model, bytes(image), *k) == Status::ok);
      REQUIRE(make_plan(plan, model.config(), k->traits) == Status::ok);
      GuardedArena arena(plan.arena_bytes, plan.arena_align);
      std::vector<std::uint32_t> sampler_scratch(model.config().main().vocab_size), tokenizer_scratch(1000);
      std::vector<Token> prompt(100);
      std::vector<char> out(3 * 256);
      ThreadPool pool;
      REQUIRE(pool.start(threads));
      Parallel parallel = pool.parallel();
      parallel.threshold = 0;
      // A thread's own beginning may use the heap, so all of them meet in one job: a part ends when each has one.
      std::atomic<std::uint32_t> arrived{0};
      for_each_part(parallel, threads, [&](std::uint32_t) {
        arrived.fetch_add(1);
        while (arrived.load() < threads) sched_yield();
      });
      const Heapless result =
          tell(*k, bytes(image), parallel, arena.span(),
               {reinterpret_cast<std::byte*>(sampler_scratch.data()), sampler_scratch.size() * 4},
               {reinterpret_cast<std::byte*>(tokenizer_scratch.data()), tokenizer_scratch.size() * 4}, prompt, out);
      CHECK(result.status == Status::ok);
      CHECK(result.calls == 0);
      CHECK(result.tokens == 50);
      CHECK(result.text_bytes > 0);
      CHECK(arena.intact());
    }
  }
}

}  // namespace

TEST_CASE("the heap is being watched", "[heap]") {
  REQUIRE(installed > 0);
  calls.store(0);
  watching.store(true);
  void* volatile a = std::malloc(10);
  std::free(a);
  char* volatile b = new char[10];
  delete[] b;
  auto* volatile c = new (std::align_val_t{64}) char[64];
  operator delete[](c, std::align_val_t{64});
  watching.store(false);
  CHECK(calls.load() >= 6);
}

TEST_CASE("a random image runs without the heap", "[heap]") {
  StackConfig c = edge_configs()[0].config;
  c.vocab_size = c.n_outputs = 300;
  check_no_heap(random_image(c, Layout::packed, 91, bytes(small_tokenizer(300))));
}

TEST_CASE("stories260K runs without the heap", "[heap][data]") {
  const quant::ImageBytes& image = stories_image();
  if (!image.empty()) check_no_heap(image);
}
