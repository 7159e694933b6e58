// SPDX-License-Identifier: Apache-2.0
// attend.hpp: attention over one key block on Cortex-M: portable::attend_block with loops that use what these cores
// have. No branch depends on data.
#pragma once
#include "platform/cortex_m/soft_float.hpp"
#include "platform/portable/exp2.hpp"

namespace heed::cortex_m {

// portable::score_scale on a core without an FPU, where products with powers of two and comparisons are integer
// operations. Scores below what a float can scale are flat.
__attribute__((noinline)) inline portable::ScoreScale score_scale(std::int32_t max, float unscaled, int key_exponent) {
  const std::uint32_t u = bits_of(unscaled);
  const int field = static_cast<int>(u >> 23) + key_exponent;
  if (field < 127 - 40 - 25 || static_cast<std::int32_t>(u) < 0) return {0, 0, 0, 2 + 1024};
  const float factor = float_of(field > 254 ? 0x7F800000u : u + (static_cast<std::uint32_t>(key_exponent) << 23));
  float score = static_cast<float>(max) * factor;
  const std::uint32_t s_bits = bits_of(score);
  if ((s_bits & 0x7FFFFFFFu) > 0x49800000u) score = float_of((s_bits & 0x80000000u) | 0x49800000u);  // 2^20
  portable::ScoreScale s;
  s.reference = round_to_int(score);
  const float rest = static_cast<float>(s.reference) - score;
  const bool below = static_cast<std::int32_t>(bits_of(rest)) < 0;
  s.reference += below;
  s.start = round_to_int(times_power(below ? rest + 1.0f : rest, 1024.0f)) + 2 + 1024;
  s.shift = 15 - (field + 25 - 126);
  s.mantissa = static_cast<std::int32_t>((((u & 0x7FFFFFu) | 0x800000u) + 256u) >> 9);
  if (s.mantissa > 32767 || s.shift < 0) s.mantissa = 32767;
  s.shift = s.shift < 0 ? 0 : s.shift > 31 ? 31 : s.shift;
  return s;
}

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

  // Weights of the visible keys relative to the block (SPEC.md 2.6), in `folded` with the value's exponent; returns the
  // sum of the unfolded ones. A distance is below 2^31 because head_dim is at most kMaxHeadDim. The rounding shift by n,
  // (v + 2^(n-1)) >> n, is a shift that leaves the rounding in the carry.
  __attribute__((noinline)) static std::uint32_t weigh_keys(std::int16_t* folded, const std::int32_t* scores,
                                                            std::int32_t max, const portable::ScoreScale& scale,
                                                            const std::int8_t* value_exponents,
                                                            std::int32_t value_exponent, std::uint32_t visible) {
    // Start and rounding enter with the product, 15 bits higher.
    const std::int32_t start = (scale.start << 15) + (1 << 14);
    const std::int8_t* const end = value_exponents + visible;
    std::uint32_t sum = 0, e, t = visible;
#define HEED_KEY                            \
    "ldr %[t], [%[u]], #4\n\t"                \
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
    "lsr %[e], %[e], %[t]\n\t"                \
    "strh %[e], [%[f]], #2\n\t"
    __asm__ volatile("lsrs %[t], %[t], #1\n\tbcs 2f\n\t1:\n\t" HEED_KEY "2:\n\t" HEED_KEY "cmp %[x], %[end]\n\tbne 1b"
                     : [u] "+r"(scores), [f] "+r"(folded), [x] "+r"(value_exponents), [sum] "+r"(sum), [t] "+r"(t),
                       [e] "=&r"(e)
                     : [max] "r"(max), [shift] "r"(scale.shift), [mantissa] "r"(scale.mantissa), [start] "r"(start),
                       [exp2] "r"(portable::kExp2.values), [ve] "r"(value_exponent), [end] "r"(end)
                     : "cc", "memory");
#undef HEED_KEY
    return sum;
  }
};

// Core::scores(dst, queries, index, block, visible) sets dot products as Core::scale_scores expects them; Core::weigh
// adds what Core::weigh_keys gives times the values, and expects zeros behind the last visible key, up to a multiple of
// Core::kKeyStep.
template <class Core>
void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                  std::int32_t* reference) {
  alignas(8) std::int32_t scores[kBlockKeys];
  alignas(8) std::int16_t folded[kBlockKeys];
  std::uint32_t visible = q.visible, left_in_run = q.per_position;
  for (std::uint32_t i = 0; i < q.n; ++i) {
    const std::uint32_t index = q.first + i;
    Core::scores(scores, q.queries, index, block, visible);
    const std::int32_t max = Core::scale_scores(scores, block, visible);
    const portable::ScoreScale scale =
        score_scale(max, q.queries.scales[index] * q.factor, block.key_exponent_maxima[visible - 1]);
    const std::int32_t value_exponent = block.value_exponent_maxima[visible - 1];
    for (std::uint32_t k = visible & ~(Core::kKeyStep - 1); k < round_up(visible, Core::kKeyStep); ++k) folded[k] = 0;
    if (kBuiltFeatures.pattern_tap && weights) {
      std::int8_t unfolded[kBlockKeys];
      for (std::uint32_t k = 0; k < visible; ++k) unfolded[k] = static_cast<std::int8_t>(value_exponent);
      Core::weigh_keys(folded, scores, max, scale, unfolded, value_exponent, visible);
      for (std::uint32_t k = 0; k < visible; ++k) weights[k] = static_cast<std::uint16_t>(folded[k]);
      *reference = scale.reference;
    } else {
      const std::uint32_t denominator =
          Core::weigh_keys(folded, scores, max, scale, block.value_exponents, value_exponent, visible);
      std::int32_t& old_reference = sums.references[index];
      const std::int32_t merged = old_reference > scale.reference ? old_reference : scale.reference;
      const float keep = pow2_or_zero(old_reference - merged);
      const float add = pow2_or_zero(scale.reference - merged);
      old_reference = merged;
      sums.denominators[index] =
          times_power(sums.denominators[index], keep) + times_power(static_cast<float>(denominator), add);
      Core::weigh(sums.numerators + std::size_t{index} * block.head_dim, folded, block, visible, keep,
                  times_power(add, pow2(value_exponent)));
    }
    if (--left_in_run == 0) {
      left_in_run = q.per_position;
      if (visible < q.visible_limit) ++visible;
    }
  }
}

}  // namespace heed::cortex_m
