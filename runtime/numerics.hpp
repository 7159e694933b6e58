// SPDX-License-Identifier: Apache-2.0
// numerics.hpp: the scalar pieces of SPEC.md, part 2, that every kernel table and the runtime share.
#pragma once
#include <cfloat>
#include <cstdint>
#include <cstring>

#include "runtime/bits.hpp"

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "heed's answer is one only without -ffast-math and -ffinite-math-only; see SPEC.md, part 2"
#endif

namespace heed {

static_assert(FLT_EVAL_METHOD == 0, "heed needs float operations that round to float");
static_assert(FLT_RADIX == 2 && FLT_MANT_DIG == 24, "heed needs IEEE-754 binary32");

inline constexpr float kSmallest = 9.094947017729282e-13f;  // 2^-40: smaller activations count as zero
inline constexpr float kLargest = 1.099511627776e12f;       // 2^40: larger activations saturate
inline constexpr float kSmallestScale = 8.881784197001252e-16f;  // 2^-50
inline constexpr float kInverse127 = 1.0f / 127.0f;
inline constexpr float kRoundToInt = 12582912.0f;           // 1.5 * 2^23
inline constexpr std::int32_t kMaxS16 = 32767;

// 2^e, for -126 <= e <= 127.
inline float pow2(int e) { return float_of(static_cast<std::uint32_t>(e + 127) << 23); }

// 2^e for e >= -30, else exactly 0: the merge factor of two attention blocks.
inline float pow2_or_zero(int e) { return e < -30 ? 0.0f : pow2(e); }

// The e with 2^(e-1) <= m < 2^e, for a normal positive m.
inline int exponent_of(float m) { return static_cast<int>(bits_of(m) >> 23) - 126; }

// Round to nearest even of |x| <= 2^22.
inline std::int32_t round_to_int(float x) {
  return static_cast<std::int32_t>(bits_of(x + kRoundToInt) - 0x4B400000u);
}

// round(x * scale) clamped to +-32767; a NaN gives 0. `scale` is a power of two.
inline std::int32_t to_s16(float x, float scale) {
  float y = x * scale;
  y = y > 32767.0f ? 32767.0f : y;
  y = y < -32767.0f ? -32767.0f : y;
  y = y == y ? y : 0.0f;
  return round_to_int(y);
}

// The magnitude that a vector's maximum is tracked with: |x| as ordered bits, NaN as 0.
inline std::uint32_t magnitude_bits(float x) {
  const std::uint32_t u = bits_of(x) & 0x7FFFFFFFu;
  return u > 0x7F800000u ? 0u : u;
}

// The shared exponent of a vector whose largest magnitude is `max_bits`: value = s16 * 2^(exponent - 15).
struct BlockFloat {
  bool zero;           // every element counts as zero
  int exponent;        // in [-39, 41]
  float to_s16_scale;  // 2^(15 - exponent)
  std::int32_t max;    // largest |s16|, in [16384, 32767]
};

inline BlockFloat block_float(std::uint32_t max_bits) {
  const float m = float_of(max_bits);
  if (!(m >= kSmallest)) return {true, -39, 0.0f, 0};
  const int e = m > kLargest ? 41 : exponent_of(m);
  const float scale = pow2(15 - e);
  return {false, e, scale, to_s16(m, scale)};
}

// Reciprocal for q = (x * reciprocal + 2^21) >> 22, which maps +-max to +-127. 16384 <= max <= 32767.
inline std::int32_t reciprocal_127(std::int32_t max) { return ((127 << 22) + (max >> 1)) / max; }

inline std::int32_t quantize_s16(std::int32_t x, std::int32_t reciprocal) {
  return (x * reciprocal + (1 << 21)) >> 22;
}

// The float scale of a quantised activation vector: what is below 2^-50 counts as zero, what is above 2^40 saturates.
inline float activation_scale(float s) {
  if (!(s >= kSmallestScale)) return 0.0f;
  return s > kLargest ? kLargest : s;
}

inline float snap(float x) { return (bits_of(x) & 0x7FFFFFFFu) < 0x2B800000u ? 0.0f : x; }

// Number of bits of v: 0 for 0, 32 for 2^31 and above.
inline int bit_length(std::uint32_t v) {
  int n = 0;
  if (v >> 16) { n += 16; v >>= 16; }
  if (v >> 8) { n += 8; v >>= 8; }
  if (v >> 4) { n += 4; v >>= 4; }
  if (v >> 2) { n += 2; v >>= 2; }
  return n + static_cast<int>(v > 1 ? 2 : v);
}

inline std::int32_t magnitude(std::int32_t x) { return x < 0 ? -x : x; }

float square_root_in_integers(float x);

// IEEE square root of a normal x > 0, correctly rounded. Cores without an FPU use integers (square_root.cpp).
#if defined(__arm__) && !defined(__ARM_FP)
float square_root(float x);
#else
inline float square_root(float x) { return __builtin_sqrtf(x); }
#endif

struct SinCos {
  std::int16_t cosine, sine;  // Q15, peak 32767
};
// Of a phase of 2^32 per turn. Error below 2^-14.
SinCos sin_cos(std::uint32_t phase);

// e^x for sampling: relative error at most 1.8196e-7 for x <= 0, 1.8216e-7 up to 87; x below -87 counts as -87, NaN as
// well.
float exp_f32(float x);

// True when floats round to nearest even here and now. (Whether denormals are flushed changes no result.) A few
// instructions, so that every call that computes can ask.
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#ifdef __ARM_FP
inline bool float_mode_is_default() { return (__builtin_arm_get_fpscr() >> 22 & 3u) == 0; }  // FPSCR.RMode
#else
inline bool float_mode_is_default() { return true; }  // by software
#endif
#else
bool float_mode_is_default();
#endif

// True when a product is rounded before something is added to it: when the compiler did not fuse the two.
#if defined(__arm__) && !defined(__ARM_FP)
inline bool products_are_rounded() { return true; }
#else
bool products_are_rounded();
#endif

// kExp2High[i] * kExp2Low[j] is 2^-((16 i + j)/256) in Q15; SPEC.md 2.6.
// round(32640 * 2^(-i/16)); the peak is 127 * 257, so that a probability splits into two signed bytes.
inline constexpr std::int16_t kExp2High[16] = {
    32640, 31256, 29931, 28662, 27447, 26283, 25169, 24102, 23080, 22101, 21164, 20267, 19408, 18585, 17797, 17043};

// round(32767 * 2^(-i/256))
inline constexpr std::int16_t kExp2Low[16] = {
    32767, 32678, 32590, 32502, 32414, 32326, 32239, 32152, 32065, 31978, 31892, 31805, 31719, 31634, 31548, 31463};

// One factor of a gate activation over 0 <= a <= 16 in steps of 1/16, Q15; F(-a) = 32767 - F(a).
extern const std::uint16_t kSigmoid[257];
extern const std::uint16_t kGeluTanh[257];
extern const std::uint16_t kGeluErf[257];
extern const std::uint16_t kStep[257];
extern const std::uint16_t kGeluQuick[257];
// tanh itself over the same arguments, Q15; T(-a) = -T(a). No factor of a gate.
extern const std::uint16_t kTanh[257];

}  // namespace heed
