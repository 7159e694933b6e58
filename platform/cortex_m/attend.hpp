// SPDX-License-Identifier: Apache-2.0
// attend.hpp: attention over one key block on Cortex-M: portable::attend_block with loops that use what these cores
// have. No branch depends on data.
#pragma once
#include "platform/cortex_m/soft_float.hpp"
#include "platform/portable/exp2.hpp"

namespace heed::cortex_m {

// Shifts as the core has them: counts are taken modulo 256, and 32 or more leave nothing.
inline std::uint32_t shift_left(std::uint32_t x, std::uint32_t n) {
  __asm__(".syntax unified\n\tlsls %0, %0, %1" : "+l"(x) : "l"(n) : "cc");
  return x;
}
inline std::uint32_t shift_right(std::uint32_t x, std::uint32_t n) {
  __asm__(".syntax unified\n\tlsrs %0, %0, %1" : "+l"(x) : "l"(n) : "cc");
  return x;
}

// portable::score_scale on a core without an FPU: all but a product by integers.
template <class Core>
__attribute__((noinline, optimize("O2"))) portable::ScoreScale score_scale(std::int32_t max, float unscaled,
                                                                           int key_exponent) {
  const std::uint32_t u = bits_of(unscaled);
  const int field = static_cast<int>(u >> 23) + key_exponent;
  if (field < 127 - 40 - 25 || static_cast<std::int32_t>(u) < 0) return {0, 0, 0, 2 + 1024};
  // From 2^33 on every score but 0 is beyond the limit of 2^20.
  const auto factor_field = static_cast<std::uint32_t>(field > 160 ? 160 : field);
  const std::uint32_t bits = bits_of(Core::scaled_sum(max, float_of((u & 0x7FFFFFu) | factor_field << 23), 1.0f));
  const std::uint32_t negative = static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 31);
  std::uint32_t size = bits & 0x7FFFFFFFu;
  size = size > 0x49800000u ? 0x49800000u : size;  // 2^20
  const std::uint32_t m = ((size & 0x7FFFFFu) | 0x800000u) & (0u - (size != 0));
  // |score| = whole + part / 2^32, where the last bit of `part` stands for what is behind it as well.
  std::uint32_t right = 150 - (size >> 23);
  right = right > 63 ? 63 : right;
  const std::uint32_t whole = shift_right(m, right);
  const std::uint32_t part =
      shift_left(m, 32 - right) | shift_right(m, right - 32) | (shift_left(m, 64 - right) != 0);
  // From the score up to the next integer, in Q24: of a negative score what is behind its point; else 1 less that,
  // which is rounded to a float's 24 bits.
  const std::uint32_t some = part != 0, exact = part >> 8 | ((part & 255u) != 0);
  const std::uint32_t up = (some << 24) - ((part >> 8) + (((part & 255u) + (part >> 8 & 1u) + 127u) >> 8));
  const std::uint32_t rest = (exact & negative) | (up & ~negative);
  portable::ScoreScale s;
  s.reference = static_cast<std::int32_t>(((whole + some) & ~negative) - (whole & negative));
  s.start = static_cast<std::int32_t>((rest + 8191u + (rest >> 14 & 1u)) >> 14) + 2 + 1024;
  s.shift = 15 - (field + 25 - 126);
  s.mantissa = static_cast<std::int32_t>((((u & 0x7FFFFFu) | 0x800000u) + 256u) >> 9);
  if (s.mantissa > 32767 || s.shift < 0) s.mantissa = 32767;
  s.shift = s.shift < 0 ? 0 : s.shift > 31 ? 31 : s.shift;
  return s;
}

// A factor of zero, as an exponent of two: what is multiplied by it lies behind everything else.
constexpr std::int32_t kNothing = -256;

// What a block's sums are multiplied by, as exponents of two, when they join those of earlier blocks (SPEC.md 2.8).
struct Join {
  std::int32_t keep, add;  // kNothing for a factor of zero
  bool first;              // there is nothing earlier
};

inline Join join_of(std::int32_t& reference, std::int32_t here) {
  const std::int32_t old = reference, merged = old > here ? old : here;
  reference = merged;
  const auto exponent = [merged](std::int32_t r) { return r - merged < -30 ? kNothing : r - merged; };
  return {exponent(old), exponent(here), old == kFreshReference};
}

// Head dimensions whose sums are made before they join; one row more may be written behind them.
constexpr std::uint32_t kDims = 16;
// Words that hold those sums, and before that what Core::scores_together packs.
template <class Core, std::uint32_t kTogether>
constexpr std::uint32_t scratch_words() {
  constexpr std::uint32_t kSums = kDims * kTogether + 3;
  return kTogether > 1 && Core::kPackedWords > kSums ? Core::kPackedWords : kSums;
}

// Core::sum_values<kTogether>(sums, weights, block, n, first, dims) multiplies weights with `dims` rows of values;
// Core::join<kTogether>(to, sums, dims, join, value_exponent) joins sums that lie kTogether apart.
template <class Core, std::uint32_t kTogether, class Weight>
inline void join_values(const AttentionSums& sums, std::uint32_t index, Weight* weights, const KvBlock& block,
                        std::uint32_t n, const Join* joins, const std::int32_t* value_exponents, std::int32_t* parts) {
  for (std::uint32_t d = 0; d < block.value_dim; d += kDims) {
    const std::uint32_t dims = block.value_dim - d < kDims ? block.value_dim - d : kDims;
    Core::template sum_values<kTogether>(parts, weights, block, n, d, dims);
    for (std::uint32_t i = 0; i < kTogether; ++i)
      Core::template join<kTogether>(sums.numerators + std::size_t{index + i} * block.value_dim + d, parts + i, dims,
                                     joins[i], value_exponents[i]);
  }
}

