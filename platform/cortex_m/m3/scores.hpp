// SPDX-License-Identifier: Apache-2.0
// scores.hpp: scores of keys, their maximum and their weights on ARMv7-M without the DSP extension. No branch depends on
// data.
#pragma once
#include "platform/portable/exp2.hpp"

namespace heed::cortex_m {

// The loops over keys. In both an odd first key enters in the middle. Register shifts by 32 and more give 0 or the sign.
template <int kShift>
struct Armv7Softmax {
  // Brings the dot products in `scores` (times 2^kShift) to the block's exponent; returns the largest.
  __attribute__((noinline)) static std::int32_t scale_scores(std::int32_t* scores, const KvBlock& block, std::uint32_t visible) {
    const std::int32_t exponent = block.key_exponent_maxima[visible - 1];
    const std::int8_t* exponents = block.key_exponents;
    const std::uint8_t* mantissas = block.key_mantissas;
    const std::int32_t* const end = scores + visible;
    std::int32_t max = INT32_MIN, u;
    std::uint32_t t = visible;
#define HEED_KEY                   \
    "ldr %[u], [%[s]]\n\t"           \
    "ldrb %[t], [%[m]], #1\n\t"      \
    ".if %c[shift]\n\t"              \
    "asr %[u], %[u], %c[shift]\n\t"  \
    ".endif\n\t"                     \
    "mul %[u], %[u], %[t]\n\t"       \
    "ldrsb %[t], [%[x]], #1\n\t"     \
    "sub %[t], %[e], %[t]\n\t"       \
    "asr %[u], %[u], %[t]\n\t"       \
    "cmp %[u], %[max]\n\t"           \
    "it gt\n\t"                      \
    "movgt %[max], %[u]\n\t"         \
    "str %[u], [%[s]], #4\n\t"
    __asm__ volatile("lsrs %[t], %[t], #1\n\tbcs 2f\n\t1:\n\t" HEED_KEY "2:\n\t" HEED_KEY "cmp %[s], %[end]\n\tbne 1b"
                     : [s] "+r"(scores), [m] "+r"(mantissas), [x] "+r"(exponents), [max] "+r"(max), [t] "+r"(t),
                       [u] "=&r"(u)
                     : [e] "r"(exponent), [end] "r"(end), [shift] "i"(kShift)
                     : "cc", "memory");
#undef HEED_KEY
    return max;
  }

  // Weights of the visible keys relative to the block (SPEC.md 2.6), with the value's exponent in it, as s16 in `folded`,
  // or, where scores lie kStep > 0 apart, in their place; returns the sum of the unfolded ones. A distance is below 2^31
  // because head_dim is at most kMaxHeadDim. The rounding shift by n, (v + 2^(n-1)) >> n, is a shift that leaves the
  // rounding in the carry.
  template <int kStep = 0>
  __attribute__((noinline)) static std::uint32_t weigh_keys(std::int16_t* folded, std::int32_t* scores,
                                                            std::int32_t max, const portable::ScoreScale& scale,
                                                            const std::int8_t* value_exponents,
                                                            std::int32_t value_exponent, std::uint32_t visible) {
    // Start and rounding enter with the product, 15 bits higher.
    const std::int32_t start = (scale.start << 15) + (1 << 14);
    const std::int8_t* const end = value_exponents + visible;
    std::uint32_t sum = 0, e, t = visible;
#define HEED_KEY                            \
    "subs %[t], %[max], %[t]\n\t"             \
    "lsr %[t], %[t], %[shift]\n\t"            \
    "usat %[t], #15, %[t]\n\t"                \
    "mla %[t], %[t], %[mantissa], %[start]\n\t" \
    "ubfx %[e], %[t], #17, #8\n\t"            \
    "lsr %[t], %[t], #25\n\t"                 \
    "ldrh %[e], [%[exp2], %[e], lsl #1]\n\t"  \
    "lsrs %[e], %[e], %[t]\n\t"               \
    "adc %[e], %[e], #0\n\t"                  \
    "ldrsb %[t], [%[x]], #1\n\t"              \
    "add %[sum], %[sum], %[e]\n\t"            \
    "sub %[t], %[ve], %[t]\n\t"               \
    "lsr %[e], %[e], %[t]\n\t"
#define HEED_LOOP(load, store)                                                                                   \
    __asm__ volatile("lsrs %[t], %[t], #1\n\tbcs 2f\n\t1:\n\t" load HEED_KEY store "2:\n\t" load HEED_KEY store   \
                     "cmp %[x], %[end]\n\tbne 1b"                                                               \
                     : [u] "+r"(scores), [f] "+r"(folded), [x] "+r"(value_exponents), [sum] "+r"(sum),           \
                       [t] "+r"(t), [e] "=&r"(e)                                                                 \
                     : [max] "r"(max), [shift] "r"(scale.shift), [mantissa] "r"(scale.mantissa),                 \
                       [start] "r"(start), [exp2] "r"(portable::kExp2.values), [ve] "r"(value_exponent),         \
                       [end] "r"(end), [step] "i"(4 * kStep)                                                     \
                     : "cc", "memory")
    if constexpr (kStep == 0) {
      HEED_LOOP("ldr %[t], [%[u]], #4\n\t", "strh %[e], [%[f]], #2\n\t");
    } else {
      HEED_LOOP("ldr %[t], [%[u]]\n\t", "str %[e], [%[u]], %[step]\n\t");
    }
#undef HEED_LOOP
#undef HEED_KEY
    return sum;
  }
};

}  // namespace heed::cortex_m
