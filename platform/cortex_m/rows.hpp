// SPDX-License-Identifier: Apache-2.0
// rows.hpp: what happens to one vector at a time on Cortex-M, with the bits of portable/rows.hpp. A vector is first
// written as s16 where its prepared form will be, two bytes per element, and quantised there, so that each step exists
// once. `Core` converts and quantises runs: max_bits, to_s16 of one float, convert of floats in fours, gate_products
// and finish.
#pragma once
#include "platform/portable/rows.hpp"

namespace heed::cortex_m {

inline std::int16_t* s16_row(const Activations& a, std::uint32_t index) {
  return reinterpret_cast<std::int16_t*>(a.values + std::size_t{index} * a.value_stride);
}

// heed::block_float by integers.
__attribute__((noinline)) inline BlockFloat block_of_max(std::uint32_t bits) {
  if (bits < 0x2B800000u) return {true, -39, 0.0f, 0};       // 2^-40
  if (bits > 0x53FFFFFFu) return {false, 41, pow2(15 - 41), kMaxS16};  // 2^41
  const int exponent = static_cast<int>(bits >> 23) - 126;
  const std::uint32_t mantissa = (bits & 0x7FFFFFu) | 0x800000u, behind = (mantissa & 511u) + (mantissa >> 9 & 1u);
  const auto max = static_cast<std::int32_t>((mantissa >> 9) + (behind > 256u));
  return {false, exponent, pow2(15 - exponent), max > kMaxS16 ? kMaxS16 : max};
}

// The loops over a vector that need nothing but ARMv7-M.
struct Armv7Loops {
  // The magnitude bits of the largest |x| or |x * gain|; NaN counts as 0.
  __attribute__((noinline)) static std::uint32_t max_bits(const float* x, const float* gain, std::uint32_t n) {
    std::uint32_t max = 0;  // of twice the bits, which drops the sign
    if (!gain) {
      const float *at = x, *const end = x + n, *const quads = x + (n & 3u);
      std::uint32_t u;
      __asm__ volatile(
          "cmp %[at], %[quads]\n\t"
          "beq 2f\n\t"
          "1:\n\t"
          "ldr %[u], [%[at]], #4\n\t"
          "cmp %[max], %[u], lsl #1\n\t"
          "it lo\n\t"
          "lsllo %[max], %[u], #1\n\t"
          "cmp %[at], %[quads]\n\t"
          "bne 1b\n\t"
          "2:\n\t"
          "cmp %[at], %[end]\n\t"
          "beq 3f\n\t"
          "ldmia %[at]!, {r0-r3}\n\t"
          "cmp %[max], r0, lsl #1\n\tit lo\n\tlsllo %[max], r0, #1\n\t"
          "cmp %[max], r1, lsl #1\n\tit lo\n\tlsllo %[max], r1, #1\n\t"
          "cmp %[max], r2, lsl #1\n\tit lo\n\tlsllo %[max], r2, #1\n\t"
          "cmp %[max], r3, lsl #1\n\tit lo\n\tlsllo %[max], r3, #1\n\t"
          "b 2b\n\t"
          "3:"
          : [at] "+&r"(at), [max] "+&r"(max), [u] "=&r"(u)
          : [end] "r"(end), [quads] "r"(quads)
          : "r0", "r1", "r2", "r3", "cc", "memory");
      if (max <= 0xFF000000u) return max >> 1;
      max = 0;  // there is a NaN
    }
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::uint32_t u = bits_of(gain ? x[i] * gain[i] : x[i]) << 1;
      max = u > max && u <= 0xFF000000u ? u : max;
    }
    return max >> 1;
  }

