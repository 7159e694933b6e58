// SPDX-License-Identifier: Apache-2.0
// rows.hpp: what happens to one activation vector at a time: quantisation, norm and gate (SPEC.md 2.3 to 2.5), and the
// rows that the sampler reads. Float additions happen element by element, so that no order is to be kept.
#pragma once
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

  // Largest magnitude_bits of load(i, left).
  template <class Load>
  HEED_INLINE static std::uint32_t max_magnitude_bits(std::uint32_t n, Load load) {
    I max(0);
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      max = Base::max(max, Base::magnitude_bits(load(i, left)));
    });
    return static_cast<std::uint32_t>(W::largest(max));
  }
  HEED_INLINE static std::uint32_t max_magnitude_bits(const float* x, std::uint32_t n) {
    return max_magnitude_bits(n, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA { return Base::load(x + i, left); });
  }

  // The chunk of s16 values at i of what load(i, left) reads; zeros behind the last.
  template <class Load>
  HEED_INLINE static S16 chunk_s16(std::uint32_t i, std::uint32_t left, F scale, Load load) {
    const I a = Base::to_s16(load(i, left), scale);
    const I b = left > kLanes ? Base::to_s16(load(i + kLanes, left - kLanes), scale) : I(0);
    return W::narrow(a, b);
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

  // Quantises what chunk(i, left) gives, without groups; returns the sum of squares.
  template <class Chunk>
  HEED_INLINE static std::int32_t quantize_plain(std::int8_t* q, std::uint32_t n, std::int32_t max, Chunk chunk) {
    const std::int32_t r = reciprocal_127(max);
    I squares(0);
    for (std::uint32_t i = 0; i < n; i += kChunk) {
      const S16 v = W::quantize(chunk(i, n - i), r, 22);
      W::store_s8(q + i, v);
      squares = squares + I(W::pair_squares(v));
    }
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

  static void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
    const BlockFloat b = block_float(max_magnitude_bits(src, dst.cols));
    if (b.zero) return store_zero(dst, index);
    const F scale(b.to_s16_scale);
    const auto load = [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA { return Base::load(src + i, left); };
    quantize_row(dst, index, b.max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      return chunk_s16(i, left, scale, load);
    });
    dst.scales[index] = portable::row_scale(b.max, b.exponent, dst.groups != 0);
  }

  static void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
    BlockFloat b = block_float(max_magnitude_bits(src, dst.cols));
    if (b.zero) return store_zero(dst, index);
    const auto load = [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA { return Base::load(src + i, left); };
    F scale(b.to_s16_scale);
    const std::int32_t squares = quantize_plain(
        vector(dst, index), dst.cols, b.max,
        [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA { return chunk_s16(i, left, scale, load); });
    const float s = portable::row_scale(b.max, b.exponent, false);
    const float mean = s * s * static_cast<float>(squares) * (1.0f / static_cast<float>(dst.cols));
    const float factor = 1.0f / square_root(mean + weights.epsilon);
    if (weights.gain) {
      const float* gain = weights.gain;
      const auto scaled = [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        return Base::load(src + i, left) * Base::load(gain + i, left);
      };
      b = block_float(max_magnitude_bits(dst.cols, scaled));
      if (b.zero) return store_zero(dst, index);
      scale = F(b.to_s16_scale);
      quantize_row(dst, index, b.max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        return chunk_s16(i, left, scale, scaled);
      });
    } else if (dst.groups) {
      quantize_row(dst, index, b.max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        return chunk_s16(i, left, scale, load);
      });
    } else {
      finish(dst, index);
    }
    dst.scales[index] = activation_scale(portable::row_scale(b.max, b.exponent, dst.groups != 0) * factor);
  }

  // portable::gate_factor
  HEED_INLINE static I gate_factor(I g, int exponent, const std::uint16_t* factor) {
    const int shift = exponent - 3;
    const I a = Base::magnitude(g);
    // At 17 bits left or more a nonzero magnitude is beyond 65535; 16 does the same and fits.
    I t = shift >= 0 ? W::shift_left(a, shift > 16 ? 16 : shift) : W::shift_right(a, shift < -31 ? 31 : -shift);
    t = xsimd::select(t > I(65535), I(65535), t);
    const I both = W::look_up_pairs(factor, W::shift_right(t, 8));
    const I low = both & I(0xFFFF), high = I(W::shift_right(both, 16)) & I(0xFFFF);
    const I f = low + I(W::shift_right((high - low) * (t & I(255)) + I(128), 8));
    return xsimd::select(I(0) > g, I(32767) - f, f);
  }

  static void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                           const std::uint16_t* factor) {
    const std::uint32_t n = dst.cols;
    const BlockFloat bg = block_float(max_magnitude_bits(gate, n));
    const BlockFloat bu = up ? block_float(max_magnitude_bits(up, n)) : BlockFloat{false, 15, 1.0f, 0};
    if (bg.zero || bu.zero) return store_zero(dst, index);
    I largest(0);
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      const I g = Base::to_s16(Base::load(gate + i, left), F(bg.to_s16_scale));
      I h = W::shift_right(g * gate_factor(g, bg.exponent, factor) + I(1 << 14), 15);
      if (up) h = h * Base::to_s16(Base::load(up + i, left), F(bu.to_s16_scale));
      Base::store(gate + i, Base::floats(h), left);  // in place: the float is spent
      largest = Base::max(largest, Base::magnitude(h));
    });
    std::int32_t max = W::largest(largest);
    if (max == 0) return store_zero(dst, index);
    const int left_shift = 15 - bit_length(static_cast<std::uint32_t>(max));
    const int right = left_shift < 0 ? -left_shift : 0, up_shift = left_shift < 0 ? 0 : left_shift;
    max = (max >> right) << up_shift;
    const auto load = [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      return I(W::shift_left(W::shift_right(Base::bits(Base::load(gate + i, left)), right), up_shift));
    };
    quantize_row(dst, index, max, [=](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      return W::narrow(load(i, left), left > kLanes ? load(i + kLanes, left - kLanes) : I(0));
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

  // First the largest value, then where it is.
  static std::uint32_t argmax(const float* logits, std::uint32_t n) {
    const float first = logits[0] == logits[0] ? logits[0] : -3.402823466e38f;
    F largest(first);
    std::uint32_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const F x = F::load_unaligned(logits + i);
      largest = xsimd::select(x > largest, x, largest);
    }
    float values[kLanes];
    largest.store_unaligned(values);
    float max = first;
    for (const float v : values) max = v > max ? v : max;
    for (; i < n; ++i) max = logits[i] > max ? logits[i] : max;
    if (!(max > first)) return 0;
    constexpr std::uint32_t kStep = 4 * kLanes;
    for (i = 0; i + kStep <= n; i += kStep) {
      F found(0.0f);
      for (std::uint32_t j = 0; j < kStep; j += kLanes)
        found = xsimd::select(F::load_unaligned(logits + i + j) == F(max), F(1.0f), found);
      if (W::largest(Base::bits(found)) != 0) break;
    }
    while (!(logits[i] == max)) ++i;
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
