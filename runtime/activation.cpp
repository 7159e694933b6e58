// SPDX-License-Identifier: Apache-2.0
// activation.cpp: activations of floats; those of a gated product are the tables' (gate_s8r_f32).
#include "runtime/one_rounding.hpp"

#include "runtime/activation.hpp"

#include "runtime/numerics.hpp"

namespace heed {

const std::uint16_t* activation_factor(Activation a) {
  if (kBuiltFeatures.gelu && a == Activation::gelu_tanh) return kGeluTanh;
  if (kBuiltFeatures.gelu && a == Activation::gelu_erf) return kGeluErf;
  if (kBuiltFeatures.gelu_quick && a == Activation::gelu_quick) return kGeluQuick;
  if (kBuiltFeatures.relu && a == Activation::relu) return kStep;
  return kSigmoid;
}

void activate(float* x, std::uint32_t n, Activation a) {
  if (a == Activation::none) return;
  std::uint32_t max_bits = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t m = magnitude_bits(x[i]);
    if (m > max_bits) max_bits = m;
  }
  const BlockFloat block = block_float(max_bits);
  if (block.zero) {
    for (std::uint32_t i = 0; i < n; ++i) x[i] = 0.0f;
    return;
  }
  const bool odd = a == Activation::tanh;
  const std::uint16_t* const table = odd ? kTanh : activation_factor(a);
  const float unit = odd ? pow2(-15) : pow2(block.exponent - 15);
  // |s| * 2^(e - 3) is |x| in Q12. Beyond 16 places |s| >= 1 is past the table's end anyway, and below -30 it is 0.
  const int left = block.exponent - 3 < 16 ? block.exponent - 3 : 16, right = -left < 31 ? -left : 31;
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::int32_t s = to_s16(x[i], block.to_s16_scale);
    const auto size = static_cast<std::uint32_t>(magnitude(s));
    std::uint32_t level = left >= 0 ? size << left : size >> right;
    if (level > 65535) level = 65535;
    const std::int32_t low = table[level >> 8], high = table[(level >> 8) + 1];
    std::int32_t f = low + (((high - low) * static_cast<std::int32_t>(level & 255) + 128) >> 8);
    if (odd) {
      f = s < 0 ? -f : f;
    } else {
      if (s < 0) f = kMaxS16 - f;
      f = (s * f + (1 << 14)) >> 15;
    }
    x[i] = static_cast<float>(f) * unit;
  }
}

}  // namespace heed
