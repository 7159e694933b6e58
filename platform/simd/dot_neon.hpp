// SPDX-License-Identifier: Apache-2.0
// dot_neon.hpp: smull and smlal on 64-bit and 32-bit Arm, sdot (dot-product extension) and smmla (int8 matrix
// multiplication); policies of dot.hpp.
#pragma once
#include "platform/simd/words_neon.hpp"

namespace heed::simd {

// Four columns of a panel. The assembly hides the sum, so that the load itself increments the pointer.
HEED_INLINE int8x16x4_t next_columns(const std::int8_t*& p) {
  const int8x16x4_t x = vld1q_s8_x4(p);
  p += 64;
  __asm__("" : "+r"(p));
  return x;
}

// Two products of int8 fit int16, so that eight columns cost one widening addition.
struct DotNeon {
  struct Acc {
    int32x4_t first, second;  // rows {0, 0, 1, 1} and {2, 2, 3, 3}
  };
  struct Operand {
    int8x16_t a, b;  // columns 0..3 and 4..7 of four rows
  };
  using Activation = int8x16_t;
  static constexpr std::uint32_t kColumns = 16, kPieceColumns = 8, kTokens = 1;
  static constexpr std::uint32_t kMaxTokens = 1;
  static constexpr bool kNeedsSums = false;
  static constexpr bool kCorrects = false;
  static constexpr bool kPrefetches = false;
  static constexpr bool kArranges = false;
  static constexpr std::uint32_t kUnits = sizeof(void*) == 8 ? 4 : 1;
  static constexpr std::uint32_t kQueries = 2;
  static constexpr std::uint32_t key_panels(std::uint32_t) { return 1; }
  static constexpr std::uint32_t kGroupedTokens = 0;
  // 32-bit Arm has half as many registers.
  static constexpr std::uint32_t units(std::uint32_t) { return sizeof(void*) == 8 ? 4 : 2; }
  static constexpr std::uint32_t units_of_short_rows() { return units(1); }
  template <std::uint32_t T>
  using Tile = DotNeon;

  HEED_INLINE static Acc start(std::int32_t) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  HEED_INLINE static int32x4_t result(const Acc& a, std::uint32_t) { return vpaddq_s32(a.first, a.second); }
  template <Source>
  HEED_INLINE static Operand load(const std::int8_t* p, bool half) {
    return {vld1q_s8(p), half ? vdupq_n_s8(0) : vld1q_s8(p + 64)};
  }
  template <Source>
  HEED_INLINE static void load_panel(Operand (&operands)[4], const std::int8_t*& p, bool half) {
    const int8x16x4_t a = next_columns(p);
    int8x16x4_t b = {{vdupq_n_s8(0), vdupq_n_s8(0), vdupq_n_s8(0), vdupq_n_s8(0)}};
    if (!half) b = next_columns(p);
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < 4; ++u) operands[u] = {a.val[u], b.val[u]};
  }
  HEED_INLINE static Activation activation(const std::int8_t* x, std::size_t) {
    Activation a = vld1q_s8(x);
    __asm__("" : "+w"(a));  // or g++ loads it in four parts
    return a;
  }
  template <std::uint32_t kFour>
  HEED_INLINE static int8x16_t repeat(int8x16_t x) {
    return vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), kFour));
  }
  template <std::uint32_t kPiece>
  HEED_INLINE static void multiply(Acc& acc, const Operand& w, Activation x) {
    const int8x16_t a = repeat<2 * kPiece>(x), b = repeat<2 * kPiece + 1>(x);
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(w.a), vget_low_s8(a)), vget_low_s8(w.b), vget_low_s8(b));
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(w.a, a), w.b, b);
    acc.first = vpadalq_s16(acc.first, low);
    acc.second = vpadalq_s16(acc.second, high);
  }
  static constexpr std::uint32_t key_bytes(std::uint32_t four) { return four; }

  // Values: key by key, widened to 16 bits.
  static constexpr std::uint32_t kValueKeys = 1;
  static constexpr std::uint32_t kStripDims = 16;
  static constexpr std::uint32_t kStripWords = 4;
  static constexpr std::uint32_t kMaxStrips = 4;
  using Folded = FoldedWords;
  struct Strip {
    int32x4_t sums[4];
  };
  using Weight = std::int16_t;
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, int16x8_t words) {
    vst1q_s16(f.words + first, words);
  }
  HEED_INLINE static Strip zero_strip() { return {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}}; }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) { return f.words[key]; }
  HEED_INLINE static void weigh(Strip& s, Weight w, const std::int8_t* values) {
    const int8x16_t v = vld1q_s8(values);
    const int16x8_t low = vmovl_s8(vget_low_s8(v)), high = vmovl_high_s8(v);
    s.sums[0] = vmlal_n_s16(s.sums[0], vget_low_s16(low), w);
    s.sums[1] = vmlal_n_s16(s.sums[1], vget_high_s16(low), w);
    s.sums[2] = vmlal_n_s16(s.sums[2], vget_low_s16(high), w);
    s.sums[3] = vmlal_n_s16(s.sums[3], vget_high_s16(high), w);
  }
  HEED_INLINE static int32x4_t strip_words(const Strip& s, std::uint32_t i) { return s.sums[i]; }
};

