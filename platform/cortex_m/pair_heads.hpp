// SPDX-License-Identifier: Apache-2.0
// pair_heads.hpp: queries, keys and values of one head on cores with the DSP extension (SPEC.md 2.7).
#pragma once
#include "platform/cortex_m/pair_rows.hpp"

namespace heed::pair {

using Word = std::uint32_t __attribute__((may_alias));
using Half = std::int16_t __attribute__((may_alias));

inline std::int32_t multiply_rounded(std::int32_t a, std::int32_t b) {  // the upper half
  std::int32_t r;
  __asm__("smmulr %0, %1, %2" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

// The largest magnitude of values without -32768; n is rounded up to two.
__attribute__((noinline)) inline std::int32_t max_s16(const std::int16_t* values, std::uint32_t n) {
  const std::int16_t* const end = values + round_up(n, 2);
  std::uint32_t max = 0, v, t;
  const std::uint32_t zero = 0;
  __asm__ volatile(
      "1:\n\t"
      "ldr %[v], [%[at]], #4\n\t"
      "ssub16 %[t], %[zero], %[v]\n\t"
      "sel %[v], %[t], %[v]\n\t"
      "ssub16 %[t], %[max], %[v]\n\t"
      "sel %[max], %[max], %[v]\n\t"
      "cmp %[at], %[end]\n\t"
      "bne 1b"
      : [at] "+&r"(values), [max] "+&r"(max), [v] "=&r"(v), [t] "=&r"(t)
      : [end] "r"(end), [zero] "r"(zero)
      : "cc", "memory");
  const std::int32_t low = static_cast<std::int32_t>(max & 0xFFFF), high = static_cast<std::int32_t>(max >> 16);
  return low > high ? low : high;
}

// A head as s16 values, zero up to a multiple of four.
__attribute__((noinline)) inline bool head_s16(Vector& v, std::int16_t* values) {
  const bool some = v.measure();
  v.to = values;
  v.run(0, v.n);
  return some;
}

// portable::rotate_head and normalize_head, the latter as a number of bits.
__attribute__((noinline)) inline int rotate_head(portable::HeadS16& head, const float* src, std::uint32_t n,
                                          const Rotation& rotation, const KeyOffset& offset) {
  Vector v(src, n);
  const bool some = head_s16(v, head.values);
  head.exponent = v.exponent;
  if (rotation.cosine_sine && some) {
    ++head.exponent;
    const std::uint32_t step = rotation.halves ? 1 : 2, other = rotation.halves ? rotation.pairs : 1;
    std::int16_t* at = head.values;
    const auto* cs = reinterpret_cast<const Word*>(rotation.cosine_sine);
    for (const auto* const end = cs + rotation.pairs; cs != end; at += step) {
      const auto c = static_cast<int16x2_t>(*cs++);
      const auto xy = static_cast<int16x2_t>((at[0] & 0xFFFF) | at[other] << 16);
      at[0] = static_cast<std::int16_t>(__smlsd(xy, c, 1 << 15) >> 16);
      at[other] = static_cast<std::int16_t>(__smladx(xy, c, 1 << 15) >> 16);
    }
    for (std::uint32_t i = 2u * rotation.pairs; i < n; ++i)
      head.values[i] = static_cast<std::int16_t>((head.values[i] + 1) >> 1);
  }
  if (kBuiltFeatures.key_offset && offset.values) {
    const int common = (head.exponent > offset.exponent ? head.exponent : offset.exponent) + 1;
    const int a = common - head.exponent, o = common - offset.exponent;
    for (std::uint32_t i = 0; i < n; ++i)
      head.values[i] = static_cast<std::int16_t>((head.values[i] >> (a > 31 ? 31 : a)) -
                                                 (offset.values[i] >> (o > 31 ? 31 : o)));
    head.exponent = common;
  }
  head.max = max_s16(head.values, n);
  if (head.max == 0) return 0;
  const int left = __builtin_clz(static_cast<std::uint32_t>(head.max)) - 17;
  head.max <<= left;
  head.exponent -= left;
  return left;
}

inline void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  portable::HeadS16 head;
  const int left = rotate_head(head, src, dst.cols, rotation, {nullptr, 0});
  const PreparedRow row = single_row(dst, index);
  if (head.max == 0) return store_zero(dst, index, row);
  const std::int32_t reciprocal = reciprocal_127(head.max) << 10;
  std::uint32_t* to = row.words;
  const auto q = [&](std::int32_t s) { return multiply_rounded(s << left, reciprocal); };
  for (const std::int16_t *s = head.values, *const end = s + dst.cols; s < end; s += 4) {
    const std::int32_t q1 = q(s[1]), q3 = q(s[3]);
    to[0] = (static_cast<std::uint32_t>(q1) & 0xFFFF) | static_cast<std::uint32_t>(q3) << 16;
    to[1] = (static_cast<std::uint32_t>(q(s[0]) * 256 - q1) & 0xFFFF) | static_cast<std::uint32_t>(q(s[2]) * 256 - q3) << 16;
    to += 2;
  }
  clear_from(row, dst.cols, dst.cols);
  dst.scales[index] = row_scale(head.max, head.exponent, false);
}

__attribute__((noinline)) inline void store_exponent(std::int8_t* exponents, std::int8_t* maxima, std::uint32_t slot, int exponent) {
  exponents[slot] = static_cast<std::int8_t>(exponent);
  maxima[slot] = static_cast<std::int8_t>(slot && maxima[slot - 1] > exponent ? maxima[slot - 1] : exponent);
}

// Keys are rows of Layout::pair, four slots together.
inline void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
               const KeyOffset& offset) {
  portable::HeadS16 head;
  const int left = rotate_head(head, src, dst.head_dim, rotation, offset);
  const portable::QuantizedKey key = portable::key_scale(head);
  auto* to = reinterpret_cast<Word*>(dst.keys + std::size_t{slot / 4} * 4 * round_up(dst.head_dim, 4)) + slot % 4;
  const auto q = [&](std::int32_t s) { return multiply_rounded(s << left, key.reciprocal << 10); };
  for (const std::int16_t *s = head.values, *const end = s + dst.head_dim; s < end; s += 4, to += 4)
    *to = (static_cast<std::uint32_t>(q(s[1]) * 256 + q(s[0])) & 0xFFFF) | static_cast<std::uint32_t>(q(s[3]) * 256 + q(s[2])) << 16;
  dst.key_mantissas[slot] = key.mantissa;
  store_exponent(dst.key_exponents, dst.key_exponent_maxima, slot, key.exponent);
}

inline void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  std::int16_t values[kMaxHeadDim];
  Vector v(src, dst.head_dim);
  const bool some = head_s16(v, values);
  const int shift = (v.max + 128) >> 8 <= 127 ? 8 : 9;
  // Four dimensions together, of two at a time four slots of H = 256 v1 + v0. The last one to three dimensions come one
  // behind the other.
  const auto q = [&](std::uint32_t d) { return (values[d] + (1 << (shift - 1))) >> shift; };
  const std::uint32_t quads = dst.head_dim & ~3u;
  std::int8_t* at = dst.values + 4 * (slot & ~3u) + 2 * (slot & 3);
  std::uint32_t d = 0;
  for (; d < quads; d += 4, at += 4 * dst.capacity) {
    auto* const to = reinterpret_cast<Half*>(at);
    to[0] = static_cast<std::int16_t>(q(d + 1) * 256 + q(d));
    to[4] = static_cast<std::int16_t>(q(d + 3) * 256 + q(d + 2));
  }
  for (at = dst.values + slot; d < dst.head_dim; ++d) at[d * dst.capacity] = static_cast<std::int8_t>(q(d));
  store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot, some ? v.exponent - 15 + shift : -46);
}

}  // namespace heed::pair
