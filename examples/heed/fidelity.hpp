// SPDX-License-Identifier: Apache-2.0
// fidelity.hpp: how far an image is from its float model, as `heed quantize` prints it.
#pragma once
#include "examples/heed/output.hpp"
#include "quant/convert.hpp"

namespace heed::tool {

void put_fidelity(Json& json, const quant::QuantizeReport& report, const ModelConfig& config);
void print_fidelity(const quant::QuantizeReport& report, const ModelConfig& config);
// On standard error, where the image is further from its float model than kFarFromFloat.
void warn_if_far(const quant::Fidelity& measured);

}  // namespace heed::tool
