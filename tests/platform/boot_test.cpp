// SPDX-License-Identifier: Apache-2.0
// Boots a board: what main may rely on, and what happens when a program goes wrong. Words of the command line pick the case.
#include "platform/baremetal/semihosting.hpp"
#include "platform/baremetal/stack_paint.hpp"

namespace {

namespace semihosting = heed::semihosting;
namespace stack_paint = heed::stack_paint;

struct Constructed {
  int value;
  explicit Constructed(int start) : value(start) { ++value; }
  ~Constructed() { value = 0; }  // makes the compiler register it, which must not need a heap
};

volatile int opaque_41 = 41;
Constructed constructed(opaque_41);
volatile std::uint32_t initialised[3] = {0x01234567, 0x89ABCDEF, 7};
volatile std::uint32_t cleared[5];
alignas(64) __attribute__((section(".heed_arena"))) unsigned char arena[1024];
extern const unsigned char model[4];
alignas(64) __attribute__((section(".heed_model"), used)) const unsigned char model[4] = {'h', 'e', 'e', 'd'};

int failures = 0;

void check(const char* what, bool ok) {
  if (ok) return;
  ++failures;
  semihosting::put_text("FAILED: ");
  semihosting::put_text(what);
  semihosting::put_text("\n");
}

bool same(const char* left, const char* right) {
  while (*left != '\0' && *left == *right) ++left, ++right;
  return *left == *right;
}

// At least `bytes` of stack, in frames of 64 to about 100.
__attribute__((noinline)) std::uint32_t dig(std::uint32_t bytes) {
  volatile std::uint32_t frame[16];
  frame[bytes % 16] = bytes;  // any element, so that no compiler makes the frame smaller
  if (bytes > 64) frame[1] = dig(bytes - 64);
  return frame[bytes % 16] + 1;
}

void check_stack() {
  stack_paint::paint();
  const std::size_t before = stack_paint::peak_bytes();
  dig(1024);
  const std::size_t after = stack_paint::peak_bytes();
  check("stack use before", before > 0 && before < 512);
  check("stack use of 1 KiB is seen", after >= before + 1024 - 64 && after < before + 2048);
  semihosting::put_text("stack: before ");
  semihosting::put_decimal(before);
  semihosting::put_text(", after 1 KiB ");
  semihosting::put_decimal(after);
  semihosting::put_text(", of ");
  semihosting::put_decimal(stack_paint::size_bytes());
  semihosting::put_text("\n");
}

void go_wrong(const char* how) {
  volatile int zero = 0;
  if (same(how, "undefined")) __asm__ volatile("udf #0");
  if (same(how, "divide")) zero = 1000 / zero;
  if (same(how, "overflow")) dig(0x1000000);
  if (same(how, "unaligned")) {  // only ARMv6-M has to refuse it
    unsigned char* odd = arena + 1;
    __asm__ volatile("str %0, [%0]" ::"l"(odd) : "memory");
  }
}

void check_file(const char* path) {
  unsigned char head[4] = {};
  const int file = semihosting::open(path, semihosting::FileMode::read);
  check("file opens", file >= 0);
  check("file has a length", semihosting::length(file) > 4);
  check("file reads", semihosting::seek(file, 2) && semihosting::read(head, file, 4) == 4 && head[0] != 0);
  check("file closes", semihosting::close(file));
}

}  // namespace

int main() {
  char line[256];
  char* words[8];
  const int n_words = semihosting::command_line(words, 8, line, sizeof line);
  check("static constructor", constructed.value == 42);
  check(".data", initialised[0] == 0x01234567 && initialised[1] == 0x89ABCDEF && initialised[2] == 7);
  for (const volatile std::uint32_t& word : cleared) check(".bss", word == 0);
  check("arena and model are aligned", reinterpret_cast<std::uintptr_t>(arena) % 64 == 0 &&
                                           reinterpret_cast<std::uintptr_t>(model) % 64 == 0 && model[3] == 'd');
#if defined(__ARM_FP)
  volatile float half = 0.5f;
  check("FPU", half * 3.0f == 1.5f);
#endif
  check_stack();
  for (int i = 1; i < n_words; ++i) {
    semihosting::put_text("argument: ");
    semihosting::put_text(words[i]);
    semihosting::put_text("\n");
  }
  if (n_words == 3 && same(words[1], "file")) check_file(words[2]);
  if (n_words == 3 && same(words[1], "fault")) go_wrong(words[2]);
  semihosting::put_decimal64(18446744073709551615u);
  semihosting::put_text(failures == 0 ? " booted\n" : " FAILED\n");
  return failures == 0 ? 0 : 1;
}
