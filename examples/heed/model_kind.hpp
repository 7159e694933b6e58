// SPDX-License-Identifier: Apache-2.0
// model_kind.hpp: what a model is for, and so which command runs it.
#pragma once
#include "examples/heed/host_session.hpp"

namespace heed::tool {

enum class ModelKind {
  decoder,     // continues a text: heed run
  encoder,     // gives out what it reads as numbers, alone or beside a source: heed encode
  translator,  // writes a text for a source: heed translate
};

constexpr ModelKind kind_of(const ModelConfig& config) {
  if (config.main().use == Use::encode) return ModelKind::encoder;
  return config.n_stacks == 2 ? ModelKind::translator : ModelKind::decoder;
}

// Refuses a model of another kind, and names the command that runs it.
void require_kind(const LoadedModel& loaded, ModelKind wanted);

}  // namespace heed::tool
