// SPDX-License-Identifier: Apache-2.0
// layer_norm.hpp: layer norm of one vector (SPEC.md 2.4): the steps of portable::layer_norm in lanes.
#pragma once
#include "platform/simd/rows.hpp"

namespace heed::simd {

template <class Arch, class Dot>
struct LayerNorm : Rows<Arch, Dot> {
  using Base = Rows<Arch, Dot>;
  using typename Lanes<Arch>::W;
  using typename Lanes<Arch>::F;
  using typename Lanes<Arch>::I;
  static constexpr std::uint32_t kLanes = W::kLanes;

  // The vector as s16 values less their mean, shifted to a maximum of 16384..32767.
  struct Centred {
    const float* src;
    float scale;  // to s16
    std::int32_t mean, max;
    int left, right;  // one of them is 0

    // Lanes from i on; zeros behind the last.
    HEED_INLINE I words(std::uint32_t i, std::uint32_t available) const {
      const I x = Base::to_s16(Base::load(src + i, available), F(scale)) - I(mean);
      return first(W::shift_left(W::shift_right(x, right), left), available);
    }
    HEED_INLINE typename W::S16 operator()(std::uint32_t i, std::uint32_t available) const {
      const I a = words(i, available);
      const I b = available > kLanes ? words(i + kLanes, available - kLanes) : I(0);
      return W::narrow(a, b);
    }
  };

  HEED_INLINE static I first(I x, std::uint32_t n) {
    if (n >= kLanes) return x;
    std::int32_t words[kLanes] = {};
    W::store_first(reinterpret_cast<std::uint32_t*>(words), x, n);
    return W::load(words);
  }

  // Of numerators up to 2^32: an integer division rounded towards minus infinity.
  HEED_INLINE static std::int32_t rounded_mean(std::int32_t sum, std::uint32_t n) {
    const std::int64_t twice = 2 * std::int64_t{sum} + n, by = 2 * std::int64_t{n};
    const std::int64_t quotient = twice / by;
    return static_cast<std::int32_t>(twice % by < 0 ? quotient - 1 : quotient);
  }

  HEED_INLINE static Centred centre(const float* src, std::uint32_t n, float scale) {
    Centred c = {src, scale, 0, 0, 0, 0};
    I sum(0), max(0);
    // A sum of s16 values fits 32 bits, as a vector has at most 2^16 of them.
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA { sum = sum + c.words(i, left); });
    c.mean = rounded_mean(W::sum(sum), n);
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      max = Base::max(max, Base::magnitude(c.words(i, left)));
    });
    c.max = W::largest(max);
    const int left = 15 - bit_length(static_cast<std::uint32_t>(c.max));
    c.left = c.max == 0 || left < 0 ? 0 : left;
    c.right = left < 0 ? -left : 0;
    c.max = (c.max >> c.right) << c.left;
    return c;
  }

  // What reads c * unit * gain + bias.
  HEED_INLINE static auto normed_by(const Centred& centred, float unit, const NormWeights& weights) {
    return [=, gain = weights.gain, bias = weights.bias](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      F y = F(W::to_float(centred.words(i, left))) * F(unit);
      if (gain) y = y * Base::load(gain + i, left);
      return bias ? F(y + Base::load(bias + i, left)) : y;
    };
  }

  static void layer_norm(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
    const std::uint32_t n = dst.cols;
    const BlockFloat block = Base::range_of(src, n).block;
    Centred centred = {src, block.to_s16_scale, 0, 0, 0, 0};
    if (!block.zero) centred = centre(src, n, block.to_s16_scale);
    if (centred.max == 0 && !weights.bias) return Base::store_zero(dst, index);
    float unit = 0.0f, scale = 0.0f;
    if (centred.max != 0) {
      const int exponent = block.exponent - centred.left + centred.right;
      const std::int32_t squares = Base::quantize_plain(Base::vector(dst, index), n, centred.max, centred);
      const float factor =
          Base::norm_factor(portable::row_scale(centred.max, exponent, false), squares, n, weights.epsilon);
      unit = pow2(exponent - 15) * factor;
      scale = portable::row_scale(centred.max, exponent, dst.groups != 0) * factor;
    }
    if (weights.gain || weights.bias) {
      const auto normed = normed_by(centred, unit, weights);
      const typename Base::Range range = Base::range_of(n, normed);
      if (range.block.zero) return Base::store_zero(dst, index);
      Base::quantize_floats(dst, index, range, normed);
      scale = portable::row_scale(range.block.max, range.block.exponent, dst.groups != 0);
    } else if (dst.groups) {
      Base::quantize_row(dst, index, centred.max, centred);
    } else {
      Base::finish(dst, index);
    }
    dst.scales[index] = activation_scale(scale);
  }

  // Floats of layer norm.
  static void layer_norm(float* dst, const float* src, std::uint32_t n, const NormWeights& weights) {
    const BlockFloat block = Base::range_of(src, n).block;
    Centred centred = {src, block.to_s16_scale, 0, 0, 0, 0};
    if (!block.zero) centred = centre(src, n, block.to_s16_scale);
    float unit = 0.0f;
    if (centred.max != 0) {
      const int exponent = block.exponent - centred.left + centred.right;
      const std::int32_t squares = Base::template quantize_plain<false>(nullptr, n, centred.max, centred);
      unit = pow2(exponent - 15) *
             Base::norm_factor(portable::row_scale(centred.max, exponent, false), squares, n, weights.epsilon);
    }
    const auto normed = normed_by(centred, unit, weights);
    Base::for_each(n, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
      Base::store(dst + i, Base::number(normed(i, left)), left);
    });
  }

  static void norm_f32_f32(float* dst, const float* src, std::uint32_t n, const NormWeights& weights) {
    weights.centred ? layer_norm(dst, src, n, weights) : Base::norm_f32_f32(dst, src, n, weights);
  }

  static void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
    weights.centred ? layer_norm(dst, index, src, weights) : Base::norm_s8r_f32(dst, index, src, weights);
  }
};

}  // namespace heed::simd
