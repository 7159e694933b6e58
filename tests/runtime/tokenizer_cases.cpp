// SPDX-License-Identifier: Apache-2.0
// tokenizer_cases.cpp: random small vocabularies of every kind with a rules block, and what the runtime makes of random texts, for
// tests/reference/spec_tokenizer.py: lines `section HEX`, `encode TEXT OPTIONS TOKENS` (or `refused OFFSET`),
// `pair TEXT TEXT N_FIRST TOKENS`, `nfc TEXT BYTES`.
//
//   tokenizer_cases [VOCABULARIES]
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "quant/character_map.hpp"
#include "quant/tokenizer_tables.hpp"
#include "quant/unicode.hpp"
#include "tests/support/charsmap.hpp"

using namespace heed;
using namespace heed::quant;

namespace {

std::mt19937 g_random(11);
std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(g_random() % n); }
bool one_in(std::uint32_t n) { return below(n) == 0; }

// Letters that the rules tell apart, some that normalise, and bytes that are no character's.
const std::vector<std::string> kLetters = {
    "a", "b", "s", "t", "r", "e", "l", "'", " ", " ", "  ", "1", "2", "\n", "\r", "\t", "!", ".", "<x>", "_", "A", "S",
    "\xC3\xA9", "e\xCC\x81", "\xC5\xBF", "\xC2\xA0", "\xE4\xBD\xA0", "\xEA\xB0\x81", "\xE1\x84\x80\xE1\x85\xA1",
    "\xE2\x96\x81", "\xF0\x9F\x98\x80", "\xEF\xAC\x81", "\xEF\xBC\xA1", "\x80", "\xFF", "\xE2\x96", "\xC2\xAD", "\xD8\x80",
    "\xCC\x81", "\xCC\xA3", "\xE3\x80\x82", "\xC2\xBD", "\xE2\x80\xA8", "\xE0\xA5\x98", "\xC4\xB0", "\xCE\xA3", "<y> "};

std::string random_text(std::uint32_t most, std::uint32_t letters) {
  std::string text;
  for (std::uint32_t n = below(most + 1); n > 0; --n) text += kLetters[below(letters)];
  return text;
}

std::string hex(const std::string& bytes) {
  std::string out;
  char digits[3];
  for (unsigned char c : bytes) {
    std::snprintf(digits, sizeof digits, "%02x", c);
    out += digits;
  }
  return out;
}

void add_pieces(Vocabulary& v, std::uint32_t letters) {
  const auto add = [&](const std::string& bytes, float score, bool continues) {
    if (bytes.empty()) return;
    for (const VocabPiece& p : v.pieces)
      if (p.bytes == bytes && p.continues == continues) return;
    v.pieces.push_back({bytes, score, false, continues});
  };
  const bool words = v.kind == TokenizerKind::word_pieces;
  for (std::uint32_t i = 0; i < letters; ++i) {
    if (v.kind == TokenizerKind::byte_pairs) continue;
    if (!one_in(5)) add(kLetters[i], -3.0f - static_cast<float>(below(40)) / 16, words && one_in(2));
  }
  for (std::uint32_t n = 5 + below(60); n > 0; --n) {
    std::string piece;
    for (std::uint32_t k = 2 + below(4); k > 0; --k) piece += kLetters[below(one_in(3) ? letters : 14)];
    add(piece, -static_cast<float>(below(64)) / 8, words && one_in(2));
  }
}

void add_byte_pairs(Vocabulary& v) {
  v.kind = TokenizerKind::byte_pairs;
  for (int b = 0; b < 256; ++b) v.pieces.push_back({std::string(1, static_cast<char>(b)), 0, b == '!' && one_in(3)});
  const std::size_t first = v.pieces.size() - 256;
  for (std::uint32_t n = below(80); n > 0; --n) {
    // Often of letters, so that pairs make pieces of pairs; several ways to the same one too.
    const auto part = [&] {
      if (one_in(2) || v.pieces.size() == first + 256)
        return static_cast<Token>(first + static_cast<std::uint8_t>(kLetters[below(26)][0]));
      return static_cast<Token>(first + 256 + below(static_cast<std::uint32_t>(v.pieces.size() - first - 256)));
    };
    const PieceMerge merge{part(), part()};
    const std::string bytes = v.pieces[static_cast<std::size_t>(merge.left)].bytes + v.pieces[static_cast<std::size_t>(merge.right)].bytes;
    if (bytes.size() > 60 || v.pieces[static_cast<std::size_t>(merge.left)].control || v.pieces[static_cast<std::size_t>(merge.right)].control) continue;
    bool known = false, control = false;
    for (const VocabPiece& p : v.pieces) {
      known = known || p.bytes == bytes;
      control = control || (p.control && p.bytes == bytes);
    }
    if (control) continue;
    if (!known) v.pieces.push_back({bytes, 0, false});
    v.merges.push_back(merge);
  }
  v.split = static_cast<SplitRule>(below(6));
  v.whole_words = one_in(3);
  v.compose = one_in(2);
}

