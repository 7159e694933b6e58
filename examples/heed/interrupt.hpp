// SPDX-License-Identifier: Apache-2.0
// interrupt.hpp: Ctrl-C asks a command to finish what it is doing and to print what it has; a second one ends it at
// once.
#pragma once

namespace heed::tool {

// While it lives, the first SIGINT or SIGTERM is only noted, and the next one has its usual effect. A signal that is
// ignored (nohup, a job in the background) stays ignored.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // The signal that came, or 0.
  int signal() const;
};

// Thrown when an interrupted command has printed what it had: main ends with the status that shells expect, 128 +
// signal.
struct Interrupted {
  int signal;
};

}  // namespace heed::tool
