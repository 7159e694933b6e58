// SPDX-License-Identifier: Apache-2.0
// port.hpp: what heed asks of a board or an operating system. Three functions, each in one file per port; platform/README.md
// has the list of steps for a new one.
#pragma once
#include <cstddef>
#include <cstdint>

namespace heed::port {

// Writes text where a person sees it. The runtime never calls it: programs do.
void log(const char* text, std::size_t bytes);

// A clock that only goes forward and wraps at 2^32; its rate is the port's. Programs measure differences with it.
std::uint32_t ticks();

// Calls task(argument, i) once for each i in [0, count), in any order and on any core, and returns when all are done:
// heed::Parallel::run (runtime/parallel.hpp) for Session::set_parallel. A port with one core runs them in order.
void parallel_for(void* context, std::uint32_t count, void (*task)(void* argument, std::uint32_t index), void* argument);

// How many cores parallel_for uses.
std::uint32_t cores();

}  // namespace heed::port
