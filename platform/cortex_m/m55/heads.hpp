// SPDX-License-Identifier: Apache-2.0
// heads.hpp: queries, keys and values of one head on Helium: rotated, quantised and stored, with the bits of
// portable/rows.hpp.
#pragma once
#include "platform/cortex_m/m55/eight.hpp"

namespace heed::helium {

// portable::rotate_head; `head` has zeros up to a multiple of eight.
__attribute__((noinline)) inline void rotate_head(portable::HeadS16& head, const float* src, std::uint32_t n,
                                                  const Rotation& rotation) {
  const BlockFloat b = block_float(max_bits(src, nullptr, n));
  head.exponent = b.exponent;
  head.max = 0;
  if (b.zero) return;
  convert(head.values, src, nullptr, n, b.to_s16_scale);
  std::int16_t* const s = head.values;
  if (rotation.cosine_sine) {
    ++head.exponent;
    const std::int16_t* const cs = rotation.cosine_sine;
    const std::uint32_t pairs = rotation.pairs;
    std::uint32_t pair = 0;
    if (rotation.halves) {
      for (; pair + 8 <= pairs; pair += 8) {
        const int16x8_t x = vld1q_s16(s + pair), y = vld1q_s16(s + pairs + pair);
        const int16x8x2_t c = vld2q_s16(cs + 2 * pair);
        const int32x4_t u0 = vsubq_s32(vmullbq_int_s16(x, c.val[0]), vmullbq_int_s16(y, c.val[1]));
        const int32x4_t u1 = vsubq_s32(vmulltq_int_s16(x, c.val[0]), vmulltq_int_s16(y, c.val[1]));
        const int32x4_t v0 = vaddq_s32(vmullbq_int_s16(x, c.val[1]), vmullbq_int_s16(y, c.val[0]));
        const int32x4_t v1 = vaddq_s32(vmulltq_int_s16(x, c.val[1]), vmulltq_int_s16(y, c.val[0]));
        vst1q_s16(s + pair, vrshrntq_n_s32(vrshrnbq_n_s32(x, u0, 16), u1, 16));
        vst1q_s16(s + pairs + pair, vrshrntq_n_s32(vrshrnbq_n_s32(y, v0, 16), v1, 16));
      }
    } else {
      for (; pair + 4 <= pairs; pair += 4) {
        const int16x8_t xy = vld1q_s16(s + 2 * pair), c = vld1q_s16(cs + 2 * pair), sc = vrev32q_s16(c);
        const int32x4_t u = vsubq_s32(vmullbq_int_s16(xy, c), vmulltq_int_s16(xy, c));
        const int32x4_t v = vaddq_s32(vmullbq_int_s16(xy, sc), vmulltq_int_s16(xy, sc));
        vst1q_s16(s + 2 * pair, vrshrntq_n_s32(vrshrnbq_n_s32(xy, u, 16), v, 16));
      }
    }
    const std::uint32_t step = rotation.halves ? 1 : 2, other = rotation.halves ? pairs : 1;
    for (; pair < pairs; ++pair) {
      std::int16_t *p = s + pair * step, *q = p + other;
      const std::int32_t x = *p, y = *q, c = cs[2 * pair], d = cs[2 * pair + 1];
      *p = static_cast<std::int16_t>((x * c - y * d + (1 << 15)) >> 16);
      *q = static_cast<std::int16_t>((x * d + y * c + (1 << 15)) >> 16);
    }
    for (std::uint32_t i = 2 * pairs; i < n; ++i) s[i] = static_cast<std::int16_t>((s[i] + 1) >> 1);
  }
  std::uint16_t max = 0;
  for (std::uint32_t i = 0; i < n; i += 8) max = vmaxavq_s16(max, vld1q_s16(s + i));
  head.max = max;
}

// Brings the maximum to 16384..32767. It is not 0.
inline void normalize_head(portable::HeadS16& head, std::uint32_t n) {
  const int left = 15 - bit_length(static_cast<std::uint32_t>(head.max));
  for (std::uint32_t i = 0; i < n; i += 8) vst1q_s16(head.values + i, vshlq_r_s16(vld1q_s16(head.values + i), left));
  head.max <<= left;
  head.exponent -= left;
}

__attribute__((noinline)) inline void query_of_any_shape(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  portable::HeadS16 head;
  helium::rotate_head(head, src, dst.cols, rotation);
  if (head.max == 0) return portable::store_zero<PlainActivations>(dst, index);
  helium::normalize_head(head, dst.cols);
  std::int8_t* const q = portable::activation_row(dst, index);
  zero_last(q, dst.cols);
  finish(q, head.values, dst.cols, reciprocal_127(head.max), 22);
  dst.scales[index] = portable::row_scale(head.max, head.exponent, false);
}

// A head of whole eights as s16 values, rotated in adjacent pairs or not at all: what most models have.
inline bool is_plain(std::uint32_t n, const Rotation& rotation) {
  return n % 8 == 0 && (!rotation.cosine_sine || (!rotation.halves && 2u * rotation.pairs == n));
}

// max_bits of a short vector, n a multiple of eight: its setup is shorter, its loop is not.
__attribute__((always_inline)) inline std::uint32_t max_bits_of_head(const float* x, std::uint32_t n) {
  std::uint32_t max = 0;
  const float* at = x;
  __asm__ volatile(
      "vmov.i32 q0, #0\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrw.u32 q1, [%[x]], #16\n\t"
      "vldrw.u32 q2, [%[x]], #16\n\t"
      "vshl.i32 q1, q1, #1\n\t"
      "vshl.i32 q2, q2, #1\n\t"
      "vmax.u32 q0, q0, q1\n\t"
      "vmax.u32 q0, q0, q2\n\t"
      "le lr, 1b\n\t"
      "vmaxv.u32 %[max], q0"
      : [x] "+r"(at), [max] "+r"(max)
      : [n] "r"(n / 8)
      : "lr", "q0", "q1", "q2", "memory");
  max >>= 1;
  return __builtin_expect(max > 0x7F800000u, 0) ? max_bits(x, nullptr, n) : max;
}

// The s16 values of such a head under `scale`, rotated; returns the largest |s16|.
__attribute__((always_inline)) inline std::uint32_t plain_head(std::int16_t* values, const float* src, std::uint32_t n,
                                                               const std::int16_t* cosine_sine, float scale) {
  std::uint32_t max = 0;
#define HEED_EIGHT                                                             \
  HEED_EIGHT_S16                                                             \
  "vmax.s16 q2, q2, q7\n\t"
  if (cosine_sine) {  // even elements are x of a pair, odd ones y
    __asm__ volatile(
        "vdup.16 q7, %[min]\n\t"
        "dls lr, %[n]\n\t"
        "1:\n\t" HEED_EIGHT
        "vldrh.u16 q3, [%[cs]], #16\n\t"
        "vmullb.s16 q0, q2, q3\n\t"
        "vrev32.16 q4, q3\n\t"
        "vmullt.s16 q1, q2, q3\n\t"
        "vmullb.s16 q5, q2, q4\n\t"
        "vmullt.s16 q6, q2, q4\n\t"
        "vsub.i32 q0, q0, q1\n\t"
        "vadd.i32 q5, q5, q6\n\t"
        "vrshrnb.i32 q2, q0, #16\n\t"
        "vrshrnt.i32 q2, q5, #16\n\t"
        "vmaxav.s16 %[max], q2\n\t"
        "vstrh.16 q2, [%[values]], #16\n\t"
        "le lr, 1b"
        : [src] "+r"(src), [values] "+r"(values), [cs] "+r"(cosine_sine), [max] "+r"(max)
        : [n] "r"(n / 8), [scale] "r"(bits_of(scale)), [min] "r"(-kMaxS16)
        : "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "memory");
  } else {
    __asm__ volatile(
        "vdup.16 q7, %[min]\n\t"
        "dls lr, %[n]\n\t"
        "1:\n\t" HEED_EIGHT
        "vmaxav.s16 %[max], q2\n\t"
        "vstrh.16 q2, [%[values]], #16\n\t"
        "le lr, 1b"
        : [src] "+r"(src), [values] "+r"(values), [max] "+r"(max)
        : [n] "r"(n / 8), [scale] "r"(bits_of(scale)), [min] "r"(-kMaxS16)
        : "lr", "q0", "q1", "q2", "q7", "memory");
  }
  return max;
}

// int8 values of s16 ones shifted left, as in `finish`.
inline void finish_head(std::int8_t* to, const std::int16_t* values, std::uint32_t n, int left, std::int32_t reciprocal) {
  __asm__ volatile(
      "vdup.16 q1, %[reciprocal]\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrh.u16 q0, [%[values]], #16\n\t"
      "vshl.s16 q0, %[left]\n\t"
      "vmulh.s16 q0, q0, q1\n\t"
      "vrshr.s16 q0, q0, #6\n\t"
      "vstrb.16 q0, [%[to]], #8\n\t"
      "le lr, 1b"
      : [to] "+l"(to), [values] "+r"(values)
      : [n] "r"(n / 8), [left] "r"(left), [reciprocal] "r"(reciprocal)
      : "lr", "q0", "q1", "memory");
}

__attribute__((noinline)) inline void query_plain(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  const std::uint32_t n = dst.cols;
  if (!is_plain(n, rotation)) return query_of_any_shape(dst, index, src, rotation);
  const std::int16_t* const cosine_sine = rotation.cosine_sine;
  std::int8_t* const q = portable::activation_row(dst, index);
  float* const scale = dst.scales + index;
  const std::uint32_t max_bits = max_bits_of_head(src, n), biased = biased_exponent(max_bits);
  if (is_zero(max_bits)) return portable::store_zero<PlainActivations>(dst, index);
  alignas(8) std::int16_t values[kMaxHeadDim];
  const std::uint32_t max = plain_head(values, src, n, cosine_sine, to_s16_scale(biased));
  if (max == 0) return portable::store_zero<PlainActivations>(dst, index);
  const int left = 15 - bit_length(max);
  const int exponent = static_cast<int>(biased) - 126 + (cosine_sine ? 1 : 0) - left;
  const auto row_max = static_cast<std::int32_t>(max << left);
  if (n % 16) vst1q_s8(q + n - 8, vdupq_n_s8(0));  // before the values in front of its second half
  finish_head(q, values, n, left, reciprocal_127(row_max));
  *scale = portable::row_scale(row_max, exponent, false);
}

inline void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  if (!is_eight(dst.cols, rotation)) return query_plain(dst, index, src, rotation);
  EightS16 of;
  const int16x8_t values = rotate_eight(src, rotation.cosine_sine, of);
  if (!of.is_usual() || of.max == 0) return query_plain(dst, index, src, rotation);
  const int left = 15 - bit_length(of.max);
  const auto row_max = static_cast<std::int32_t>(of.max << left);
  std::int8_t* const q = portable::activation_row(dst, index);
  vst1q_s8(q, vdupq_n_s8(0));
  vstrbq_s16(q, finish_eight(values, left, reciprocal_127(row_max)));
  dst.scales[index] = portable::row_scale(row_max, static_cast<int>(of.biased) - 126 + 1 - left, false);
}

inline void store_exponent(std::int8_t* exponents, std::int8_t* maxima, std::uint32_t slot, std::int32_t exponent) {
  exponents[slot] = static_cast<std::int8_t>(exponent);
  maxima[slot] = slot && maxima[slot - 1] > exponent ? maxima[slot - 1] : exponents[slot];
}

// The int8 values of a key, zeros behind them, in `q`: round_up(head_dim, 8) + 4 bytes; portable::store_key_with.
inline void quantize_key(std::int8_t* q, const KvBlock& dst, std::uint32_t slot, const float* src,
                         const Rotation& rotation, const KeyOffset& offset) {
  const std::uint32_t n = dst.head_dim;
  portable::HeadS16 head;
  helium::rotate_head(head, src, n, rotation);
  if (kBuiltFeatures.key_offset && offset.values) portable::subtract_offset(head, n, offset);
  for (std::uint32_t i = n; i < round_up(n, 8); ++i) head.values[i] = 0;
  if (head.max != 0) helium::normalize_head(head, n);
  const portable::QuantizedKey key = portable::key_scale(head);
  if (head.max == 0)
    for (std::uint32_t i = 0; i < n; ++i) head.values[i] = 0;
  finish(q, head.values, n, key.reciprocal, 22);
  dst.key_mantissas[slot] = key.mantissa;
  store_exponent(dst.key_exponents, dst.key_exponent_maxima, slot, key.exponent);
}

// The same of a value, eight at a time: store(values, first index); portable::store_value_with.
template <class Store>
inline void quantize_value(const KvBlock& dst, std::uint32_t slot, const float* src, Store store) {
  const BlockFloat b = block_float(max_bits(src, nullptr, dst.value_dim));
  const int shift = ((b.max + 128) >> 8) <= 127 ? 8 : 9;
  const float scale = b.zero ? 0.0f : b.to_s16_scale;
  in_eights(src, dst.value_dim, [&](const float* x, std::uint32_t i) {
    store(vrshlq_n_s16(clamped_s16_of(x, scale), -shift), i);
  });
  store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot, b.zero ? -46 : b.exponent - 15 + shift);
}

