// SPDX-License-Identifier: Apache-2.0
// heads.hpp: one head's query, key and value: rotation, quantisation, and their places in the cache (SPEC.md 2.7).
// Keys lie like packed weights, [slot / 16][dim / 4][16][4]; values [slot / n][dim][n] with the n of the Dot.
#pragma once
#include "platform/simd/rows.hpp"

namespace heed::simd {

template <class Arch, class Dot>
struct Heads : Rows<Arch, Dot> {
  using Base = Rows<Arch, Dot>;
  using typename Lanes<Arch>::W;
  using typename Lanes<Arch>::F;
  using typename Lanes<Arch>::I;
  using S16 = typename W::S16;
  static constexpr std::uint32_t kLanes = W::kLanes;
  static constexpr std::uint32_t kChunk = 2 * kLanes;

  // portable::HeadS16 with room for whole vectors; zero behind the last dimension.
  struct Head {
    alignas(64) std::int16_t values[kMaxHeadDim + 64];
    int exponent;      // value = s16 * 2^(exponent - 15)
    std::int32_t max;  // largest |s16|; 0 = all zero, and no values then
  };

  HEED_INLINE static void store_first16(std::int16_t* p, I x, std::uint32_t left) {
    if (left >= kLanes) return W::store_narrow(p, x);
    std::int16_t words[kLanes];
    W::store_narrow(words, x);
    for (std::uint32_t i = 0; i < left; ++i) p[i] = words[i];
  }

  // Two s16 per word: the low one and the high one.
  HEED_INLINE static I low_half(I x) { return W::shift_right(W::shift_left(x, 16), 16); }
  HEED_INLINE static I high_half(I x) { return W::shift_right(x, 16); }

  HEED_INLINE static I product(I x, I y) { return W::multiply32(x, y); }

  static void rotate(Head& head, const float* src, std::uint32_t n, const Rotation& rotation) {
    const BlockFloat b = Base::range_of(src, n).block;
    head.exponent = b.exponent;
    head.max = 0;
    if (b.zero) return;
    const F scale(b.to_s16_scale);
    const auto load = Base::loader(src);
    I max(0);
    std::uint32_t rest = 0;
    if (rotation.cosine_sine) {
      ++head.exponent;
      const std::uint32_t pairs = rotation.pairs;
      Base::for_each(pairs, [&](std::uint32_t i, std::uint32_t left) HEED_LAMBDA {
        const I cs = W::as_words(W::load16_first(rotation.cosine_sine + 2 * i, 2 * left));
        const I c = low_half(cs), s = high_half(cs);
        I x, y;
        if (rotation.halves) {
          x = Base::to_s16(load(i, left), scale);
          y = Base::to_s16(load(pairs + i, left), scale);
        } else {
          const I both = W::as_words(Base::template chunk_s16<false>(2 * i, 2 * left, scale, load));
          x = low_half(both);
          y = high_half(both);
        }
        const I u = W::shift_right(product(x, c) - product(y, s) + I(1 << 15), 16);
        const I v = W::shift_right(product(x, s) + product(y, c) + I(1 << 15), 16);
        if (rotation.halves) {
          store_first16(head.values + i, u, left);
          W::store_narrow(head.values + pairs + i, v);
        } else {
          W::store16(head.values + 2 * i, W::as_halves((u & I(0xFFFF)) | I(W::shift_left(v, 16))));
        }
        max = Base::max(max, Base::max(Base::magnitude(u), Base::magnitude(v)));
      });
      rest = 2 * pairs;
    }
    for (; rest < n; rest += kLanes) {
      I x = Base::to_s16(load(rest, n - rest), scale);
      if (rotation.cosine_sine) x = W::shift_right(x + I(1), 1);
      W::store_narrow(head.values + rest, x);
      max = Base::max(max, Base::magnitude(x));
    }
    W::store16(head.values + n, W::set16(0));
    head.max = W::largest(max);
  }

  // How far left the values have to go for a maximum of 16384..32767; max and exponent go there.
  HEED_INLINE static int normalize(Head& head) {
    const int left = 15 - bit_length(static_cast<std::uint32_t>(head.max));
    head.max <<= left;
    head.exponent -= left;
    return left;
  }

  static void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
    Head head;
    rotate(head, src, dst.cols, rotation);
    if (head.max == 0) return Base::store_zero(dst, index);
    const int left = normalize(head);
    Base::quantize_row(dst, index, head.max, [&](std::uint32_t i, std::uint32_t) HEED_LAMBDA {
      return W::shift_left16(W::load16(head.values + i), left);
    });
    dst.scales[index] = portable::row_scale(head.max, head.exponent, false);
  }

