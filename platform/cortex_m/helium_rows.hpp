// SPDX-License-Identifier: Apache-2.0
// helium_rows.hpp: what happens to one vector at a time on Helium, with the bits of portable/rows.hpp, eight elements
// at a time. Rows whose length is no multiple of eight end in a copy behind which there are zeros.
#pragma once
#include <arm_mve.h>

#include "platform/portable/rows.hpp"

namespace heed::helium {

using portable::PlainActivations;

// The magnitude bits of the largest |x| or |x * gain|; NaN counts as 0.
__attribute__((noinline)) inline std::uint32_t max_bits(const float* x, const float* gain, std::uint32_t n) {
  // VMAXNMA leaves out quiet NaN. A signalling one, or a product that is none, raises the flag of invalid operations.
  std::uint32_t max = 0, flags;
  const float* at = x;
  if (!gain) {
    __asm__ volatile(
        "vmrs %[flags], fpscr\n\t"
        "bic %[flags], #1\n\t"
        "vmsr fpscr, %[flags]\n\t"
        "vmov.i32 q0, #0\n\t"
        "lsr lr, %[n], #4\n\t"
        "wls lr, lr, 2f\n\t"
        "1:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vldrw.u32 q2, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q2\n\t"
        "vldrw.u32 q2, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "vmaxnma.f32 q0, q2\n\t"
        "le lr, 1b\n\t"
        "2:\n\t"
        "and lr, %[n], #15\n\t"
        "wlstp.32 lr, lr, 4f\n\t"
        "3:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "letp lr, 3b\n\t"
        "4:\n\t"
        "vmaxnmav.f32 %[max], q0\n\t"
        "vmrs %[flags], fpscr"
        : [x] "+r"(at), [max] "+r"(max), [flags] "=&r"(flags)
        : [n] "r"(n)
        : "lr", "q0", "q1", "q2", "memory");
  } else {
    const float* g = gain;
    __asm__ volatile(
        "vmrs %[flags], fpscr\n\t"
        "bic %[flags], #1\n\t"
        "vmsr fpscr, %[flags]\n\t"
        "vmov.i32 q0, #0\n\t"
        "dlstp.32 lr, %[n]\n\t"
        "1:\n\t"
        "vldrw.u32 q1, [%[x]], #16\n\t"
        "vldrw.u32 q2, [%[g]], #16\n\t"
        "vmul.f32 q1, q1, q2\n\t"
        "vmaxnma.f32 q0, q1\n\t"
        "letp lr, 1b\n\t"
        "vmaxnmav.f32 %[max], q0\n\t"
        "vmrs %[flags], fpscr"
        : [x] "+r"(at), [g] "+r"(g), [max] "+r"(max), [flags] "=&r"(flags)
        : [n] "r"(n)
        : "lr", "q0", "q1", "q2", "memory");
  }
  if (!(flags & 1)) return max;
  max = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t m = magnitude_bits(gain ? x[i] * gain[i] : x[i]);
    max = m > max ? m : max;
  }
  return max;
}

// s16 of eight floats times a power of two, rounded to even and saturated, NaN as 0; -32768 can occur.
inline int16x8_t s16_of(const float* x, const float* gain, float scale) {
  float32x4x2_t v = vld2q_f32(x);
  if (gain) {
    const float32x4x2_t g = vld2q_f32(gain);
    v.val[0] = vmulq_f32(v.val[0], g.val[0]);
    v.val[1] = vmulq_f32(v.val[1], g.val[1]);
  }
  const int32x4_t even = vcvtnq_s32_f32(vmulq_n_f32(v.val[0], scale));
  const int32x4_t odd = vcvtnq_s32_f32(vmulq_n_f32(v.val[1], scale));
  return vqmovntq_s32(vqmovnbq_s32(vuninitializedq_s16(), even), odd);
}

// The same between -32767 and 32767.
inline int16x8_t clamped_s16_of(const float* x, float scale) {
  return vmaxq_s16(s16_of(x, nullptr, scale), vdupq_n_s16(-kMaxS16));
}

