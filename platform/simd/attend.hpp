// SPDX-License-Identifier: Apache-2.0
// attend.hpp: integer attention over one key block (SPEC.md 2.6 and 2.8): scores, their weights in 16-bit lanes, the
// weighted values, and the merge into what earlier blocks gave.
#pragma once
#include "platform/portable/attend.hpp"
#include "platform/simd/products.hpp"

namespace heed::simd {

template <class Arch, class Dot>
struct Attend : Lanes<Arch> {
  using Base = Lanes<Arch>;
  using typename Lanes<Arch>::W;
  using typename Lanes<Arch>::F;
  using typename Lanes<Arch>::I;
  using S16 = typename W::S16;
  using P = Products<Arch, Dot>;
  static constexpr std::uint32_t kLanes = W::kLanes;
  static constexpr std::uint32_t kChunk = 2 * kLanes;
  static constexpr std::uint32_t kParts = 16 / kLanes;

  // Not inlined: scalar code would take the vectors' registers.
  [[gnu::flatten]] static portable::ScoreScale score_scale(std::int32_t max, float factor) {
    return portable::score_scale(max, factor);
  }

  [[gnu::flatten]] static portable::ScoreScale distance_scale(portable::ScoreScale s, std::int32_t max, float factor,
                                                              std::int32_t lower, bool biased) {
    if (kBuiltFeatures.score_bias && biased) portable::move_reference(s, max, factor, lower);
    portable::set_distance_scale(s);
    return s;
  }

  static constexpr std::uint32_t kBatch = Dot::kQueries;

  using Scores = std::int32_t[kBlockKeys];

  template <std::uint32_t kPanels, std::uint32_t N>
  HEED_INLINE static void score_panels(Scores* scores, const Activations& queries, std::uint32_t index,
                                       const KvBlock& block, std::uint32_t panel) {
    const std::uint32_t columns = round_up(block.head_dim, 4);
    const std::size_t panel_bytes = std::size_t{columns} * 16;
    typename W::S32 sums[kPanels * kParts][N];
    P::template dots<kPanels * kParts, N, Source::keys>(
        sums, block.keys + panel * panel_bytes, panel_bytes,
        queries.values + std::size_t{index} * queries.value_stride, queries.value_stride, columns,
        queries.sums + index, 1);
#pragma GCC unroll 8
    for (std::uint32_t u = 0; u < kPanels * kParts; ++u)
#pragma GCC unroll 8
      for (std::uint32_t n = 0; n < N; ++n) W::store(scores[n] + panel * 16 + u * kLanes, sums[u][n]);
  }

  // scores[n][k] = query n . key k for the keys of all panels that have a visible one.
  template <std::uint32_t N>
  static void score(Scores* scores, const Activations& queries, std::uint32_t index, const KvBlock& block,
                    std::uint32_t visible) {
    constexpr std::uint32_t kPanels = Dot::key_panels(N);
    const std::uint32_t panels = (visible + 15) / 16;
    std::uint32_t panel = 0;
    for (; panel + kPanels <= panels; panel += kPanels) score_panels<kPanels, N>(scores, queries, index, block, panel);
    if constexpr (kPanels > 2)
      if (panel + 2 <= panels) {
        score_panels<2, N>(scores, queries, index, block, panel);
        panel += 2;
      }
    if constexpr (kPanels > 1)
      if (panel < panels) score_panels<1, N>(scores, queries, index, block, panel);
  }

  HEED_INLINE static I lanes() {
    alignas(64) static constexpr std::int32_t kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return W::load(kLane);
  }

  // Applies mantissas and exponents; the largest of the visible ones is returned.
  static std::int32_t scale_scores(std::int32_t* scores, const KvBlock& block, std::uint32_t visible) {
    const I key_exponent(block.key_exponent_maxima[visible - 1]);
    const I lane = lanes();
    I max(INT32_MIN);
    for (std::uint32_t k = 0; k < visible; k += kLanes) {
      const I shift = key_exponent - I(W::widen_s8(block.key_exponents + k));
      const I u = W::shift_right_each(W::multiply32(W::load(scores + k), W::widen_u8(block.key_mantissas + k)), shift);
      W::store(scores + k, u);
      const I seen = Base::select(I(static_cast<std::int32_t>(visible - k)) > lane, u, I(INT32_MIN));
      max = Base::max(max, seen);
    }
    return W::largest(max);
  }

  // Calls f(k, mask) for the vectors of keys up to the last visible one; the mask is of those that are seen.
  template <class Body>
  HEED_INLINE static void for_each_seen(const portable::Sight& sight, Body f) {
    const I lane = lanes();
    for (std::uint32_t k = 0; k < sight.visible; k += kLanes)
      f(k, (I(static_cast<std::int32_t>(sight.visible - k)) > lane) &
               (lane > I(static_cast<std::int32_t>(sight.hidden - k) - 1)));
  }

  // portable::largest_seen
  static std::int32_t largest_seen(const std::int32_t* scores, const portable::Sight& sight) {
    I max(INT32_MIN);
    for_each_seen(sight, [&](std::uint32_t k, auto seen) HEED_LAMBDA {
      max = Base::max(max, Base::select(seen, I(W::load(scores + k)), I(INT32_MIN)));
    });
    return W::largest(max);
  }

