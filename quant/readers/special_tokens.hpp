// SPDX-License-Identifier: Apache-2.0
// special_tokens.hpp: the tokens that begin and end what a model generates, and those that it never picks.
#pragma once
#include "quant/readers/json.hpp"
#include "quant/source.hpp"

namespace heed::quant {

// Sets bos, eos and generation where the files have them; `generation` is generation_config.json or an empty object, and goes
// before `config`. Precondition: model.config is whole.
Error read_special_tokens(FloatModel& model, const Json& generation, const Json& config);

}  // namespace heed::quant