// k = (k >> a) - (offset >> b) for n values, a multiple of eight; returns the largest |k|.
inline std::uint32_t subtract_offset(std::int16_t* values, const std::int16_t* offset, std::uint32_t n, int a, int b) {
  std::uint32_t max = 0;
  __asm__ volatile(
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrh.u16 q0, [%[values]]\n\t"
      "vldrh.u16 q1, [%[offset]], #16\n\t"
      "vshl.s16 q0, %[a]\n\t"
      "vshl.s16 q1, %[b]\n\t"
      "vsub.i16 q0, q0, q1\n\t"
      "vmaxav.s16 %[max], q0\n\t"
      "vstrh.16 q0, [%[values]], #16\n\t"
      "le lr, 1b"
      : [values] "+r"(values), [offset] "+r"(offset), [max] "+r"(max)
      : [n] "r"(n / 8), [a] "r"(-a), [b] "r"(-b)
      : "lr", "q0", "q1", "memory");
  return max;
}

struct KeyEnd {
  int left;
  std::int32_t reciprocal;
};

// portable::key_scale of a key whose largest |s16| is `max`, not 0; stores it.
inline KeyEnd store_key_scale(const KvBlock& dst, std::uint32_t slot, std::uint32_t max, int exponent) {
  const int left = 15 - bit_length(max);
  const std::uint32_t row_max = max << left;
  std::uint32_t mantissa = (row_max + 126) / 127;
  const bool wide = mantissa > 255;
  if (wide) mantissa = (row_max + 253) / 254;
  dst.key_mantissas[slot] = static_cast<std::uint8_t>(mantissa);
  store_exponent(dst.key_exponents, dst.key_exponent_maxima, slot, exponent - left - 15 + (wide ? 1 : 0));
  return {left, static_cast<std::int32_t>((wide ? 1u << 21 : 1u << 22) / mantissa)};
}