  static void subtract(Head& head, std::uint32_t n, const KeyOffset& offset) {
    const bool zero = head.max == 0;
    if (zero) head.exponent = -39;
    const int common = (head.exponent > offset.exponent ? head.exponent : offset.exponent) + 1;
    const int a = common - head.exponent > 31 ? 31 : common - head.exponent;
    const int b = common - offset.exponent > 31 ? 31 : common - offset.exponent;
    S16 max = W::set16(0);
    for (std::uint32_t i = 0; i < n; i += kChunk) {
      const S16 x = zero ? W::set16(0) : W::load16(head.values + i);
      const S16 v =
          W::sub16(W::shift_right16(x, a), W::shift_right16(W::load16_first(offset.values + i, n - i), b));
      W::store16(head.values + i, v);
      max = W::max16(max, W::magnitude16(v));
    }
    head.max = W::largest16(max);
    head.exponent = common;
  }

  static void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                        const KeyOffset& offset) {
    const std::uint32_t n = dst.head_dim;
    Head head;
    rotate(head, src, n, rotation);
    if (offset.values) subtract(head, n, offset);
    const int left = head.max ? normalize(head) : 0;
    const portable::QuantizedKey key = portable::key_scale({{}, head.exponent, head.max});
    alignas(64) std::int8_t q[kMaxHeadDim + 64];
    for (std::uint32_t i = 0; i < n; i += kChunk)
      W::store_s8(q + i, key.reciprocal
                             ? W::quantize(W::shift_left16(W::load16(head.values + i), left), key.reciprocal, 22)
                             : W::set16(0));
    const std::uint32_t fours = (n + 3) / 4;
    std::int8_t* out = dst.keys + std::size_t{slot / 16} * fours * 64 + slot % 16 * 4;
    for (std::uint32_t i = 0; i < fours; ++i) {
      std::uint32_t four;
      std::memcpy(&four, q + 4 * i, sizeof four);
      four = Dot::key_bytes(four);
      std::memcpy(out + std::size_t{i} * 64, &four, sizeof four);
    }
    dst.key_mantissas[slot] = key.mantissa;
    store_exponent(dst.key_exponents, dst.key_exponent_maxima, slot, key.exponent);
  }

  HEED_INLINE static void store_exponent(std::int8_t* exponents, std::int8_t* maxima, std::uint32_t slot,
                                         std::int8_t exponent) {
    exponents[slot] = exponent;
    const std::int8_t before = slot ? maxima[slot - 1] : exponent;
    maxima[slot] = before > exponent ? before : exponent;
  }

  static void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
    const std::uint32_t n = dst.value_dim;
    const BlockFloat b = Base::range_of(src, n).block;
    const int shift = ((b.max + 128) >> 8) <= 127 ? 8 : 9;
    const auto load = Base::loader(src);
    alignas(64) std::int8_t q[kMaxHeadDim + 64];
    // (x + 2^(shift - 1)) >> shift, without the sum leaving 16 bits
    const S16 half = W::set16(1 << (15 - shift));
    for (std::uint32_t i = 0; i < n; i += kChunk)
      W::store_s8(q + i, b.zero ? W::set16(0)
                                : W::multiply_round16(Base::template chunk_s16<false>(i, n - i, F(b.to_s16_scale), load), half));
    constexpr std::uint32_t kKeys = Dot::kValueKeys;
    std::int8_t* out = dst.values + std::size_t{slot / kKeys} * n * kKeys;
    std::uint32_t d = 0;
    if constexpr (kKeys == 4) {  // a byte of each word
      const int shift = static_cast<int>(slot % 4 * 8);
      const I byte(static_cast<std::int32_t>(255u << shift)), others(static_cast<std::int32_t>(~(255u << shift)));
      for (; d + kLanes <= n; d += kLanes) {
        auto* words = reinterpret_cast<std::int32_t*>(out) + d;
        const I value = I(W::shift_left(W::widen_s8(q + d), shift)) & byte;
        W::store(words, (I(W::load(words)) & others) | value);
      }
    }
    for (; d < n; ++d) out[std::size_t{d} * kKeys + slot % kKeys] = q[d];
    store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot,
                   static_cast<std::int8_t>(b.zero ? -46 : b.exponent - 15 + shift));
  }
};

}  // namespace heed::simd
