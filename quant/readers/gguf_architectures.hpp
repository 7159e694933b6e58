// SPDX-License-Identifier: Apache-2.0
// gguf_architectures.hpp: what `general.architecture` says: one small function for each, from its keys and from which
// tensors there are to the description of one or two stacks.
#pragma once
#include <string>
#include <vector>

#include "quant/readers/gguf_fields.hpp"
#include "quant/readers/gguf_tensors.hpp"

namespace heed::quant {

// What a function fills. Tensors come by gguf_tensors.cpp's names.
struct GgufDescription {
  GgufFields& in;
  GgufTensors& tensors;
  Error& error;
  ModelConfig config{};
  StackExtras extras[kMaxStacks] = {};
  std::string prefixes[kMaxStacks] = {};       // of the tensors' names
  std::vector<float> rope_factors = {};        // of the main stack, [rotary_dims / 2] or none
  std::uint32_t first_token = kNoSourceToken;  // that a generated text begins with, where it is not BOS
  const char* classes = nullptr;               // key behind the architecture's name of the outputs' names
  double final_gain_factor = 1.0;              // of the main stack

  StackConfig& c() { return config.main(); }
  StackExtras& x() { return extras[config.count() - 1]; }
};

struct GgufArchitecture {
  const char* name;
  void (*describe)(GgufDescription& d);  // null: refused
  const char* why_not;                   // then
};

// Null for a name that no row has.
const GgufArchitecture* find_architecture(const std::string& name);
// "llama, qwen2, ...": what is read.
std::string architectures_read();

// ---- What the functions share ----

// Sizes, heads, the epsilon of c.norm, which must be set, and the usual scale of scores.
void describe_sizes(GgufDescription& d, StackConfig& c);
// Logits over the vocabulary, by a matrix of their own where the file has one; biases as the file has them.
void describe_decoder(GgufDescription& d);
void describe_rope(GgufDescription& d, RotaryPairing pairing);
// attention.sliding_window in every layer.
void describe_window(GgufDescription& d);

// gguf_decoders.cpp
void describe_llama(GgufDescription& d);
void describe_qwen2(GgufDescription& d);
void describe_qwen3(GgufDescription& d);
void describe_gemma(GgufDescription& d);
void describe_gemma3(GgufDescription& d);
void describe_phi2(GgufDescription& d);
void describe_phi3(GgufDescription& d);
void describe_gpt2(GgufDescription& d);
void describe_gptneox(GgufDescription& d);
void describe_bloom(GgufDescription& d);
// gguf_encoders.cpp
void describe_bert(GgufDescription& d);
void describe_t5(GgufDescription& d);
void describe_t5encoder(GgufDescription& d);

}  // namespace heed::quant
