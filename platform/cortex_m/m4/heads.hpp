// SPDX-License-Identifier: Apache-2.0
// heads.hpp: queries, keys and values of one head on cores with the DSP extension (SPEC.md 2.7).
#pragma once
#include "platform/cortex_m/m4/rows.hpp"

namespace heed::pair {

using Word = std::uint32_t __attribute__((may_alias));
using Half = std::int16_t __attribute__((may_alias));

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

// A head as s16 values, zero up to a multiple of four; false if it counts as zero. Heads are short, so the usual one,
// in fours and within what is not special, takes the shortest way.
__attribute__((noinline)) inline bool head_s16(Vector& v, std::int16_t* values) {
  constexpr std::uint32_t kLeast = 0x2B800000, kMost = 0x53800000;  // 2^-40, 2^40
  const float* const end = v.x + v.n;
  if (kBuiltFeatures.speed && v.n % 4 == 0) {
    const std::uint32_t bits = max_of_quads(0, v.x, end) >> 1;
    if (bits - kLeast <= kMost - kLeast) {
      v.exponent = static_cast<int>(bits >> 23) - 126;
      v.step = float_of(0x4B400000u + (static_cast<std::uint32_t>(v.exponent - 15) << 23));
      v.max = static_cast<std::int32_t>(bits_of(float_of(bits) + v.step) - bits_of(v.step));
      convert_quads(values, v.x, end, v.step);
      return true;
    }
  }
  const bool some = v.measure();
  v.to = values;
  v.run(0, v.n);
  return some;
}

// Products of s16 values of a head, in fours, as int8: (s * reciprocal + 2^21) >> 22. Prepared activations, or of a key the
// words of a row of Layout::pair.
__attribute__((noinline)) inline void write_head(void* to, const std::int16_t* s, std::uint32_t n,
                                                 std::int32_t reciprocal, bool is_key) {
  const std::int16_t* const end = s + round_up(n, 4);
  __asm__ volatile(
      "1:\n\t"
      "ldrd r4, r6, [%[s]], #8\n\t"
      "smlawt r5, %[r], r4, %[half]\n\tsmlawb r4, %[r], r4, %[half]\n\t"
      "smlawt r7, %[r], r6, %[half]\n\tsmlawb r6, %[r], r6, %[half]\n\t"
      "asrs r4, r4, #6\n\tasrs r5, r5, #6\n\tasrs r6, r6, #6\n\tasrs r7, r7, #6\n\t"
      "cmp %[key], #0\n\t"
      "bne 2f\n\t" HEED_PREPARE
      "strd r5, r4, [%[to]], #8\n\t"
      "cmp %[s], %[end]\n\t"
      "bne 1b\n\t"
      "b 3f\n\t"
      "2:\n\t"
      "add r4, r4, r5, lsl #8\n\t"
      "add r6, r6, r7, lsl #8\n\t"
      "pkhbt r4, r4, r6, lsl #16\n\t"
      "str r4, [%[to]], #16\n\t"
      "cmp %[s], %[end]\n\t"
      "bne 1b\n\t"
      "3:"
      : [s] "+&r"(s), [to] "+&r"(to)
      : [end] "r"(end), [r] "r"(reciprocal), [half] "r"(1 << 5), [key] "r"(is_key)
      : "r4", "r5", "r6", "r7", "cc", "memory");
}

// The usual head in one pass behind the one that looks for its exponent: to s16 as in convert_quads, rotated by pairs
// that follow each other, and their largest magnitude. False if it is not the usual one.
inline bool turn_head(portable::HeadS16& head, const float* src, std::uint32_t n, const Rotation& rotation) {
  if (n % 4 || rotation.halves || 2u * rotation.pairs != n || !rotation.cosine_sine) return false;
  const float *const end = src + n;
  const std::uint32_t biased = usual_exponent(max_of_upper_halves(0, src, end));
  if (!biased) return false;
  head.exponent = static_cast<int>(biased) - 125;
  const float step = float_of(0x4B400000u + ((biased - (126 + 15)) << 23));
  std::int16_t* to = head.values;
  const std::int16_t* cs = rotation.cosine_sine;
  std::int32_t largest = 0;
  __asm__ volatile(
      "1:\n\t"
      HEED_FOUR_S16
      "ldr r7, [%[cs]], #4\n\t"
      "smlsd r5, r4, r7, %[half]\n\t"
      "smladx r4, r4, r7, %[half]\n\t"
      "ldr r7, [%[cs]], #4\n\t"
      "pkhtb r4, r4, r5, asr #16\n\t"
      "smlsd r5, r6, r7, %[half]\n\t"
      "smladx r6, r6, r7, %[half]\n\t"
      "movs r7, #0\n\t"
      "pkhtb r6, r6, r5, asr #16\n\t"
      "strd r4, r6, [%[to]], #8\n\t"
      "ssub16 r5, r7, r4\n\tsel r4, r5, r4\n\t"
      "ssub16 r5, r7, r6\n\tsel r6, r5, r6\n\t"
      "ssub16 r5, r4, r6\n\tsel r4, r4, r6\n\t"
      "ssub16 r5, %[max], r4\n\tsel %[max], %[max], r4\n\t"
      "cmp %[x], %[end]\n\t"
      "bne 1b"
      : [x] "+&r"(src), [to] "+&r"(to), [cs] "+&r"(cs), [max] "+&r"(largest)
      : [end] "r"(end), [less] "r"(-65536), [ones] "r"(0x00010001), [half] "r"(1 << 15), [round] "t"(step)
      : "r4", "r5", "r6", "r7", "s1", "s2", "s3", "s4", "cc", "memory");
  const std::int32_t low = largest & 0xFFFF, high = largest >> 16;
  head.max = low > high ? low : high;
  return true;
}

inline int normalize_head(portable::HeadS16& head) {
  if (head.max == 0) return 0;
  const int left = __builtin_clz(static_cast<std::uint32_t>(head.max)) - 17;
  head.max <<= left;
  head.exponent -= left;
  return left;
}

// portable::rotate_head and normalize_head, the latter as a number of bits.
__attribute__((noinline)) inline int rotate_head(portable::HeadS16& head, const float* src, std::uint32_t n,
                                          const Rotation& rotation, const KeyOffset& offset) {
  if (kBuiltFeatures.unrolled && turn_head(head, src, n, rotation)) {
    if (!offset.values) return normalize_head(head);
  } else {
    Vector v(src, n);
    const bool some = head_s16(v, head.values);
    head.exponent = v.exponent;
    if (rotation.cosine_sine && some) {
      ++head.exponent;
      const std::uint32_t step = rotation.halves ? 1 : 2, other = rotation.halves ? rotation.pairs : 1;
      std::int16_t* at = head.values;
      const auto* cs = reinterpret_cast<const Word*>(rotation.cosine_sine);
      const auto* const end = cs + rotation.pairs;
      if (kBuiltFeatures.speed && !rotation.halves) {
        std::int32_t c, xy, both;
        __asm__ volatile(
            "1:\n\t"
            "ldr %[c], [%[cs]], #4\n\t"
            "ldr %[xy], [%[at]]\n\t"
            "smlsd %[both], %[xy], %[c], %[half]\n\t"
            "smladx %[xy], %[xy], %[c], %[half]\n\t"
            "pkhtb %[xy], %[xy], %[both], asr #16\n\t"
            "str %[xy], [%[at]], #4\n\t"
            "cmp %[cs], %[end]\n\t"
            "bne 1b"
            : [c] "=&r"(c), [xy] "=&r"(xy), [both] "=&r"(both), [cs] "+&r"(cs), [at] "+&r"(at)
            : [end] "r"(end), [half] "r"(1 << 15)
            : "cc", "memory");
      }
      for (; cs != end; at += step) {
        const auto c = static_cast<int16x2_t>(*cs++);
        const auto xy = static_cast<int16x2_t>((at[0] & 0xFFFF) | at[other] << 16);
        at[0] = static_cast<std::int16_t>(__smlsd(xy, c, 1 << 15) >> 16);
        at[other] = static_cast<std::int16_t>(__smladx(xy, c, 1 << 15) >> 16);
      }
      for (std::uint32_t i = 2u * rotation.pairs; i < n; ++i)
        head.values[i] = static_cast<std::int16_t>((head.values[i] + 1) >> 1);
    }
  }
  if (kBuiltFeatures.key_offset && offset.values) {
    const int common = (head.exponent > offset.exponent ? head.exponent : offset.exponent) + 1;
    int a = common - head.exponent, o = common - offset.exponent;
    a = a > 31 ? 31 : a;
    o = o > 31 ? 31 : o;
    const std::int16_t* from = offset.values;
    for (std::int16_t *at = head.values, *const end = at + n; at != end; ++at)
      *at = static_cast<std::int16_t>((*at >> a) - (*from++ >> o));
    head.exponent = common;
  }
  head.max = max_s16(head.values, n);
  return normalize_head(head);
}

inline void query_s8r_f32(const Activations& dst, std::uint32_t index, const float* src, const Rotation& rotation) {
  portable::HeadS16 head;
  const int left = rotate_head(head, src, dst.cols, rotation, {nullptr, 0});
  const PreparedRow row = single_row(dst, index);
  if (head.max == 0) return store_zero(dst, index, row);
  write_head(row.words, head.values, dst.cols, reciprocal_127(head.max) << left, false);
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
  write_head(to, head.values, dst.head_dim, key.reciprocal << left, true);
  dst.key_mantissas[slot] = key.mantissa;
  store_exponent(dst.key_exponents, dst.key_exponent_maxima, slot, key.exponent);
}

inline void store_value(const KvBlock& dst, std::uint32_t slot, const float* src) {
  alignas(4) std::int16_t values[kMaxHeadDim];
  Vector v(src, dst.value_dim);
  const bool some = head_s16(v, values);
  const int shift = (v.max + 128) >> 8 <= 127 ? 8 : 9;
  // Four dimensions together, of two at a time four slots of H = 256 v1 + v0. The last one to three dimensions come one
  // behind the other.
  const std::uint32_t quads = dst.value_dim & ~3u;
  auto* to = reinterpret_cast<Half*>(dst.values + 4 * (slot & ~3u) + 2 * (slot & 3));
  // Rounded and halved without overflow, and so that the int8 values are the upper bytes.
  const auto half = static_cast<int16x2_t>(0x00800080 << (shift - 8));
  const int up = 9 - shift;
  std::uint32_t step = 4;
  const auto* pair = reinterpret_cast<const Word*>(values);
  for (const auto* const end = pair + quads / 2; pair != end; to += step, step = 2 * dst.capacity - step) {
    const auto q = static_cast<std::int32_t>(static_cast<std::uint32_t>(__shadd16(static_cast<int16x2_t>(*pair++), half)) << up);
    *to = static_cast<std::int16_t>((q >> 24) * 256 + static_cast<std::int8_t>(q >> 8));
  }
  for (std::uint32_t d = quads; d < dst.value_dim; ++d)
    dst.values[slot + d * dst.capacity] = static_cast<std::int8_t>((values[d] + (1 << (shift - 1))) >> shift);
  store_exponent(dst.value_exponents, dst.value_exponent_maxima, slot, some ? v.exponent - 15 + shift : -46);
}

}  // namespace heed::pair
