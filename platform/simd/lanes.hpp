// SPDX-License-Identifier: Apache-2.0
// lanes.hpp: float and int32 lanes, through xsimd, for the vector kernels. Only these of xsimd's operations are used:
// load, store, +, -, *, comparison, select and bit operations; the others differ between CPUs (SPEC.md, part 2).
#pragma once
#include <cstdint>
#include <cstring>

// g++ 12 takes the undefined operand inside its own AVX-512 intrinsics for a mistake.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <xsimd/xsimd.hpp>
#pragma GCC diagnostic pop

#include "runtime/kernels.hpp"

// Everything here must vanish into a kernel that carries its Arch in its name: see tests/check_symbols.sh.
#define HEED_INLINE [[gnu::always_inline]] inline
#define HEED_LAMBDA __attribute__((always_inline))

namespace heed::simd {

// The integer operations that xsimd lacks, on one Arch: words_*.hpp specialise it.
template <class Arch>
struct Words;

template <class Arch>
struct Lanes {
  using W = Words<Arch>;
  using F = xsimd::batch<float, Arch>;
  using I = xsimd::batch<std::int32_t, Arch>;
  static constexpr std::uint32_t kLanes = W::kLanes;
  static_assert(F::size == kLanes && I::size == kLanes);

  // Not xsimd's bitwise_cast, whose form differs between its versions and whose NEON one leaves untagged symbols.
  HEED_INLINE static I bits(F x) { return W::bits(x); }
  HEED_INLINE static F floats(I x) { return W::floats(x); }

  // The first `left` floats at p and zeros; nothing behind them is read.
  HEED_INLINE static F load(const float* p, std::uint32_t left) {
    return left >= kLanes ? F::load_unaligned(p) : F(W::load_first(p, left));
  }
  HEED_INLINE static void store(float* p, F x, std::uint32_t left) {
    if (left >= kLanes)
      x.store_unaligned(p);
    else
      W::store_first(p, x, left);
  }

  // numerics.hpp's to_s16 and magnitude_bits.
  HEED_INLINE static I to_s16(F x, F scale) {
    const F y = W::clamp(x * scale, F(-32767.0f), F(32767.0f));
    return bits(xsimd::select(y == y, y, F(0.0f)) + F(kRoundToInt)) - I(0x4B400000);
  }
  // The same when |x * scale| <= 32768, but for -32768 and 32768, which narrowing to 16 bits has to deal with.
  HEED_INLINE static I to_s16_regular(F x, F scale) {
    return bits(x * scale + F(kRoundToInt)) - I(0x4B400000);
  }
  HEED_INLINE static I magnitude_bits(F x) {
    const I u = bits(x) & I(0x7FFFFFFF);
    return select(u > I(0x7F800000), I(0), u);
  }
  template <class Mask>
  HEED_INLINE static I select(const Mask& mask, I x, I y) {
    if constexpr (W::kSelects)
      return W::select(mask, x, y);
    else
      return xsimd::select(mask, x, y);
  }

  HEED_INLINE static I max(I a, I b) { return W::max32(a, b); }
  HEED_INLINE static I magnitude(I x) { return W::magnitude32(x); }

  // Calls f(i, left) for each vector of n elements; `left` is a constant but for the last one.
  template <class Body>
  HEED_INLINE static void for_each(std::uint32_t n, Body f) {
    std::uint32_t i = 0;
    for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
    if (i < n) f(i, n - i);
  }
};

}  // namespace heed::simd
