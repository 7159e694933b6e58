// SPDX-License-Identifier: Apache-2.0
// encoder_decoder.hpp: what BART, Marian and Whisper share: the sizes of two stacks, and the names of their layers' tensors.
#pragma once
#include "quant/readers/family.hpp"

namespace heed::quant {

// Layer norm, no gate, biases everywhere, token embedding tied, and d_model, layers, heads and d_ff of both stacks. The second
// has cross-attention to the first. Norms stand before the sublayers with a last one behind them, or behind each.
void read_two_stacks(Family& f, NormPlacement placement);
// scale_embedding, for a stack of tokens.
void read_embedding_scale(FamilyConfig& in, StackConfig& c);
// The layers of a stack; `prefix` is "model.encoder." or "model.decoder.".
void take_layers(Family& f, std::uint32_t stack, const std::string& prefix);

}  // namespace heed::quant
