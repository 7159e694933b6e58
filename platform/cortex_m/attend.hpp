// SPDX-License-Identifier: Apache-2.0
// attend.hpp: attention over one key block for ARMv7-M: portable::attend_block with loops that use what these cores
// have. No branch depends on data.
#pragma once
#include <arm_acle.h>

#include "platform/portable/attend.hpp"

namespace heed::cortex_m {

// (v + 2^(n-1)) >> n for 1 <= n: what a logical shift leaves in the carry is the rounding. From 33 on the result is 0.
inline std::uint32_t shift_right_rounding(std::uint32_t v, std::uint32_t n) {
  __asm__("lsrs %0, %0, %1\n\tadc %0, %0, #0" : "+r"(v) : "r"(n) : "cc");
  return v;
}

// Shifts by 32 and more give 0 or -1, as the instructions do and C++ does not promise.
inline std::uint32_t shift_right(std::uint32_t v, std::uint32_t n) {
  __asm__("lsr %0, %0, %1" : "+r"(v) : "r"(n));
  return v;
}
inline std::int32_t shift_right_signed(std::int32_t v, std::uint32_t n) {
  __asm__("asr %0, %0, %1" : "+r"(v) : "r"(n));
  return v;
}

// Brings the dot products in `scores` (times 2^kShift) to the block's exponent; returns the largest.
template <int kShift>
std::int32_t scale_scores(std::int32_t* scores, const KvBlock& block, std::uint32_t visible) {
  const std::int32_t exponent = block.key_exponent_maxima[visible - 1];
  std::int32_t max = INT32_MIN;
  for (std::uint32_t k = 0; k < visible; ++k) {
    const auto shift = static_cast<std::uint32_t>(exponent - block.key_exponents[k]);
    const std::int32_t u = shift_right_signed((scores[k] >> kShift) * block.key_mantissas[k], shift);
    scores[k] = u;
    max = u > max ? u : max;
  }
  return max;
}

// Weights of the visible keys relative to the block: folded[Core::place(k)] with the value's exponent; returns the sum
// of the unfolded ones. A distance is below 2^31 because head_dim is at most kMaxHeadDim.
template <class Core>
std::uint32_t weigh_keys(std::int16_t* folded, const std::int32_t* scores, std::int32_t max,
                         const portable::ScoreScale& scale, const std::int8_t* value_exponents,
                         std::int32_t value_exponent, std::uint32_t visible) {
  std::uint32_t sum = 0;
  for (std::uint32_t k = 0; k < visible; ++k) {
    const auto distance = static_cast<std::int32_t>(static_cast<std::uint32_t>(max - scores[k]) >> scale.shift);
    const std::uint32_t d = __usat(distance, 15);
    const std::uint32_t t = ((d * static_cast<std::uint32_t>(scale.mantissa) + (1u << 14)) >> 15) +
                            static_cast<std::uint32_t>(scale.start);
    const std::uint32_t e = shift_right_rounding(Core::exp2()[(t >> 2) & 255u], t >> 10);
    sum += e;
    folded[Core::place(k)] =
        static_cast<std::int16_t>(shift_right(e, static_cast<std::uint32_t>(value_exponent - value_exponents[k])));
  }
  return sum;
}

// Core::scores(dst, queries, index, block, visible) sets dot products times 2^Core::kScoreShift, Core::weigh adds
// weighted values and expects zeros behind the last visible key, up to a multiple of Core::kKeyStep.
template <class Core>
void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                  std::int32_t* reference) {
  alignas(8) std::int32_t scores[kBlockKeys];
  alignas(8) std::int16_t folded[kBlockKeys];
  std::uint32_t visible = q.visible, left_in_run = q.per_position;
  for (std::uint32_t i = 0; i < q.n; ++i) {
    const std::uint32_t index = q.first + i;
    Core::scores(scores, q.queries, index, block, visible);
    const std::int32_t max = scale_scores<Core::kScoreShift>(scores, block, visible);
    const portable::ScoreScale scale = portable::score_scale(
        max, q.queries.scales[index] * q.factor * pow2(block.key_exponent_maxima[visible - 1]));
    const std::int32_t value_exponent = block.value_exponent_maxima[visible - 1];
    for (std::uint32_t k = visible & ~(Core::kKeyStep - 1); k < round_up(visible, Core::kKeyStep); ++k) folded[k] = 0;
    if (weights) {
      std::int8_t unfolded[kBlockKeys];
      for (std::uint32_t k = 0; k < visible; ++k) unfolded[k] = static_cast<std::int8_t>(value_exponent);
      weigh_keys<Core>(folded, scores, max, scale, unfolded, value_exponent, visible);
      for (std::uint32_t k = 0; k < visible; ++k) weights[k] = static_cast<std::uint16_t>(folded[Core::place(k)]);
      *reference = scale.reference;
    } else {
      const std::uint32_t denominator =
          weigh_keys<Core>(folded, scores, max, scale, block.value_exponents, value_exponent, visible);
      std::int32_t& old_reference = sums.references[index];
      const std::int32_t merged = old_reference > scale.reference ? old_reference : scale.reference;
      const float keep = pow2_or_zero(old_reference - merged);
      const float add = pow2_or_zero(scale.reference - merged);
      old_reference = merged;
      sums.denominators[index] = sums.denominators[index] * keep + static_cast<float>(denominator) * add;
      Core::weigh(sums.numerators + std::size_t{index} * block.head_dim, folded, block, visible, keep,
                  add * pow2(value_exponent));
    }
    if (--left_in_run == 0) {
      left_in_run = q.per_position;
      if (visible < q.visible_limit) ++visible;
    }
  }
}

}  // namespace heed::cortex_m
