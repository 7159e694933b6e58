// SPDX-License-Identifier: Apache-2.0
// gguf_models.hpp: models out of GGUF files, by the architecture that they name.
#pragma once
#include "quant/readers/gguf.hpp"
#include "quant/source.hpp"

namespace heed::quant {

// Reads the model in `file`, which is whole (GgufFile::finish) and outlives it. Its name, licence, BOS, EOS and names
// of classes come from the metadata; the vocabulary stays there. Refused in one sentence that names key and value:
// architectures and keys that heed has not, and tensors that are no part of the architecture.
Error read_gguf(FloatModel& model, const GgufFile& file, const ReadOptions& options = {});

// The same of the model's first file, mapped as model.files[0], and of the other parts beside `path` if it is the first
// of several.
Error read_gguf(FloatModel& model, const std::string& path, const ReadOptions& options);

}  // namespace heed::quant
