// SPDX-License-Identifier: Apache-2.0
// recognise.hpp: names a file that stands where another kind belongs, and says the way out. A kind is one row of the
// table in recognise.cpp; whoever adds a reader changes the rows of what it reads.
#pragma once
#include <cstdint>
#include <string>

#include "quant/error.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

enum class Wanted : std::uint8_t {
  image,       // what runs: a .heed file
  model,       // what heed quantize reads
  vocabulary,  // what its --tokenizer reads
  text,        // to be measured
};

// An error for bytes of a known kind that is not the wanted one: "this is a GGUF file, not an image (.heed); ...".
// Empty for what is wanted and for what nobody knows.
Error misplaced(Span<const std::uint8_t> bytes, Wanted wanted);

// The kind of a file with a vocabulary, by its first bytes; unknown: llama2.c's, or none.
enum class VocabularyFile : std::uint8_t { unknown, tokenizer_json, sentencepiece, gguf, word_list };
VocabularyFile vocabulary_file(Span<const std::uint8_t> bytes);

// A .heed file, by its first bytes.
bool is_image(Span<const std::uint8_t> bytes);

// What `misplaced` says, of a folder, where a file is wanted.
Error misplaced_folder(const std::string& path, Wanted wanted);

}  // namespace heed::quant
