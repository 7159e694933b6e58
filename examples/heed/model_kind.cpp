// SPDX-License-Identifier: Apache-2.0
// model_kind.cpp: one sentence per kind.
#include "examples/heed/model_kind.hpp"

#include "examples/heed/refusal.hpp"

namespace heed::tool {

void require_kind(const LoadedModel& loaded, ModelKind wanted) {
  const ModelKind kind = kind_of(loaded.model.config());
  if (kind == wanted) return;
  switch (kind) {
    case ModelKind::decoder:
      refuse(loaded.path, "the model continues a text and reads no other one; `heed run` runs it");
    case ModelKind::encoder:
      refuse(loaded.path, "the model gives out numbers for what it reads and writes no text; `heed encode` runs it");
    case ModelKind::translator: refuse(loaded.path, "the model writes a text for a source; `heed translate` runs it");
  }
}

}  // namespace heed::tool