#if defined(__ARM_FEATURE_DOTPROD)
// Four columns of four rows at once, the activations by lane.
struct DotDotprod {
  using Acc = int32x4_t;
  using Operand = int8x16_t;
  using Activation = int8x16_t;
  static constexpr std::uint32_t kColumns = 16, kPieceColumns = 4, kTokens = 1;
  static constexpr std::uint32_t kMaxTokens = 4;
  static constexpr bool kNeedsSums = false;
  static constexpr bool kCorrects = false;
  static constexpr bool kPrefetches = false;
  static constexpr bool kArranges = false;
  static constexpr std::uint32_t kUnits = 4;
  static constexpr std::uint32_t kQueries = 4;
  static constexpr std::uint32_t key_panels(std::uint32_t) { return 1; }
  static constexpr std::uint32_t kGroupedTokens = 0;
  static constexpr std::uint32_t units(std::uint32_t) { return 4; }
  static constexpr std::uint32_t units_of_short_rows() { return units(1); }
  template <std::uint32_t T>
  using Tile = DotDotprod;

  HEED_INLINE static Acc start(std::int32_t) { return vdupq_n_s32(0); }
  HEED_INLINE static int32x4_t result(Acc a, std::uint32_t) { return a; }
  template <Source>
  HEED_INLINE static void load_panel(Operand (&operands)[4], const std::int8_t*& p, bool) {
    const int8x16x4_t x = next_columns(p);
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < 4; ++u) operands[u] = x.val[u];
  }
  HEED_INLINE static Activation activation(const std::int8_t* x, std::size_t) { return vld1q_s8(x); }
  template <std::uint32_t kPiece>
  HEED_INLINE static void multiply(Acc& acc, Operand w, Activation x) {
    acc = vdotq_laneq_s32(acc, w, x, kPiece);
  }
  static constexpr std::uint32_t key_bytes(std::uint32_t four) { return four; }

  // Values: four keys side by side. A weight is 256 * high + low, two signed bytes.
  static constexpr std::uint32_t kValueKeys = 4;
  static constexpr std::uint32_t kStripDims = 4;
  static constexpr std::uint32_t kStripWords = 1;
  static constexpr std::uint32_t kMaxStrips = 8;
  struct Folded {
    alignas(16) std::int8_t low[kBlockKeys], high[kBlockKeys];
  };
  struct Strip {
    int32x4_t low, high;
  };
  struct Weight {
    int8x16_t low, high;
  };
  HEED_INLINE static int8x16_t repeat(const std::int8_t* four) {
    return vreinterpretq_s8_u32(vdupq_n_u32(Words<NeonArch>::word(four)));
  }
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, int16x8_t words) {
    vst1_s8(f.low + first, vmovn_s16(words));
    vst1_s8(f.high + first, vrshrn_n_s16(words, 8));
  }
  HEED_INLINE static Strip zero_strip() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) {
    return {repeat(f.low + key), repeat(f.high + key)};
  }
  HEED_INLINE static void weigh(Strip& s, const Weight& w, const std::int8_t* values) {
    const int8x16_t v = vld1q_s8(values);
    s.low = vdotq_s32(s.low, v, w.low);
    s.high = vdotq_s32(s.high, v, w.high);
  }
  HEED_INLINE static int32x4_t strip_words(const Strip& s, std::uint32_t) {
    return vaddq_s32(vshlq_n_s32(s.high, 8), s.low);
  }
};
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)
// Eight columns of two rows times two tokens at once.
struct DotSmmla {
  struct Acc {
    int32x4_t first, second;  // rows {0, 0, 1, 1} and {2, 2, 3, 3}, the tokens in turn
  };
  struct Operand {
    int8x16_t first, second;  // rows 0 and 1, rows 2 and 3
  };
  struct Activation {
    int8x16_t pieces[2];  // eight columns of both tokens
  };
  static constexpr std::uint32_t kColumns = 16, kPieceColumns = 8, kTokens = 2;
  static constexpr bool kNeedsSums = false;
  static constexpr bool kCorrects = false;
  static constexpr bool kArranges = true;
  static constexpr std::uint32_t kUnits = 4;

