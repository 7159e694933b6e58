// SPDX-License-Identifier: Apache-2.0
// model_folder.hpp: which files of a Hugging Face folder hold the model, and what those beside it say.
#pragma once
#include <string>

#include "quant/readers/family.hpp"

namespace heed::quant {

bool is_file(const std::string& path);

// A JSON file of at most `max_bytes`.
Error read_json_file(Json& json, const std::string& path, std::size_t max_bytes);

// The tensors of model.safetensors, or of all the files that model.safetensors.index.json names, mapped by `model`. Fails by
// name where a file or a tensor that the index promises is missing, and for folders with other kinds of weights.
Error open_tensors(SafeTensors& tensors, FloatModel& model, const std::string& folder);

// modules.json with the folders that it names, and sentence_bert_config.json. `present` stays false without them.
Error read_sentence_modules(SentenceModules& modules, const std::string& folder);

}  // namespace heed::quant
