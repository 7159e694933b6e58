// SPDX-License-Identifier: Apache-2.0
// checkpoints.hpp: float models as the bytes of llama2.c checkpoints.
#pragma once
#include <cmath>
#include <cstring>
#include <vector>

#include "quant/source.hpp"
#include "tests/golden/tiny.hpp"
#include "tests/support/images.hpp"

namespace heed::test {

inline StackConfig small_config(bool tied) {
  StackConfig c = llama_config(24, 40, 2, 4, 2, 6, 30, 16);
  c.attention_scale = 0.40824828f;  // 1 / sqrt(6)
  c.tied_unembedding = tied;
  return c;
}

// The file that llama2.c's export.py writes for `model`; version 0 or 1. The tables of version 0 are those of `theta`,
// with positions divided by `scale`, in float32 as PyTorch computes them; theta 0 leaves them 0.
inline std::vector<std::uint8_t> checkpoint_bytes(const quant::FloatModel& model, int version, double theta = 10000.0,
                                                  float scale = 1.0f) {
  const StackConfig& c = model.config.main();
  std::vector<std::uint8_t> bytes;
  const auto put = [&bytes](const void* data, std::size_t n) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    bytes.insert(bytes.end(), p, p + n);
  };
  const auto vocab = static_cast<std::int32_t>(c.vocab_size);
  const std::int32_t sizes[7] = {static_cast<std::int32_t>(c.d_model),  static_cast<std::int32_t>(c.d_ff),
                                 static_cast<std::int32_t>(c.n_layers), static_cast<std::int32_t>(c.n_heads),
                                 static_cast<std::int32_t>(c.n_kv_heads),
                                 version == 0 && !c.tied_unembedding ? -vocab : vocab,
                                 static_cast<std::int32_t>(c.max_seq)};
  if (version == 0) {
    put(sizes, sizeof sizes);
  } else {
    const std::int32_t start[2] = {0x616B3432, version};
    put(start, sizeof start);
    put(sizes, sizeof sizes);
    bytes.push_back(c.tied_unembedding);
    bytes.resize(256);
  }
  const auto put_all = [&](Role role) {
    const bool global = role == Role::token_embedding || role == Role::final_gain || role == Role::unembedding;
    for (std::uint32_t layer = 0; layer < (global ? 1 : c.n_layers); ++layer) {
      const TensorSlot slot = tensor_slot(c, role, layer);
      put(model.read(role, layer).data(), 4 * std::size_t{slot.rows} * slot.cols);
    }
  };
  if (version == 0) {
    for (const Role role : {Role::token_embedding, Role::attention_gain, Role::w_query, Role::w_key, Role::w_value_down,
                            Role::w_value_up, Role::ffn_gain, Role::w_gate, Role::w_down, Role::w_up, Role::final_gain})
      put_all(role);
    for (const bool is_sine : {false, true}) {
      for (std::uint32_t position = 0; position < c.max_seq; ++position) {
        for (std::uint32_t i = 0; i < c.head_dim / 2; ++i) {
          const float frequency = theta > 0.0 ? static_cast<float>(std::pow(theta, -2.0 * i / c.head_dim)) : 0.0f;
          const float angle = static_cast<float>(position) / scale * frequency;
          const float entry = theta <= 0.0 ? 0.0f : is_sine ? std::sin(angle) : std::cos(angle);
          put(&entry, sizeof entry);
        }
      }
    }
  } else {
    for (const Role role :
         {Role::attention_gain, Role::ffn_gain, Role::final_gain, Role::token_embedding, Role::w_query, Role::w_key,
          Role::w_value_down, Role::w_value_up, Role::w_gate, Role::w_down, Role::w_up})
      put_all(role);
  }
  if (!c.tied_unembedding) put_all(Role::unembedding);
  return bytes;
}

}  // namespace heed::test
