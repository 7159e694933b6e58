// SPDX-License-Identifier: Apache-2.0
// rows.hpp: what happens to one activation vector at a time: quantisation, norm and gate (SPEC.md 2.3 to 2.5), and the
// rows that the sampler reads. Float additions happen element by element, so that no order is to be kept.
#pragma once
#include <type_traits>

#include "platform/portable/rows.hpp"
#include "platform/simd/lanes.hpp"

namespace heed::simd {

template <class Arch, class Dot>
struct Rows : Lanes<Arch> {
  using typename Lanes<Arch>::W;
  using typename Lanes<Arch>::F;
  using typename Lanes<Arch>::I;
  using S16 = typename W::S16;
  using Base = Lanes<Arch>;
  static constexpr std::uint32_t kLanes = W::kLanes;
  static constexpr std::uint32_t kChunk = 2 * kLanes;  // elements of 16 bits in a vector

  HEED_INLINE static std::int8_t* vector(const Activations& a, std::uint32_t index) {
    return a.values + std::size_t{index} * a.value_stride;
  }

  // The shared exponent of a vector. It is regular when no element is a NaN or saturates, as it should be.
  struct Range {
    BlockFloat block;
    bool regular;
  };
  template <class Load>
  HEED_INLINE static Range range_of(std::uint32_t n, Load load) {
    I max(0);
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      max = Base::max(max, Base::bits(load(i, left)) & I(0x7FFFFFFF));
    });
    auto bits = static_cast<std::uint32_t>(W::largest(max));
    const bool regular = bits <= bits_of(kLargest);
    if (bits > 0x7F800000u) {
      max = I(0);
      Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        max = Base::max(max, Base::magnitude_bits(load(i, left)));
      });
      bits = static_cast<std::uint32_t>(W::largest(max));
    }
    return {block_float(bits), regular};
  }
  HEED_INLINE static Range range_of(const float* x, std::uint32_t n) { return range_of(n, loader(x)); }

  HEED_INLINE static auto loader(const float* x) {
    return [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA { return Base::load(x + i, left); };
  }

  // The chunk of s16 values at i of what load(i, left) reads; zeros behind the last.
  template <bool kRegular, class Load>
  HEED_INLINE static S16 chunk_s16(std::uint32_t i, std::uint32_t left, F scale, Load load) {
    const auto convert = [=](F x) HEED_LAMBDA {
      return kRegular ? Base::to_s16_regular(x, scale) : Base::to_s16(x, scale);
    };
    const I a = convert(load(i, left));
    const I b = left > kLanes ? convert(load(i + kLanes, left - kLanes)) : I(0);
    const S16 x = W::narrow(a, b);
    return kRegular ? W::max16(x, W::set16(-32767)) : x;
  }

  // Makes what quantize_row has left behind the columns zero, and adds up what the products need.
  HEED_INLINE static void finish(const Activations& dst, std::uint32_t index) {
    std::int8_t* q = vector(dst, index);
    const std::uint32_t end = activation_cols(dst.cols);
    for (std::uint32_t i = round_up(dst.cols, kChunk); i < end; ++i) q[i] = 0;
    if constexpr (Dot::kNeedsSums) {
      std::int32_t* sums = dst.sums + std::size_t{index} * dst.sum_count();
      const std::uint32_t width = dst.groups ? dst.group : dst.cols;
      for (std::uint32_t first = 0, g = 0; first < dst.cols; first += width, ++g)
        sums[g] = Dot::sum(q + first, first + width < dst.cols ? width : dst.cols - first);
    }
  }

  static void store_zero(const Activations& dst, std::uint32_t index) {
    std::memset(vector(dst, index), 0, round_up(dst.cols, kChunk));
    if (dst.groups) std::memset(dst.exponents + std::size_t{index} * dst.groups, 0, dst.groups);
    dst.scales[index] = 0.0f;
    finish(dst, index);
  }

  // Quantises what chunk(i, left) gives, without groups, into q unless that is null; returns the sum of squares.
  template <bool kStore = true, class Chunk>
  HEED_INLINE static std::int32_t quantize_plain(std::int8_t* q, std::uint32_t n, std::int32_t max, Chunk chunk) {
    const std::int32_t r = reciprocal_127(max);
    I squares(0);
    const auto store = [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      const S16 v = W::quantize(chunk(i, left), r, 22);
      if constexpr (kStore) W::store_s8(q + i, v);
      squares = squares + I(W::pair_squares(v));
    };
    std::uint32_t i = 0;
    for (; i + kChunk <= n; i += kChunk) store(i, kChunk);
    if (i < n) store(i, n - i);
    return W::sum(squares);
  }

  template <class Chunk>
  HEED_INLINE static void quantize_groups(const Activations& dst, std::uint32_t index, std::int32_t max, Chunk chunk) {
    std::int8_t* q = vector(dst, index);
    const std::int32_t r = reciprocal_127(max);
    std::uint8_t* exponents = dst.exponents + std::size_t{index} * dst.groups;
    for (std::uint32_t g = 0; g < dst.groups; ++g) {
      const std::uint32_t first = g * dst.group;
      const std::uint32_t end = first + dst.group < dst.cols ? first + dst.group : dst.cols;
      alignas(64) std::int16_t s16[256];
      S16 largest = W::set16(0);
      for (std::uint32_t i = first; i < end; i += kChunk) {
        const S16 x = chunk(i, dst.cols - i);
        W::store16(s16 + (i - first), x);
        largest = W::max16(largest, W::magnitude16(x));
      }
      const std::uint8_t p = portable::group_exponent(W::largest16(largest), max);
      exponents[g] = p;
      for (std::uint32_t i = first; i < end; i += kChunk)
        W::store_s8(q + i, W::quantize(W::load16(s16 + (i - first)), r, 19 + p));
    }
  }

  template <class Chunk>
  HEED_INLINE static void quantize_row(const Activations& dst, std::uint32_t index, std::int32_t max, Chunk chunk) {
    if (dst.groups)
      quantize_groups(dst, index, max, chunk);
    else
      quantize_plain(vector(dst, index), dst.cols, max, chunk);
    finish(dst, index);
  }

  // Quantises what load(i, left) reads.
  template <class Load>
  HEED_INLINE static void quantize_floats(const Activations& dst, std::uint32_t index, const Range& range, Load load) {
    const F scale(range.block.to_s16_scale);
    if (range.regular)
      quantize_row(dst, index, range.block.max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        return chunk_s16<true>(i, left, scale, load);
      });
    else
      quantize_row(dst, index, range.block.max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        return chunk_s16<false>(i, left, scale, load);
      });
  }

  static void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
    const Range range = range_of(src, dst.cols);
    if (range.block.zero) return store_zero(dst, index);
    quantize_floats(dst, index, range, loader(src));
    dst.scales[index] = portable::row_scale(range.block.max, range.block.exponent, dst.groups != 0);
  }

  // portable::norm_factor
  HEED_INLINE static float norm_factor(float s, std::int32_t squares, std::uint32_t n, float epsilon) {
    const float mean = s * s * static_cast<float>(squares) * (1.0f / static_cast<float>(n));
    return 1.0f / square_root(mean + epsilon);
  }

  // 1 / sqrt(mean square + epsilon) of a vector that is not zero; its int8 values go to q, with kStore.
  template <bool kStore, class Load>
  HEED_INLINE static float rms_factor(std::int8_t* q, std::uint32_t n, const Range& range, float epsilon, Load load) {
    const F scale(range.block.to_s16_scale);
    const std::int32_t squares =
        range.regular
            ? quantize_plain<kStore>(q, n, range.block.max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
                return chunk_s16<true>(i, left, scale, load);
              })
            : quantize_plain<kStore>(q, n, range.block.max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
                return chunk_s16<false>(i, left, scale, load);
              });
    return norm_factor(portable::row_scale(range.block.max, range.block.exponent, false), squares, n, epsilon);
  }

  // portable::number
  HEED_INLINE static F number(F y) {
    const I bits = Base::bits(y), size = bits & I(0x7FFFFFFF);
    return Base::floats(Base::select((I(0x2B800000) > size) | (size > I(0x7F800000)), I(0), bits));
  }

  // RMS norm.
  static void norm_f32_f32(float* dst, const float* src, std::uint32_t n, const NormWeights& weights) {
    const Range range = range_of(src, n);
    const F factor(range.block.zero ? 0.0f : rms_factor<false>(nullptr, n, range, weights.epsilon, loader(src)));
    const float* gain = weights.gain;
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      F y = Base::load(src + i, left) * factor;
      if (gain) y = y * Base::load(gain + i, left);
      Base::store(dst + i, number(y), left);
    });
  }

  static void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
    Range range = range_of(src, dst.cols);
    if (range.block.zero) return store_zero(dst, index);
    const float factor = rms_factor<true>(vector(dst, index), dst.cols, range, weights.epsilon, loader(src));
    if (weights.gain) {
      const float* gain = weights.gain;
      const auto scaled = [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        return Base::load(src + i, left) * Base::load(gain + i, left);
      };
      range = range_of(dst.cols, scaled);
      if (range.block.zero) return store_zero(dst, index);
      quantize_floats(dst, index, range, scaled);
    } else if (dst.groups) {
      quantize_floats(dst, index, range, loader(src));
    } else {
      finish(dst, index);
    }
    dst.scales[index] =
        activation_scale(portable::row_scale(range.block.max, range.block.exponent, dst.groups != 0) * factor);
  }

  // g * F(g) in 16 bits: portable::gate_factor and the product with it. Factors are at most 32767.
  HEED_INLINE static S16 gate(S16 g, int exponent, const std::uint16_t* factor) {
    const int shift = exponent - 3;  // to Q12
    const S16 a = W::magnitude16(g);
    S16 t;
    if (shift >= 0) {
      // From 16 places on every magnitude but 0 is too large, as it is with 16 bits of a.
      const int left = shift > 16 ? 16 : shift;
      t = W::select_greater16(a, W::set16(static_cast<int>(65535u >> left) > 32767 ? 32767 : 65535 >> left),
                              W::set16(-1), W::shift_left16(a, left));
    } else {
      t = W::shift_right16(a, shift < -31 ? 31 : -shift);
    }
    S16 low, high;
    W::look_up_pair(low, high, factor, W::shift_right_unsigned16(t, 8));
    // ((high - low) * fraction + 128) >> 8
    const S16 fraction = W::shift_left16(W::and16(t, W::set16(255)), 7);
    const S16 f = W::add16(low, W::multiply_round16(W::sub16(high, low), fraction));
    return W::multiply_round16(g, W::select_greater16(W::set16(0), g, W::sub16(W::set16(32767), f), f));
  }

  template <bool kRegular>
  HEED_INLINE static S16 gate_chunk(std::uint32_t i, std::uint32_t left, const float* x, const BlockFloat& block,
                                    const std::uint16_t* factor) {
    return gate(chunk_s16<kRegular>(i, left, F(block.to_s16_scale), loader(x)), block.exponent, factor);
  }

  static void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                           const std::uint16_t* factor) {
    const std::uint32_t n = dst.cols;
    const Range gate_range = range_of(gate, n);
    const Range up_range = up ? range_of(up, n) : Range{{false, 15, 1.0f, 0}, true};
    const BlockFloat &bg = gate_range.block, &bu = up_range.block;
    if (bg.zero || bu.zero) return store_zero(dst, index);
    const bool regular = gate_range.regular && up_range.regular;
    I largest(0);
    typename W::S32 last[2] = {I(0), I(0)};  // the products of the last, short chunk have no room in `gate`
    const auto multiply = [&](std::uint32_t i, std::uint32_t left, auto kind) HEED_LAMBDA {
      constexpr bool kRegular = decltype(kind)::value;
      typename W::S32 x, y;
      W::multiply_wide(x, y, gate_chunk<kRegular>(i, left, gate, bg, factor),
                       up ? chunk_s16<kRegular>(i, left, F(bu.to_s16_scale), loader(up)) : W::set16(1));
      largest = Base::max(largest, Base::max(Base::magnitude(x), Base::magnitude(y)));
      if (left >= kChunk) {  // in place: the floats are spent
        F(Base::floats(x)).store_unaligned(gate + i);
        F(Base::floats(y)).store_unaligned(gate + i + kLanes);
      } else {
        last[0] = x;
        last[1] = y;
      }
    };
    const auto multiply_all = [&](auto kind) HEED_LAMBDA {
      std::uint32_t i = 0;
      for (; i + kChunk <= n; i += kChunk) multiply(i, kChunk, kind);
      if (i < n) multiply(i, n - i, kind);
    };
    if (regular)
      multiply_all(std::true_type{});
    else
      multiply_all(std::false_type{});
    std::int32_t max = W::largest(largest);
    if (max == 0) return store_zero(dst, index);
    const int left_shift = 15 - bit_length(static_cast<std::uint32_t>(max));
    const int right = left_shift < 0 ? -left_shift : 0, up_shift = left_shift < 0 ? 0 : left_shift;
    max = (max >> right) << up_shift;
    const auto shift = [=](I x) HEED_LAMBDA { return W::shift_left(W::shift_right(x, right), up_shift); };
    quantize_row(dst, index, max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      if (left < kChunk) return W::narrow_wide(shift(last[0]), shift(last[1]));
      return W::narrow_wide(shift(Base::bits(F::load_unaligned(gate + i))),
                            shift(Base::bits(F::load_unaligned(gate + i + kLanes))));
    });
    dst.scales[index] =
        activation_scale(portable::row_scale(max, bg.exponent + bu.exponent - 15 - left_shift, dst.groups != 0));
  }

  static void attend_finish(float* dst, const float* numerators, float denominator, std::uint32_t head_dim) {
    const F inverse(1.0f / denominator);
    Base::for_each(head_dim, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      Base::store(dst + i, Base::load(numerators + i, left) * inverse, left);
    });
  }

  // Floats in the order of integers: zeros are equal, a NaN is the smallest of all. Floats are not compared, because
  // some CPUs take denormals for zeros.
  HEED_INLINE static I order(F x) {
    const I b = Base::bits(x);
    const I key = Base::select(I(0) > b, I(INT32_MIN) - b, b);
    return Base::select((b & I(0x7FFFFFFF)) > I(0x7F800000), I(INT32_MIN), key);
  }
  HEED_INLINE static std::int32_t order(float x) {
    const std::uint32_t b = bits_of(x), size = b & 0x7FFFFFFFu;
    return size > 0x7F800000u ? INT32_MIN : static_cast<std::int32_t>(b == size ? b : 0u - size);
  }

  // First the largest value, then where it is. A NaN in front counts as the smallest finite number.
  static std::uint32_t argmax(const float* logits, std::uint32_t n) {
    const std::int32_t front = order(logits[0]);
    const std::int32_t first = front == INT32_MIN ? order(-3.402823466e38f) : front;
    I largest(first);
    std::uint32_t i = 0;
    for (; i + kLanes <= n; i += kLanes) largest = Base::max(largest, order(F::load_unaligned(logits + i)));
    std::int32_t max = W::largest(largest);
    for (; i < n; ++i) max = order(logits[i]) > max ? order(logits[i]) : max;
    if (max == first) return 0;
    constexpr std::uint32_t kStep = 4 * kLanes;
    for (i = 0; i + kStep <= n; i += kStep) {
      I found(0);
      for (std::uint32_t j = 0; j < kStep; j += kLanes)
        found = Base::select(order(F::load_unaligned(logits + i + j)) == I(max), I(1), found);
      if (W::largest(found) != 0) break;
    }
    while (order(logits[i]) != max) ++i;
    return i;
  }

  // exp_f32 of numerics.cpp
  HEED_INLINE static F exp(F x) {
    const F low(-87.0f), high(88.0f), magic(kRoundToInt);
    x = xsimd::select(x > low, x, low);
    x = xsimd::select(x < high, x, high);
    F t = x * F(1.44269504f);
    t = t + magic;
    const F n = t - magic;
    F r = x - n * F(0.693359375f);
    r = r - n * F(-2.12194440e-4f);
    F q(0.008312501013278961f);
    q = q * r + F(0.041890330612659454f);
    q = q * r + F(0.16667115688323975f);
    q = q * r + F(0.499992311000824f);
    const F z = r * r;
    q = q * z;
    q = q + r;
    q = q + F(1.0f);
    return Base::floats(Base::bits(q) + I(W::shift_left(Base::bits(t), 23)));
  }

  static void sample_weights(std::uint32_t* weights, const float* logits, std::uint32_t n, float max,
                             float inverse_temperature) {
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      const F x = (Base::load(logits + i, left) - F(max)) * F(inverse_temperature);
      W::store_first(weights + i, Base::bits(exp(x) * F(4194304.0f) + F(8388608.0f)) & I(0x7FFFFF), left);
    });
  }
};

}  // namespace heed::simd