  // h = gate * F(gate) * up of s16 values (SPEC.md 2.5); returns the largest |h|. The gate is brought to Q12 by a shift
  // to the left and one to the right.
  __attribute__((noinline)) static std::int32_t gate_products(std::int32_t* h, const std::int16_t* gate,
                                                              const std::int16_t* up, std::uint32_t n, int to_left,
                                                              int to_right, const std::uint16_t* factor) {
    const std::int32_t* const end = h + n;
    std::int32_t max = 0, g, t, f, d;
    __asm__ volatile(
        "1:\n\t"
        "ldrsh %[g], [%[gate]], #2\n\t"
        "eor %[t], %[g], %[g], asr #31\n\t"
        "sub %[t], %[t], %[g], asr #31\n\t"
        "lsl %[t], %[t], %[left]\n\t"
        "lsr %[t], %[t], %[right]\n\t"
        "usat %[t], #16, %[t]\n\t"
        "lsr %[f], %[t], #8\n\t"
        "ldr %[d], [%[factor], %[f], lsl #1]\n\t"  // F at both ends of the interval
        "uxtb %[t], %[t]\n\t"
        "uxth %[f], %[d]\n\t"
        "rsb %[d], %[f], %[d], lsr #16\n\t"
        "mul %[t], %[t], %[d]\n\t"
        "add %[t], %[t], #128\n\t"
        "add %[f], %[f], %[t], asr #8\n\t"
        "eor %[f], %[f], %[g], lsr #17\n\t"  // F(-a) = 32767 - F(a)
        "mul %[t], %[g], %[f]\n\t"
        "add %[t], %[t], #16384\n\t"
        "asr %[t], %[t], #15\n\t"
        "ldrsh %[f], [%[up]], #2\n\t"
        "mul %[t], %[t], %[f]\n\t"
        "str %[t], [%[h]], #4\n\t"
        "eor %[f], %[t], %[t], asr #31\n\t"
        "sub %[f], %[f], %[t], asr #31\n\t"
        "cmp %[f], %[max]\n\t"
        "it gt\n\t"
        "movgt %[max], %[f]\n\t"
        "cmp %[h], %[end]\n\t"
        "bne 1b"
        : [h] "+r"(h), [gate] "+r"(gate), [up] "+r"(up), [max] "+r"(max), [g] "=&r"(g), [t] "=&r"(t), [f] "=&r"(f),
          [d] "=&r"(d)
        : [left] "r"(to_left), [right] "r"(to_right), [factor] "r"(factor), [end] "r"(end)
        : "cc", "memory");
    return max;
  }

  // s16 of the products, two at a time; an odd first one enters in the middle.
  static void shift_products(std::int16_t* to, const std::int32_t* h, std::uint32_t n, int right, int left) {
    const std::int32_t* const end = h + n;
    std::int32_t t;
#define HEED_SHIFT "ldr %[t], [%[h]], #4\n\tasr %[t], %[t], %[right]\n\tlsl %[t], %[t], %[left]\n\tstrh %[t], [%[to]], #2\n\t"
    __asm__ volatile(
        "tst %[n], #1\n\tbne 2f\n\t"
        "1:\n\t" HEED_SHIFT "2:\n\t" HEED_SHIFT
        "cmp %[h], %[end]\n\tbne 1b"
        : [to] "+&r"(to), [h] "+&r"(h), [t] "=&r"(t)
        : [n] "r"(n), [right] "r"(right), [left] "r"(left), [end] "r"(end)
        : "cc", "memory");
#undef HEED_SHIFT
  }
};

template <class Core>
struct Rows {
  // s16 = x * gain * 2^(15 - exponent).
  __attribute__((noinline)) static void convert(std::int16_t* to, const float* src, const float* gain, std::uint32_t n,
                                                const BlockFloat& b) {
    std::uint32_t i = 0;
    if (!gain) {
      i = n & ~3u;
      if (i) Core::convert(to, src, i, b);
    }
    for (; i < n; ++i) to[i] = static_cast<std::int16_t>(Core::to_s16(gain ? src[i] * gain[i] : src[i], b));
  }