Vocabulary random_vocabulary() {
  Vocabulary v;
  v.pieces = {{"<unk>", 0, true}, {"<s>", 0, true}, {"</s>", 0, true}, {"<x>", 0, true}, {"<y>", 0, true}, {"<x><x>", 0, true}, {"ab", 0, true}};
  const auto letters = static_cast<std::uint32_t>(kLetters.size());
  v.kind = static_cast<TokenizerKind>(1 + below(4));
  if (!one_in(4)) v.bos = 1;
  if (!one_in(4)) v.eos = 2;
  if (!one_in(3) || v.kind == TokenizerKind::word_pieces) v.unk = 0;
  v.prefix_space = one_in(2);
  switch (v.kind) {
    case TokenizerKind::merges:
    case TokenizerKind::unigram:
      if (one_in(2)) {
        v.first_byte = static_cast<std::uint32_t>(v.pieces.size());
        v.byte_count = one_in(2) ? 256 : 128;
        for (std::uint32_t b = 0; b < v.byte_count; ++b) v.pieces.push_back({std::string(1, static_cast<char>(b)), 0, false});
      }
      v.collapse_spaces = one_in(2);
      v.visible_space = !one_in(3);
      if (one_in(2))
        v.charsmap = heed::test::charsmap({{"\n", " "}, {"\t", ""}, {"\xEF\xAC\x81", "fi"}, {"e\xCC\x81", "\xC3\xA9"}, {"A", "a"},
                                           {"\xC2\xA0", " "}, {"\xEF\xBC\xA1", "A b"}, {"S", "s"}, {"\r", " "}});
      add_pieces(v, letters);
      break;
    case TokenizerKind::byte_pairs: add_byte_pairs(v); break;
    case TokenizerKind::word_pieces:
      v.lower_case = one_in(2);
      v.strip_accents = one_in(2);
      v.clean_text = !one_in(4);
      v.split_cjk = !one_in(4);
      add_pieces(v, letters);
      break;
  }
  for (Token t : {3, 4, 5, 6})
    if (one_in(2)) v.added.push_back({t, one_in(2), one_in(3), one_in(3), one_in(3)});
  v.fresh_text = one_in(2);
  if (one_in(2)) {
    v.has_template = true;
    v.text_template = {{1}, {2, 2}, {2}, one_in(2)};
  }
  if (v.kind == TokenizerKind::merges) v.collapse_spaces = v.collapse_spaces || !(v.visible_space || v.has_template);
  return v;
}

struct Opened {
  std::vector<std::uint8_t> section;
  Tokenizer tokenizer;
  explicit Opened(const Vocabulary& v) {
    const std::string why = build_tokenizer_section(section, v);
    if (!why.empty() || open(tokenizer, section, static_cast<std::uint32_t>(v.pieces.size())) != Status::ok) {
      std::fprintf(stderr, "tokenizer_cases: a section is refused: %s\n", why.c_str());
      std::exit(1);
    }
  }
};

void print_section(const Opened& opened) {
  std::printf("section %s\n", hex({opened.section.begin(), opened.section.end()}).c_str());
}

void print_tokens(const std::vector<Token>& tokens, std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i) std::printf(" %d", static_cast<int>(tokens[i]));
  std::printf("\n");
}

// Buffers of exactly the promised size, so that an address sanitizer guards their ends.
struct Room {
  std::vector<Token> tokens;
  std::vector<std::uint32_t> scratch;
  Room(const Tokenizer& t, std::size_t bytes)
      : tokens(Tokenizer::max_tokens(bytes, t.growth())), scratch(Tokenizer::scratch_bytes(bytes, t.growth()) / 4) {}
  Span<std::byte> bytes() { return {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4}; }
};

