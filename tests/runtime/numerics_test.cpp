// SPDX-License-Identifier: Apache-2.0
// numerics_test.cpp: the scalar pieces of SPEC.md, part 2, on every target; sweeps are pinned by a CRC, so that a
// board and a laptop agree on every bit of them.
#include "runtime/numerics.hpp"

#include "runtime/activation.hpp"
#include "tests/check.hpp"

#if defined(__linux__)
#include <cmath>
#endif

namespace {

using namespace heed;

// Any CRC will do here.
class Crc {
 public:
  void add(std::uint32_t word) {
    crc_ ^= word;
    for (int i = 0; i < 32; ++i) crc_ = (crc_ >> 1) ^ (crc_ & 1u ? 0x82F63B78u : 0u);
  }
  std::uint32_t value() const { return crc_; }

 private:
  std::uint32_t crc_ = ~0u;
};

const float kNan = float_of(0x7FC00000u), kInfinity = float_of(0x7F800000u);

}  // namespace

TEST_CASE("floats round to nearest even here", "[numerics]") {
  CHECK(float_mode_is_default());
  CHECK(products_are_rounded());
}

#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && defined(__ARM_FP)
TEST_CASE("another rounding mode is seen", "[numerics]") {
  const unsigned usual = __builtin_arm_get_fpscr();
  bool seen = true;
  for (unsigned mode = 1; mode < 4; ++mode) {
    __builtin_arm_set_fpscr(usual | mode << 22);
    seen = seen && !float_mode_is_default();
  }
  __builtin_arm_set_fpscr(usual);
  CHECK(seen);
  CHECK(float_mode_is_default());
}
#endif

TEST_CASE("rounding to integers", "[numerics]") {
  CHECK(round_to_int(0.5f) == 0);
  CHECK(round_to_int(1.5f) == 2);
  CHECK(round_to_int(-0.5f) == 0);
  CHECK(round_to_int(-1.5f) == -2);
  CHECK(round_to_int(-2.5f) == -2);
  CHECK(round_to_int(4194304.0f) == 4194304);
  CHECK(round_to_int(-4194304.0f) == -4194304);
  CHECK(to_s16(1e30f, 1.0f) == 32767);
  CHECK(to_s16(-1e30f, 1.0f) == -32767);
  CHECK(to_s16(kInfinity, 1.0f) == 32767);
  CHECK(to_s16(-kInfinity, 1.0f) == -32767);
  CHECK(to_s16(kNan, 1.0f) == 0);
  CHECK(to_s16(3.0f, 0.5f) == 2);
}

TEST_CASE("block floats", "[numerics]") {
  CHECK(block_float(bits_of(0.0f)).zero);
  CHECK(block_float(bits_of(kSmallest) - 1).zero);
  CHECK(block_float(1).zero);
  const BlockFloat smallest = block_float(bits_of(kSmallest));
  CHECK(!smallest.zero);
  CHECK(smallest.exponent == -39);
  CHECK(smallest.max == 16384);
  const BlockFloat largest = block_float(bits_of(kLargest));
  CHECK(largest.exponent == 41);
  CHECK(largest.max == 16384);
  const BlockFloat infinite = block_float(bits_of(kInfinity));
  CHECK(infinite.exponent == 41);
  CHECK(infinite.max == 32767);
  CHECK(block_float(bits_of(1.0f)).exponent == 1);
  CHECK(block_float(bits_of(1.0f) - 1).exponent == 0);
  CHECK(block_float(bits_of(1.0f) - 1).max == 32767);
  CHECK(magnitude_bits(-1.0f) == bits_of(1.0f));
  CHECK(magnitude_bits(kNan) == 0);
  CHECK(magnitude_bits(-kInfinity) == bits_of(kInfinity));
  // Whatever the exponent, the maximum has 15 bits.
  std::uint32_t wrong = 0;
  for (std::uint32_t u = bits_of(kSmallest); u < bits_of(kInfinity); u += 4099 * 37) {
    const BlockFloat b = block_float(u);
    wrong += b.zero || b.max < 16384 || b.max > 32767 || b.exponent < -39 || b.exponent > 41;
  }
  CHECK(wrong == 0);
}

TEST_CASE("quantisation never leaves -127..127", "[numerics]") {
  std::uint32_t wrong = 0;
  for (std::int32_t max = 16384; max <= 32767; ++max) {
    const std::int32_t r = reciprocal_127(max);
    wrong += quantize_s16(max, r) != 127 || quantize_s16(-max, r) != -127 || quantize_s16(0, r) != 0;
    // One more than the maximum: what an arithmetic shift makes of a negative one (SPEC.md 2.5).
    wrong += quantize_s16(-max - 1, r) < -127;
    wrong += quantize_s16(max / 2, r) < 63 || quantize_s16(max / 2, r) > 64;
  }
  CHECK(wrong == 0);
}

