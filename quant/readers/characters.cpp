// SPDX-License-Identifier: Apache-2.0
// characters.cpp: see the header; everything that is not exactly one character is refused with its place.
#include "quant/readers/characters.hpp"

#include <algorithm>
#include <map>
#include <string_view>

#include "quant/file.hpp"

namespace heed::quant {
namespace {

constexpr char kBytes[] = "bytes";
constexpr std::string_view kInline = "chars:", kFile = "chars-file:";
constexpr float kNever = -1e10f;  // a score that never merges
constexpr std::uint32_t kNoCharacter = 0xFFFFFFFFu;

std::string hex(std::uint32_t value, int digits) {
  std::string text;
  for (int shift = 4 * digits - 4; shift >= 0; shift -= 4) text += "0123456789ABCDEF"[(value >> shift) & 15u];
  return text;
}

// The code point that begins at `at`, and its number of bytes; kNoCharacter where there is none.
std::uint32_t code_point(std::string_view text, std::size_t at, std::size_t& bytes) {
  const auto byte = [&](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(text[i])}; };
  const std::uint32_t lead = byte(at);
  bytes = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (bytes == 0 || text.size() - at < bytes) return kNoCharacter;
  std::uint32_t point = bytes == 1 ? lead : lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return kNoCharacter;
    point = point << 6 | (byte(at + i) & 0x3F);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
  return point < kSmallest[bytes] || point > 0x10FFFF || surrogate ? kNoCharacter : point;
}

std::string describe(std::string_view bytes, std::uint32_t point) {
  const std::string name = "U+" + hex(point, point > 0xFFFFF ? 6 : point > 0xFFFF ? 5 : 4);
  // Control characters would break the line that this is part of.
  if (point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x2028 || point == 0x2029) return name;
  return "'" + std::string(bytes) + "' (" + name + ")";
}

std::string describe(const std::string& character) {
  std::size_t bytes;
  return describe(character, code_point(character, 0, bytes));
}

// Takes one character, written out or escaped, from `text` at `at`.
Error take_character(std::string& character, std::string_view text, std::size_t& at) {
  std::size_t bytes;
  if (code_point(text, at, bytes) == kNoCharacter)
    return Error("byte 0x" + hex(static_cast<unsigned char>(text[at]), 2) + " is not UTF-8");
  if (text[at] != '\\') {
    character = std::string(text.substr(at, bytes));
    at += bytes;
    return {};
  }
  const std::string_view escape = text.substr(at + 1);
  const char kind = escape.empty() ? ' ' : escape[0];
  constexpr std::string_view kNames = "nrt\\", kCharacters = "\n\r\t\\";
  if (const std::size_t i = kNames.find(kind); i != kNames.npos) {
    character = std::string(1, kCharacters[i]);
    at += 2;
    return {};
  }
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  if (kind != 'x' || escape.size() < 3 || digit(escape[1]) < 0 || digit(escape[1]) > 7 || digit(escape[2]) < 0)
    return Error("a backslash begins \\n, \\r, \\t, \\\\ or \\x00 to \\x7F");
  character = std::string(1, static_cast<char>(digit(escape[1]) * 16 + digit(escape[2])));
  at += 4;
  return {};
}

// Gives characters their tokens, in order.
class Builder {
 public:
  explicit Builder(Vocabulary& vocabulary) : v_(vocabulary) {}

  Error add_character(const std::string& character) {
    const auto [at, is_new] = tokens_.emplace(character, v_.pieces.size());
    if (!is_new) return Error(describe(character) + " is already token " + std::to_string(at->second));
    v_.pieces.push_back({character, kNever, false});
    return {};
  }
  Error add_control(bool bos, bool eos) {
    const auto token = static_cast<Token>(v_.pieces.size());
    if ((bos && v_.bos != kNoToken) || (eos && v_.eos != kNoToken))
      return Error(std::string("a second ") + (bos && v_.bos != kNoToken ? "BOS" : "EOS"));
    if (bos) v_.bos = token;
    if (eos) v_.eos = token;
    v_.pieces.push_back({"", kNever, true});
    return {};
  }