// A key of a plain head of up to 64 dimensions, straight into its place; false if it is another one.
__attribute__((always_inline)) inline bool store_plain_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                            const KeyOffset& offset) {
  const std::uint32_t n = dst.head_dim;
  if (n > 64 || !is_plain(n, rotation)) return false;
  const std::uint32_t max_bits = max_bits_of_head(src, n), biased = biased_exponent(max_bits);
  if (is_zero(max_bits)) return false;
  alignas(8) std::int16_t values[64];
  const std::int16_t* const cosine_sine = rotation.cosine_sine;
  std::uint32_t max = plain_head(values, src, n, cosine_sine, to_s16_scale(biased));
  int exponent = static_cast<int>(biased) - 126 + (cosine_sine ? 1 : 0);
  if (kBuiltFeatures.key_offset && offset.values) {
    const int common = (exponent > offset.exponent ? exponent : offset.exponent) + 1;
    max = subtract_offset(values, offset.values, n, common - exponent, common - offset.exponent);
    exponent = common;
  }
  if (max == 0) return false;
  const KeyEnd end = store_key_scale(dst, slot, max, exponent);
  finish_head(dst.keys + slot * n, values, n, end.left, end.reciprocal);
  return true;
}

// The same of a head that one vector holds.
__attribute__((always_inline)) inline bool store_key_of_eight(const KvBlock& dst, std::uint32_t slot, const float* src,
                                                              const Rotation& rotation, const KeyOffset& offset) {
  EightS16 of;
  int16x8_t values = rotate_eight(src, rotation.cosine_sine, of);
  if (!of.is_usual()) return false;
  std::uint32_t max = of.max;
  int exponent = static_cast<int>(of.biased) - 126 + 1;
  if (kBuiltFeatures.key_offset && offset.values) {
    const int common = (exponent > offset.exponent ? exponent : offset.exponent) + 1;
    values = vsubq_s16(vshlq_r_s16(values, exponent - common),
                       vshlq_r_s16(vld1q_s16(offset.values), offset.exponent - common));
    max = vmaxavq_s16(0, values);
    exponent = common;
  }
  if (max == 0) return false;
  const KeyEnd end = store_key_scale(dst, slot, max, exponent);
  vstrbq_s16(dst.keys + slot * 8, finish_eight(values, end.left, end.reciprocal));
  return true;
}

