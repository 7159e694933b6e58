// SPDX-License-Identifier: Apache-2.0
// float_math.cpp: activations in double, without libm.
#include "quant/float_math.hpp"

#include "quant/double_math.hpp"

namespace heed::quant {

float activate(Activation activation, float v) {
  const double x = v;
  switch (activation) {
    case Activation::none: return v;
    case Activation::relu: return v > 0.0f ? v : 0.0f;
    case Activation::tanh: return static_cast<float>(tanh_double(x));
    case Activation::gelu_tanh: {
      constexpr double kSqrt2OverPi = 0.7978845608028654;
      return static_cast<float>(0.5 * x * (1.0 + tanh_double(kSqrt2OverPi * (x + 0.044715 * x * x * x))));
    }
    case Activation::gelu_erf: return static_cast<float>(0.5 * x * (1.0 + erf_double(x * 0.7071067811865476)));
    case Activation::gelu_quick: return static_cast<float>(x / (1.0 + exp_double(-1.702 * x)));
    case Activation::silu: break;
  }
  return static_cast<float>(x / (1.0 + exp_double(-x)));
}

}  // namespace heed::quant
