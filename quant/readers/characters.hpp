// SPDX-License-Identifier: Apache-2.0
// characters.hpp: vocabularies without merges: a token per byte, or per character of a list.
#pragma once
#include <cstdint>
#include <string>

#include "quant/error.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// Whether `tokenizer` is one of the three forms below and not a file. (A file of such a name is written ./bytes.)
bool is_character_vocabulary(const std::string& tokenizer);

// bytes             Token x is byte x. A 257th token both begins and ends a text; with 258, 256 is BOS and 257 EOS.
// chars:TEXT        Token i is the i-th character of TEXT.
// chars-file:PATH   Token i is line i of a UTF-8 file: one character, or one of <bos>, <eos>, <bos/eos>, <unused>.
//
// Characters are Unicode code points; \n, \r, \t, \\ and \xNN (ASCII) stand for what cannot be written as it is. The
// list must have `vocab_size` tokens, each character once. Text with any other character is refused when it is encoded.
Error read_characters(Vocabulary& vocabulary, const std::string& tokenizer, std::uint32_t vocab_size);

// The character that byte `offset` of `text` belongs to, for people: 'é' (U+00E9), U+0007, or byte 0xFF where the text
// is not UTF-8. `offset` becomes that of the character's first byte.
std::string describe_character(Span<const char> text, std::size_t& offset);

}  // namespace heed::quant