// body(source of eight floats, first index) for each eight of n; of the last ones in a copy.
template <class Body>
inline void in_eights(const float* x, std::uint32_t n, Body body) {
  std::uint32_t i = 0;
  for (; i + 8 <= n; i += 8) body(x + i, i);
  if (i == n) return;
  float rest[8] = {};
  for (std::uint32_t k = 0; i + k < n; ++k) rest[k] = x[i + k];
  body(static_cast<const float*>(rest), i);
}

// s16 values, up to the next multiple of eight.
__attribute__((noinline)) inline void convert(std::int16_t* to, const float* src, const float* gain, std::uint32_t n,
                                              float scale) {
  if (gain) {
    std::uint32_t i = 0;
    for (; i + 8 <= n; i += 8) vst1q_s16(to + i, s16_of(src + i, gain + i, scale));
    for (; i < n; ++i) to[i] = static_cast<std::int16_t>(to_s16(src[i] * gain[i], scale));
    return;
  }
  in_eights(src, n, [&](const float* x, std::uint32_t i) { vst1q_s16(to + i, clamped_s16_of(x, scale)); });
}

// int8 values q = (s * reciprocal + 2^(shift - 1)) >> shift of n s16 values, 16 < shift <= 22, a multiple of eight of
// them: the upper half of a product, rounded. Returns the sum of the squares.
__attribute__((noinline)) inline std::int32_t finish(std::int8_t* to, const std::int16_t* src, std::uint32_t n,
                                                     std::int32_t reciprocal, int shift) {
  register std::int32_t squares __asm__("r0") = 0;
  __asm__ volatile(
      "vdup.16 q1, %[reciprocal]\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vldrh.u16 q0, [%[src]], #16\n\t"
      "vmulh.s16 q0, q0, q1\n\t"
      "vrshl.s16 q0, %[shift]\n\t"
      "vmladava.s16 %[squares], q0, q0\n\t"
      "vstrb.16 q0, [%[to]], #8\n\t"
      "le lr, 1b"
      : [squares] "+r"(squares), [to] "+l"(to), [src] "+r"(src)
      : [n] "r"((n + 7) / 8), [reciprocal] "r"(reciprocal), [shift] "r"(16 - shift)
      : "lr", "q0", "q1", "memory");
  return squares;
}

// Zeros from the last multiple of sixteen on, before the values in front of them are written.
inline void zero_last(std::int8_t* q, std::uint32_t n) {
  if (n % 16) vst1q_s8(q + (n & ~15u), vdupq_n_s8(0));
}

// Both steps of a row without groups: the values need no memory in between. n is a multiple of eight.
__attribute__((noinline)) inline std::int32_t convert_and_finish(std::int8_t* to, const float* src, std::uint32_t n,
                                                                 float scale, std::int32_t reciprocal) {
  register std::int32_t squares __asm__("r0") = 0;
  // -32768 becomes -127 as -32767 does: it occurs where the reciprocal is 16256.
  __asm__ volatile(
      "vdup.16 q4, %[reciprocal]\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vld20.32 {q0, q1}, [%[src]]\n\t"
      "vld21.32 {q0, q1}, [%[src]]!\n\t"
      "vmul.f32 q0, q0, %[scale]\n\t"
      "vmul.f32 q1, q1, %[scale]\n\t"
      "vcvtn.s32.f32 q0, q0\n\t"
      "vcvtn.s32.f32 q1, q1\n\t"
      "vqmovnb.s32 q2, q0\n\t"
      "vqmovnt.s32 q2, q1\n\t"
      "vmulh.s16 q2, q2, q4\n\t"
      "vrshr.s16 q2, q2, #6\n\t"
      "vmladava.s16 %[squares], q2, q2\n\t"
      "vstrb.16 q2, [%[to]], #8\n\t"
      "le lr, 1b"
      : [squares] "+r"(squares), [to] "+l"(to), [src] "+r"(src)
      : [n] "r"(n / 8), [reciprocal] "r"(reciprocal), [scale] "r"(bits_of(scale))
      : "lr", "q0", "q1", "q2", "q4", "memory");
  return squares;
}

