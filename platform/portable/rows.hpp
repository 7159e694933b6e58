// SPDX-License-Identifier: Apache-2.0
// rows.hpp: what happens to one vector at a time, in plain C++: quantisation, norm, gate, rotation, the key and value
// of one position. Templates over `Prepare`, which turns int8 activations into the form that a table multiplies.
#pragma once
#include "runtime/kernels.hpp"
#include "runtime/numerics.hpp"

namespace heed::portable {

// int8 activations as they are.
struct PlainActivations {
  static void finish(const Activations&, std::uint32_t) {}
};

[[gnu::noinline]] inline std::uint32_t max_magnitude_bits(const float* x, std::uint32_t n) {
  std::uint32_t m = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t b = magnitude_bits(x[i]);
    m = b > m ? b : m;
  }
  return m;
}

inline std::int8_t* activation_row(const Activations& a, std::uint32_t index) {
  return a.values + std::size_t{index} * a.value_stride;
}

inline void zero_tail(std::int8_t* q, std::uint32_t cols) {
  for (std::uint32_t i = cols; i < activation_cols(cols); ++i) q[i] = 0;
}

// A vector of zeros with scale 0.
template <class Prepare>
void store_zero(const Activations& dst, std::uint32_t index) {
  std::int8_t* q = activation_row(dst, index);
  for (std::uint32_t i = 0; i < activation_cols(dst.cols); ++i) q[i] = 0;
  for (std::uint32_t g = 0; g < dst.groups; ++g) dst.exponents[std::size_t{index} * dst.groups + g] = 0;
  dst.scales[index] = 0.0f;
  Prepare::finish(dst, index);
}

// The power of two of a group: the smallest p in 0..3 with group_max <= row_max * 2^(p-3).
inline std::uint8_t group_exponent(std::int32_t group_max, std::int32_t row_max) {
  std::uint8_t p = 0;
  while (p < 3 && (group_max << (3 - p)) > row_max) ++p;
  return p;
}

// x - mean(x) as s16 values: (s16 of x) - mean, shifted to 15 bits.
struct Centred {
  std::int32_t mean;
  int left, right;  // one of them is 0
  float unit;       // what one unit of the result stands for, times the norm's factor
};

// The s16 values of a vector: floats under a power of two, with an optional gain, or ready-made.
struct S16Source {
  const float* floats;         // [n], or null
  const float* gain;           // [n], or null
  float scale;                 // 2^(15 - exponent)
  const std::int16_t* ready;   // [n] when there are no floats

  std::int32_t at(std::uint32_t i) const {
    if (!floats) return ready[i];
    return to_s16(gain ? floats[i] * gain[i] : floats[i], scale);
  }
};

// x less its mean, optionally with the norm applied, gain and bias: what layer norm quantises.
struct CentredSource {
  S16Source x;
  Centred centred;
  const float* gain;
  const float* bias;
  float scale;  // 2^(15 - exponent) of the result, when there is a gain or a bias

  std::int32_t centred_at(std::uint32_t i) const {
    return ((x.at(i) - centred.mean) >> centred.right) * (1 << centred.left);
  }
  float normed_at(std::uint32_t i) const {
    float y = static_cast<float>(centred_at(i)) * centred.unit;
    if (gain) y = y * gain[i];
    return bias ? y + bias[i] : y;
  }
  std::int32_t at(std::uint32_t i) const { return gain || bias ? to_s16(normed_at(i), scale) : centred_at(i); }
};

// Quantises a vector with largest magnitude `max` (16384..32767); returns the sum of squares of the int8 values when
// there are no groups. SPEC.md 2.3. Out of line and for every source, because each copy costs a board its flash.
template <class Source>
[[gnu::noinline]] std::int32_t quantize_row(const Activations& dst, std::uint32_t index, std::int32_t max,
                                            const Source& source) {
  std::int8_t* q = activation_row(dst, index);
  const std::int32_t r = reciprocal_127(max);
  std::int32_t squares = 0;
  const std::uint32_t group = dst.groups ? dst.group : dst.cols;
  for (std::uint32_t first = 0, g = 0; first < dst.cols; first += group, ++g) {
    const std::uint32_t last = first + group < dst.cols ? first + group : dst.cols;
    int shift = 22;
    if (kBuiltFeatures.groups && dst.groups) {
      std::int32_t group_max = 0;
      for (std::uint32_t i = first; i < last; ++i) {
        const std::int32_t m = magnitude(source.at(i));
        group_max = m > group_max ? m : group_max;
      }
      const std::uint8_t p = group_exponent(group_max, max);
      dst.exponents[std::size_t{index} * dst.groups + g] = p;
      shift = 19 + p;
    }
    for (std::uint32_t i = first; i < last; ++i) {
      const std::int32_t v = (source.at(i) * r + (1 << (shift - 1))) >> shift;
      q[i] = static_cast<std::int8_t>(v);
      squares += v * v;
    }
  }
  zero_tail(q, dst.cols);
  return squares;
}

