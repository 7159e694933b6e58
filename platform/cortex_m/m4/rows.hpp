// SPDX-License-Identifier: Apache-2.0
// rows.hpp: what happens to one vector at a time on cores with the DSP extension, with the bits of
// portable/rows.hpp. Four floats become the two words of four prepared activations in one pass: the float addition of
// 1.5 * 2^23 steps of the block float rounds, and SMMLAR multiplies by the reciprocal, rounds again, and takes away
// what the bits of that sum held before.
#pragma once
#include <arm_acle.h>

#include "platform/cortex_m/m4/prepared.hpp"
#include "platform/portable/rows.hpp"

namespace heed::pair {

// A vector of floats on its way to int8: the floats as they lie in memory, or made one by one, and their block float,
// of whose units `step` is 1.5 * 2^23. A vector with NaN or more than 2^40 is special: its floats become the s16 values
// that they stand for, of step kRoundToInt.
struct Vector {
  const float* x;
  std::uint32_t n;
  const float* gain = nullptr;
  const portable::CentredSource* centred = nullptr;
  float special_scale;
  bool special;

  int exponent;
  std::int32_t max;
  float step;

  // What one pass does: look for the largest of twice the bits if `to` is null; without a word step write s16; else
  // prepared activations, and add the squares of their int8 values.
  void* to;
  std::uint32_t word_step;  // bytes
  std::uint32_t max_bits;
  std::int32_t squares, reciprocal, offset;

