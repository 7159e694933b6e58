// SPDX-License-Identifier: Apache-2.0
// limits.hpp: what this machine could do at best, measured in the same run as what heed does.
#pragma once
#include <cstdint>

#include "runtime/parallel.hpp"

namespace heed::tool {

// Bytes per second at which the threads together read a buffer of this size over and over, each its own part, with
// the widest loads of the table called `isa`. 0 when there is no memory for the buffer.
double read_bandwidth(const Parallel& parallel, std::uint64_t bytes, const char* isa);

// int8 multiply-adds per second of the multiplying instructions that the table called `isa` is built on, in registers,
// on all threads. 0 where the table has none (portable).
double int8_peak(const Parallel& parallel, const char* isa);

}  // namespace heed::tool