// Quantises row `index` from floats, optionally times a gain; returns the sum of squares of a row without groups.
__attribute__((noinline)) inline std::int32_t quantize_floats(const Activations& dst, std::uint32_t index,
                                                              const float* src, const float* gain,
                                                              const BlockFloat& b, std::uint32_t groups) {
  std::int8_t* q = portable::activation_row(dst, index);
  const std::int32_t reciprocal = reciprocal_127(b.max);
  const std::uint32_t n = dst.cols;
  zero_last(q, n);
  if (groups == 0) {
    std::int32_t squares = 0;
    std::uint32_t i = 0;
    if (!gain && n >= 8) {
      i = n & ~7u;
      squares = convert_and_finish(q, src, i, b.to_s16_scale, reciprocal);
    }
    for (; i < n; i += 8) {
      alignas(8) std::int16_t s[8] = {};
      const std::uint32_t m = n - i < 8 ? n - i : 8;
      convert(s, src + i, gain ? gain + i : nullptr, m, b.to_s16_scale);
      squares += finish(q + i, s, 8, reciprocal, 22);
    }
    return squares;
  }
  std::uint8_t* exponents = dst.exponents + std::size_t{index} * groups;
  for (std::uint32_t first = 0; first < n; first += dst.group, ++exponents) {
    alignas(8) std::int16_t s[256];
    const std::uint32_t m = n - first < dst.group ? n - first : dst.group;
    convert(s, src + first, gain ? gain + first : nullptr, m, b.to_s16_scale);
    for (std::uint32_t i = m; i < round_up(m, 8); ++i) s[i] = 0;
    std::uint16_t max = 0;
    for (std::uint32_t i = 0; i < m; i += 8) max = vmaxavq_s16(max, vld1q_s16(s + i));
    *exponents = portable::group_exponent(max, b.max);
    finish(q + first, s, m, reciprocal, 19 + *exponents);
  }
  return 0;
}

inline void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
  const BlockFloat b = block_float(max_bits(src, nullptr, dst.cols));
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  quantize_floats(dst, index, src, nullptr, b, kBuiltFeatures.groups ? dst.groups : 0);
  dst.scales[index] = portable::row_scale(b.max, b.exponent, dst.groups != 0);
}

inline void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
  if (kBuiltFeatures.layer_norm && weights.centred)
    return portable::layer_norm<PlainActivations>(dst, index, src, weights);
  BlockFloat b = block_float(max_bits(src, nullptr, dst.cols));
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  const std::int32_t squares = quantize_floats(dst, index, src, nullptr, b, 0);
  const float factor =
      portable::norm_factor(portable::row_scale(b.max, b.exponent, false), squares, dst.cols, weights.epsilon);
  if (weights.gain) b = block_float(max_bits(src, weights.gain, dst.cols));
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  const std::uint32_t groups = kBuiltFeatures.groups ? dst.groups : 0;
  if (weights.gain || groups) quantize_floats(dst, index, src, weights.gain, b, groups);
  dst.scales[index] = activation_scale(portable::row_scale(b.max, b.exponent, groups != 0) * factor);
}