  Vector(const float* floats, std::uint32_t count) : x(floats), n(count) {}
  bool direct() const { return !special && !gain && !(kBuiltFeatures.layer_norm && centred); }
  float at(std::uint32_t i) const;
  void run(std::uint32_t first, std::uint32_t last);
  bool measure();
  bool measure_exponent();
  std::int32_t quantize(const Activations& dst, std::uint32_t index, std::uint32_t groups);
};

// The larger of `max` and twice the bits of any float; the number of floats is a multiple of four.
__attribute__((noinline)) inline std::uint32_t max_of_quads(std::uint32_t max, const float* x, const float* end) {
  __asm__ volatile(
      "1:\n\t"
      "ldmia %[x]!, {r4-r7}\n\t"
      "cmp %[max], r4, lsl #1\n\tit lo\n\tlsllo %[max], r4, #1\n\t"
      "cmp %[max], r5, lsl #1\n\tit lo\n\tlsllo %[max], r5, #1\n\t"
      "cmp %[max], r6, lsl #1\n\tit lo\n\tlsllo %[max], r6, #1\n\t"
      "cmp %[max], r7, lsl #1\n\tit lo\n\tlsllo %[max], r7, #1\n\t"
      "cmp %[x], %[end]\n\t"
      "bne 1b"
      : [x] "+&r"(x), [max] "+&r"(max)
      : [end] "r"(end)
      : "r4", "r5", "r6", "r7", "cc", "memory");
  return max;
}

// The same of the upper halves of twice the bits, two at a time in the halves of the maximum: enough for the exponent.
inline std::uint32_t max_of_upper_halves(std::uint32_t max, const float* x, const float* end) {
  __asm__ volatile(
      "1:\n\t"
      "ldmia %[x]!, {r4-r7}\n\t"
      "pkhtb r4, r5, r4, asr #16\n\t"
      "pkhtb r6, r7, r6, asr #16\n\t"
      "uadd16 r4, r4, r4\n\t"
      "uadd16 r6, r6, r6\n\t"
      "usub16 r5, %[max], r4\n\tsel %[max], %[max], r4\n\t"
      "usub16 r5, %[max], r6\n\tsel %[max], %[max], r6\n\t"
      "cmp %[x], %[end]\n\t"
      "bne 1b"
      : [x] "+&r"(x), [max] "+&r"(max)
      : [end] "r"(end)
      : "r4", "r5", "r6", "r7", "cc", "memory");
  return max;
}

// The same eight at a time.
__attribute__((noinline)) inline std::uint32_t max_of_octets(std::uint32_t max, const float* x, const float* end) {
  __asm__ volatile(
      "1:\n\t"
      "ldmia %[x]!, {r4-r11}\n\t"
      "pkhtb r4, r5, r4, asr #16\n\t"
      "pkhtb r6, r7, r6, asr #16\n\t"
      "pkhtb r8, r9, r8, asr #16\n\t"
      "pkhtb r10, r11, r10, asr #16\n\t"
      "uadd16 r4, r4, r4\n\tuadd16 r6, r6, r6\n\tuadd16 r8, r8, r8\n\tuadd16 r10, r10, r10\n\t"
      "usub16 r5, %[max], r4\n\tsel %[max], %[max], r4\n\t"
      "usub16 r5, %[max], r6\n\tsel %[max], %[max], r6\n\t"
      "usub16 r5, %[max], r8\n\tsel %[max], %[max], r8\n\t"
      "usub16 r5, %[max], r10\n\tsel %[max], %[max], r10\n\t"
      "cmp %[x], %[end]\n\t"
      "bne 1b"
      : [x] "+&r"(x), [max] "+&r"(max)
      : [end] "r"(end)
      : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "cc", "memory");
  return max;
}

// The biased exponent of such a maximum, or 0 of what may be special or count as zero.
inline std::uint32_t usual_exponent(std::uint32_t max) {
  constexpr std::uint32_t kLeast = 127 - 40, kBehind = 127 + 40;  // 2^-40, 2^40
  const std::uint32_t biased = (max > max << 16 ? max : max << 16) >> 24;
  return biased - kLeast < kBehind - kLeast ? biased : 0;
}

// Of q0..q3 in r4..r7: X1 = (q1, q3) to r5 and X' = (256 q0 - q1, 256 q2 - q3) to r4.
#define HEED_PREPARE                 \
  "rsb r4, r5, r4, lsl #8\n\t"       \
  "rsb r6, r7, r6, lsl #8\n\t"       \
  "pkhbt r5, r5, r7, lsl #16\n\t"    \
  "pkhbt r4, r4, r6, lsl #16\n\t"
#define HEED_STORE_PREPARED                    \
  ".if %c[speed]\n\t"                          \
  "str r5, [%[to]]\n\t"                        \
  "str r4, [%[to], %[step]]\n\t"               \
  "add %[to], %[to], %[step], lsl #1\n\t"      \
  ".else\n\t"                                  \
  "strd r5, r4, [%[to]], #8\n\t"               \
  ".endif\n\t"

__attribute__((noinline)) inline void write_quads(Vector& v, const float* x, const float* end) {
  void* to = v.to;
  std::int32_t squares = v.squares;
  __asm__ volatile(
      "1:\n\t"
      "vldmia %[x]!, {s0-s3}\n\t"
      "vadd.f32 s0, s0, %[round]\n\tvadd.f32 s1, s1, %[round]\n\t"
      "vadd.f32 s2, s2, %[round]\n\tvadd.f32 s3, s3, %[round]\n\t"
      "vmov r4, r5, s0, s1\n\t"
      "vmov r6, r7, s2, s3\n\t"
      "smmlar r4, r4, %[r], %[offset]\n\tsmmlar r5, r5, %[r], %[offset]\n\t"
      "smmlar r6, r6, %[r], %[offset]\n\tsmmlar r7, r7, %[r], %[offset]\n\t"
      "mla %[squares], r4, r4, %[squares]\n\t"
      "mla %[squares], r6, r6, %[squares]\n\t" HEED_PREPARE
      "smlad %[squares], r5, r5, %[squares]\n\t" HEED_STORE_PREPARED
      "cmp %[x], %[end]\n\t"
      "bne 1b"
      : [x] "+&r"(x), [to] "+&r"(to), [squares] "+&r"(squares)
      : [speed] "i"(kBuiltFeatures.speed ? 1 : 0), [end] "r"(end), [step] "r"(v.word_step),
        [r] "r"(v.reciprocal), [offset] "r"(v.offset), [round] "t"(v.step)
      : "r4", "r5", "r6", "r7", "s0", "s1", "s2", "s3", "cc", "memory");
  v.to = to;
  v.squares = squares;
}

// Four floats as s16 in r4 and r6. The lower 17 bits are the integer; QDADD saturates it in the upper half and takes 1
// away, and below that once more, so that -32768 becomes -32767.
#define HEED_FOUR_S16 \
  "vldmia %[x]!, {s1-s4}\n\t" \
  "vadd.f32 s1, s1, %[round]\n\tvadd.f32 s2, s2, %[round]\n\t" \
  "vadd.f32 s3, s3, %[round]\n\tvadd.f32 s4, s4, %[round]\n\t" \
  "vmov r4, r5, s1, s2\n\t" \
  "vmov r6, r7, s3, s4\n\t" \
  "lsls r4, r4, #15\n\tlsls r5, r5, #15\n\tlsls r6, r6, #15\n\tlsls r7, r7, #15\n\t" \
  "qdadd r4, %[less], r4\n\tqdadd r5, %[less], r5\n\tqdadd r6, %[less], r6\n\tqdadd r7, %[less], r7\n\t" \
  "pkhtb r4, r5, r4, asr #16\n\t" \
  "pkhtb r6, r7, r6, asr #16\n\t" \
  "sadd16 r4, r4, %[ones]\n\tsadd16 r6, r6, %[ones]\n\t"

// As s16, behind `to`, whose end it returns.
__attribute__((noinline)) inline void* convert_quads(void* to, const float* x, const float* end, float step) {
  __asm__ volatile(
      "1:\n\t"
      HEED_FOUR_S16
      "strd r4, r6, [%[to]], #8\n\t"
      "cmp %[x], %[end]\n\t"
      "bne 1b"
      : [x] "+&r"(x), [to] "+&r"(to)
      : [end] "r"(end), [less] "r"(-65536), [ones] "r"(0x00010001), [round] "t"(step)
      : "r4", "r5", "r6", "r7", "s1", "s2", "s3", "s4", "cc", "memory");
  return to;
}

// 2.2's s16 of what may be infinite or NaN: VCVTR rounds to even, saturates, and makes NaN 0.
inline std::int32_t any_s16(float x, float scale) {
  std::int32_t s;
  float y = x * scale;
  __asm__("vcvtr.s32.f32 %1, %1\n\tvmov %0, %1" : "=r"(s), "+t"(y));
  s = __ssat(s, 16);
  return s < -kMaxS16 ? -kMaxS16 : s;
}

// portable::CentredSource::at, as a float.
inline float centred_element(const portable::CentredSource& source, std::uint32_t i) {
  const portable::Centred& c = source.centred;
  float y = static_cast<float>(((any_s16(source.x.floats[i], source.x.scale) - c.mean) >> c.right) * (1 << c.left));
  if (!source.gain && !source.bias) return y;
  y = y * c.unit;
  if (source.gain) y = y * source.gain[i];
  return source.bias ? y + source.bias[i] : y;
}

__attribute__((noinline)) inline float Vector::at(std::uint32_t i) const {
  float y = x[i];
  if (kBuiltFeatures.layer_norm && centred)
    y = centred_element(*centred, i);
  else if (gain)
    y = y * gain[i];
  return special ? static_cast<float>(any_s16(y, special_scale)) : y;
}

__attribute__((noinline)) inline void Vector::run(std::uint32_t first, std::uint32_t last) {
  constexpr std::uint32_t kPiece = 16;
  float piece[kPiece];
  while (first < last) {
    const float *from = x + first, *end = from + ((last - first) & ~3u);
    if (!direct() || from == end) {
      float* put = piece;
      if (kBuiltFeatures.unrolled && gain && !special && last - first >= 4) {
        const float* const behind = from + ((last - first < kPiece ? last - first : kPiece) & ~3u);
        for (const float* factor = gain + first; from != behind;) *put++ = *from++ * *factor++;
        first += static_cast<std::uint32_t>(put - piece);
      } else do {
        *put++ = first == last ? 0.0f : gain && !special ? x[first] * gain[first] : at(first);
        first += first != last;
      } while ((put - piece) % 4 || (first < last && put != piece + kPiece));
      from = piece, end = put;
    } else {
      first += static_cast<std::uint32_t>(end - from);
    }
    if (word_step)
      write_quads(*this, from, end);
    else if (to)
      to = convert_quads(to, from, end, step);
    else
      max_bits = max_of_quads(max_bits, from, end);
  }
}

// Finds the block float; false if the vector counts as zero.
__attribute__((noinline)) inline bool Vector::measure() {
  constexpr std::uint32_t kTop = 0x54000000;  // 2^41
  special = false;
  word_step = 0, to = nullptr, max_bits = 0;
  if (kBuiltFeatures.unrolled && direct() && n % 4 == 0)
    max_bits = max_of_quads(0, x, x + n);
  else
    run(0, n);
  std::uint32_t bits = max_bits >> 1;
  special = bits > 0x53800000u;  // 2^40
  if (special) {
    bits = 0;
    special = false;
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::uint32_t m = magnitude_bits(at(i));
      bits = m > bits ? m : bits;
    }
    special = true;
  }
  const bool zero = bits < 0x2B800000u;  // 2^-40
  bits = zero ? 0x2B800000u : bits > kTop ? kTop : bits;
  exponent = static_cast<int>(bits >> 23) - 126;
  exponent = exponent > 41 ? 41 : exponent;
  step = float_of(0x4B400000u + (static_cast<std::uint32_t>(exponent - 15) << 23));
  max = static_cast<std::int32_t>(bits_of(float_of(bits) + step) - bits_of(step));
  if (max > kMaxS16) max = kMaxS16;
  if (zero) max = 0, step = kRoundToInt;  // in whose units all is 0
  if (special) special_scale = zero ? 0.0f : pow2(15 - exponent), step = kRoundToInt;
  return !zero;
}

