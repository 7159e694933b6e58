// SPDX-License-Identifier: Apache-2.0
// select.hpp: the kernel tables that this program carries, and the best one that this CPU runs.
#pragma once
#include "runtime/kernels.hpp"
#include "runtime/span.hpp"

namespace heed {

// The best table that runs here; never fails, portable runs everywhere. Firmware carries one table and pays nothing.
const Kernels& best_kernels();

#if !defined(HEED_SINGLE_TABLE)
// Every table in this program, best last, whether it runs here or not.
Span<const Kernels* const> all_kernels();

// Whether this CPU has the instructions of a table of all_kernels().
bool is_runnable(const Kernels& kernels);

// The table of this name, or null when this program does not carry it or this CPU cannot run it.
const Kernels* find_kernels(const char* name);
#endif

}  // namespace heed
