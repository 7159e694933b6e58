// SPDX-License-Identifier: Apache-2.0
// attend.hpp: attention over one key block on cores with the DSP extension: portable::attend_block four keys at a
// time. No branch depends on data.
#pragma once
#include <arm_acle.h>

#include "platform/cortex_m/m4/scores.hpp"
#include "platform/cortex_m/m4/values.hpp"
#include "platform/portable/exp2.hpp"

namespace heed::pair {

// The factors of portable::kExp2, high ones first: 448 bytes less than the table, for seven instructions more per key.
struct Exp2Factors {
  std::int16_t values[32];
};
constexpr Exp2Factors make_exp2_factors() {
  Exp2Factors t{};
  for (int i = 0; i < 16; ++i) t.values[i] = kExp2High[i], t.values[16 + i] = kExp2Low[i];
  return t;
}
inline constexpr Exp2Factors kExp2Factors = make_exp2_factors();

// Quads of scores become weights of 16 bits relative to the block (SPEC.md 2.6) and with the values' exponents, eight
// bytes of every sixteen from `weights`, which may begin where the scores do; returns the sum of the weights without these
// exponents. A distance is below 2^31 because head_dim is at most kMaxHeadDim. The rounding shift by n,
// (v + 2^(n-1)) >> n, is a shift that leaves the rounding in the carry; register shifts by 32 and more give 0.
__attribute__((noinline)) inline std::uint32_t weigh_keys(const std::int32_t* scores, std::int32_t* weights,
                                                          std::uint32_t quads, std::int32_t max,
                                                          const portable::ScoreScale& scale) {
  // The sum stays below 2^22; above it counts what is left.
  register std::uint32_t sum __asm__("r5") = 0u - (quads << 24);
  register std::int32_t r6 __asm__("r6") = max;
  register std::int32_t r7 __asm__("r7") = scale.shift;
  register std::int32_t r8 __asm__("r8") = scale.mantissa;
  // Start and rounding enter with the product, 15 bits higher.
  register std::int32_t r9 __asm__("r9") = (scale.start << 15) + (1 << 14);
  register const void* r10 __asm__("r10") = &kExp2Factors;
  if (kBuiltFeatures.speed) r10 = portable::kExp2.values;
  register const std::int32_t* r12 __asm__("r12") = scores;
  register std::int32_t* lr __asm__("lr") = weights;
#define HEED_KEY(u)                        \
  "sub " u ", r6, " u "\n\t"               \
  "lsr " u ", " u ", r7\n\t"               \
  "usat " u ", #15, " u "\n\t"             \
  "mla " u ", " u ", r8, r9\n\t"           \
  ".if %c[table]\n\t"                      \
  "ubfx r4, " u ", #17, #8\n\t"            \
  "ldrh r4, [r10, r4, lsl #1]\n\t"         \
  ".else\n\t"                              \
  "ubfx r11, " u ", #17, #4\n\t"           \
  "ubfx r4, " u ", #21, #4\n\t"            \
  "add r11, r10, r11, lsl #1\n\t"          \
  "ldrh r4, [r10, r4, lsl #1]\n\t"         \
  "ldrh r11, [r11, #32]\n\t"               \
  "smulbb r4, r4, r11\n\t"                 \
  "add r4, r4, #0x4000\n\t"                \
  "lsrs r4, r4, #15\n\t"                   \
  "lsls r4, r4, #1\n\t"                    \
  ".endif\n\t"                             \
  "lsrs " u ", " u ", #25\n\t"             \
  "lsrs.w " u ", r4, " u "\n\t"            \
  "adc " u ", " u ", #0\n\t"               \
  "add r5, " u "\n\t"
  __asm__ volatile(
      "1:\n\t"
      ".if %c[table]\n\t"
      "ldmia.w r12!, {r0-r3, r11}\n\t"
      ".else\n\t"
      "ldmia.w r12!, {r0-r3}\n\t"
      ".endif\n\t"
      HEED_KEY("r0") HEED_KEY("r1") HEED_KEY("r2") HEED_KEY("r3")
      ".if !%c[table]\n\t"
      "ldr r11, [r12], #4\n\t"
      ".endif\n\t"
      "lsrs r0, r11\n\tlsr r11, r11, #8\n\t"
      "lsrs r1, r11\n\tlsr r11, r11, #8\n\t"
      "lsrs r2, r11\n\tlsr r11, r11, #8\n\t"
      "lsrs r3, r11\n\t"
      "pkhbt r0, r0, r1, lsl #16\n\t"
      "pkhbt r2, r2, r3, lsl #16\n\t"
      "strd r0, r2, [lr], #16\n\t"
      "adds r5, r5, #0x1000000\n\t"
      "bmi 1b"
      : "+r"(sum), "+r"(r12), "+r"(lr)
      : "r"(r6), "r"(r7), "r"(r8), "r"(r9), "r"(r10), [table] "i"(kBuiltFeatures.speed ? 1 : 0)
      : "r0", "r1", "r2", "r3", "r4", "r11", "cc", "memory");
#undef HEED_KEY
  return sum;
}

// What one call of attend_block is about.
struct AttendCall {
  const AttentionSums& sums;
  const BlockQueries& q;
  const KvBlock& block;
  std::uint16_t* tapped;
  std::int32_t* reference;
  bool all_are_plain;  // portable::all_are_plain
};

// portable::score_scale for a factor that is no NaN, with the conversions of the FPU.
inline portable::ScoreScale score_scale(std::int32_t max, float factor) {
  const std::uint32_t bits = bits_of(factor);
  if (static_cast<std::int32_t>(bits) < 0x1F000000) return {0, 0, 0, 2 + 1024};  // 2^-65
  std::uint32_t score_bits = bits_of(static_cast<float>(max) * factor);
  if (score_bits << 1 > 0x93000000u) score_bits = (score_bits & 0x80000000u) | 0x49800000u;  // 2^20
  const float score = float_of(score_bits);
  portable::ScoreScale s;
  s.reference = static_cast<std::int32_t>(score);
  if (static_cast<float>(s.reference) < score) ++s.reference;
  float start = (static_cast<float>(s.reference) - score) * 1024.0f;
  __asm__("vcvtr.s32.f32 %1, %1\n\tvmov %0, %1" : "=r"(s.start), "+t"(start));
  s.start += 2 + 1024;
  s.shift = 116 - static_cast<std::int32_t>(bits >> 23);
  s.mantissa = static_cast<std::int32_t>(((bits & 0x7FFFFFu) + 0x800100u) >> 9);
  if (s.mantissa > 32767 || s.shift < 0) s.mantissa = 32767;
  s.shift = __usat(s.shift, 5);
  return s;
}

// The same of a query that may not see all keys alike.
__attribute__((noinline)) inline portable::ScoreScale scale_of_seen(const AttendCall& call, std::uint32_t index,
                                                                    std::uint32_t visible, std::int32_t* scores,
                                                                    std::int32_t& max, float factor) {
  static_assert(kQuadWords == 5);
  const std::uint32_t i = index - call.q.first, run = i / call.q.per_position;
  return portable::scale_of_seen(
      max, portable::sight_of_differing(call.q, run, i - run * call.q.per_position, visible),
      [=](std::uint32_t k) __attribute__((always_inline)) -> std::int32_t& { return scores[k + k / 4]; },
      [=](std::int32_t largest) { return score_scale(largest, factor); }, [=] { return factor; });
}

// Makes the weights of query `index` from its scores, eight of 0 behind them, and merges their sum.
__attribute__((noinline)) inline Worth merge_weights(const AttendCall& call, std::uint32_t index, std::uint32_t visible,
                                                     std::int32_t* scores, std::int32_t* weights, std::int32_t max) {
  const float factor =
      call.q.queries.scales[index] * call.q.factor * pow2(call.block.key_exponent_maxima[visible - 1]);
  const portable::ScoreScale scale = portable::kKeysDiffer && !call.all_are_plain
                                         ? scale_of_seen(call, index, visible, scores, max, factor)
                                         : score_scale(max, factor);
  const std::uint32_t quads = (visible + 3) / 4, seen_of_last = (visible - 1) % 4 + 1;
  // What is behind the last key keeps its whole weight, which is taken off again.
  if (!kUnrolled || seen_of_last != 4)
    scores[quads * kQuadWords - 1] &= static_cast<std::int32_t>(~0u >> (32 - 8 * seen_of_last));
  if (kBuiltFeatures.pattern_tap && call.tapped)
    for (std::uint32_t i = 1; i <= quads; ++i) scores[i * kQuadWords - 1] = 0;
  std::uint32_t denominator = weigh_keys(scores, weights, quads, max, scale);
  std::int32_t* const behind = weights + 4 * quads;
  auto* const last_weights = reinterpret_cast<std::int16_t*>(behind - 4);
  if (!kUnrolled || seen_of_last != 4)
    for (std::uint32_t k = seen_of_last; k < 4; ++k) {
      denominator -= static_cast<std::uint32_t>(last_weights[k]);
      last_weights[k] = 0;
    }
  if (kBuiltFeatures.speed) behind[0] = behind[1] = behind[4] = behind[5] = 0;
  if (kBuiltFeatures.pattern_tap && call.tapped) {
    for (std::uint32_t k = 0; k < visible; ++k)
      call.tapped[k] = reinterpret_cast<const std::uint16_t*>(weights + (k & ~3u))[k & 3];
    *call.reference = scale.reference;
    return {};
  }
  std::int32_t& old_reference = call.sums.references[index];
  const std::int32_t merged = old_reference > scale.reference ? old_reference : scale.reference;
  Worth worth{pow2_or_zero(old_reference - merged), pow2_or_zero(scale.reference - merged)};
  old_reference = merged;
  call.sums.denominators[index] =
      call.sums.denominators[index] * worth.keep + static_cast<float>(denominator) * worth.add;
  worth.add *= pow2(call.block.value_exponent_maxima[visible - 1]);
  return worth;
}

// The last one to three dimensions of one query.
inline void weigh_rest(float* numerators, const KvBlock& block, std::uint32_t visible, const std::int32_t* weights,
                       const Worth& worth) {
  for (std::uint32_t d = block.value_dim & ~3u; d < block.value_dim; ++d) {
    std::int32_t sum = 0;
    const auto* p = reinterpret_cast<const std::int16_t*>(weights);
    const std::int8_t* v = block.values + d * block.capacity;
    for (std::uint32_t k = 0; k < visible; ++k, p += k % 4 ? 1 : 5) sum += *p * v[k];
    numerators[d] = portable::merge_numerator(numerators[d], sum, worth.keep, worth.add);
  }
}

inline void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                         std::int32_t* reference) {
  constexpr std::uint32_t kTogether = kBuiltFeatures.speed ? 2 : 1;
  const AttendCall call{sums, q, block, weights, reference, portable::all_are_plain(q)};
  alignas(8) std::int32_t scores[kTogether * kScoreWords];
  ValueSums job;
  job.weights = scores;
  job.values = block.values;
  const std::uint32_t value_dim = block.value_dim, quads = value_dim & ~3u;
  float* numerators = sums.numerators + std::size_t{q.first} * value_dim;
  std::uint32_t visible = q.visible, left_in_run = q.per_position, index = q.first, left = q.n;
  if constexpr (kUnrolled) {
    // Two queries at a time; a last one, and heads of other sizes, are left.
    const auto next = [&] {
      const std::uint32_t seen = visible;
      if (--left_in_run == 0) {
        left_in_run = q.per_position;
        if (visible < q.visible_limit) ++visible;
      }
      return seen;
    };
    for (; left >= 2 && value_dim == quads && block.head_dim <= kTwoHeadDim; left -= 2, index += 2) {
      const std::uint32_t first = next(), second = next(), keys = round_up(second, 4);
      std::int32_t max[2];
      score_two_queries(scores, q.queries, index, block, second, first, max);
      job.gap = 8 - 4 * keys;
      job.next_gap = 4 * (block.capacity - keys) - 8;
      job.weights_end = scores + keys;
      job.numerators[0] = numerators;
      numerators += value_dim;
      job.numerators_end = job.numerators[1] = numerators;
      numerators += value_dim;
      job.skipped = sums.references[index] == kFreshReference;  // of the first block, whatever the data
      job.worth[0] = merge_weights(call, index, first, scores, scores, max[0]);
      job.worth[1] = merge_weights(call, index + 1, second, scores + kScoreWords, scores + 2, max[1]);
      weigh_values_of_two(job);
    }
  }
  while (left) {
    std::uint32_t seen[kTogether], n = 0;
    do {
      seen[n++] = visible;
      --left;
      if (--left_in_run == 0) {
        left_in_run = q.per_position;
        if (visible < q.visible_limit) ++visible;
      }
    } while (n < kTogether && left);
    std::int32_t max[kTogether];
    const bool two = n == 2;
    if (two && seen[0] == seen[kTogether - 1] && block.head_dim <= kTwoHeadDim)
      score_two_queries(scores, q.queries, index, block, seen[0], seen[0], max);
    else
      for (std::uint32_t i = 0; i < n; ++i)
        max[i] = score_keys(scores + i * kScoreWords, q.queries, index + i, block, seen[i]);
    const std::uint32_t keys = round_up(seen[n - 1], two && kUnrolled ? 4 : kRoundKeys);
    job.weights_end = scores + keys;
    job.gap = job.next_gap = 4 * (block.capacity - keys);
    job.skipped = 8;
    job.numerators[0] = numerators;
    job.numerators[1] = numerators + 2;
    job.numerators_end = numerators + quads;
    if (two) {
      job.gap = 8 - 4 * keys;
      job.next_gap -= 8;
      job.skipped = 0;
      job.numerators[1] = numerators + value_dim;
    }
    for (std::uint32_t i = 0; i < n; ++i, ++index, numerators += value_dim) {
      job.worth[i] = merge_weights(call, index, seen[i], scores + i * kScoreWords, scores + 2 * i, max[i]);
      if (kBuiltFeatures.pattern_tap && weights) return;
      if (value_dim != quads) weigh_rest(numerators, block, seen[i], scores + 2 * i, job.worth[i]);
    }
    if (!two) job.worth[1] = job.worth[0];
    if (quads == 0) continue;
    if (kUnrolled && two)
      weigh_values_of_two(job);
    else
      weigh_values(job);
  }
}