  // Biases of the keys from k on, whose order in memory is the other way round; only those of keys that are seen are read.
  HEED_INLINE static I biases(const portable::Sight& sight, std::uint32_t k) {
    if (k >= sight.hidden && k + kLanes <= sight.visible) return W::reverse32(W::load(sight.bias - k - (kLanes - 1)));
    alignas(64) std::int32_t words[kLanes] = {};
    for (std::uint32_t i = 0; i < kLanes; ++i)
      if (k + i >= sight.hidden && k + i < sight.visible) words[i] = *(sight.bias - (k + i));
    return W::load(words);
  }

  // portable::set_distances
  static std::int32_t set_distances(std::int32_t& max, const portable::Sight& sight, const portable::ScoreScale& scale,
                                    std::int32_t* scores) {
    const I largest(max), mantissa(scale.mantissa);
    I best(INT32_MIN);
    for_each_seen(sight, [&](std::uint32_t k, auto seen) HEED_LAMBDA {
      I d = W::shift_right(largest - I(W::load(scores + k)), scale.shift);
      d = Base::select(d > I(0xFFFFFF), I(0xFFFFFF), d);
      const I high = W::multiply32(W::shift_right(d, 16), mantissa), low = W::multiply32(d & I(0xFFFF), mantissa);
      I score = I(0) - high - high - I(W::shift_right(low + I(1 << 14), 15));
      if (kBuiltFeatures.score_bias && sight.bias) score = score + biases(sight, k);
      score = Base::select(seen, score, I(portable::kHiddenScore));
      W::store(scores + k, score);
      best = Base::max(best, score);
    });
    max = W::largest(best);
    return -max;
  }

  // Weights of the visible keys, folded ones to `folded`, all of them to `weights` unless that is null; their sum.
  static std::uint32_t exp2(typename Dot::Folded& folded, const std::int32_t* scores, std::int32_t max,
                            const portable::ScoreScale& scale, const KvBlock& block, std::uint32_t visible,
                            std::uint16_t* weights) {
    const auto tables = W::exp2_tables();
    const S16 mantissa = W::set16(scale.mantissa), start = W::set16(scale.start);
    const S16 value_exponent = W::set16(block.value_exponent_maxima[visible - 1]);
    const I largest(max);
    I sum(0);
    for (std::uint32_t k = 0; k < visible; k += kChunk) {
      const I a = W::shift_right(largest - I(W::load(scores + k)), scale.shift);
      const I b = W::shift_right(largest - I(W::load(scores + k + kLanes)), scale.shift);
      // The distance saturates at 32767 as it narrows; so does t, where the weight is 0 long since.
      const S16 t = W::add_saturate16(W::multiply_round16(W::narrow(a, b), mantissa), start);
      const S16 v = W::exp2(tables, W::shift_right16(t, 2));
      // (2 v + 2^(n - 1)) >> n is v >> (n - 1), rounded.
      S16 e = W::shift_right_round_each16(v, W::sub16(W::shift_right16(t, 10), W::set16(1)));
      e = W::keep_first16(e, static_cast<int>(visible - k));
      sum = sum + I(W::pair_sums(e));
      const S16 fold = W::sub16(value_exponent, W::widen16_s8(block.value_exponents + k, block.capacity - k));
      Dot::store_folded(folded, k, W::shift_right_each16(e, W::min16(fold, W::set16(31))));
      if (weights) {
        std::int16_t words[kChunk];
        W::store16(words, e);
        for (std::uint32_t i = 0; i < kChunk && k + i < visible; ++i)
          weights[k + i] = static_cast<std::uint16_t>(words[i]);
      }
    }
    return static_cast<std::uint32_t>(W::sum(sum));
  }

  // numerators[first .. ] of kStrips strips, of which `left` dimensions exist.
  template <std::uint32_t kStrips>
  HEED_INLINE static void weigh_strips(float* numerators, const typename Dot::Folded& folded, const KvBlock& block,
                                       std::uint32_t visible, std::uint32_t first, F keep, F add) {
    typename Dot::Strip strips[kStrips];
#pragma GCC unroll 8
    for (std::uint32_t s = 0; s < kStrips; ++s) strips[s] = Dot::zero_strip();
    const std::int8_t* values = block.values + std::size_t{first} * Dot::kValueKeys;
    for (std::uint32_t k = 0; k < visible; k += Dot::kValueKeys) {
      const auto w = Dot::load_folded(folded, k);
#pragma GCC unroll 8
      for (std::uint32_t s = 0; s < kStrips; ++s)
        Dot::weigh(strips[s], w, values + s * Dot::kStripDims * Dot::kValueKeys);
      values += std::size_t{block.value_dim} * Dot::kValueKeys;
    }
#pragma GCC unroll 8
    for (std::uint32_t s = 0; s < kStrips; ++s)
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < Dot::kStripWords; ++i) {
        const std::uint32_t d = first + s * Dot::kStripDims + i * kLanes;
        if (d >= block.value_dim) break;
        const std::uint32_t left = block.value_dim - d;
        const F sum = W::to_float(Dot::strip_words(strips[s], i));
        const F y = Base::load(numerators + d, left) * keep + sum * add;
        const I bits = Base::bits(y);
        const I snapped = Base::select(I(0x2B800000) > (bits & I(0x7FFFFFFF)), I(0), bits);
        Base::store(numerators + d, Base::floats(snapped), left);
      }
  }