// Queries `index` and the next, which see `visible` keys: as many as the one before, or one more.
template <class Core, std::uint32_t kTogether>
__attribute__((noinline)) void attend_together(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block,
                                               std::uint32_t index, const std::uint32_t* visible) {
  alignas(8) std::int32_t scores[kBlockKeys * kTogether];
  alignas(8) std::int32_t scratch[scratch_words<Core, kTogether>()];
  std::int32_t maxima[kTogether], value_exponents[kTogether];
  Join joins[kTogether];
  const std::uint32_t most = round_up(visible[kTogether - 1], Core::kKeyStep);
  Core::template scores_together<kTogether>(scores, q.queries, index, block, visible, scratch);
  Core::template scale_together<kTogether>(scores, maxima, block, visible);
  for (std::uint32_t i = 0; i < kTogether; ++i) {
    const std::uint32_t n = visible[i];
    const portable::ScoreScale scale =
        score_scale<Core>(maxima[i], q.queries.scales[index + i] * q.factor, block.key_exponent_maxima[n - 1]);
    value_exponents[i] = block.value_exponent_maxima[n - 1];
    const auto denominator = static_cast<std::int32_t>(Core::template weigh_keys<kTogether>(
        nullptr, scores + i, maxima[i], scale, block.value_exponents, value_exponents[i], n));
    for (std::uint32_t k = n; k < most; ++k) scores[k * kTogether + i] = 0;
    joins[i] = join_of(sums.references[index + i], scale.reference);
    Core::template join<1>(sums.denominators + index + i, &denominator, 1, joins[i], 0);
  }
  join_values<Core, kTogether>(sums, index, scores, block, most, joins, value_exponents, scratch);
}

// Core::scores(dst, queries, index, block, visible) sets dot products as Core::scale_scores expects them;
// Core::sum_values expects zeros behind the last visible key, up to a multiple of Core::kKeyStep.
template <class Core>
void attend_one(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint32_t index,
                const portable::Sight& sight, std::uint16_t* weights, std::int32_t* reference) {
  const std::uint32_t visible = sight.visible;
  alignas(8) std::int32_t scores[kBlockKeys];
  alignas(8) std::int16_t folded[kBlockKeys];
  Core::scores(scores, q.queries, index, block, visible);
  std::int32_t max = Core::scale_scores(scores, block, visible);
  const float factor = q.queries.scales[index] * q.factor;
  const std::int32_t key_exponent = block.key_exponent_maxima[visible - 1];
  const portable::ScoreScale scale = portable::scale_of_seen(
      max, sight, [&scores](std::uint32_t k) -> std::int32_t& { return scores[k]; },
      [=](std::int32_t largest) { return score_scale<Core>(largest, factor, key_exponent); },
      [=] { return factor * pow2(key_exponent); });
  const std::int32_t value_exponent = block.value_exponent_maxima[visible - 1];
  const std::uint32_t most = round_up(visible, Core::kKeyStep);
  for (std::uint32_t k = visible; k < most; ++k) folded[k] = 0;
  if (kBuiltFeatures.pattern_tap && weights) {
    std::int8_t unfolded[kBlockKeys];
    for (std::uint32_t k = 0; k < visible; ++k) unfolded[k] = static_cast<std::int8_t>(value_exponent);
    Core::weigh_keys(folded, scores, max, scale, unfolded, value_exponent, visible);
    for (std::uint32_t k = 0; k < visible; ++k) weights[k] = static_cast<std::uint16_t>(folded[k]);
    *reference = scale.reference;
    return;
  }
  const auto denominator = static_cast<std::int32_t>(
      Core::weigh_keys(folded, scores, max, scale, block.value_exponents, value_exponent, visible));
  const Join join = join_of(sums.references[index], scale.reference);
  Core::template join<1>(sums.denominators + index, &denominator, 1, join, 0);
  join_values<Core, 1>(sums, index, folded, block, most, &join, &value_exponent, scores);  // which are spent
}

// A prompt's queries are taken in fours, others in twos where the table has that.
template <class Core>
void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block, std::uint16_t* weights,
                  std::int32_t* reference) {
  std::uint32_t visible = q.visible, left_in_run = q.per_position, run = 0;
  const bool together =
      kBuiltFeatures.speed && !(kBuiltFeatures.pattern_tap && weights) && portable::all_are_plain(q);
  const bool fours = together && q.n > q.per_position, twos = together && Core::kTakesTwo;
  for (std::uint32_t i = 0, n; i < q.n; i += n) {
    n = fours && q.n - i >= 4 ? 4 : twos && q.n - i >= 2 ? 2 : 1;
    std::uint32_t visibles[4];
    portable::Sight sight;  // of a query that is alone
    if (n == 1) sight = portable::sight_of(q, run, q.per_position - left_in_run, visible);
    for (std::uint32_t j = 0; j < n; ++j) {
      visibles[j] = visible;
      if (--left_in_run == 0) {
        left_in_run = q.per_position;
        ++run;
        if (visible < q.visible_limit) ++visible;
      }
    }
    if (n == 4) {
      if constexpr (kBuiltFeatures.speed) attend_together<Core, 4>(sums, q, block, q.first + i, visibles);
    } else if (n == 2) {
      if constexpr (kBuiltFeatures.speed && Core::kTakesTwo)
        attend_together<Core, 2>(sums, q, block, q.first + i, visibles);
    } else {
      attend_one<Core>(sums, q, block, q.first + i, sight, weights, reference);
    }
  }
}

}  // namespace heed::cortex_m
