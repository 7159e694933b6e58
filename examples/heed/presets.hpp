// SPDX-License-Identifier: Apache-2.0
// presets.hpp: well-known models by name, to plan for without having them.
#pragma once
#include <string>
#include <vector>

#include "runtime/config.hpp"

namespace heed::tool {

struct Preset {
  const char* name;
  StackConfig config;
  bool matrices_only = false;  // its familiar count leaves gains, biases and positions out
};

const std::vector<Preset>& presets();
// "stories260k, llama2c-15m, ..."
std::string preset_names();

}  // namespace heed::tool
