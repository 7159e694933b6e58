// SPDX-License-Identifier: Apache-2.0
// pair_attend.hpp: attention over one key block on cores with the DSP extension: portable::attend_block four keys at a
// time. No branch depends on data.
#pragma once
#include <arm_acle.h>

#include "platform/cortex_m/pair_products.hpp"
#include "platform/portable/exp2.hpp"

namespace heed::pair {

// Four scores become four weights of 16 bits in the first eight of their sixteen bytes, relative to the block (SPEC.md
// 2.6) and with the values' exponents; returns the sum of the weights without these. `n` is rounded up to four. A
// distance is below 2^31 because head_dim is at most kMaxHeadDim. The rounding shift by n, (v + 2^(n-1)) >> n, is a
// shift that leaves the rounding in the carry; register shifts by 32 and more give 0.
__attribute__((noinline)) inline std::uint32_t weigh_keys(std::int32_t* scores, std::int32_t max,
                                                          const portable::ScoreScale& scale,
                                                          const std::int8_t* value_exponents,
                                                          std::int32_t value_exponent, std::uint32_t n) {
  register std::uint32_t sum __asm__("r5") = 0;
  register std::int32_t r6 __asm__("r6") = max;
  register std::int32_t r7 __asm__("r7") = scale.shift;
  register std::int32_t r8 __asm__("r8") = scale.mantissa;
  // Start and rounding enter with the product, 15 bits higher.
  register std::int32_t r9 __asm__("r9") = (scale.start << 15) + (1 << 14);
  register const std::uint16_t* r10 __asm__("r10") = portable::kExp2.values;
  register std::int32_t* r12 __asm__("r12") = scores;
  register const std::int8_t* lr __asm__("lr") = value_exponents;
  register std::uint32_t r0 __asm__("r0") = static_cast<std::uint8_t>(value_exponent) * 0x01010101u;
  register const std::int32_t* r1 __asm__("r1") = scores + round_up(n, 4);
#define HEED_KEY(u)                        \
  "sub " u ", r6, " u "\n\t"               \
  "lsr " u ", " u ", r7\n\t"               \
  "usat " u ", #15, " u "\n\t"             \
  "mla " u ", " u ", r8, r9\n\t"           \
  "ubfx r4, " u ", #17, #8\n\t"            \
  "lsrs " u ", " u ", #25\n\t"             \
  "ldrh r4, [r10, r4, lsl #1]\n\t"         \
  "lsrs.w " u ", r4, " u "\n\t"            \
  "adc " u ", " u ", #0\n\t"               \
  "add r5, " u "\n\t"
  __asm__ volatile(
      "vmov s0, s1, r0, r1\n\t"
      "1:\n\t"
      "ldmia.w r12, {r0-r3}\n\t"
      "ldr r11, [lr], #4\n\t"
      HEED_KEY("r0") HEED_KEY("r1") HEED_KEY("r2") HEED_KEY("r3")
      "vmov r4, s0\n\t"
      "usub8 r11, r4, r11\n\t"
      "lsrs r0, r11\n\tlsr r11, r11, #8\n\t"
      "lsrs r1, r11\n\tlsr r11, r11, #8\n\t"
      "lsrs r2, r11\n\tlsr r11, r11, #8\n\t"
      "lsrs r3, r11\n\t"
      "pkhbt r0, r0, r1, lsl #16\n\t"
      "pkhbt r2, r2, r3, lsl #16\n\t"
      "strd r0, r2, [r12], #16\n\t"
      "vmov r4, s1\n\t"
      "cmp r12, r4\n\t"
      "bne 1b"
      : "+r"(sum), "+r"(r12), "+r"(lr), "+r"(r0), "+r"(r1)
      : "r"(r6), "r"(r7), "r"(r8), "r"(r9), "r"(r10)
      : "r2", "r3", "r4", "r11", "s0", "s1", "cc", "memory");
#undef HEED_KEY
  return sum;
}

// Keys that a round of weigh_quads takes.
inline constexpr std::uint32_t kRoundKeys = kBuiltFeatures.speed ? 8 : 4;

// Merges the weighted values of four head dimensions at a time. Two dimensions of a slot are one halfword
// H = 256 v1 + v0 (store_value): SMLALD(H, p) gathers 256 times the sum of the odd one plus that of the even one in 64
// bits, SMLAD(SXTB16(H), p) the even one, so that a word of four values costs one extraction instead of two.
__attribute__((noinline)) inline void weigh_quads(float* numerators, const float* numerators_end,
                                                  const std::int8_t* values, std::uint32_t gap,
                                                  const std::int32_t* weights, const std::int32_t* weights_end,
                                                  float keep, float add) {
  register const std::int32_t* p __asm__("r0") = weights;
  register const std::int8_t* v __asm__("r1") = values;
  register float* dst __asm__("r2") = numerators;
  register const float* dst_end __asm__("r3") = numerators_end;
  register std::uint32_t to_next __asm__("r12") = gap;  // bytes from the last slots of four dimensions to the next ones
  register const std::int32_t* p_end __asm__("lr") = weights_end;
  register float old_factor __asm__("s8") = keep;
  register float new_factor __asm__("s9") = add;
#define HEED_FOUR_KEYS                                                      \
  "ldrd r2, r3, [r0], #16\n\t"                                              \
  "ldmia r1!, {r4-r7}\n\t"                                                  \
  "smlald r8, r9, r4, r2\n\tsmlald r8, r9, r5, r3\n\t"                      \
  "sxtb16 r4, r4\n\tsxtb16 r5, r5\n\t"                                      \
  "smlad r10, r4, r2, r10\n\tsmlad r10, r5, r3, r10\n\t"                    \
  "smlald r11, r12, r6, r2\n\tsmlald r11, r12, r7, r3\n\t"                  \
  "sxtb16 r6, r6\n\tsxtb16 r7, r7\n\t"                                      \
  "smlad lr, r6, r2, lr\n\tsmlad lr, r7, r3, lr\n\t"
// The low bytes of both sums are equal, so nothing is borrowed.
#define HEED_ODD(lo, hi, even)              \
  "lsrs.w " lo ", " lo ", #8\n\t"           \
  "orr " lo ", " lo ", " hi ", lsl #24\n\t" \
  "sub " lo ", " lo ", " even ", asr #8\n\t"
// Magnitudes below 2^-40 become +0.
#define HEED_SNAP(x) "cmp r8, " x ", lsl #1\n\tit hi\n\tmovhi " x ", #0\n\t"
  __asm__ volatile(
      "vmov s10, s11, r0, r12\n\t"
      "vmov s12, s13, r2, r3\n\t"
      "vmov s14, lr\n\t"
      "1:\n\t"
      "mov r8, #0\n\tmov r9, #0\n\tmov r10, #0\n\tmov r11, #0\n\tmov r12, #0\n\tmov lr, #0\n\t"
      "2:\n\t" HEED_FOUR_KEYS
      ".if %c[speed]\n\t" HEED_FOUR_KEYS ".endif\n\t"
      "vmov r2, s14\n\t"
      "cmp r0, r2\n\t"
      "bne 2b\n\t" HEED_ODD("r8", "r9", "r10") HEED_ODD("r11", "r12", "lr")
      "vmov s0, s1, r10, r8\n\t"
      "vmov s2, s3, lr, r11\n\t"
      "vmov r2, r3, s12, s13\n\t"
      "vldmia r2, {s4-s7}\n\t"
      "vcvt.f32.s32 s0, s0\n\tvcvt.f32.s32 s1, s1\n\tvcvt.f32.s32 s2, s2\n\tvcvt.f32.s32 s3, s3\n\t"
      "vmul.f32 s4, s4, s8\n\tvmul.f32 s5, s5, s8\n\tvmul.f32 s6, s6, s8\n\tvmul.f32 s7, s7, s8\n\t"
      "vmla.f32 s4, s0, s9\n\tvmla.f32 s5, s1, s9\n\tvmla.f32 s6, s2, s9\n\tvmla.f32 s7, s3, s9\n\t"  // rounds twice
      "vmov r4, r5, s4, s5\n\t"
      "vmov r6, r7, s6, s7\n\t"
      "mov r8, #0x57000000\n\t" HEED_SNAP("r4") HEED_SNAP("r5") HEED_SNAP("r6") HEED_SNAP("r7")
      "stmia r2!, {r4-r7}\n\t"
      "vmov s12, r2\n\t"
      "vmov r0, r4, s10, s11\n\t"
      "adds r1, r4\n\t"
      "cmp r2, r3\n\t"
      "bne 1b"
      : "+r"(p), "+r"(v), "+r"(dst), "+r"(dst_end), "+r"(to_next), "+r"(p_end)
      : "t"(old_factor), "t"(new_factor), [speed] "i"(kBuiltFeatures.speed ? 1 : 0)
      : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s10",
        "s11", "s12", "s13", "s14", "cc", "memory");
#undef HEED_SNAP
#undef HEED_ODD
#undef HEED_FOUR_KEYS
}

inline void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                         std::int32_t* reference) {
  alignas(8) std::int32_t scores[kBlockKeys + 4];
  std::uint32_t visible = q.visible, left_in_run = q.per_position;
  for (std::uint32_t index = q.first; index != q.first + q.n; ++index) {
    const std::int32_t max = score_keys(scores, q.queries, index, block, visible);
    const portable::ScoreScale scale = portable::score_scale(
        max, q.queries.scales[index] * q.factor * pow2(block.key_exponent_maxima[visible - 1]));
    const std::int32_t value_exponent = block.value_exponent_maxima[visible - 1];
    // The last four are whole: what is behind the last key gets the largest score, whose weight is known.
    const std::uint32_t end = round_up(visible, 4);
    for (std::uint32_t k = visible; k < end; ++k) scores[k] = max;
    const bool tap = kBuiltFeatures.pattern_tap && weights;
    std::int8_t unfolded[kBuiltFeatures.pattern_tap ? kBlockKeys : 1];
    if (tap)
      for (std::int8_t& e : unfolded) e = static_cast<std::int8_t>(value_exponent);
    std::uint32_t denominator =
        weigh_keys(scores, max, scale, tap ? unfolded : block.value_exponents, value_exponent, visible);
    denominator -= (end - visible) * portable::key_weight(0, scale, portable::kExp2.values);
    auto* const last_four = reinterpret_cast<std::int16_t*>(scores + end - 4);
    for (std::uint32_t k = visible; k < end; ++k) last_four[k & 3] = 0;
    if (kBuiltFeatures.speed) scores[end] = scores[end + 1] = 0;  // values are weighed eight at a time
    if (tap) {
      for (std::uint32_t k = 0; k < visible; ++k)
        weights[k] = reinterpret_cast<const std::uint16_t*>(scores + (k & ~3u))[k & 3];
      *reference = scale.reference;
    } else {
      std::int32_t& old_reference = sums.references[index];
      const std::int32_t merged = old_reference > scale.reference ? old_reference : scale.reference;
      const float keep = pow2_or_zero(old_reference - merged);
      float add = pow2_or_zero(scale.reference - merged);
      old_reference = merged;
      sums.denominators[index] = sums.denominators[index] * keep + static_cast<float>(denominator) * add;
      add *= pow2(value_exponent);
      float* const numerators = sums.numerators + std::size_t{index} * block.head_dim;
      const std::uint32_t quads = block.head_dim & ~3u;
      const std::uint32_t last_round = round_up(visible, kRoundKeys);
      if (quads)
        weigh_quads(numerators, numerators + quads, block.values, 4 * (block.capacity - last_round), scores, scores + last_round, keep, add);
      for (std::uint32_t d = quads; d < block.head_dim; ++d) {
        std::int32_t sum = 0;
        const auto* p = reinterpret_cast<const std::int16_t*>(scores);
        for (const std::int8_t *v = block.values + d * block.capacity, *const stop = v + end; v != stop; v += 4, p += 8)
          sum += p[0] * v[0] + p[1] * v[1] + p[2] * v[2] + p[3] * v[3];
        numerators[d] = portable::merge_numerator(numerators[d], sum, keep, add);
      }
    }
    if (--left_in_run == 0) {
      left_in_run = q.per_position;
      if (visible < q.visible_limit) ++visible;
    }
  }
}

}  // namespace heed::pair
