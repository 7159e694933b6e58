// SPDX-License-Identifier: Apache-2.0
// tokenizer_tables.hpp: builds the tokenizer section of an image from a vocabulary, on the host.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/token.hpp"

namespace heed::quant {

struct VocabPiece {
  std::string bytes;     // what the token stands for; a byte token has exactly its byte
  float score = 0.0f;    // the higher, the earlier merged; at -1e10 and below, and NaN, never merged (as in llama2.c)
  bool control = false;  // never made from text: BOS, EOS, unknown
};

struct Vocabulary {
  std::vector<VocabPiece> pieces;  // [vocab_size]
  bool prefix_space = false;
  Token bos = kNoToken, eos = kNoToken;
  std::uint32_t first_byte = 0;  // token of byte 0
  std::uint32_t byte_count = 0;  // byte tokens from there on, one per byte; 0 = text without a token is refused
};

// Writes the section's bytes (SPEC.md, tokenizer). Returns an empty string, or one line that says what does not fit.
// Of pieces with the same bytes, text gives the one with the lowest id.
std::string build_tokenizer_section(std::vector<std::uint8_t>& section, const Vocabulary& vocabulary);

}  // namespace heed::quant