// The same without the largest magnitude.
inline bool Vector::measure_exponent() {
  if (kBuiltFeatures.unrolled && n >= 8 && n % 4 == 0) {
    std::uint32_t max = 0;
    if (n % 8) max = max_of_upper_halves(0, x, x + 4);
    const std::uint32_t biased = usual_exponent(max_of_octets(max, x + n % 8, x + n));
    if (biased) {
      special = false;
      exponent = static_cast<int>(biased) - 126;
      step = float_of(0x4B400000u + ((biased - (126 + 15)) << 23));
      return true;
    }
  }
  return measure();
}

// Writes vector `index` once it is measured; returns the sum of the squares of a vector without groups.
__attribute__((noinline)) inline std::int32_t Vector::quantize(const Activations& dst, std::uint32_t index,
                                                               std::uint32_t groups) {
  const PreparedRow row = prepared_row(dst, index);
  const std::int32_t whole = reciprocal_127(max) << 10;
  void* put = row.words;
  squares = 0;
  std::uint32_t first = 0, last = n;
  std::uint8_t* exponents = dst.exponents + std::size_t{index} * groups;
  do {
    int shift = 0;
    if (kBuiltFeatures.groups && groups) {
      last = n - first < dst.group ? n : first + dst.group;
      word_step = 0, to = nullptr, max_bits = 0;
      run(first, last);
      // The largest s16 of the group, by the same rounding.
      std::int32_t group_max = static_cast<std::int32_t>(bits_of(float_of(max_bits >> 1) + step) - bits_of(step));
      group_max = group_max > kMaxS16 ? kMaxS16 : group_max;
      *exponents = portable::group_exponent(group_max, max);
      shift = 3 - *exponents++;
    }
    reciprocal = whole << shift;
    offset = -static_cast<std::int32_t>((std::int64_t{static_cast<std::int32_t>(bits_of(step))} * reciprocal) >> 32);
    to = put, word_step = row.word_step;
    if (kBuiltFeatures.unrolled && direct() && (last - first) % 4 == 0)
      write_quads(*this, x + first, x + last);
    else
      run(first, last);
    put = to;
    first = last;
  } while (kBuiltFeatures.groups && first < n);
  clear_from(row, n, n);
  return squares;
}

