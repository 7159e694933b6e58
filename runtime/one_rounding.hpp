// SPDX-License-Identifier: Apache-2.0
// one_rounding.hpp: the first include of every source file of runtime/ and of every kernel table, and of no header: no
// product is fused with a sum (SPEC.md, part 2), also where the compiler was not told -ffp-contract=off. Our CMake tells it
// and says so by HEED_CONTRACTION_OFF, because GCC does not inline what carries the pragma into what does not.
#pragma once

#if !defined(HEED_CONTRACTION_OFF)
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
#endif
