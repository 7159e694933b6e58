// SPDX-License-Identifier: Apache-2.0
// port_mps.cpp: the port of a board with one core: its serial port, its SysTick timer, and no second core.
#include "platform/baremetal/uart.hpp"
#include "platform/port.hpp"

namespace heed::port {
namespace {

// SysTick, the same in every Cortex-M that has it: 24 bits, counting down.
volatile std::uint32_t& systick(std::uint32_t offset) {
  return *reinterpret_cast<volatile std::uint32_t*>(0xE000E010u + offset);
}
constexpr std::uint32_t kControl = 0, kReload = 4, kNow = 8, kProcessorClock = 5, kMost = 0xFFFFFF;

bool g_begun = false;
std::uint32_t g_last = 0, g_total = 0;

constexpr std::uint32_t kBitClocks = 25'000'000 / 115'200;  // MPS2's clock

}  // namespace

void log(const char* text, std::size_t bytes) {
  static bool begun = false;
  if (!begun) uart::begin(kBitClocks);
  begun = true;
  for (std::size_t i = 0; i < bytes; ++i) uart::put(text[i]);
}

// Processor clocks; to be asked at least every 2^24 of them, or some are missed.
std::uint32_t ticks() {
  if (!g_begun) {
    systick(kReload) = kMost;
    systick(kNow) = 0;
    systick(kControl) = kProcessorClock;
    g_begun = true;
  }
  const std::uint32_t now = systick(kNow);
  g_total += (g_last - now) & kMost;
  g_last = now;
  return g_total;
}

void parallel_for(void*, std::uint32_t count, void (*task)(void*, std::uint32_t), void* argument) {
  for (std::uint32_t i = 0; i < count; ++i) task(argument, i);
}

std::uint32_t cores() { return 1; }

}  // namespace heed::port
