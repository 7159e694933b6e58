// SPDX-License-Identifier: Apache-2.0
// port_an521.cpp: the port of a board with two cores that share their memory: Arm's MPS2 with AN521, an SSE-200 with two
// Cortex-M33. The second core sleeps in reset until the first parallel_for, then takes the odd parts of each.
#include "platform/baremetal/semihosting.hpp"
#include "platform/port.hpp"

namespace heed::port {
namespace {

// Of the SSE-200's system control block, by its Secure address.
volatile std::uint32_t& control(std::uint32_t offset) {
  return *reinterpret_cast<volatile std::uint32_t*>(0x50021000u + offset);
}
constexpr std::uint32_t kVectorsOfCore1 = 0x114, kCpuWait = 0x118, kCore1 = 2;

inline void barrier() { __asm__ volatile("dmb" ::: "memory"); }

// What the first core hands over; `given` and `done` count jobs, and only one core writes each.
struct Job {
  void (*task)(void*, std::uint32_t);
  void* argument;
  std::uint32_t count;
};
Job g_job;
volatile std::uint32_t g_given = 0, g_done = 0;
bool g_started = false;

constexpr std::uint32_t kStackBytes = 4096;  // as deep as a part of a product or a head goes: some hundred bytes
alignas(8) std::byte g_stack[kStackBytes];

void run_parts(std::uint32_t first) {
  const Job job = g_job;
  for (std::uint32_t i = first; i < job.count; i += 2) job.task(job.argument, i);
}

[[noreturn]] void second_core() {
  for (std::uint32_t seen = 0;;) {
    while (g_given == seen) __asm__ volatile("wfe");
    barrier();
    seen = g_given;
    run_parts(1);
    barrier();
    g_done = seen;
  }
}

[[noreturn]] void second_core_fault() {
  semihosting::put_text("\nfault: second core\n");
  semihosting::exit(99);
}

struct Vectors {
  const void* initial_stack;
  void (*handlers[15])();
};
alignas(128) const Vectors kVectors = {
    g_stack + kStackBytes,
    {second_core, second_core_fault, second_core_fault, second_core_fault, second_core_fault, second_core_fault,
     second_core_fault, second_core_fault, second_core_fault, second_core_fault, second_core_fault, second_core_fault,
     second_core_fault, second_core_fault, second_core_fault}};

}  // namespace

void log(const char* text, std::size_t bytes) {
  char line[65];
  while (bytes) {
    std::size_t n = 0;
    for (; n < sizeof line - 1 && n < bytes; ++n) line[n] = text[n];
    line[n] = '\0';
    semihosting::put_text(line);
    text += n;
    bytes -= n;
  }
}

// The board's timer 0: 32 bits, counting down.
std::uint32_t ticks() {
  auto* const timer = reinterpret_cast<volatile std::uint32_t*>(0x50000000u);
  constexpr std::uint32_t kControl = 0, kNow = 1, kReload = 2, kEnable = 1;
  if (!(timer[kControl] & kEnable)) {
    timer[kReload] = timer[kNow] = 0xFFFFFFFFu;
    timer[kControl] = kEnable;
  }
  return 0u - timer[kNow];
}

void parallel_for(void*, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  if (!g_started) {
    g_started = true;
    control(kVectorsOfCore1) = reinterpret_cast<std::uintptr_t>(&kVectors);
    barrier();
    control(kCpuWait) = control(kCpuWait) & ~kCore1;
  }
  g_job = {task, argument, count};
  barrier();
  const std::uint32_t job = g_given + 1;
  g_given = job;
  __asm__ volatile("dsb\n\tsev" ::: "memory");
  run_parts(0);
  while (g_done != job) {
  }
  barrier();
}

std::uint32_t cores() { return 2; }

}  // namespace heed::port
