// SPDX-License-Identifier: Apache-2.0
// target.hpp: the one kernel table of a build for a board, and the one layout that it eats, from what the compiler says of
// its target. So every build system gets the right ones, and may compile the sources of all tables: those of the others
// come to nothing.
//
// A program and the library must agree, so nothing here depends on options that may differ between them, such as how much
// is optimised. HEED_PORTABLE, defined for all of a program, takes plain C++ whatever the core is.
#pragma once

// A board: a Cortex-M, or whatever has no operating system that the compiler knows of.
#if defined(__ARM_ARCH_PROFILE)
#if __ARM_ARCH_PROFILE == 'M'
#define HEED_CORTEX_M 1
#endif
#endif
#if defined(HEED_CORTEX_M) || !(defined(__linux__) || defined(__unix__) || defined(__APPLE__) || defined(_WIN32) || \
                                defined(__wasm__) || defined(__Fuchsia__))

#if !defined(HEED_CORTEX_M) || defined(HEED_PORTABLE) || !defined(__GNUC__)  // GNU assembly
#define HEED_TABLE_PORTABLE 1
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)  // Helium with floats: M55, M85
#define HEED_TABLE_CORTEX_M55 1
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && (__ARM_FP & 4)  // M4, M7, M33 with an FPU that is used
#define HEED_TABLE_CORTEX_M4 1
#elif defined(__clang__)  // which has too few registers left for the assembly of the other two
#define HEED_TABLE_PORTABLE 1
#elif __ARM_ARCH_ISA_THUMB >= 2  // M3, and what lacks DSP or FPU of the above
#define HEED_TABLE_CORTEX_M3 1
#else  // M0, M0+, M1, M23
#define HEED_TABLE_CORTEX_M0 1
#endif

#if defined(HEED_TABLE_CORTEX_M55)
#define HEED_SINGLE_TABLE kernels_cortex_m55
#define HEED_SINGLE_LAYOUT block64
#elif defined(HEED_TABLE_CORTEX_M4)
#define HEED_SINGLE_TABLE kernels_cortex_m4
#define HEED_SINGLE_LAYOUT pair
#elif defined(HEED_TABLE_CORTEX_M3)
#define HEED_SINGLE_TABLE kernels_cortex_m3
#define HEED_SINGLE_LAYOUT row
#elif defined(HEED_TABLE_CORTEX_M0)
#define HEED_SINGLE_TABLE kernels_cortex_m0
#define HEED_SINGLE_LAYOUT row
#else
#define HEED_SINGLE_TABLE kernels_portable
#define HEED_SINGLE_LAYOUT row
#endif

#endif