// The float scale of a row quantised from s16 values of this maximum and exponent.
inline float row_scale(std::int32_t max, int exponent, bool grouped) {
  const float s = static_cast<float>(max) * kInverse127 * pow2(exponent - 15);
  return grouped ? s * 0.125f : s;
}

template <class Prepare>
void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
  const BlockFloat b = block_float(max_magnitude_bits(src, dst.cols));
  if (b.zero) return store_zero<Prepare>(dst, index);
  quantize_row(dst, index, b.max, S16Source{src, nullptr, b.to_s16_scale, nullptr});
  dst.scales[index] = row_scale(b.max, b.exponent, dst.groups != 0);
  Prepare::finish(dst, index);
}

// floor((2 * sum + n) / (2 * n)): the mean, rounded to nearest. In steps that fit 32 bits, because a 64-bit division costs
// a board 700 bytes; one step for vectors of up to 16,384 elements.
inline std::int32_t rounded_mean(std::int64_t sum, std::int32_t n) {
  constexpr std::int64_t kStep = 1 << 30;
  std::int32_t mean = 0, rest = 0;
  for (std::int64_t left = 2 * sum + n; left != 0;) {
    const std::int64_t part = left > kStep ? kStep : left < -kStep ? -kStep : left;
    left -= part;
    const std::int32_t total = rest + static_cast<std::int32_t>(part);
    std::int32_t q = total / (2 * n);
    if (total - q * 2 * n < 0) --q;
    mean += q;
    rest = total - q * 2 * n;
  }
  return mean;
}

// The mean of the n s16 values at(i), the shift that brings the rest to 15 bits, and its largest magnitude then.
template <class At>
Centred centre(std::int32_t& max, std::uint32_t n, At at) {
  std::int64_t sum = 0;
  for (std::uint32_t i = 0; i < n; ++i) sum += at(i);
  Centred c{rounded_mean(sum, static_cast<std::int32_t>(n)), 0, 0, 0.0f};
  max = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::int32_t m = magnitude(at(i) - c.mean);
    max = m > max ? m : max;
  }
  const int left = 15 - bit_length(static_cast<std::uint32_t>(max));
  c.left = max == 0 || left < 0 ? 0 : left;
  c.right = left < 0 ? -left : 0;
  max = (max >> c.right) << c.left;
  return c;
}

// 1 / sqrt(mean square + epsilon), from a sum of squares of int8 values of scale s.
inline float norm_factor(float s, std::int32_t squares, std::uint32_t n, float epsilon) {
  const float mean = s * s * static_cast<float>(squares) * (1.0f / static_cast<float>(n));
  return 1.0f / square_root(mean + epsilon);
}

// Layer norm: the mean is that of the s16 values, the rest as in RMS norm; SPEC.md 2.4.
template <class Prepare>
[[gnu::noinline]] void layer_norm(const Activations& dst, std::uint32_t index, const float* src,
                                  const NormWeights& weights) {
  const BlockFloat b = block_float(max_magnitude_bits(src, dst.cols));
  CentredSource source{{src, nullptr, b.to_s16_scale, nullptr}, {0, 0, 0, 0.0f}, nullptr, nullptr, 0.0f};
  std::int32_t max = 0;
  if (!b.zero) source.centred = centre(max, dst.cols, [&](std::uint32_t i) { return source.x.at(i); });
  if (max == 0 && !weights.bias) return store_zero<Prepare>(dst, index);
  float scale = 0.0f;
  if (max != 0) {
    const int exponent = b.exponent - source.centred.left + source.centred.right;
    Activations plain = dst;
    plain.groups = 0;
    const std::int32_t squares = quantize_row(plain, index, max, source);
    const float factor = norm_factor(row_scale(max, exponent, false), squares, dst.cols, weights.epsilon);
    source.centred.unit = pow2(exponent - 15) * factor;
    scale = row_scale(max, exponent, dst.groups != 0) * factor;
  }
  if (weights.gain || weights.bias) {
    source.gain = weights.gain;
    source.bias = weights.bias;
    std::uint32_t max_bits = 0;
    for (std::uint32_t i = 0; i < dst.cols; ++i) {
      const std::uint32_t m = magnitude_bits(source.normed_at(i));
      max_bits = m > max_bits ? m : max_bits;
    }
    const BlockFloat y = block_float(max_bits);
    if (y.zero) return store_zero<Prepare>(dst, index);
    source.scale = y.to_s16_scale;
    quantize_row(dst, index, y.max, source);
    scale = row_scale(y.max, y.exponent, dst.groups != 0);
  } else if (dst.groups) {
    quantize_row(dst, index, max, source);
  }
  dst.scales[index] = activation_scale(scale);
  Prepare::finish(dst, index);
}