  HEED_INLINE static Acc start(std::int32_t) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  HEED_INLINE static int32x4_t result(const Acc& a, std::uint32_t token) {
    return token ? vuzp2q_s32(a.first, a.second) : vuzp1q_s32(a.first, a.second);
  }
  HEED_INLINE static Operand zip(int8x16_t a, int8x16_t b) {
    const int32x4_t x = vreinterpretq_s32_s8(a), y = vreinterpretq_s32_s8(b);
    return {vreinterpretq_s8_s32(vzip1q_s32(x, y)), vreinterpretq_s8_s32(vzip2q_s32(x, y))};
  }
  template <Source kSource>
  HEED_INLINE static void load_panel(Operand (&operands)[4], const std::int8_t*& p, bool half) {
    const int8x16x4_t a = next_columns(p);
    int8x16x4_t b = {{vdupq_n_s8(0), vdupq_n_s8(0), vdupq_n_s8(0), vdupq_n_s8(0)}};
    if (!half) b = next_columns(p);
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < 4; ++u)
      operands[u] = kSource != Source::arranged ? zip(a.val[u], b.val[u])
                    : u < 2                     ? Operand{a.val[2 * u], a.val[2 * u + 1]}
                                                : Operand{b.val[2 * u - 4], b.val[2 * u - 3]};
  }
  HEED_INLINE static Activation activation(const std::int8_t* x, std::size_t stride) {
    const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(x)), b = vreinterpretq_s64_s8(vld1q_s8(x + stride));
    return {{vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))}};
  }
  template <std::uint32_t kPiece>
  HEED_INLINE static void multiply(Acc& acc, const Operand& w, const Activation& x) {
    acc.first = vmmlaq_s32(acc.first, w.first, x.pieces[kPiece]);
    acc.second = vmmlaq_s32(acc.second, w.second, x.pieces[kPiece]);
  }
};

// One token by sdot; the two bytes of a weight are the two columns of a matrix.
struct DotI8mm : DotDotprod {
  template <std::uint32_t T>
  using Tile = std::conditional_t<T == 1, DotDotprod, DotSmmla>;

  // Eight columns of a panel, zipped once for all tokens.
  HEED_INLINE static void arrange(std::int8_t* out, const std::int8_t* panel) {
#pragma GCC unroll 4
    for (std::uint32_t u = 0; u < 4; ++u) {
      const DotSmmla::Operand x = DotSmmla::zip(vld1q_s8(panel + u * 16), vld1q_s8(panel + u * 16 + 64));
      vst1q_s8(out + u * 32, x.first);
      vst1q_s8(out + u * 32 + 16, x.second);
    }
  }

  // Values: eight keys side by side.
  static constexpr std::uint32_t kValueKeys = 8;
  struct Folded {
    alignas(16) std::int8_t bytes[2 * kBlockKeys];  // of eight keys the low bytes, then the high ones
  };
  struct Strip {
    int32x4_t first, second;  // low and high sums of dimensions 0 and 1, of 2 and 3
  };
  using Weight = int8x16_t;
  HEED_INLINE static void store_folded(Folded& f, std::uint32_t first, int16x8_t words) {
    vst1q_s8(f.bytes + 2 * first, vcombine_s8(vmovn_s16(words), vrshrn_n_s16(words, 8)));
  }
  HEED_INLINE static Strip zero_strip() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  HEED_INLINE static Weight load_folded(const Folded& f, std::uint32_t key) { return vld1q_s8(f.bytes + 2 * key); }
  HEED_INLINE static void weigh(Strip& s, Weight w, const std::int8_t* values) {
    s.first = vmmlaq_s32(s.first, vld1q_s8(values), w);
    s.second = vmmlaq_s32(s.second, vld1q_s8(values + 16), w);
  }
  HEED_INLINE static int32x4_t strip_words(const Strip& s, std::uint32_t) {
    return vaddq_s32(vshlq_n_s32(vuzp2q_s32(s.first, s.second), 8), vuzp1q_s32(s.first, s.second));
  }
};
#endif

}  // namespace heed::simd
