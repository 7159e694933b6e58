// SPDX-License-Identifier: Apache-2.0
// features.hpp: which optional parts of the runtime a build carries. What is not built costs no flash; an image that needs
// it is refused with feature_not_built.
#pragma once

namespace heed {

struct Features {
  bool groups = true;       // group multipliers on weights, powers of two on activations
  bool biases = true;       // of matrices
  bool ungated = true;      // a feed-forward layer without a gate
  bool key_offset = true;   // a constant taken from every key before it is quantised
  bool pattern_tap = true;  // handing out attention weights
  bool layer_norm = true;   // beside RMS norm
  bool learned_positions = true;  // beside rotary ones
  bool gelu = true;         // beside SiLU
  bool relu = true;
  bool threads = true;      // the Parallel hook
  bool sampling = true;     // picking by chance, beside picking the largest logit
  // How large the kernels are; no image needs these two.
  bool speed = true;        // larger kernels where a table has smaller ones as well: several tokens or queries together
  bool unrolled = true;     // beside speed, kernels that are larger again for some percent
};

inline constexpr Features kAllFeatures{};
// What a decoder of the Llama family with one scale per row takes on one core, as `heed quantize` writes it.
inline constexpr Features kLlamaFeatures = [] {
  Features f;
  f.groups = f.biases = f.ungated = f.pattern_tap = f.layer_norm = f.learned_positions = false;
  f.gelu = f.relu = f.threads = f.unrolled = false;
  return f;
}();
// The smallest: the program picks its tokens itself.
inline constexpr Features kDecoderFeatures = [] {
  Features f = kLlamaFeatures;
  f.sampling = f.speed = false;
  return f;
}();

// A firmware that carries less says so once for its whole program, e.g. -DHEED_FEATURES=kLlamaFeatures.
#ifndef HEED_FEATURES
#define HEED_FEATURES kAllFeatures
#endif
inline constexpr Features kBuiltFeatures = HEED_FEATURES;

}  // namespace heed