__attribute__((noinline)) inline void store_zero(const Activations& dst, std::uint32_t index, const PreparedRow& row) {
  clear_from(row, dst.cols, 0);
  for (std::uint32_t g = 0; g < dst.groups; ++g) dst.exponents[std::size_t{index} * dst.groups + g] = 0;
  dst.scales[index] = 0.0f;
}
inline void store_zero(const Activations& dst, std::uint32_t index) { store_zero(dst, index, prepared_row(dst, index)); }

__attribute__((noinline)) inline float row_scale(std::int32_t max, int exponent, bool grouped) {
  return portable::row_scale(max, exponent, kBuiltFeatures.groups && grouped);
}

// The scale of vector `index`; without a factor it is within what activation_scale allows.
__attribute__((noinline)) inline void store_scale(const Activations& dst, std::uint32_t index, std::int32_t max,
                                                  int exponent, float factor) {
  dst.scales[index] = activation_scale(row_scale(max, exponent, dst.groups != 0) * factor);
}

inline void quantize_s8r_f32(const Activations& dst, std::uint32_t index, const float* src) {
  Vector v(src, dst.cols);
  if (!v.measure()) return store_zero(dst, index);
  v.quantize(dst, index, dst.groups);
  store_scale(dst, index, v.max, v.exponent, 1.0f);
}

