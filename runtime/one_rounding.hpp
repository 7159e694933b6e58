// SPDX-License-Identifier: Apache-2.0
// one_rounding.hpp: the first include of every source file of runtime/ and of every kernel table, and of no header: every
// operation is rounded by itself and in its order (SPEC.md, part 2), also where the compiler was not told so, and where the
// linker would inline into code that was not. GCC inlines nothing that carries the pragma into what does not; our builds for
// boards, which tell all of a program, and of kernel tables, which no linker optimises, define HEED_CONTRACTION_OFF instead.
#pragma once

#if !defined(HEED_CONTRACTION_OFF)
#if defined(__clang__)
#pragma clang fp contract(off) reassociate(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off", "no-associative-math", "no-reciprocal-math", "signed-zeros")
#endif
#endif