// h = gate * F(gate) * up (SPEC.md 2.5) of n elements, a multiple of eight and not 0, in place; returns the largest |h|.
// Without kUp there is no factor `up`. By hand, because GCC 12 keeps half of it on the stack.
template <bool kUp>
__attribute__((noinline)) std::uint32_t gate_products(float* gate, const float* up, std::uint32_t n, float gate_scale,
                                                      float up_scale, int shift, const std::uint16_t* factor) {
  std::uint32_t max = 0;
#define HEED_TO_S16(q, from, scale)                                                      \
  "vld20.32 {q0, q1}, [" from "]\n\tvld21.32 {q0, q1}, [" from "]\n\t"                   \
  "vmul.f32 q0, q0, " scale "\n\tvmul.f32 q1, q1, " scale "\n\t"                         \
  "vcvtn.s32.f32 q0, q0\n\tvcvtn.s32.f32 q1, q1\n\t"                                     \
  "vqmovnb.s32 " q ", q0\n\tvqmovnt.s32 " q ", q1\n\tvmax.s16 " q ", " q ", q7\n\t"
  __asm__ volatile(
      "vdup.16 q7, %[min]\n\t"
      "vmov.i32 q6, #0\n\t"
      "vmov.i16 q3, #1\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t" HEED_TO_S16("q2", "%[gate]", "%[gate_scale]")
      ".if %c[has_up]\n\t" HEED_TO_S16("q3", "%[up]", "%[up_scale]") "adds %[up], #32\n\t.endif\n\t"
      "vabs.s16 q0, q2\n\t"
      "vqshl.u16 q0, %[shift]\n\t"
      "vshr.u16 q1, q0, #8\n\t"
      "vshl.i16 q0, q0, #8\n\t"
      "vldrh.u16 q4, [%[low], q1, uxtw #1]\n\t"
      "vldrh.u16 q5, [%[high], q1, uxtw #1]\n\t"
      "vshr.u16 q0, q0, #1\n\t"
      "vsub.i16 q5, q5, q4\n\t"
      "vqrdmulh.s16 q5, q5, q0\n\t"
      "vshr.s16 q0, q2, #15\n\t"
      "vadd.i16 q4, q4, q5\n\t"
      "vshr.u16 q0, q0, #1\n\t"
      "veor q4, q4, q0\n\t"  // F(-a) = 32767 - F(a)
      "vqrdmulh.s16 q4, q4, q2\n\t"
      "vmullb.s16 q0, q4, q3\n\t"
      "vmullt.s16 q1, q4, q3\n\t"
      "vmaxa.s32 q6, q0\n\t"
      "vmaxa.s32 q6, q1\n\t"
      "vst20.32 {q0, q1}, [%[gate]]\n\t"
      "vst21.32 {q0, q1}, [%[gate]]!\n\t"
      "le lr, 1b\n\t"
      "vmaxv.u32 %[max], q6"
      : [gate] "+l"(gate), [up] "+l"(up), [max] "+r"(max)
      : [n] "r"(n / 8), [min] "r"(-kMaxS16), [gate_scale] "r"(bits_of(gate_scale)), [up_scale] "r"(bits_of(up_scale)),
        [shift] "r"(shift), [low] "r"(factor), [high] "r"(factor + 1), [has_up] "i"(kUp ? 1 : 0)
      : "lr", "cc", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "memory");
#undef HEED_TO_S16
  return max;
}

// s16 = products shifted left (or right, if negative), and their int8 values where there are no groups; n is a multiple
// of eight and not 0.
__attribute__((noinline)) inline void finish_products(std::int8_t* to, const std::int32_t* products, std::uint32_t n,
                                                      int left, std::int32_t reciprocal) {
  __asm__ volatile(
      "vdup.16 q3, %[reciprocal]\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t"
      "vld20.32 {q0, q1}, [%[products]]\n\t"
      "vld21.32 {q0, q1}, [%[products]]!\n\t"
      "vshl.s32 q0, %[left]\n\t"
      "vshl.s32 q1, %[left]\n\t"
      "vmovnb.i32 q2, q0\n\t"
      "vmovnt.i32 q2, q1\n\t"
      "vmulh.s16 q2, q2, q3\n\t"
      "vrshr.s16 q2, q2, #6\n\t"
      "vstrb.16 q2, [%[to]], #8\n\t"
      "le lr, 1b"
      : [to] "+l"(to), [products] "+r"(products)
      : [n] "r"(n / 8), [left] "r"(left), [reciprocal] "r"(reciprocal)
      : "lr", "q0", "q1", "q2", "q3", "memory");
}