// The mean square is that of the int8 values, which are exact integers; SPEC.md 2.4.
template <class Prepare>
void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
  if (kBuiltFeatures.layer_norm && weights.centred) return layer_norm<Prepare>(dst, index, src, weights);
  BlockFloat b = block_float(max_magnitude_bits(src, dst.cols));
  if (b.zero) return store_zero<Prepare>(dst, index);
  Activations plain = dst;
  plain.groups = 0;
  const std::int32_t squares = quantize_row(plain, index, b.max, S16Source{src, nullptr, b.to_s16_scale, nullptr});
  const float s = row_scale(b.max, b.exponent, false);
  const float factor = norm_factor(s, squares, dst.cols, weights.epsilon);
  const float* gain = weights.gain;
  if (gain) {
    std::uint32_t max_bits = 0;
    for (std::uint32_t i = 0; i < dst.cols; ++i) {
      const std::uint32_t m = magnitude_bits(src[i] * gain[i]);
      max_bits = m > max_bits ? m : max_bits;
    }
    b = block_float(max_bits);
    if (b.zero) return store_zero<Prepare>(dst, index);
  }
  if (gain || dst.groups) quantize_row(dst, index, b.max, S16Source{src, gain, b.to_s16_scale, nullptr});
  dst.scales[index] = activation_scale(row_scale(b.max, b.exponent, dst.groups != 0) * factor);
  Prepare::finish(dst, index);
}

// snap, with 0 for a NaN as well: a number that may stay in the residual stream.
inline float number(float x) {
  const std::uint32_t u = bits_of(x) & 0x7FFFFFFFu;
  return u < 0x2B800000u || u > 0x7F800000u ? 0.0f : x;
}

// The sum of squares of the int8 values of a vector with largest magnitude `max`.
template <class Source>
std::int32_t sum_of_squares(std::uint32_t n, std::int32_t max, const Source& source) {
  const std::int32_t r = reciprocal_127(max);
  std::int32_t squares = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::int32_t v = quantize_s16(source.at(i), r);
    squares += v * v;
  }
  return squares;
}

// The norm as floats; SPEC.md 2.4. dst may be src.
inline void norm_f32_f32(float* dst, const float* src, std::uint32_t n, const NormWeights& weights) {
  const BlockFloat b = block_float(max_magnitude_bits(src, n));
  CentredSource source{{src, nullptr, b.to_s16_scale, nullptr}, {0, 0, 0, 0.0f}, weights.gain, weights.bias, 0.0f};
  const bool centred = kBuiltFeatures.layer_norm && weights.centred;
  float factor = 0.0f;
  if (!b.zero && !centred) {
    const std::int32_t squares = sum_of_squares(n, b.max, source.x);
    factor = norm_factor(row_scale(b.max, b.exponent, false), squares, n, weights.epsilon);
  }
  if (!b.zero && centred) {
    std::int32_t max;
    source.centred = centre(max, n, [&](std::uint32_t i) { return source.x.at(i); });
    if (max != 0) {
      const CentredSource plain{source.x, source.centred, nullptr, nullptr, 0.0f};
      const int exponent = b.exponent - source.centred.left + source.centred.right;
      const std::int32_t squares = sum_of_squares(n, max, plain);
      source.centred.unit =
          pow2(exponent - 15) * norm_factor(row_scale(max, exponent, false), squares, n, weights.epsilon);
    }
  }
  for (std::uint32_t i = 0; i < n; ++i) {
    float y = centred ? source.normed_at(i) : b.zero ? 0.0f : src[i] * factor;
    if (!centred && weights.gain) y = y * weights.gain[i];
    dst[i] = number(y);
  }
}