TEST_CASE("scales of activations", "[numerics]") {
  CHECK(activation_scale(kSmallestScale) == kSmallestScale);
  CHECK(activation_scale(float_of(bits_of(kSmallestScale) - 1)) == 0.0f);
  CHECK(activation_scale(kLargest) == kLargest);
  CHECK(activation_scale(kInfinity) == kLargest);
  CHECK(activation_scale(kNan) == 0.0f);
  CHECK(snap(kSmallest) == kSmallest);
  CHECK(bits_of(snap(-kSmallest)) == bits_of(-kSmallest));
  CHECK(bits_of(snap(-float_of(bits_of(kSmallest) - 1))) == 0);
  CHECK(pow2_or_zero(-30) == float_of(97u << 23));
  CHECK(pow2_or_zero(-31) == 0.0f);
  CHECK(pow2_or_zero(-20000000) == 0.0f);
  CHECK(pow2(127) == 1.7014118346046923e38f);
  CHECK(exponent_of(1.0f) == 1);
  CHECK(exponent_of(0.75f) == 0);
}

TEST_CASE("bit lengths", "[numerics]") {
  std::uint32_t wrong = bit_length(0) != 0;
  for (int n = 0; n < 32; ++n) {
    wrong += bit_length(1u << n) != n + 1;
    wrong += bit_length((1u << n) | ((1u << n) - 1)) != n + 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("sine and cosine", "[numerics]") {
  CHECK(sin_cos(0).sine == 0);
  CHECK(sin_cos(0).cosine == 32767);
  CHECK(sin_cos(0x40000000u).sine == 32767);
  CHECK(sin_cos(0x40000000u).cosine == 0);
  CHECK(sin_cos(0x80000000u).cosine == -32767);
  CHECK(sin_cos(0xC0000000u).sine == -32767);
  Crc crc;
  std::uint32_t wrong = 0;
  for (std::uint32_t i = 0; i < 1u << 14; ++i) {
    const std::uint32_t phase = i * 262147u;  // all the way round, off the grid of the table
    const SinCos a = sin_cos(phase), b = sin_cos(0u - phase);
    crc.add(static_cast<std::uint32_t>(a.sine) << 16 ^ static_cast<std::uint16_t>(a.cosine));
    wrong += a.cosine != b.cosine || a.sine != -b.sine;
#if defined(__linux__)
    const double angle = phase * (6.283185307179586 / 4294967296.0);
    wrong += std::abs(a.sine - 32767.0 * std::sin(angle)) > 2.0;
    wrong += std::abs(a.cosine - 32767.0 * std::cos(angle)) > 2.0;
#endif
  }
  CHECK(wrong == 0);
  CHECK(crc.value() == 0xF57E0E91u);
}

TEST_CASE("square roots", "[numerics]") {
  Crc crc;
  std::uint32_t wrong = 0;
  const auto check = [&](std::uint32_t u) {
    const float root = square_root_in_integers(float_of(u));
    wrong += bits_of(root) != bits_of(square_root(float_of(u)));
    return bits_of(root);
  };
  // Two neighbouring binades are all there is: an even exponent more only shifts the result.
  for (std::uint32_t u = 0x3F800000u; u < 0x40800000u; u += 1021) crc.add(check(u));
  // Every binade, at its ends and beside squares.
  for (std::uint32_t e = 1; e < 255; ++e)
    for (const std::uint32_t m : {0u, 1u, 2u, 0x3FFFFFu, 0x400000u, 0x7FFFFEu, 0x7FFFFFu}) crc.add(check(e << 23 | m));
  for (std::uint32_t i = 4096; i < 8192; i += 3) {
    const auto square = static_cast<float>(i * 2u) * static_cast<float>(i * 2u);
    for (const std::uint32_t off : {0u, 1u, 0xFFFFFFFFu}) crc.add(check(bits_of(square) + off));
  }
  CHECK(wrong == 0);
  CHECK(crc.value() == 0xB48028DBu);
#if defined(__linux__)
  for (std::uint32_t u = 0x3F800000u; u < 0x40800000u; u += 3)
    wrong += bits_of(square_root_in_integers(float_of(u))) != bits_of(std::sqrt(float_of(u)));
  CHECK(wrong == 0);
#endif
}

TEST_CASE("the exponential for sampling", "[numerics]") {
  CHECK(exp_f32(0.0f) == 1.0f);
  CHECK(bits_of(exp_f32(-1000.0f)) == bits_of(exp_f32(-87.0f)));
  CHECK(bits_of(exp_f32(kNan)) == bits_of(exp_f32(-87.0f)));
  CHECK(bits_of(exp_f32(kInfinity)) == bits_of(exp_f32(88.0f)));
  Crc crc;
  for (std::int32_t i = -87 * 64; i <= 88 * 64; ++i) crc.add(bits_of(exp_f32(static_cast<float>(i) * 0.015625f)));
  CHECK(crc.value() == 0x891C968Fu);
}

TEST_CASE("the tables", "[numerics]") {
  Crc crc;
  std::uint32_t wrong = 0;
  for (int k = 0; k < 256; ++k) {
    const std::int32_t t = (kExp2High[k >> 4] * kExp2Low[k & 15] + (1 << 14)) >> 15;
    crc.add(static_cast<std::uint32_t>(t));
    const std::int32_t next =
        k == 255 ? kExp2High[0] / 2 - 1 : (kExp2High[(k + 1) >> 4] * kExp2Low[(k + 1) & 15] + (1 << 14)) >> 15;
    wrong += t <= next;
#if defined(__linux__)
    wrong += std::abs(t - 32640.0 * std::exp2(-k / 256.0)) > 2.0;
#endif
  }
  for (int k = 0; k < 256; ++k) {
    crc.add(kSigmoid[k]);
    wrong += kSigmoid[k + 1] < kSigmoid[k];
#if defined(__linux__)
    wrong += kSigmoid[k] != std::lround(32767.0 / (1.0 + std::exp(-k / 16.0)));
#endif
  }
  for (int k = 0; k <= 256; ++k) {
    crc.add(static_cast<std::uint32_t>(kGeluQuick[k]) << 16 | kTanh[k]);
    wrong += k != 256 && (kGeluQuick[k + 1] < kGeluQuick[k] || kTanh[k + 1] < kTanh[k]);
#if defined(__linux__)
    wrong += kGeluQuick[k] != std::lround(32767.0 / (1.0 + std::exp(-1.702 * k / 16.0)));
    wrong += kTanh[k] != std::lround(32767.0 * std::tanh(k / 16.0));
#endif
  }
  CHECK((kExp2High[0] * kExp2Low[0] + (1 << 14)) >> 15 == 32639);
  CHECK(kSigmoid[256] == 32767);
  CHECK(wrong == 0);
  CHECK(crc.value() == 0x3CCEA732u);
}

namespace {

constexpr Activation kActivations[] = {Activation::relu, Activation::gelu_tanh,  Activation::gelu_erf,
                                       Activation::silu, Activation::gelu_quick, Activation::tanh};

#if defined(__linux__)
double exact(Activation a, double x) {
  switch (a) {
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::gelu_tanh: return x * 0.5 * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf: return x * 0.5 * (1 + std::erf(x * 0.7071067811865476));
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu_quick: return x / (1 + std::exp(-1.702 * x));
    case Activation::tanh: return std::tanh(x);
    case Activation::none: break;
  }
  return x;
}
#endif

}  // namespace

TEST_CASE("activations of floats", "[numerics]") {
  constexpr std::uint32_t kCount = 401;
  float x[kCount];
  Crc crc;
  std::uint32_t wrong = 0;
  for (const Activation a : kActivations) {
    if (check_activation(a) != Status::ok) continue;
    for (const float step : {0.001f, 0.015f, 0.1f, 3.0f}) {
      for (std::uint32_t i = 0; i < kCount; ++i) x[i] = static_cast<float>(static_cast<std::int32_t>(i) - 200) * step;
#if defined(__linux__)
      // The block float's last place, and the table's between its entries.
      const double near = step * 200.0 / 16384.0 + (a == Activation::tanh ? 5e-4 : 5e-4 * step * 200.0);
#endif
      activate(x, kCount, a);
      for (std::uint32_t i = 0; i < kCount; ++i) {
        crc.add(bits_of(x[i]));
#if defined(__linux__)
        const double in = static_cast<float>(static_cast<std::int32_t>(i) - 200) * step;
        wrong += std::abs(x[i] - exact(a, in)) > near;
#endif
      }
      if (a == Activation::tanh)
        for (std::uint32_t i = 0; i <= 200; ++i) wrong += x[i] != -x[kCount - 1 - i];
    }
  }
  CHECK(wrong == 0);
  if (kBuiltFeatures.relu && kBuiltFeatures.gelu && kBuiltFeatures.gelu_quick) CHECK(crc.value() == 0x0D0F3ADDu);

  float none[] = {3.0f, kNan, -0.0f};
  activate(none, 3, Activation::none);
  CHECK((none[0] == 3.0f && none[1] != none[1] && bits_of(none[2]) == 0x80000000u));
  // Zero, NaN, and what only a neighbour of its size makes zero; all of them without a sign.
  for (const Activation a : {Activation::silu, Activation::tanh}) {
    float small[] = {-9.0e-13f, kNan, -0.0f}, large[] = {-kInfinity, kNan, 1.0f, 2.0e12f};
    activate(small, 3, a);
    CHECK((bits_of(small[0]) | bits_of(small[1]) | bits_of(small[2])) == 0);
    activate(large, 4, a);
    CHECK(large[0] == (a == Activation::tanh ? -float_of(0x3F7FFE00u) : 0.0f));
    CHECK((bits_of(large[1]) == 0 && bits_of(large[2]) == 0));
    CHECK(large[3] == (a == Activation::tanh ? float_of(0x3F7FFE00u) : 29801.0f * 67108864.0f));
  }
}