void print_encoded(const Tokenizer& t, const std::string& text, std::uint32_t options) {
  Room room(t, text.size());
  std::uint32_t n = 0;
  const Status status = t.encode(n, {text.data(), text.size()}, {(options & 1) != 0, (options & 2) != 0, (options & 4) != 0},
                                 room.tokens, room.bytes());
  if (status != Status::ok && status != Status::text_not_expressible) {
    std::fprintf(stderr, "tokenizer_cases: %s\n", to_string(status));
    std::exit(1);
  }
  std::printf("encode %s %u", hex(text).c_str(), options);
  if (status == Status::ok) {
    print_tokens(room.tokens, n);
  } else {
    std::printf(" refused %u\n", n);
  }
}

void print_pair(const Tokenizer& t, const std::string& a, const std::string& b) {
  Room room(t, a.size() + b.size() + 1);
  room.tokens.resize(Tokenizer::max_tokens(a.size(), t.growth()) + Tokenizer::max_tokens(b.size(), t.growth()));
  std::uint32_t n = 0, n_first = 0;
  if (t.encode_pair(n, n_first, {a.data(), a.size()}, {b.data(), b.size()}, room.tokens, room.bytes()) != Status::ok) return;
  std::printf("pair %s %s %u", hex(a).c_str(), hex(b).c_str(), n_first);
  print_tokens(room.tokens, n);
}

// All stretches of a text are pieces, and words that are pieces become them: the tokens are the words.
void print_words(std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    Vocabulary v;
    v.kind = TokenizerKind::byte_pairs;
    v.split = static_cast<SplitRule>(1 + i % 5);
    v.whole_words = true;
    const std::string text = random_text(12, i % 3 ? 18 : static_cast<std::uint32_t>(kLetters.size()));
    std::set<std::string> pieces;
    for (std::size_t begin = 0; begin < text.size(); ++begin)
      for (std::size_t end = begin + 1; end <= text.size(); ++end) pieces.insert(text.substr(begin, end - begin));
    if (pieces.empty()) continue;
    for (const std::string& piece : pieces) v.pieces.push_back({piece, 0, false});
    const Opened opened(v);
    print_section(opened);
    print_encoded(opened.tokenizer, text, 0);
  }
}

// Characters that compose and move, by the block; a vocabulary of bytes shows the bytes of NFC.
void print_compositions(std::uint32_t count) {
  Vocabulary v;
  v.kind = TokenizerKind::byte_pairs;
  v.compose = true;
  for (int b = 0; b < 256; ++b) v.pieces.push_back({std::string(1, static_cast<char>(b)), 0, false});
  const Opened opened(v);
  std::vector<std::uint32_t> codes = {'a', 0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01, 0x1109, 0x9C7, 0x9BE, 0x344, 0x1D160, 0x958, 0xF900, 0xFB2C};
  for (std::uint32_t code = 0xC0; code < 0x250; ++code) codes.push_back(code);
  for (std::uint32_t code = 0x300; code < 0x35D; ++code)
    for (int k = 0; k < 4; ++k) codes.push_back(code);
  for (std::uint32_t code = 0x1E00; code < 0x2000; ++code)
    if (unicode::category(code) != "Cn") codes.push_back(code);
  for (std::uint32_t n = 0; n < count; ++n) {
    std::string text;
    for (std::uint32_t k = 1 + below(n % 10 ? 12 : 60); k > 0; --k) text += utf8_of(codes[below(static_cast<std::uint32_t>(codes.size()))]);
    Room room(opened.tokenizer, text.size());
    std::uint32_t tokens = 0;
    if (opened.tokenizer.encode(tokens, {text.data(), text.size()}, {}, room.tokens, room.bytes()) != Status::ok) std::exit(1);
    std::printf("nfc %s", hex(text).c_str());
    print_tokens(room.tokens, tokens);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint32_t count = argc > 1 ? static_cast<std::uint32_t>(std::strtoul(argv[1], nullptr, 10)) : 100;
  const auto letters = static_cast<std::uint32_t>(kLetters.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    const Vocabulary v = random_vocabulary();
    const Opened opened(v);
    print_section(opened);
    for (std::uint32_t t = 0; t < 12; ++t)
      print_encoded(opened.tokenizer, random_text(t == 11 ? 150 : 16, t % 2 ? letters : 22), below(8));
    print_pair(opened.tokenizer, random_text(6, letters), random_text(6, letters));
  }
  print_words(count / 2);
  print_compositions(count * 5);
  return 0;
}
