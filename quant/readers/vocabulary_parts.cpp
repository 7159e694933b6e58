// SPDX-License-Identifier: Apache-2.0
// vocabulary_parts.cpp: see the header.
#include "quant/readers/vocabulary_parts.hpp"

#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

constexpr char kVisibleSpace[] = "\xE2\x96\x81";  // U+2581

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

int byte_of_name(const std::string& name) {
  if (name.size() != 6 || name.compare(0, 3, "<0x") != 0 || name[5] != '>') return -1;
  const int high = hex_digit(name[3]), low = hex_digit(name[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

std::string with_spaces(const std::string& piece) {
  std::string text;
  std::size_t at = 0;
  for (std::size_t next; (next = piece.find(kVisibleSpace, at)) != std::string::npos; at = next + 3)
    text.append(piece, at, next - at).push_back(' ');
  return text.append(piece, at, std::string::npos);
}

VocabPiece word_piece(const std::string& name) {
  VocabPiece piece;
  piece.continues = name.size() > 2 && name.compare(0, 2, "##") == 0;
  piece.bytes = piece.continues ? name.substr(2) : name;
  return piece;
}

PieceNames::PieceNames(Vocabulary& vocabulary, std::uint32_t vocab_size) : vocabulary_(vocabulary), named_(vocab_size) {
  VocabPiece none;
  none.control = true;
  vocabulary_.pieces.assign(vocab_size, none);
}

Error PieceNames::add(std::uint32_t id, const std::string& name, VocabPiece piece) {
  const std::string token = "token " + std::to_string(id) + " (" + printable(name) + ")";
  if (id >= named_.size())
    return Error(token + " is none of the model's " + std::to_string(named_.size()) + "; does it belong to the model?");
  if (named_[id]) return Error(token + " has the number of another one");
  if (piece.bytes.size() > kMaxPieceBytes)
    return Error(token + " has " + std::to_string(piece.bytes.size()) + " bytes, more than " +
                 std::to_string(kMaxPieceBytes));
  if (!ids_.emplace(name, id).second) return Error(token + " is token " + std::to_string(ids_[name]) + " as well");
  named_[id] = true;
  vocabulary_.pieces[id] = std::move(piece);
  return {};
}

Token PieceNames::find(const std::string& name) const {
  const auto found = ids_.find(name);
  return found == ids_.end() ? kNoToken : static_cast<Token>(found->second);
}

Error place_byte_tokens(Vocabulary& vocabulary) {
  std::uint32_t first = 0, count = 0;
  for (std::uint32_t i = 0; i < vocabulary.pieces.size(); ++i) {
    VocabPiece& piece = vocabulary.pieces[i];
    const int byte = byte_of_name(piece.bytes);
    if (byte < 0) continue;
    if (count == 0) first = i;
    if (i != first + count || byte != static_cast<int>(count))
      return Error("token " + std::to_string(i) + " (" + piece.bytes + ") does not stand in a row of all 256 bytes");
    piece.bytes.assign(1, static_cast<char>(byte));
    piece.control = true;  // no text turns into the name of a byte
    ++count;
  }
  if (count != 0 && count != 256) return Error("it has " + std::to_string(count) + " byte tokens, not 256");
  vocabulary.first_byte = first;
  vocabulary.byte_count = count;
  return {};
}

Error place_bos_eos(Vocabulary& vocabulary, const PieceNames& names, const TokenizerConfig& config) {
  for (auto [name, token, field] :
       {std::tuple{&config.bos, &vocabulary.bos, "bos_token"}, {&config.eos, &vocabulary.eos, "eos_token"}}) {
    if (name->empty()) continue;
    *token = names.find(*name);
    if (*token == kNoToken)
      return Error(std::string(field) + " " + printable(*name) + " is no token of the vocabulary");
  }
  return {};
}

void set_plain_template(Vocabulary& vocabulary, bool add_bos, bool add_eos) {
  vocabulary.has_template = true;
  vocabulary.text_template = {};
  if (add_bos && vocabulary.bos != kNoToken) vocabulary.text_template.before = {vocabulary.bos};
  if (add_eos && vocabulary.eos != kNoToken) {
    vocabulary.text_template.after = {vocabulary.eos};
    vocabulary.text_template.between = {vocabulary.eos};
  }
}

Error too_many_tokens(std::size_t tokens, std::uint32_t vocab_size) {
  if (tokens <= vocab_size) return {};
  return Error("it has " + std::to_string(tokens) + " tokens and the model " + std::to_string(vocab_size) +
               "; does it belong to the model?");
}

}  // namespace heed::quant
