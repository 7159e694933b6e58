// SPDX-License-Identifier: Apache-2.0
// sentencepiece_file.hpp: what a SentencePiece model (tokenizer.model, spiece.model, *.spm) says, as it says it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "quant/error.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// As the file numbers them.
enum class SentencePieceType : std::uint8_t { normal = 1, unknown, control, user_defined, unused, byte };

struct SentencePiece {
  std::string text;
  float score = 0.0f;
  SentencePieceType type = SentencePieceType::normal;
};

// A field that the file leaves out has the value that it has here.
struct SentencePieceFile {
  enum class Algorithm : std::uint8_t { unigram = 1, bpe, word, character };

  std::vector<SentencePiece> pieces;  // never empty
  Algorithm algorithm = Algorithm::unigram;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;  // the space of a word stands behind it
  std::string unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>", pad_piece = "<pad>";
  std::string unk_surface = " \xE2\x81\x87 ";  // what an unknown token decodes to

  std::string normalizer;                // its name, such as nmt_nfkc
  Span<const std::uint8_t> charsmap;     // of its rules, inside the file; empty: characters stay as they are
  bool add_dummy_prefix = true;          // a space in front of the text
  bool remove_extra_whitespaces = true;  // at both ends, and runs of spaces are one
  bool escape_whitespaces = true;        // a space is U+2581 in pieces
  bool denormalizes = false;             // decoded text goes through rules of its own
};

// Reads a file of any bytes; what it allocates is at most a small multiple of their number. Fails with one line that
// says what is broken. `file` must outlive the result.
Error read_sentencepiece_file(SentencePieceFile& result, Span<const std::uint8_t> file);

}  // namespace heed::quant