  // Quantises vector `index` in place (SPEC.md 2.3); returns the sum of squares of a vector without groups.
  __attribute__((noinline)) static std::int32_t quantize(const Activations& dst, std::uint32_t index, std::int32_t max,
                                                         std::uint32_t groups) {
    std::int16_t* row = s16_row(dst, index);
    const std::int32_t reciprocal = reciprocal_127(max) << 10;  // q in the upper half of x * reciprocal / 2^16
    const std::uint32_t columns = activation_cols(dst.cols);
    for (std::uint32_t i = dst.cols; i < columns; ++i) row[i] = 0;
    if (!kBuiltFeatures.groups || groups == 0) return Core::finish(row, columns, reciprocal);
    std::uint8_t* exponents = dst.exponents + std::size_t{index} * groups;
    for (std::uint32_t first = 0; first < columns; first += dst.group, ++exponents) {
      const std::uint32_t n = columns - first < dst.group ? columns - first : dst.group;
      std::int32_t group_max = 0;
      for (std::uint32_t i = first; i < first + n; ++i) {
        const std::int32_t m = magnitude(row[i]);
        group_max = m > group_max ? m : group_max;
      }
      *exponents = portable::group_exponent(group_max, max);
      Core::finish(row + first, n, reciprocal << (3 - *exponents));
    }
    return 0;
  }

  static void store_zero(const Activations& dst, std::uint32_t index) {
    std::int16_t* row = s16_row(dst, index);
    for (std::uint32_t i = 0; i < activation_cols(dst.cols); ++i) row[i] = 0;
    for (std::uint32_t g = 0; g < dst.groups; ++g) dst.exponents[std::size_t{index} * dst.groups + g] = 0;
    dst.scales[index] = 0.0f;
  }