 private:
  Vocabulary& v_;
  std::map<std::string, std::size_t> tokens_;
};

Error read_bytes(Vocabulary& v, std::uint32_t vocab_size) {
  if (vocab_size < 256 || vocab_size > 258)
    return Error(
        "a byte vocabulary has 256 tokens, 257 (the last begins and ends a text) or 258 (BOS, EOS); the model has " +
        std::to_string(vocab_size));
  for (int x = 0; x < 256; ++x) v.pieces.push_back({std::string(1, static_cast<char>(x)), kNever, false});
  v.byte_count = 256;
  v.pieces.resize(vocab_size, {"", kNever, true});
  if (vocab_size > 256) {
    v.bos = 256;
    v.eos = static_cast<Token>(vocab_size) - 1;
  }
  return {};
}

Error read_inline(Builder& builder, std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::string place = "byte " + std::to_string(at);
    std::string character;
    if (Error error = take_character(character, text, at)) return error.about(place);
    if (Error error = builder.add_character(character)) return error.about(place);
  }
  return {};
}

Error read_line(Builder& builder, std::string_view line) {
  if (line == "<bos>") return builder.add_control(true, false);
  if (line == "<eos>") return builder.add_control(false, true);
  if (line == "<bos/eos>") return builder.add_control(true, true);
  if (line == "<unused>") return builder.add_control(false, false);
  if (line.empty()) return Error("no character; a newline is written \\n, a space \\x20");
  std::string character;
  std::size_t at = 0;
  if (Error error = take_character(character, line, at)) return error;
  if (at != line.size()) return Error("more than one character");
  return builder.add_character(character);
}

Error read_lines(Builder& builder, std::string_view text) {
  for (std::size_t at = 0, number = 1; at < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.size() > 1 && line.back() == '\r') line.remove_suffix(1);
    if (Error error = read_line(builder, line)) return error.about("line " + std::to_string(number));
    at = end + 1;
  }
  return {};
}

bool begins_with(const std::string& text, std::string_view beginning) {
  return text.compare(0, beginning.size(), beginning) == 0;
}

}  // namespace

bool is_character_vocabulary(const std::string& tokenizer) {
  return tokenizer == kBytes || begins_with(tokenizer, kInline) || begins_with(tokenizer, kFile);
}

Error read_characters(Vocabulary& vocabulary, const std::string& tokenizer, std::uint32_t vocab_size) {
  vocabulary = {};
  if (tokenizer == kBytes) return read_bytes(vocabulary, vocab_size);
  Builder builder(vocabulary);
  std::string subject = "chars";
  if (begins_with(tokenizer, kInline)) {
    if (Error error = read_inline(builder, std::string_view(tokenizer).substr(kInline.size())))
      return error.about(subject);
  } else {
    subject = tokenizer.substr(kFile.size());
    SourceFile file;
    if (Error error = file.open(subject)) return error;
    const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    if (Error error = read_lines(builder, text)) return error.about(subject);
  }
  if (vocabulary.pieces.size() != vocab_size)
    return Error(subject + ": " + std::to_string(vocabulary.pieces.size()) + " tokens; the model has " +
                 std::to_string(vocab_size));
  return {};
}

std::string describe_character(Span<const char> text, std::size_t& offset) {
  const std::string_view all(text.data(), text.size());
  std::size_t begin = offset, bytes;
  while (begin > 0 && offset - begin < 3 && (all[begin] & 0xC0) == 0x80) --begin;
  const std::uint32_t point = code_point(all, begin, bytes);
  if (point == kNoCharacter || begin + bytes <= offset)
    return "byte 0x" + hex(static_cast<unsigned char>(all[offset]), 2);
  offset = begin;
  return describe(all.substr(begin, bytes), point);
}

}  // namespace heed::quant
