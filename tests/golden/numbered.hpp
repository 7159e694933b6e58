// SPDX-License-Identifier: Apache-2.0
// numbered.hpp: tensors of a model that nobody trained, and the order in which they take their numbers from a generator. It is that of the first image format and
// stays whatever the directory's order is, so that the logits of the golden images, and digests in tests, stay too.
#pragma once
#include <algorithm>
#include <vector>

#include "quant/image_writer.hpp"
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

struct KeyOffsets {
  std::vector<std::int16_t> values;
  std::vector<std::int8_t> exponents;
};

// Puts every tensor of a model into its section, in that order. `draw` makes one of each type, for the tensor `e`, whose shape
// `slot` has: matrix (QuantizedMatrix), floats and phases ([cols]), score_bias ([rows, cols]) and key_offsets.
template <class Draw>
void fill(quant::TensorSection& tensors, const ModelConfig& config, Draw&& draw) {
  for (const NumberedTensor& e : numbered_tensors(config)) {
    const TensorSlot slot = tensors.slot(e.role, e.layer, e.stack);
    switch (slot.type) {
      case ElementType::s8: tensors.put(e.role, e.layer, draw.matrix(e, slot), e.stack); break;
      case ElementType::f32: tensors.put_floats(e.role, e.layer, draw.floats(e, slot).data(), e.stack); break;
      case ElementType::u32: tensors.put_phases(draw.phases(e, slot), e.role, e.stack); break;
      case ElementType::s32: tensors.put_score_bias(draw.score_bias(e, slot), e.stack); break;
      case ElementType::s16: {
        const KeyOffsets offsets = draw.key_offsets(e, slot);
        tensors.put_key_offset(e.layer, offsets.values, offsets.exponents, e.role, e.stack);
        break;
      }
      case ElementType::s4: break;  // no tensor has it
    }
  }
}

}  // namespace heed::golden