  static void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
    const BlockFloat b = block_of_max(Core::max_bits(src, nullptr, dst.cols));
    if (b.zero) return store_zero(dst, index);
    convert(s16_row(dst, index), src, nullptr, dst.cols, b);
    quantize(dst, index, b.max, dst.groups);
    dst.scales[index] = portable::row_scale(b.max, b.exponent, dst.groups != 0);
  }

  // The steps of portable::layer_norm; a row is converted again where quantising has overwritten it.
  __attribute__((noinline)) static void layer_norm(const Activations& dst, std::uint32_t index, const float* src,
                                                   const NormWeights& weights) {
    const BlockFloat b = block_of_max(Core::max_bits(src, nullptr, dst.cols));
    std::int16_t* const row = s16_row(dst, index);
    portable::Centred c{0, 0, 0, 0.0f};
    std::int32_t max = 0;
    const auto centre_row = [&] {
      for (std::uint32_t i = 0; i < dst.cols; ++i)
        row[i] = static_cast<std::int16_t>(
            max == 0 ? 0 : ((Core::to_s16(src[i], b) - c.mean) >> c.right) * (1 << c.left));
    };
    if (!b.zero) c = portable::centre(max, dst.cols, [&](std::uint32_t i) { return Core::to_s16(src[i], b); });
    if (max == 0 && !weights.bias) return store_zero(dst, index);
    float scale = 0.0f;
    if (max != 0) {
      const int exponent = b.exponent - c.left + c.right;
      centre_row();
      const std::int32_t squares = quantize(dst, index, max, 0);
      const float factor =
          portable::norm_factor(portable::row_scale(max, exponent, false), squares, dst.cols, weights.epsilon);
      c.unit = pow2(exponent - 15) * factor;
      scale = portable::row_scale(max, exponent, dst.groups != 0) * factor;
    }
    if (weights.gain || weights.bias) {
      const auto normed = [&](std::uint32_t i) {
        float y = static_cast<float>(row[i]) * c.unit;
        if (weights.gain) y = y * weights.gain[i];
        return weights.bias ? y + weights.bias[i] : y;
      };
      centre_row();
      std::uint32_t bits = 0;
      for (std::uint32_t i = 0; i < dst.cols; ++i) {
        const std::uint32_t m = magnitude_bits(normed(i));
        bits = m > bits ? m : bits;
      }
      const BlockFloat y = block_of_max(bits);
      if (y.zero) return store_zero(dst, index);
      for (std::uint32_t i = 0; i < dst.cols; ++i) row[i] = static_cast<std::int16_t>(Core::to_s16(normed(i), y));
      quantize(dst, index, y.max, dst.groups);
      scale = portable::row_scale(y.max, y.exponent, dst.groups != 0);
    } else if (dst.groups) {
      centre_row();
      quantize(dst, index, max, dst.groups);
    }
    dst.scales[index] = activation_scale(scale);
  }

  static void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
    if (kBuiltFeatures.layer_norm && weights.centred) return layer_norm(dst, index, src, weights);
    BlockFloat b = block_of_max(Core::max_bits(src, nullptr, dst.cols));
    if (b.zero) return store_zero(dst, index);
    std::int16_t* const row = s16_row(dst, index);
    convert(row, src, nullptr, dst.cols, b);
    const std::int32_t squares = quantize(dst, index, b.max, 0);
    const float s = portable::row_scale(b.max, b.exponent, false);
    const float mean = s * s * static_cast<float>(squares) * (1.0f / static_cast<float>(dst.cols));
    const float factor = 1.0f / square_root(mean + weights.epsilon);
    if (weights.gain) b = block_of_max(Core::max_bits(src, weights.gain, dst.cols));
    if (b.zero) return store_zero(dst, index);
    if (weights.gain || dst.groups) {
      convert(row, src, weights.gain, dst.cols, b);
      quantize(dst, index, b.max, dst.groups);
    }
    dst.scales[index] = activation_scale(portable::row_scale(b.max, b.exponent, dst.groups != 0) * factor);
  }

  static void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                           const std::uint16_t* factor) {
    const std::uint32_t n = dst.cols;
    const BlockFloat bg = block_of_max(Core::max_bits(gate, nullptr, n));
    const BlockFloat bu = up ? block_of_max(Core::max_bits(up, nullptr, n)) : BlockFloat{false, 15, 1.0f, 0};
    if (bg.zero || bu.zero) return store_zero(dst, index);
    // To Q12: one of the shifts is 0.
    const int shift = bg.exponent - 3;
    const int to_left = shift < 0 ? 0 : shift > 16 ? 16 : shift, to_right = shift > 0 ? 0 : shift < -31 ? 31 : -shift;
    std::int16_t* const row = s16_row(dst, index);
    convert(row, gate, nullptr, n, bg);
    // The floats of the gate are spent: up goes into the upper half of their memory and h follows it from below.
    auto* const ups = reinterpret_cast<std::int16_t*>(gate) + (n & ~1u);
    auto* const products = reinterpret_cast<std::int32_t*>(gate);
    if (up) {
      convert(ups, up, nullptr, n, bu);
    } else {
      for (std::uint32_t i = 0; i < n; ++i) ups[i] = 1;
    }
    std::int32_t max = Core::gate_products(products, row, ups, n, to_left, to_right, factor);
    if (max == 0) return store_zero(dst, index);
    const int left = 15 - bit_length(static_cast<std::uint32_t>(max));
    const int right = left < 0 ? -left : 0, up_shift = left < 0 ? 0 : left;
    Core::shift_products(row, products, n, right, up_shift);
    max = (max >> right) << up_shift;
    quantize(dst, index, max, dst.groups);
    const int exponent = bg.exponent + bu.exponent - 15 - left;
    dst.scales[index] = activation_scale(portable::row_scale(max, exponent, dst.groups != 0));
  }

  // portable::rotate_head.
  __attribute__((noinline)) static void rotate_head(portable::HeadS16& head, const float* src, std::uint32_t n,
                                                    const Rotation& rotation) {
    const BlockFloat b = block_of_max(Core::max_bits(src, nullptr, n));
    head.exponent = b.exponent;
    head.max = 0;
    if (b.zero) return;
    convert(head.values, src, nullptr, n, b);
    if (rotation.cosine_sine) {
      ++head.exponent;
      const std::uint32_t step = rotation.halves ? 1 : 2, other = rotation.halves ? rotation.pairs : 1;
      std::int16_t* at = head.values;
      const std::int16_t *cs = rotation.cosine_sine, *const end = cs + 2 * rotation.pairs;
      for (; cs != end; cs += 2, at += step) {
        const std::int32_t x = at[0], y = at[other], c = cs[0], s = cs[1];
        at[0] = static_cast<std::int16_t>((x * c - y * s + (1 << 15)) >> 16);
        at[other] = static_cast<std::int16_t>((x * s + y * c + (1 << 15)) >> 16);
      }
      for (std::uint32_t i = 2u * rotation.pairs; i < n; ++i)
        head.values[i] = static_cast<std::int16_t>((head.values[i] + 1) >> 1);
    }
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::int32_t m = magnitude(head.values[i]);
      head.max = m > head.max ? m : head.max;
    }
  }

  static void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
    portable::HeadS16 head;
    rotate_head(head, src, dst.cols, rotation);
    if (head.max == 0) return store_zero(dst, index);
    portable::normalize_head(head, dst.cols);
    std::int16_t* const row = s16_row(dst, index);
    for (std::uint32_t i = 0; i < dst.cols; ++i) row[i] = head.values[i];
    quantize(dst, index, head.max, 0);
    dst.scales[index] = portable::row_scale(head.max, head.exponent, false);
  }

  // portable::store_key_with and store_value_with; place(i) is where element i goes.
  template <class Store>
  static void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                        const KeyOffset& offset, Store store) {
    portable::HeadS16 head;
    rotate_head(head, src, dst.head_dim, rotation);
    if (kBuiltFeatures.key_offset && offset.values) portable::subtract_offset(head, dst.head_dim, offset);
    if (head.max != 0) portable::normalize_head(head, dst.head_dim);
    const portable::QuantizedKey key = portable::key_scale(head);
    for (std::uint32_t i = 0; i < round_up(dst.head_dim, 4); ++i)
      store(i, key.reciprocal && i < dst.head_dim ? quantize_s16(head.values[i], key.reciprocal) : 0);
    dst.key_mantissas[slot] = key.mantissa;
    store_exponent(dst.key_exponents, dst.key_exponent_maxima, slot, key.exponent);
  }

  template <class Store>
  static void store_value(const KvBlock& dst, std::uint32_t slot, const float* src, Store store) {
    const BlockFloat b = block_of_max(Core::max_bits(src, nullptr, dst.value_dim));
    const int shift = ((b.max + 128) >> 8) <= 127 ? 8 : 9;
    for (std::uint32_t i = 0; i < dst.value_dim; ++i)
      store(i, b.zero ? 0 : (Core::to_s16(src[i], b) + (1 << (shift - 1))) >> shift);
    store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot,
                   static_cast<std::int8_t>(b.zero ? -46 : b.exponent - 15 + shift));
  }

  // Into a cache of rows: keys [slot, round_up(head_dim, 4)], values transposed [value_dim, capacity].
  static void store_key_row(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                            const KeyOffset& offset) {
    std::int8_t* row = dst.keys + std::size_t{slot} * round_up(dst.head_dim, 4);
    store_key(dst, slot, src, rotation, offset,
              [=](std::uint32_t d, std::int32_t q) { row[d] = static_cast<std::int8_t>(q); });
  }
  static void store_value_column(const KvBlock& dst, std::uint32_t slot, const float* src) {
    std::int8_t* column = dst.values + slot;
    const std::uint32_t stride = dst.capacity;
    store_value(dst, slot, src,
                [=](std::uint32_t d, std::int32_t q) { column[d * stride] = static_cast<std::int8_t>(q); });
  }

  static void store_exponent(std::int8_t* exponents, std::int8_t* maxima, std::uint32_t slot, std::int8_t exponent) {
    exponents[slot] = exponent;
    maxima[slot] = slot && maxima[slot - 1] > exponent ? maxima[slot - 1] : exponent;
  }
};

}  // namespace heed::cortex_m