// F(a) of a gate value g = s16 * 2^(exponent - 15), Q15; SPEC.md 2.5.
inline std::int32_t gate_factor(std::int32_t g, int exponent, const std::uint16_t* factor) {
  const auto a = static_cast<std::uint32_t>(magnitude(g));
  const int shift = exponent - 3;  // to Q12
  std::uint32_t t = shift >= 0 ? a << (shift > 16 ? 16 : shift) : a >> (shift < -31 ? 31 : -shift);
  t = t > 65535 ? 65535 : t;
  const std::uint32_t i = t >> 8;
  const std::int32_t low = factor[i], high = factor[i + 1];
  const std::int32_t f = low + (((high - low) * static_cast<std::int32_t>(t & 255u) + 128) >> 8);
  return g < 0 ? 32767 - f : f;
}

template <class Prepare>
void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                  const std::uint16_t* factor) {
  const std::uint32_t n = dst.cols;
  const BlockFloat bg = block_float(max_magnitude_bits(gate, n));
  const BlockFloat bu = up ? block_float(max_magnitude_bits(up, n)) : BlockFloat{false, 15, 1.0f, 0};
  if (bg.zero || bu.zero) return store_zero<Prepare>(dst, index);
  std::int32_t max = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::int32_t g = to_s16(gate[i], bg.to_s16_scale);
    std::int32_t h = (g * gate_factor(g, bg.exponent, factor) + (1 << 14)) >> 15;
    if (up) h *= to_s16(up[i], bu.to_s16_scale);
    std::memcpy(gate + i, &h, sizeof h);  // in place: the float is spent
    const std::int32_t m = magnitude(h);
    max = m > max ? m : max;
  }
  if (max == 0) return store_zero<Prepare>(dst, index);
  const int left = 15 - bit_length(static_cast<std::uint32_t>(max));
  const int right = left < 0 ? -left : 0, up_shift = left < 0 ? 0 : left;
  max = (max >> right) << up_shift;
  // Shorter numbers from the beginning on never overtake the longer ones.
  auto* bytes = reinterpret_cast<std::int8_t*>(gate);
  for (std::uint32_t i = 0; i < n; ++i) {
    std::int32_t h;
    std::memcpy(&h, bytes + 4 * std::size_t{i}, sizeof h);
    const auto s = static_cast<std::int16_t>((h >> right) * (1 << up_shift));
    std::memcpy(bytes + 2 * std::size_t{i}, &s, sizeof s);
  }
  quantize_row(dst, index, max, S16Source{nullptr, nullptr, 0.0f, reinterpret_cast<const std::int16_t*>(bytes)});
  dst.scales[index] = activation_scale(row_scale(max, bg.exponent + bu.exponent - 15 - left, dst.groups != 0));
  Prepare::finish(dst, index);
}

// A head as s16 values with a shared exponent, after rotation.
struct HeadS16 {
  std::int16_t values[kMaxHeadDim];
  int exponent;      // value = s16 * 2^(exponent - 15)
  std::int32_t max;  // largest |s16|; 0 = all zero
};

[[gnu::noinline]] inline void rotate_head(HeadS16& head, const float* src, std::uint32_t n, const Rotation& rotation) {
  const BlockFloat b = block_float(max_magnitude_bits(src, n));
  head.exponent = b.exponent;
  head.max = 0;
  if (b.zero) return;
  std::uint32_t i = 0;
  std::int32_t max = 0;
  if (rotation.cosine_sine) {
    ++head.exponent;
    const std::uint32_t step = rotation.halves ? 1 : 2, other = rotation.halves ? rotation.pairs : 1;
    for (std::uint32_t pair = 0; pair < rotation.pairs; ++pair) {
      const std::uint32_t p = pair * step;
      const std::int32_t x = to_s16(src[p], b.to_s16_scale), y = to_s16(src[p + other], b.to_s16_scale);
      const std::int32_t c = rotation.cosine_sine[2 * pair], s = rotation.cosine_sine[2 * pair + 1];
      const std::int32_t u = (x * c - y * s + (1 << 15)) >> 16, v = (x * s + y * c + (1 << 15)) >> 16;
      head.values[p] = static_cast<std::int16_t>(u);
      head.values[p + other] = static_cast<std::int16_t>(v);
      max = magnitude(u) > max ? magnitude(u) : max;
      max = magnitude(v) > max ? magnitude(v) : max;
    }
    i = 2u * rotation.pairs;
  }
  for (; i < n; ++i) {
    std::int32_t x = to_s16(src[i], b.to_s16_scale);
    if (rotation.cosine_sine) x = (x + 1) >> 1;
    head.values[i] = static_cast<std::int16_t>(x);
    max = magnitude(x) > max ? magnitude(x) : max;
  }
  head.max = max;
}