  template <std::uint32_t kStrips>
  HEED_INLINE static void weigh_from(float* numerators, const typename Dot::Folded& folded, const KvBlock& block,
                                     std::uint32_t visible, std::uint32_t d, F keep, F add) {
    constexpr std::uint32_t kDims = kStrips * Dot::kStripDims;
    for (; d + kDims <= block.value_dim; d += kDims)
      weigh_strips<kStrips>(numerators, folded, block, visible, d, keep, add);
    if constexpr (kStrips > 1) {
      if (d < block.value_dim) weigh_from<kStrips / 2>(numerators, folded, block, visible, d, keep, add);
    } else {
      // The last dimensions; behind them is read what belongs to other keys or to the slack.
      if (d < block.value_dim) weigh_strips<1>(numerators, folded, block, visible, d, keep, add);
    }
  }

  static void weigh(float* numerators, const typename Dot::Folded& folded, const KvBlock& block, std::uint32_t visible,
                    float keep, float add) {
    weigh_from<Dot::kMaxStrips>(numerators, folded, block, visible, 0, F(keep), F(add));
  }

  // Where the queries of a call have got to: the keys that the next one sees, its run and its head in there.
  struct Place {
    std::uint32_t visible, run, j;
  };

  // N queries from `first` on, step by step: each step of a query waits for the one before, those of others do not.
  template <std::uint32_t N>
  static void attend(const AttentionSums& sums, const BlockQueries& q, std::uint32_t first, const KvBlock& block,
                     Place& place, std::uint16_t* weights, std::int32_t* reference) {
    alignas(64) Scores scores[N];
    typename Dot::Folded folded[N];
    std::int32_t max[N];
    portable::Sight sights[N];
    portable::ScoreScale scales[N];
    float keep[N], add[N];
    for (std::uint32_t i = 0; i < N; ++i) {
      sights[i] = portable::sight_of(q, place.run, place.j, place.visible);
      if (++place.j == q.per_position) {
        place.j = 0;
        ++place.run;
        if (place.visible < q.visible_limit) ++place.visible;
      }
    }
    score<N>(scores, q.queries, first, block, sights[N - 1].visible);
    for (std::uint32_t i = 0; i < N; ++i) max[i] = scale_scores(scores[i], block, sights[i].visible);
    const auto factor = [&](std::uint32_t i) HEED_LAMBDA {
      return q.queries.scales[first + i] * q.factor * pow2(block.key_exponent_maxima[sights[i].visible - 1]);
    };
    if constexpr (portable::kKeysDiffer)
      for (std::uint32_t i = 0; i < N; ++i)
        if (sights[i].hidden) max[i] = largest_seen(scores[i], sights[i]);
    for (std::uint32_t i = 0; i < N; ++i) scales[i] = score_scale(max[i], factor(i));
    if constexpr (portable::kKeysDiffer)
      for (std::uint32_t i = 0; i < N; ++i) {
        if (sights[i].is_plain()) continue;
        const std::int32_t largest = max[i], lower = set_distances(max[i], sights[i], scales[i], scores[i]);
        scales[i] = distance_scale(scales[i], largest, factor(i), lower, sights[i].bias != nullptr);
      }
    for (std::uint32_t i = 0; i < N; ++i) {
      const std::uint32_t denominator = exp2(folded[i], scores[i], max[i], scales[i], block, sights[i].visible, weights);
      if (weights) {
        *reference = scales[i].reference;
        return;
      }
      std::int32_t& old_reference = sums.references[first + i];
      const std::int32_t merged = old_reference > scales[i].reference ? old_reference : scales[i].reference;
      keep[i] = pow2_or_zero(old_reference - merged);
      add[i] = pow2_or_zero(scales[i].reference - merged);
      old_reference = merged;
      float& sum = sums.denominators[first + i];
      sum = sum * keep[i] + static_cast<float>(denominator) * add[i];
      add[i] = add[i] * pow2(block.value_exponent_maxima[sights[i].visible - 1]);
    }
    for (std::uint32_t i = 0; i < N; ++i)
      weigh(sums.numerators + std::size_t{first + i} * block.value_dim, folded[i], block, sights[i].visible, keep[i], add[i]);
  }

  static void attend_block(const AttentionSums& sums, const BlockQueries& q, const KvBlock& block,
                           std::uint16_t* weights, std::int32_t* reference) {
    Place place{q.visible, 0, 0};
    std::uint32_t i = 0;
    for (; i + kBatch <= q.n; i += kBatch) attend<kBatch>(sums, q, q.first + i, block, place, nullptr, nullptr);
    for (; i < q.n; ++i) attend<1>(sums, q, q.first + i, block, place, weights, reference);
  }
};

}  // namespace heed::simd
