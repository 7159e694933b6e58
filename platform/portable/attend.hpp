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

// A score as a power of two, within the limits of a reference.
inline float limited_score(float score) {
  score = score > 1048576.0f ? 1048576.0f : score;
  return score < -1048576.0f ? -1048576.0f : score;
}

inline void set_reference(ScoreScale& s, float score) {
  s.reference = round_to_int(score);
  if (static_cast<float>(s.reference) < score) ++s.reference;
  s.start = round_to_int((static_cast<float>(s.reference) - score) * 1024.0f) + 2 + 1024;
}

inline ScoreScale score_scale(std::int32_t max, float factor) {
  const float y = factor * 33554432.0f;  // 2^25
  // Scores this flat are all equal; nothing below may meet a denormal, which not every CPU keeps.
  if (!(y >= kSmallest)) return {0, 0, 0, 2 + 1024};
  ScoreScale s;
  set_reference(s, limited_score(static_cast<float>(max) * factor));
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

// ---- Keys that are not all alike (features windows and score_bias) ---------------------------------------------------

inline constexpr bool kKeysDiffer = kBuiltFeatures.windows || kBuiltFeatures.score_bias;

// What one query has to do with the keys of a block: it sees [hidden, visible), and what is added to the score of key k is
// bias[-k].
struct Sight {
  std::uint32_t hidden = 0, visible = 0;
  const std::int32_t* bias = nullptr;

  constexpr bool is_plain() const { return !kKeysDiffer || (hidden == 0 && !bias); }
};

// Whether each query of a call sees all keys up to its last one alike.
inline bool all_are_plain(const BlockQueries& q) { return !kKeysDiffer || !q.keys_differ; }

// Of head j of a run, where keys differ.
[[gnu::always_inline]] inline Sight sight_of_differing(const BlockQueries& q, std::uint32_t run, std::uint32_t j,
                                                       std::uint32_t visible) {
  Sight sight{0, visible, nullptr};
  if (kBuiltFeatures.windows) {
    const std::int32_t hidden = q.hidden + static_cast<std::int32_t>(run);
    sight.hidden = hidden > 0 ? static_cast<std::uint32_t>(hidden) : 0;
  }
  if (kBuiltFeatures.score_bias && q.bias) sight.bias = q.bias + std::size_t{j} * q.bias_stride + run;
  return sight;
}

// Of head j of any run.
[[gnu::always_inline]] inline Sight sight_of(const BlockQueries& q, std::uint32_t run, std::uint32_t j, std::uint32_t visible) {
  return all_are_plain(q) ? Sight{0, visible, nullptr} : sight_of_differing(q, run, j, visible);
}

// A score so far below all others that it weighs nothing in a distance_scale.
inline constexpr std::int32_t kHiddenScore = -(1 << 30);

// How far a score lies below the largest, in Q10: floor(min(distance >> shift, 2^24 - 1) * mantissa / 2^15 + 1/2). A
// product of 24 and 15 bits in two parts, so that 32 bits hold each.
inline std::int32_t distance_in_q10(std::uint32_t distance, const ScoreScale& s) {
  std::uint32_t d = distance >> s.shift;
  d = d > 0xFFFFFFu ? 0xFFFFFFu : d;
  const auto mantissa = static_cast<std::uint32_t>(s.mantissa);
  return static_cast<std::int32_t>((d >> 16) * mantissa * 2 + (((d & 0xFFFFu) * mantissa + (1u << 14)) >> 15));
}

// The scale of distances that are already in Q10, for the same sum of powers of two. A mantissa of 2^15 would change none of
// them; this one takes 1 from those above 2^14, whose weight is 0 all the same.
inline void set_distance_scale(ScoreScale& s) {
  s.mantissa = 32767;
  s.shift = 0;
}

// Moves the reference from the largest score, `max` times `factor`, to the largest with a bias, `lower` (Q10) below.
inline void move_reference(ScoreScale& s, std::int32_t max, float factor, std::int32_t lower) {
  const float score = s.mantissa == 0 ? 0.0f : limited_score(static_cast<float>(max) * factor);
  set_reference(s, limited_score(score - static_cast<float>(lower) * (1.0f / 1024.0f)));
}

// The largest score that is seen; at(k) is a reference to that of key k.
template <class At>
std::int32_t largest_seen(const Sight& sight, At at) {
  std::int32_t max = at(sight.hidden);
  for (std::uint32_t k = sight.hidden + 1; k < sight.visible; ++k) max = at(k) > max ? at(k) : max;
  return max;
}

// Turns scores into distances below the best one in Q10, with their biases: as scores of which `max` is the largest, for
// set_distance_scale. Returns how far the best one with its bias lies below the best one without, in Q10.
template <class At>
std::int32_t set_distances(std::int32_t& max, const Sight& sight, const ScoreScale& scale, At at) {
  std::int32_t best = INT32_MIN;
  for (std::uint32_t k = 0; k < sight.hidden; ++k) at(k) = kHiddenScore;
  for (std::uint32_t k = sight.hidden; k < sight.visible; ++k) {
    const std::int32_t bias = kBuiltFeatures.score_bias && sight.bias ? *(sight.bias - k) : 0;
    const std::int32_t score = bias - distance_in_q10(static_cast<std::uint32_t>(max - at(k)), scale);
    best = score > best ? score : best;
    at(k) = score;
  }
  max = best;
  return -best;
}

// The scale of one query's scores, whose largest is `max`, by scale_of(max); if it does not see all keys alike, by and for
// scores that are changed, and `max` with them. factor() is what scores are multiplied by.
template <class At, class ScaleOf, class Factor>
ScoreScale scale_of_seen(std::int32_t& max, const Sight& sight, At at, ScaleOf scale_of, Factor factor) {
  if (sight.is_plain()) return scale_of(max);
  if (sight.hidden) max = largest_seen(sight, at);
  ScoreScale scale = scale_of(max);
  const std::int32_t largest = max, lower = set_distances(max, sight, scale, at);
  if (kBuiltFeatures.score_bias && sight.bias) move_reference(scale, largest, factor(), lower);
  set_distance_scale(scale);
  return scale;
}

template <class Core>
void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                  std::int32_t* reference, const std::uint16_t* exp2) {
  std::int32_t scores[kBlockKeys];
  std::int16_t folded[kBlockKeys];
  std::uint32_t visible = q.visible, run = 0, j = 0;
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
    const float factor = q.queries.scales[index] * q.factor * pow2(key_exponent);
    const ScoreScale scale = scale_of_seen(
        max, sight_of(q, run, j, visible), [&scores](std::uint32_t k) -> std::int32_t& { return scores[k]; },
        [=](std::int32_t largest) { return score_scale(largest, factor); }, [=] { return factor; });
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
      Core::weigh(sums.numerators + std::size_t{index} * block.value_dim, folded, block, visible, keep,
                  add * pow2(value_exponent));
    }
    if (++j == q.per_position) {
      j = 0;
      ++run;
      if (visible < q.visible_limit) ++visible;
    }
  }
}

// numerator = numerator * keep + sum * add, with what falls below 2^-40 as zero.
inline float merge_numerator(float numerator, std::int32_t sum, float keep, float add) {
  return snap(numerator * keep + static_cast<float>(sum) * add);
}

inline void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t value_dim) {
  const float inverse = 1.0f / denominator;
  for (std::uint32_t d = 0; d < value_dim; ++d) dst[d] = numerators[d] * inverse;
}

}  // namespace heed::portable