// Where byte (slot, d) of a block's values lies: head dimensions in fours, sixteen slots of each; a rest of dimensions
// as rows.
inline std::size_t value_index(const KvBlock& block, std::uint32_t slot, std::uint32_t d) {
  const std::uint32_t quads = block.value_dim & ~3u;
  if (d >= quads) return d * block.capacity + slot;
  return (d & ~3u) * block.capacity + (slot & ~15u) * 4 + (d & 3) * 16 + slot % 16;
}

// Eight head dimensions go to two places, four rows of sixteen slots in each.
inline constexpr std::uint16_t kValueRow[8] = {0, 16, 32, 48, 0, 16, 32, 48}, kValueUpper[8] = {0, 0, 0, 0, 1, 1, 1, 1};

inline uint16x8_t value_offsets(const KvBlock& dst) {
  return vmlaq_n_u16(vld1q_u16(kValueRow), vld1q_u16(kValueUpper), static_cast<std::uint16_t>(4 * dst.capacity));
}

__attribute__((noinline)) inline void store_value_of_other(const KvBlock& dst, std::uint32_t slot, const float* src) {
  const std::uint32_t n = dst.value_dim, quads = n & ~3u;
  const uint16x8_t offsets = value_offsets(dst);
  if (n % 8 == 0) {
    const BlockFloat b = block_float(max_bits_of_head(src, n));
    const int shift = ((b.max + 128) >> 8) <= 127 ? 8 : 9;
    std::int8_t* to = dst.values + (slot & ~15u) * 4 + slot % 16;
    __asm__ volatile(
        "vdup.16 q7, %[min]\n\t"
        "dls lr, %[n]\n\t"
        "1:\n\t" HEED_EIGHT
        "vrshl.s16 q2, %[shift]\n\t"
        "vstrb.16 q2, [%[to], %q[offsets]]\n\t"
        "add %[to], %[step]\n\t"
        "le lr, 1b"
        : [src] "+r"(src), [to] "+r"(to)
        : [n] "r"(n / 8), [scale] "r"(bits_of(b.to_s16_scale)), [min] "r"(-kMaxS16), [shift] "r"(-shift),
          [step] "r"(8 * dst.capacity), [offsets] "w"(offsets)
        : "lr", "q0", "q1", "q2", "q7", "memory");
    store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot, b.zero ? -46 : b.exponent - 15 + shift);
    return;
  }
  quantize_value(dst, slot, src, [&](int16x8_t q, std::uint32_t d) {
    if (d + 8 <= quads) {
      vstrbq_scatter_offset_s16(dst.values + value_index(dst, slot, d), offsets, q);
      return;
    }
    std::int16_t rest[8];
    vst1q_s16(rest, q);
    for (std::uint32_t i = 0; d + i < n; ++i)
      dst.values[value_index(dst, slot, d + i)] = static_cast<std::int8_t>(rest[i]);
  });
}

