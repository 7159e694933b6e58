// SPDX-License-Identifier: Apache-2.0
// helium_rows.hpp: quantisation and norms of a row on Helium, with the bits of portable/rows.hpp.
#pragma once
#include "platform/cortex_m/helium_numbers.hpp"

namespace heed::helium {

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

}  // namespace heed::helium
