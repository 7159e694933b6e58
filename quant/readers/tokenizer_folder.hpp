// SPDX-License-Identifier: Apache-2.0
// tokenizer_folder.hpp: finds and reads a vocabulary, whatever file or folder it is in.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "quant/readers/tokenizer_config.hpp"
#include "quant/tokenizer_tables.hpp"

namespace heed::quant {

// Reads `path`: a folder, of which the first of tokenizer.json, tokenizer.model, spiece.model, vocab.txt, and
// vocab.json with merges.txt counts; one of these files; a SentencePiece model or a GGUF file of any name; or
// llama2.c's tokenizer.bin. Beside a file, its folder's tokenizer_config.json, special_tokens_map.json and
// chat_template.jinja are read. `vocab_size` is the model's. Fails with one line that begins with the file it is about.
Error read_tokenizer(Vocabulary& vocabulary, TokenizerConfig& config, const std::string& path,
                     std::uint32_t vocab_size);

// Every file that `read_tokenizer` may read for `path`, itself included.
std::vector<std::string> tokenizer_files(const std::string& path);

// Whether `path` is a folder with one of these files, or a GGUF file with a vocabulary.
bool has_tokenizer(const std::string& path);

}  // namespace heed::quant