inline void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t value_dim) {
  const float inverse = 1.0f / denominator;
  const float* const end = numerators + value_dim;
  if (kUnrolled)
    for (std::uint32_t n = value_dim / 8; n; --n)
      __asm__ volatile(
          "vldmia %[from]!, {s0-s7}\n\t"
          "vmul.f32 s0, s0, %[by]\n\tvmul.f32 s1, s1, %[by]\n\tvmul.f32 s2, s2, %[by]\n\tvmul.f32 s3, s3, %[by]\n\t"
          "vmul.f32 s4, s4, %[by]\n\tvmul.f32 s5, s5, %[by]\n\tvmul.f32 s6, s6, %[by]\n\tvmul.f32 s7, s7, %[by]\n\t"
          "vstmia %[to]!, {s0-s7}"
          : [from] "+r"(numerators), [to] "+r"(dst)
          : [by] "t"(inverse)
          : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "memory");
  for (const float* const last = end - value_dim % 4; numerators != last;)
    __asm__ volatile(
        "vldmia %[from]!, {s0-s3}\n\t"
        "vmul.f32 s0, s0, %[by]\n\tvmul.f32 s1, s1, %[by]\n\tvmul.f32 s2, s2, %[by]\n\tvmul.f32 s3, s3, %[by]\n\t"
        "vstmia %[to]!, {s0-s3}"
        : [from] "+r"(numerators), [to] "+r"(dst)
        : [by] "t"(inverse)
        : "s0", "s1", "s2", "s3", "memory");
  while (numerators != end) *dst++ = *numerators++ * inverse;
}

}  // namespace heed::pair