// Brings the maximum to 16384..32767. It is not 0.
[[gnu::noinline]] inline void normalize_head(HeadS16& head, std::uint32_t n) {
  const int left = 15 - bit_length(static_cast<std::uint32_t>(head.max));
  for (std::uint32_t i = 0; i < n; ++i) head.values[i] = static_cast<std::int16_t>(head.values[i] * (1 << left));
  head.max <<= left;
  head.exponent -= left;
}

template <class Prepare>
void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  HeadS16 head;
  rotate_head(head, src, dst.cols, rotation);
  if (head.max == 0) return store_zero<Prepare>(dst, index);
  normalize_head(head, dst.cols);
  quantize_row(dst, index, head.max, S16Source{nullptr, nullptr, 0.0f, head.values});
  dst.scales[index] = row_scale(head.max, head.exponent, false);
  Prepare::finish(dst, index);
}

// A key's int8 values with an 8-bit mantissa rounded up; SPEC.md 2.7.
struct QuantizedKey {
  std::uint8_t mantissa;
  std::int8_t exponent;
  std::int32_t reciprocal;  // 0: all zero
};

inline QuantizedKey key_scale(const HeadS16& head) {
  if (head.max == 0) return {128, -54, 0};
  std::int32_t mantissa = (head.max + 126) / 127;
  const bool wide = mantissa > 255;
  if (wide) mantissa = (head.max + 253) / 254;
  return {static_cast<std::uint8_t>(mantissa), static_cast<std::int8_t>(head.exponent - 15 + wide),
          (wide ? 1 << 21 : 1 << 22) / mantissa};
}

inline void subtract_offset(HeadS16& head, std::uint32_t n, const KeyOffset& offset) {
  if (head.max == 0) head.exponent = -39;
  const int common = (head.exponent > offset.exponent ? head.exponent : offset.exponent) + 1;
  const int a = common - head.exponent > 31 ? 31 : common - head.exponent;
  const int b = common - offset.exponent > 31 ? 31 : common - offset.exponent;
  std::int32_t max = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::int32_t v = (head.max == 0 ? 0 : head.values[i] >> a) - (offset.values[i] >> b);
    head.values[i] = static_cast<std::int16_t>(v);
    max = magnitude(v) > max ? magnitude(v) : max;
  }
  head.max = max;
  head.exponent = common;
}

// The quantised key and its scale; writes mantissa, exponent and running maximum of the slot.
template <class Store>
void store_key_with(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                    const KeyOffset& offset, Store store) {
  HeadS16 head;
  rotate_head(head, src, dst.head_dim, rotation);
  if (kBuiltFeatures.key_offset && offset.values) subtract_offset(head, dst.head_dim, offset);
  if (head.max != 0) normalize_head(head, dst.head_dim);
  const QuantizedKey key = key_scale(head);
  for (std::uint32_t i = 0; i < dst.head_dim; ++i)
    store(i, key.reciprocal ? static_cast<std::int8_t>(quantize_s16(head.values[i], key.reciprocal)) : std::int8_t{0});
  for (std::uint32_t i = dst.head_dim; i < round_up(dst.head_dim, 4); ++i) store(i, std::int8_t{0});
  dst.key_mantissas[slot] = key.mantissa;
  dst.key_exponents[slot] = key.exponent;
  const std::int8_t before = slot ? dst.key_exponent_maxima[slot - 1] : key.exponent;
  dst.key_exponent_maxima[slot] = before > key.exponent ? before : key.exponent;
}

// The same for a value, whose scale is a power of two; SPEC.md 2.7.
template <class Store>
void store_value_with(const KvBlock& dst, std::uint32_t slot, const float* src, Store store) {
  const BlockFloat b = block_float(max_magnitude_bits(src, dst.value_dim));
  const int shift = ((b.max + 128) >> 8) <= 127 ? 8 : 9;
  for (std::uint32_t i = 0; i < dst.value_dim; ++i)
    store(i, b.zero ? std::int8_t{0}
                    : static_cast<std::int8_t>((to_s16(src[i], b.to_s16_scale) + (1 << (shift - 1))) >> shift));
  const auto exponent = static_cast<std::int8_t>(b.zero ? -46 : b.exponent - 15 + shift);
  dst.value_exponents[slot] = exponent;
  const std::int8_t before = slot ? dst.value_exponent_maxima[slot - 1] : exponent;
  dst.value_exponent_maxima[slot] = before > exponent ? before : exponent;
}

}  // namespace heed::portable
