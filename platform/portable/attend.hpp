// SPDX-License-Identifier: Apache-2.0
// attend.hpp: integer attention over one key block, in plain C++ (SPEC.md 2.6 and 2.8). Templates over `Core`, which
// multiplies: Core::scores fills dot products of one query with the visible keys, Core::weigh the weighted values.
#pragma once
#include "runtime/kernels.hpp"
#include "runtime/numerics.hpp"

namespace heed::portable {

// 2 * ((kExp2High[i] * kExp2Low[j] + 2^14) >> 15) at 16 i + j: 2^-(index/256) with 16 bits, even.
struct Exp2Table {
  std::uint16_t values[256];
};

// Turns score distances into 15-bit weights.
struct ScoreScale {
  std::int32_t reference;   // ceil of the largest score, base 2
  std::int32_t mantissa;    // 15 bits
  std::int32_t shift;
  std::int32_t start;       // reference - largest score in Q10, a half step of the table, one whole step
};

inline ScoreScale score_scale(std::int32_t max, float factor) {
  const float y = factor * 33554432.0f;  // 2^25
  // Scores this flat are all equal; nothing below may meet a denormal, which not every CPU keeps.
  if (!(y >= kSmallest)) return {0, 0, 0, 2 + 1024};
  float score = static_cast<float>(max) * factor;
  score = score > 1048576.0f ? 1048576.0f : score;
  score = score < -1048576.0f ? -1048576.0f : score;
  ScoreScale s;
  s.reference = round_to_int(score);
  if (static_cast<float>(s.reference) < score) ++s.reference;
  s.start = round_to_int((static_cast<float>(s.reference) - score) * 1024.0f) + 2 + 1024;
  s.shift = 15 - exponent_of(y);
  s.mantissa = static_cast<std::int32_t>((((bits_of(y) & 0x7FFFFFu) | 0x800000u) + 256u) >> 9);
  if (s.mantissa > 32767 || s.shift < 0) s.mantissa = 32767;
  s.shift = s.shift < 0 ? 0 : s.shift > 31 ? 31 : s.shift;
  return s;
}

// The unfolded weight at a distance below the largest score.
inline std::uint32_t key_weight(std::uint32_t distance, const ScoreScale& s, const std::uint16_t* exp2) {
  std::uint32_t d = distance >> s.shift;
  d = d > 32767 ? 32767 : d;
  const auto t = static_cast<std::uint32_t>(
      ((static_cast<std::int32_t>(d) * s.mantissa + (1 << 14)) >> 15) + s.start);
  std::uint32_t n = t >> 10;  // at least 1
  n = n > 31 ? 31 : n;
  return (exp2[(t >> 2) & 255u] + (1u << (n - 1))) >> n;
}

template <class Core>
void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                  std::int32_t* reference, const std::uint16_t* exp2) {
  std::int32_t scores[kBlockKeys];
  std::int16_t folded[kBlockKeys];
  std::uint32_t visible = q.visible, left_in_run = q.per_position;
  for (std::uint32_t i = 0; i < q.n; ++i) {
    const std::uint32_t index = q.first + i;
    Core::scores(scores, q.queries, index, block, visible);
    const int key_exponent = block.key_exponent_maxima[visible - 1];
    const int value_exponent = block.value_exponent_maxima[visible - 1];
    std::int32_t max = 0;
    for (std::uint32_t k = 0; k < visible; ++k) {
      const int shift = key_exponent - block.key_exponents[k];
      const std::int32_t u = (scores[k] * block.key_mantissas[k]) >> (shift > 31 ? 31 : shift);
      scores[k] = u;
      max = k == 0 || u > max ? u : max;
    }
    const ScoreScale scale = score_scale(max, q.queries.scales[index] * q.factor * pow2(key_exponent));
    std::uint32_t denominator = 0;
    for (std::uint32_t k = 0; k < visible; ++k) {
      const std::uint32_t e = key_weight(static_cast<std::uint32_t>(max - scores[k]), scale, exp2);
      const int fold = value_exponent - block.value_exponents[k];
      denominator += e;
      folded[k] = static_cast<std::int16_t>(e >> (fold > 31 ? 31 : fold));
      if (weights) weights[k] = static_cast<std::uint16_t>(e);
    }
    if (weights) {
      *reference = scale.reference;
    } else {
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

// numerator = numerator * keep + sum * add, with what falls below 2^-40 as zero.
inline float merge_numerator(float numerator, std::int32_t sum, float keep, float add) {
  return snap(numerator * keep + static_cast<float>(sum) * add);
}

inline void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t head_dim) {
  const float inverse = 1.0f / denominator;
  for (std::uint32_t d = 0; d < head_dim; ++d) dst[d] = numerators[d] * inverse;
}

}  // namespace heed::portable