// The steps of portable::layer_norm.
__attribute__((noinline)) inline void layer_norm(const Activations& dst, std::uint32_t index, const float* src,
                                                 const NormWeights& weights) {
  const BlockFloat b = block_float(portable::max_magnitude_bits(src, dst.cols));
  portable::CentredSource centred{{src, nullptr, b.to_s16_scale, nullptr}, {0, 0, 0, 0.0f}, nullptr, nullptr, 0.0f};
  Vector v(src, dst.cols);
  v.centred = &centred;
  v.special = false;
  v.exponent = 15, v.max = 0, v.step = kRoundToInt;
  if (!b.zero) centred.centred = portable::centre(v.max, dst.cols, [&](std::uint32_t i) { return any_s16(src[i], b.to_s16_scale); });
  if (v.max == 0 && !weights.bias) return store_zero(dst, index);
  float factor = 0.0f;
  if (v.max != 0) {
    const int exponent = b.exponent - centred.centred.left + centred.centred.right;
    const std::int32_t squares = v.quantize(dst, index, 0);
    factor = portable::norm_factor(row_scale(v.max, exponent, false), squares, dst.cols, weights.epsilon);
    centred.centred.unit = pow2(exponent - 15) * factor;
    v.exponent = exponent;
  }
  if (weights.gain || weights.bias) {
    centred.gain = weights.gain;
    centred.bias = weights.bias;
    if (!v.measure()) return store_zero(dst, index);
    factor = 1.0f;
  }
  if (weights.gain || weights.bias || dst.groups) v.quantize(dst, index, dst.groups);
  store_scale(dst, index, v.max, v.exponent, factor);
}

inline void norm_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const NormWeights& weights) {
  if (kBuiltFeatures.layer_norm && weights.centred) return layer_norm(dst, index, src, weights);
  Vector v(src, dst.cols);
  if (!v.measure()) return store_zero(dst, index);
  const std::int32_t squares = v.quantize(dst, index, 0);
  const float factor = portable::norm_factor(row_scale(v.max, v.exponent, false), squares, dst.cols, weights.epsilon);
  if (weights.gain) {
    v.gain = weights.gain;
    if (!v.measure()) return store_zero(dst, index);
  }
  if (weights.gain || (kBuiltFeatures.groups && dst.groups)) v.quantize(dst, index, dst.groups);
  store_scale(dst, index, v.max, v.exponent, factor);
}

}  // namespace heed::pair
