// SPDX-License-Identifier: Apache-2.0
// llama2c_tokenizer.cpp: see the header; every length is checked against what is left of the file.
#include "quant/readers/llama2c_tokenizer.hpp"

#include <cstring>

#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kFirstByte = 3, kControlTokens = 3;

std::uint32_t read_u32(const std::uint8_t* p) {
  return p[0] | std::uint32_t{p[1]} << 8 | std::uint32_t{p[2]} << 16 | std::uint32_t{p[3]} << 24;
}

// The value of "<0xNN>", or -1.
int byte_of(const std::string& piece) {
  if (piece.size() != 6 || piece.compare(0, 3, "<0x") != 0 || piece[5] != '>') return -1;
  int value = 0;
  for (int i = 3; i < 5; ++i) {
    const char c = piece[static_cast<std::size_t>(i)];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

std::string read_llama2c_tokenizer(Vocabulary& vocabulary, Span<const std::uint8_t> file, std::uint32_t vocab_size) {
  const std::string name = "llama2.c tokenizer: ";
  vocabulary = {};
  if (vocab_size <= kControlTokens)
    return name + "a vocabulary of " + std::to_string(vocab_size) + " tokens is too small";
  if (file.size() < 4) return name + "the file is shorter than its header";
  // Before anything is reserved: a token takes at least eight bytes.
  if ((file.size() - 4) / 8 < vocab_size) {
    return name + "the file is too short for the model's " + std::to_string(vocab_size) + " tokens";
  }
  vocabulary.pieces.reserve(vocab_size);
  std::size_t at = 4;
  for (std::uint32_t i = 0; i < vocab_size; ++i) {
    const std::string token = "token " + std::to_string(i);
    if (file.size() - at < 8) {
      return name + "the file ends before " + token + " of the model's " + std::to_string(vocab_size);
    }
    const std::uint32_t score_bits = read_u32(file.data() + at), length = read_u32(file.data() + at + 4);
    at += 8;
    if (length > kMaxPieceBytes) {
      return name + token + " has a length of " + std::to_string(length) + ", more than " +
             std::to_string(kMaxPieceBytes);
    }
    if (length > file.size() - at) return name + "the file ends inside " + token;
    VocabPiece piece;
    std::memcpy(&piece.score, &score_bits, sizeof piece.score);
    if (piece.score != piece.score) return name + token + " has a score that is not a number";
    piece.bytes.assign(reinterpret_cast<const char*>(file.data() + at), length);
    piece.control = i < kControlTokens;
    at += length;
    vocabulary.pieces.push_back(piece);
  }
  if (at != file.size()) {
    return name + std::to_string(file.size() - at) + " bytes follow the model's " + std::to_string(vocab_size) +
           " tokens; does this tokenizer belong to the model?";
  }

  vocabulary.prefix_space = true;
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  vocabulary.first_byte = kFirstByte;
  for (std::uint32_t i = 0; i < vocab_size; ++i) {
    VocabPiece& piece = vocabulary.pieces[i];
    const int byte = byte_of(piece.bytes);
    if (byte < 0) continue;
    piece.bytes.assign(1, static_cast<char>(byte));
    piece.control = true;  // in llama2.c, too, no text turns into the name of a byte
    // The row may end early in a small vocabulary; the bytes behind it then have no token.
    if (i == kFirstByte + vocabulary.byte_count && byte == static_cast<int>(vocabulary.byte_count))
      ++vocabulary.byte_count;
  }
  return {};
}

}  // namespace heed::quant