inline void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                         const std::uint16_t* factor) {
  const std::uint32_t n = dst.cols;
  const BlockFloat bg = block_float(max_bits(gate, nullptr, n));
  const BlockFloat bu = up ? block_float(max_bits(up, nullptr, n)) : BlockFloat{false, 15, 1.0f, 0};
  if (bg.zero || bu.zero) return portable::store_zero<PlainActivations>(dst, index);
  int shift = bg.exponent - 3;  // to Q12
  shift = shift > 16 ? 16 : shift < -31 ? -31 : shift;
  auto* const products = reinterpret_cast<std::int32_t*>(gate);  // in place: the floats are spent
  const std::uint32_t eights = n & ~7u;
  std::uint32_t i = eights, max = 0;
  if (eights)
    max = (up ? gate_products<true> : gate_products<false>)(gate, up, eights, bg.to_s16_scale, bu.to_s16_scale, shift,
                                                            factor);
  for (; i < n; ++i) {
    const std::int32_t g = to_s16(gate[i], bg.to_s16_scale);
    std::int32_t h = (g * portable::gate_factor(g, bg.exponent, factor) + (1 << 14)) >> 15;
    if (up) h *= to_s16(up[i], bu.to_s16_scale);
    products[i] = h;
    max = static_cast<std::uint32_t>(magnitude(h)) > max ? static_cast<std::uint32_t>(magnitude(h)) : max;
  }
  if (max == 0) return portable::store_zero<PlainActivations>(dst, index);
  const int left = 15 - bit_length(max);
  const int right = left < 0 ? -left : 0, more = left < 0 ? 0 : left;
  std::int8_t* q = portable::activation_row(dst, index);
  const auto row_max = static_cast<std::int32_t>((max >> right) << more);
  const std::int32_t reciprocal = reciprocal_127(row_max);
  zero_last(q, n);
  const auto shifted = [=](std::uint32_t k) { return (products[k] >> right) * (1 << more); };
  if (!kBuiltFeatures.groups || dst.groups == 0) {
    if (eights) finish_products(q, products, eights, left, reciprocal);
    for (i = eights; i < n; ++i) q[i] = static_cast<std::int8_t>(quantize_s16(shifted(i), reciprocal));
  } else {
    std::uint8_t* exponents = dst.exponents + std::size_t{index} * dst.groups;
    for (std::uint32_t first = 0; first < n; first += dst.group, ++exponents) {
      alignas(8) std::int16_t s[256];
      const std::uint32_t m = n - first < dst.group ? n - first : dst.group;
      std::int32_t group_max = 0;
      for (i = 0; i < m; ++i) {
        s[i] = static_cast<std::int16_t>(shifted(first + i));
        group_max = magnitude(s[i]) > group_max ? magnitude(s[i]) : group_max;
      }
      for (; i < round_up(m, 8); ++i) s[i] = 0;
      *exponents = portable::group_exponent(group_max, row_max);
      finish(q + first, s, m, reciprocal, 19 + *exponents);
    }
  }
  dst.scales[index] =
      activation_scale(portable::row_scale(row_max, bg.exponent + bu.exponent - 15 - left, dst.groups != 0));
}

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

inline void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  portable::HeadS16 head;
  helium::rotate_head(head, src, dst.cols, rotation);
  if (head.max == 0) return portable::store_zero<PlainActivations>(dst, index);
  helium::normalize_head(head, dst.cols);
  std::int8_t* const q = portable::activation_row(dst, index);
  zero_last(q, dst.cols);
  finish(q, head.values, dst.cols, reciprocal_127(head.max), 22);
  dst.scales[index] = portable::row_scale(head.max, head.exponent, false);
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
  const BlockFloat b = block_float(max_bits(src, nullptr, dst.head_dim));
  const int shift = ((b.max + 128) >> 8) <= 127 ? 8 : 9;
  const float scale = b.zero ? 0.0f : b.to_s16_scale;
  in_eights(src, dst.head_dim, [&](const float* x, std::uint32_t i) {
    store(vrshlq_n_s16(clamped_s16_of(x, scale), -shift), i);
  });
  store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot, b.zero ? -46 : b.exponent - 15 + shift);
}

}  // namespace heed::helium
