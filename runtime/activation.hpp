// SPDX-License-Identifier: Apache-2.0
// activation.hpp: the functions that bend a vector between two products; SPEC.md 2.5.
#pragma once
#include <cstdint>

#include "runtime/features.hpp"
#include "runtime/status.hpp"

namespace heed {

enum class Activation : std::uint8_t {
  relu = 0,
  gelu_tanh = 1,
  gelu_erf = 2,
  silu = 3,
  gelu_quick = 4,  // x * sigmoid(1.702 x)
  tanh = 5,        // not in a feed-forward layer: it is no factor of its argument
  none = 6
};

// feature_not_built where this build leaves the function's table out, bad_config for a number that is none of them.
constexpr Status check_activation(Activation a) {
  switch (a) {
    case Activation::relu: return kBuiltFeatures.relu ? Status::ok : Status::feature_not_built;
    case Activation::gelu_tanh:
    case Activation::gelu_erf: return kBuiltFeatures.gelu ? Status::ok : Status::feature_not_built;
    case Activation::gelu_quick: return kBuiltFeatures.gelu_quick ? Status::ok : Status::feature_not_built;
    case Activation::silu:
    case Activation::tanh:
    case Activation::none: return Status::ok;
  }
  return Status::bad_config;
}

// The factor F of an activation x * F(x), for gate_s8r_f32; `a` is built and neither tanh nor none.
const std::uint16_t* activation_factor(Activation a);

// x[n] becomes the activation of each element, as floats; `a` is built. The n elements are one vector: they share the
// exponent of their largest magnitude (SPEC.md 2.2), a NaN counts as 0 and a vector below 2^-40 becomes +0. `none` leaves x
// as it is. Each call works on n elements in about the time of two multiplications each; nothing can fail.
void activate(float* x, std::uint32_t n, Activation a);

}  // namespace heed
