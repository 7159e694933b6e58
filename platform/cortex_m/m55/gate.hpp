// SPDX-License-Identifier: Apache-2.0
// gate.hpp: the gate of the feed-forward layer on Helium, with the bits of portable/rows.hpp.
#pragma once
#include "platform/cortex_m/m55/numbers.hpp"

namespace heed::helium {

// h = gate * F(gate) * up (SPEC.md 2.5) of n elements, a multiple of eight and not 0, in place; returns the largest |h|.
// Without kUp there is no factor `up`. By hand, because GCC 12 keeps half of it on the stack. Scales are negative here:
// negating a saturated s16 leaves none below -32767. No entry of a factor's table is less than the one before it, so that
// interpolation needs no signs.
template <bool kUp>
__attribute__((noinline)) std::uint32_t gate_products(float* gate, const float* up, std::uint32_t n, float gate_scale,
                                                      float up_scale, int shift, const std::uint16_t* factor) {
  std::uint32_t max = 0;
#define HEED_TO_S16(q, from, step, scale)                                                \
  "vld20.32 {q0, q1}, [" from "]\n\tvld21.32 {q0, q1}, [" from "]" step "\n\t"          \
  "vmul.f32 q0, q0, " scale "\n\tvmul.f32 q1, q1, " scale "\n\t"                         \
  "vcvtn.s32.f32 q0, q0\n\tvcvtn.s32.f32 q1, q1\n\t"                                     \
  "vqmovnb.s32 " q ", q0\n\tvqmovnt.s32 " q ", q1\n\tvqneg.s16 " q ", " q "\n\t"
  __asm__ volatile(
      "vmvn.i16 q7, #0x8000\n\t"
      "vmov.i32 q6, #0\n\t"
      "vmov.i16 q3, #1\n\t"
      "dls lr, %[n]\n\t"
      "1:\n\t" HEED_TO_S16("q2", "%[gate]", "", "%[gate_scale]")
      ".if %c[has_up]\n\t" HEED_TO_S16("q3", "%[up]", "!", "%[up_scale]") ".endif\n\t"
      "vabs.s16 q0, q2\n\t"
      "vqshl.u16 q0, %[shift]\n\t"
      "vshr.u16 q1, q0, #8\n\t"
      "vshl.i16 q0, q0, #8\n\t"
      "vldrh.u16 q4, [%[low], q1, uxtw #1]\n\t"
      "vldrh.u16 q5, [%[high], q1, uxtw #1]\n\t"
      "vsub.i16 q5, q5, q4\n\t"
      "vrmulh.u16 q5, q5, q0\n\t"
      "vadd.i16 q4, q4, q5\n\t"
      "vpt.s16 lt, q2, %[zero]\n\t"
      "veort q4, q4, q7\n\t"  // F(-a) = 32767 - F(a)
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
      : [n] "r"(n / 8), [zero] "r"(0), [gate_scale] "r"(bits_of(-gate_scale)), [up_scale] "r"(bits_of(-up_scale)),
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

// Quantises products that come in groups, whose largest is row_max after the shift.
__attribute__((noinline)) inline void finish_groups(const Activations& dst, std::uint32_t index, const std::int32_t* products,
                                                    int left, std::int32_t row_max) {
  const int right = left < 0 ? -left : 0, more = left < 0 ? 0 : left;
  const std::int32_t reciprocal = reciprocal_127(row_max);
  std::int8_t* const q = portable::activation_row(dst, index);
  std::uint8_t* exponents = dst.exponents + std::size_t{index} * dst.groups;
  for (std::uint32_t first = 0; first < dst.cols; first += dst.group, ++exponents) {
    alignas(8) std::int16_t s[256];
    const std::uint32_t m = dst.cols - first < dst.group ? dst.cols - first : dst.group;
    std::int32_t group_max = 0;
    std::uint32_t i = 0;
    for (; i < m; ++i) {
      s[i] = static_cast<std::int16_t>((products[first + i] >> right) * (1 << more));
      group_max = magnitude(s[i]) > group_max ? magnitude(s[i]) : group_max;
    }
    for (; i < round_up(m, 8); ++i) s[i] = 0;
    *exponents = portable::group_exponent(group_max, row_max);
    finish(q + first, s, m, reciprocal, 19 + *exponents);
  }
}

inline void gate_s8r_f32(const Activations& dst, std::uint32_t index, float* gate, const float* up,
                         const std::uint16_t* factor) {
  const std::uint32_t n = dst.cols, all = round_up(n, 8);
  const std::uint32_t gate_bits = max_bits(gate, nullptr, n), gate_biased = biased_exponent(gate_bits);
  std::uint32_t up_bits = bits_of(1.0f), up_biased = 126 + 15;
  if (up) {
    up_bits = max_bits(up, nullptr, n);
    up_biased = biased_exponent(up_bits);
  }
  if (is_zero(gate_bits) || is_zero(up_bits)) return portable::store_zero<PlainActivations>(dst, index);
  const float gate_scale = to_s16_scale(gate_biased), up_scale = to_s16_scale(up_biased);
  int shift = static_cast<int>(gate_biased) - 126 - 3;  // to Q12
  shift = shift > 16 ? 16 : shift < -31 ? -31 : shift;
  for (std::uint32_t i = n; i < all; ++i) gate[i] = 0.0f;
  const auto multiply = up ? gate_products<true> : gate_products<false>;
  const std::uint32_t max = multiply(gate, up, all, gate_scale, up_scale, shift, factor);
  if (max == 0) return portable::store_zero<PlainActivations>(dst, index);
  const int left = 15 - bit_length(max);
  const auto row_max = static_cast<std::int32_t>(left < 0 ? max >> -left : max << left);
  const bool grouped = kBuiltFeatures.groups && dst.groups != 0;
  std::int8_t* const q = portable::activation_row(dst, index);
  zero_last(q, n);
  auto* const products = reinterpret_cast<std::int32_t*>(gate);  // in place: the floats are spent
  if (grouped)
    finish_groups(dst, index, products, left, row_max);
  else
    finish_products(q, products, all, left, reciprocal_127(row_max));
  const int exponent = static_cast<int>(gate_biased) - 126 + static_cast<int>(up_biased) - 126 - 15 - left;
  dst.scales[index] = activation_scale(portable::row_scale(row_max, exponent, grouped));
}

}  // namespace heed::helium