inline void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  if (dst.value_dim != 8) return store_value_of_other(dst, slot, src);
  EightS16 of;
  const int16x8_t values = s16_of_eight(src, of);
  if (!of.is_usual()) return store_value_of_other(dst, slot, src);
  const int shift = ((of.max + 128) >> 8) <= 127 ? 8 : 9;
  vstrbq_scatter_offset_s16(dst.values + (slot & ~15u) * 4 + slot % 16, value_offsets(dst), vrshlq_n_s16(values, -shift));
  store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot, static_cast<int>(of.biased) - 126 - 15 + shift);
}

__attribute__((noinline)) inline void store_key_of_any_shape(const KvBlock& dst, std::uint32_t slot, const float* src,
                                                             const Rotation& rotation, const KeyOffset& offset) {
  alignas(8) std::int8_t q[kMaxHeadDim];
  quantize_key(q, dst, slot, src, rotation, offset);
  const std::uint32_t columns = round_up(dst.head_dim, 4);
  for (std::uint32_t c = 0; c < columns; c += 64) {
    const std::uint32_t width = columns - c < 64 ? columns - c : 64;
    auto* to = reinterpret_cast<std::uint32_t*>(dst.keys + std::size_t{c} * dst.capacity + slot * width);
    const auto* from = reinterpret_cast<const std::uint32_t*>(q + c);
    __asm__ volatile(
        "dls lr, %[n]\n\t"
        "1:\n\t"
        "ldr r12, [%[from]], #4\n\t"
        "str r12, [%[to]], #4\n\t"
        "le lr, 1b"
        : [to] "+r"(to), [from] "+r"(from)
        : [n] "r"(width / 4)
        : "r12", "lr", "memory");
  }
}

__attribute__((noinline)) inline void store_key_of_other(const KvBlock& dst, std::uint32_t slot, const float* src,
                                                         const Rotation& rotation, const KeyOffset& offset) {
  if (!store_plain_key(dst, slot, src, rotation, offset)) store_key_of_any_shape(dst, slot, src, rotation, offset);
}

inline void store_key(const KvBlock& dst, std::uint32_t slot, const float* src, const Rotation& rotation,
                      const KeyOffset& offset) {
  if (!is_eight(dst.head_dim, rotation)) return store_key_of_other(dst, slot, src, rotation, offset);
  if (!store_key_of_eight(dst, slot, src, rotation, offset)) store_key_of_other(dst, slot, src, rotation, offset);
}
#undef HEED_EIGHT

}  // namespace heed::helium
