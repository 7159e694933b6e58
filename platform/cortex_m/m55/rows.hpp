// SPDX-License-Identifier: Apache-2.0
// rows.hpp: quantisation and norms of a row on Helium, with the bits of portable/rows.hpp.
#pragma once
#include "platform/cortex_m/m55/numbers.hpp"

namespace heed::helium {

// Both steps of a row without groups: the values need no memory in between. n is a multiple of eight and not 0. Returns the
// sum of the squares, if it is asked for.
template <bool kSquares>
__attribute__((noinline)) std::int32_t convert_and_finish(std::int8_t* to, const float* src, std::uint32_t n, float scale,
                                                          std::int32_t reciprocal) {
  const std::uint32_t bits = bits_of(scale);  // a call between two registers of the assembly would lose the first
  register std::int32_t squares __asm__("r0") = 0;
  std::uint32_t eights = n / 8;
  // -32768 becomes -127 as -32767 does: it occurs where the reciprocal is 16256.
#define HEED_EIGHT                                                     \
  HEED_EIGHT_S16                                                             \
  "vmulh.s16 q2, q2, q3\n\t"                                           \
  "vrshr.s16 q2, q2, #6\n\t"                                           \
  ".if %c[sum]\n\tvmladava.s16 %[squares], q2, q2\n\t.endif\n\t"       \
  "vstrb.16 q2, [%[to]], #8\n\t"
  __asm__ volatile(
      "vdup.16 q3, %[reciprocal]\n\t"
      "tst %[n], #1\n\t"
      "add %[n], #1\n\t"
      "lsr lr, %[n], #1\n\t"
      "dls lr, lr\n\t"
      "bne 2f\n\t"
      "1:\n\t" HEED_EIGHT
      "2:\n\t" HEED_EIGHT
      "le lr, 1b"
      : [squares] "+r"(squares), [to] "+l"(to), [src] "+r"(src), [n] "+r"(eights)
      : [reciprocal] "r"(reciprocal), [scale] "r"(bits), [sum] "i"(kSquares ? 1 : 0)
      : "lr", "cc", "q0", "q1", "q2", "q3", "memory");
#undef HEED_EIGHT
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
      squares = convert_and_finish<true>(q, src, i, b.to_s16_scale, reciprocal);
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

// A row of whole eights and one scale: what most models have.
inline bool is_plain(const Activations& dst) { return dst.cols % 8 == 0 && (!kBuiltFeatures.groups || dst.groups == 0); }

inline void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
  const BlockFloat b = block_float(max_bits(src, nullptr, dst.cols));
  if (!b.zero && is_plain(dst)) {
    std::int8_t* const q = portable::activation_row(dst, index);
    zero_last(q, dst.cols);
    convert_and_finish<false>(q, src, dst.cols, b.to_s16_scale, reciprocal_127(b.max));
    dst.scales[index] = portable::row_scale(b.max, b.exponent, false);
    return;
  }
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  quantize_floats(dst, index, src, nullptr, b, kBuiltFeatures.groups ? dst.groups : 0);
  dst.scales[index] = portable::row_scale(b.max, b.exponent, dst.groups != 0);
}

inline void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
  if (kBuiltFeatures.layer_norm && weights.centred)
    return portable::layer_norm<PlainActivations>(dst, index, src, weights);
  const std::uint32_t bits = max_bits(src, nullptr, dst.cols), biased = biased_exponent(bits);
  if (is_zero(bits)) return portable::store_zero<PlainActivations>(dst, index);
  const float to_s16 = to_s16_scale(biased);
  const std::int32_t max = largest_s16(bits, to_s16);
  const int exponent = static_cast<int>(biased) - 126;
  std::int32_t squares;
  if (is_plain(dst)) {
    std::int8_t* const q = portable::activation_row(dst, index);
    zero_last(q, dst.cols);
    squares = convert_and_finish<true>(q, src, dst.cols, to_s16, reciprocal_127(max));
  } else {
    squares = quantize_floats(dst, index, src, nullptr, {false, exponent, to_s16, max}, 0);
  }
  const float scale = portable::row_scale(max, exponent, false);
  const float factor = portable::norm_factor(scale, squares, dst.cols, weights.epsilon);
  const std::uint32_t groups = kBuiltFeatures.groups ? dst.groups : 0;
  if (!weights.gain && !groups) {
    dst.scales[index] = activation_scale(scale * factor);
    return;
  }
  const BlockFloat b = weights.gain ? block_float(max_bits(src, weights.gain, dst.cols)) : BlockFloat{false, exponent, to_s16, max};
  if (b.zero) return portable::store_zero<PlainActivations>(dst, index);
  quantize_floats(dst, index, src, weights.gain, b, groups);
  dst.scales[index] = activation_scale(portable::row_scale(b.max, b.exponent, groups != 0) * factor);
}

}  // namespace heed::helium
