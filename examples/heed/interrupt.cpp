// SPDX-License-Identifier: Apache-2.0
// interrupt.cpp: the handler only notes the signal; commands look between two tokens.
#include "examples/heed/interrupt.hpp"

#include <atomic>
#include <csignal>

namespace heed::tool {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};
std::atomic<int> g_signal{0};  // written by whichever thread the signal comes to
static_assert(std::atomic<int>::is_always_lock_free);

void restore() {
  for (const int s : kSignals) {
    struct sigaction now;
    if (sigaction(s, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) std::signal(s, SIG_DFL);
  }
}

extern "C" void note(int signal) {
  g_signal = signal;
  restore();  // sigaction and signal may be called here
}

}  // namespace

Interrupt::Interrupt() {
  g_signal = 0;
  struct sigaction action = {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;  // what is being written is written whole
  sigemptyset(&action.sa_mask);
  for (const int s : kSignals) {
    struct sigaction before;
    if (sigaction(s, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(s, &action, nullptr);
  }
}

Interrupt::~Interrupt() { restore(); }

int Interrupt::signal() const { return g_signal; }

}  // namespace heed::tool
