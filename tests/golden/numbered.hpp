// SPDX-License-Identifier: Apache-2.0
// numbered.hpp: the order in which tensors take their numbers from a generator. It is that of the first image format and
// stays whatever the directory's order is, so that the logits of the golden images, and digests in tests, stay too.
#pragma once
#include <algorithm>
#include <vector>

#include "runtime/model.hpp"

namespace heed::golden {

struct NumberedTensor {
  Role role;
  std::uint32_t layer, stack;
};

// Roles of later formats come behind these, in their own order.
inline int number_of(Role role) {
  constexpr Role kFirst[] = {Role::token_embedding, Role::rotary_phases, Role::position_embedding, Role::attention_gain,
                             Role::w_query, Role::w_key, Role::w_value_down, Role::w_value_up, Role::key_offset,
                             Role::ffn_gain, Role::w_gate, Role::w_up, Role::w_down, Role::attention_norm_bias,
                             Role::ffn_norm_bias, Role::final_gain, Role::unembedding, Role::final_norm_bias};
  const Role* const at = std::find(std::begin(kFirst), std::end(kFirst), role);
  return at == std::end(kFirst) ? 100 + static_cast<int>(role) : static_cast<int>(at - kFirst);
}

inline std::vector<NumberedTensor> numbered_tensors(const ModelConfig& config) {
  std::vector<NumberedTensor> list;
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack)
    for_each_slot(config.stacks[stack], [&](const TensorSlot& s) { list.push_back({s.role, s.layer, stack}); });
  // Before the layers, layer by layer, behind them.
  const auto place = [](const NumberedTensor& t) { return is_per_layer(t.role) ? 1 : part_of(t.role) == Part::input ? 0 : 2; };
  std::stable_sort(list.begin(), list.end(), [&](const NumberedTensor& a, const NumberedTensor& b) {
    if (a.stack != b.stack) return a.stack < b.stack;
    if (place(a) != place(b)) return place(a) < place(b);
    if (a.layer != b.layer) return a.layer < b.layer;
    return number_of(a.role) < number_of(b.role);
  });
  return list;
}

}  // namespace heed::golden
