// SPDX-License-Identifier: Apache-2.0
// registers.hpp: included first where assembly takes every register, so that no option of the program takes one away: -O0,
// -Og and -fno-omit-frame-pointer keep r7 as a frame pointer.
#pragma once

#if !defined(__clang__)
#if !defined(__OPTIMIZE__)
#pragma GCC optimize("Os", "omit-frame-pointer", "inline")
#elif !defined(HEED_FRAME_POINTER_OMITTED)  // CMakeLists.txt says both; a pragma keeps link-time optimisation from some bytes
#pragma GCC optimize("omit-frame-pointer")
#endif
#elif !defined(__OPTIMIZE__)
#error "clang needs -O1 or more and -fomit-frame-pointer for heed's platform/cortex_m; or define HEED_PORTABLE for the whole program"
#else
// Clang has no such pragma and no macro that tells, so here it says "write to reserved register" beside the advice.
namespace heed {
[[gnu::used]] static void need_r7() {
  register int r7 __asm__("r7");
  __asm__ volatile("" : "=r"(r7));  // compile platform/cortex_m with -fomit-frame-pointer, or define HEED_PORTABLE everywhere
}
}  // namespace heed
#endif
