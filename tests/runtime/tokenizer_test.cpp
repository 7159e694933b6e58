// SPDX-License-Identifier: Apache-2.0
// tokenizer_test.cpp: encoding against llama2.c's, decoding, whole characters, and every rule K1..K12 broken once.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "quant/readers/llama2c_tokenizer.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/tokenizer.hpp"
#include "tests/reference/tokenizer_golden.hpp"

namespace {

using heed::EncodeOptions;
using heed::kNoToken;
using heed::Span;
using heed::Status;
using heed::StreamDecoder;
using heed::Token;
using heed::Tokenizer;
using heed::quant::VocabPiece;
using heed::quant::Vocabulary;
using Bytes = std::vector<std::uint8_t>;

std::uint32_t crc32(const void* data, std::size_t bytes) {
  const auto* p = static_cast<const std::uint8_t*>(data);
  std::uint32_t crc = ~0u;
  for (std::size_t i = 0; i < bytes; ++i) {
    crc ^= p[i];
    for (int b = 0; b < 8; ++b) crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

// ---- The test data ---------------------------------------------------------------------------------------------

bool read_data(Bytes& bytes, const std::string& name) {
  const char* folder = std::getenv("HEED_TEST_DATA");
  const char* require = std::getenv("HEED_REQUIRE_DATA");
  bytes.clear();
  std::FILE* file = folder ? std::fopen((folder + ("/" + name)).c_str(), "rb") : nullptr;
  if (!file) {
    if (require && std::string_view(require) == "1")
      FAIL("HEED_REQUIRE_DATA=1 and no " << name << " in HEED_TEST_DATA");
    std::printf("skipped: %s needs HEED_TEST_DATA\n", name.c_str());
    return false;
  }
  Bytes block(1 << 16);
  for (std::size_t n; (n = std::fread(block.data(), 1, block.size(), file)) > 0;) {
    bytes.insert(bytes.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(n));
  }
  std::fclose(file);
  return true;
}

// ---- A section, its view, and calls with buffers of exactly the promised size -----------------------------------

struct Encoded {
  Status status;
  std::uint32_t n;
  std::vector<Token> tokens;
};

Encoded encode(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  // On the heap and not a byte more, so that the address sanitizer guards both ends; the text too.
  const std::unique_ptr<char[]> copy(new char[text.size()]);
  std::memcpy(copy.get(), text.data(), text.size());
  const std::unique_ptr<std::uint32_t[]> scratch(new std::uint32_t[Tokenizer::scratch_bytes(text.size()) / 4]);
  Encoded e{};
  e.tokens.resize(Tokenizer::max_tokens(text.size()));
  e.status = tokenizer.encode(e.n, {copy.get(), text.size()}, options, e.tokens,
                              {reinterpret_cast<std::byte*>(scratch.get()), Tokenizer::scratch_bytes(text.size())});
  e.tokens.resize(e.status == Status::ok ? e.n : 0);
  return e;
}

std::string decode(const Tokenizer& tokenizer, const std::vector<Token>& tokens, Token previous = kNoToken) {
  std::string text;
  for (Token token : tokens) {
    Span<const char> bytes;
    REQUIRE(tokenizer.decode(bytes, previous, token) == Status::ok);
    if (token != tokenizer.bos() && token != tokenizer.eos()) text.append(bytes.data(), bytes.size());
    previous = token;
  }
  return text;
}

struct Built {
  Bytes section;
  Tokenizer tokenizer;
  explicit Built(const Vocabulary& vocabulary) {
    const std::string error = heed::quant::build_tokenizer_section(section, vocabulary);
    INFO(error);
    REQUIRE(error.empty());
    REQUIRE(open(tokenizer, section, static_cast<std::uint32_t>(vocabulary.pieces.size())) == Status::ok);
  }
  Built(const Built&) = delete;
};

// <unk>, BOS, EOS, all bytes if wanted, then the pieces; scores fall from 0 in order.
Vocabulary vocabulary_of(const std::vector<std::string>& pieces, bool bytes = true, bool prefix_space = true) {
  Vocabulary v;
  v.pieces = {{"<unk>", 0, true}, {"\n<s>\n", 0, true}, {"\n</s>\n", 0, true}};
  v.bos = 1;
  v.eos = 2;
  v.prefix_space = prefix_space;
  if (bytes) {
    v.first_byte = 3;
    v.byte_count = 256;
    for (int b = 0; b < 256; ++b) v.pieces.push_back({std::string(1, static_cast<char>(b)), 0, false});
  }
  float score = 0;
  for (const std::string& piece : pieces) v.pieces.push_back({piece, score--, false});
  return v;
}

const std::vector<std::string> kPieces = {"he", "ll", "hell", "lo", " h", "hello",    " hello",       "o",
                                          "l",  "h",  "e",    " ",  "\n", "\xC3\xA9", "\xE4\xBD\xA0", "  ",
                                          "a",  "aa", "aaaa", "b"};

// llama2.c's way again, on plain strings: the oracle for random vocabularies.
std::vector<Token> encode_naively(const Vocabulary& v, std::string_view text, bool bos) {
  std::map<std::string, Token> ids;
  for (std::size_t i = 0; i < v.pieces.size(); ++i) {
    const bool byte = i - v.first_byte < v.byte_count;
    if (!byte && !v.pieces[i].control) ids.emplace(v.pieces[i].bytes, static_cast<Token>(i));
  }
  const auto is_byte = [&](Token t) { return static_cast<std::uint32_t>(t) - v.first_byte < v.byte_count; };
  std::vector<Token> tokens;
  const auto add = [&](const std::string& character) {
    if (ids.count(character)) {
      tokens.push_back(ids[character]);
    } else {
      for (char c : character) tokens.push_back(static_cast<Token>(v.first_byte + static_cast<std::uint8_t>(c)));
    }
  };
  if (v.prefix_space && !text.empty()) add(" ");
  for (std::size_t i = 0; i < text.size();) {
    std::size_t j = i + 1;
    while (j < text.size() && j - i < 4 && (text[j] & 0xC0) == 0x80) ++j;
    add(std::string(text.substr(i, j - i)));
    i = j;
  }
  for (;;) {
    float best = -1e10f;
    std::size_t at = tokens.size();
    Token merged = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      if (is_byte(tokens[i]) || is_byte(tokens[i + 1])) continue;
      const auto found = ids.find(v.pieces[static_cast<std::size_t>(tokens[i])].bytes +
                                  v.pieces[static_cast<std::size_t>(tokens[i + 1])].bytes);
      if (found == ids.end() || !(v.pieces[static_cast<std::size_t>(found->second)].score > best)) continue;
      best = v.pieces[static_cast<std::size_t>(found->second)].score;
      at = i;
      merged = found->second;
    }
    if (at == tokens.size()) break;
    tokens[at] = merged;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  if (bos) tokens.insert(tokens.begin(), v.bos);
  return tokens;
}

// The whole surface on one text; only memory errors and broken promises count.
void exercise(const Tokenizer& tokenizer, std::string_view text) {
  const Encoded e = encode(tokenizer, text, {true, true});
  if (e.status == Status::text_not_expressible) REQUIRE(e.n < text.size() + (text.empty() ? 1 : 0));
  std::vector<char> out(StreamDecoder::out_bytes(tokenizer));
  StreamDecoder stream;
  for (Token token : e.tokens) {
    REQUIRE(static_cast<std::uint32_t>(token) < tokenizer.vocab_size());
    std::uint32_t n;
    REQUIRE(stream.push(n, tokenizer, token, out) == Status::ok);
    REQUIRE(n <= out.size());
  }
  Span<const char> bytes;
  std::size_t total = 0;
  for (Token t = -1; t <= static_cast<Token>(tokenizer.vocab_size()); ++t) {
    if (tokenizer.decode(bytes, 1, t) != Status::ok) continue;
    for (char c : bytes) total += static_cast<std::uint8_t>(c);
  }
  REQUIRE(total < std::uint64_t{1} << 40);
}

std::string stream_all(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
  StreamDecoder stream;
  std::vector<char> out(StreamDecoder::out_bytes(tokenizer));
  std::string text;
  for (Token token : tokens) {
    std::uint32_t n;
    REQUIRE(stream.push(n, tokenizer, token, out) == Status::ok);
    text.append(out.data(), n);
  }
  char rest[3];
  const std::uint32_t n = stream.flush(rest);
  return text.append(rest, n);
}

}  // namespace

TEST_CASE("stories260K: every chunk encodes as llama2.c does and decodes to itself", "[tokenizer][data]") {
  Bytes file, text;
  if (!read_data(file, "stories260K/tok512.bin") || !read_data(text, "text/tinystories.txt")) return;
  Vocabulary vocabulary;
  REQUIRE(heed::quant::read_llama2c_tokenizer(vocabulary, file, 512).empty());
  CHECK(vocabulary.byte_count == 256);
  const Built built(vocabulary);
  CHECK(built.section.size() < 4096);
  std::size_t total = 0;
  for (std::size_t c = 0; c < 60; ++c) {
    const std::string_view chunk(reinterpret_cast<const char*>(text.data()) + 900 * c, 900);
    const Encoded e = encode(built.tokenizer, chunk);
    REQUIRE(e.status == Status::ok);
    CAPTURE(c);
    CHECK(e.n == kGoldenChunks[c].count);
    CHECK(crc32(e.tokens.data(), e.tokens.size() * 4) == kGoldenChunks[c].crc);
    CHECK(decode(built.tokenizer, e.tokens) == chunk);
    total += e.n - 1;
  }
  CHECK(total == 26663);
  CHECK(total == kGoldenTotal);

  for (std::size_t n = 0; n <= sizeof kTornText; ++n) {
    const std::string_view torn(reinterpret_cast<const char*>(kTornText), n);
    const Encoded e = encode(built.tokenizer, torn);
    REQUIRE(e.status == Status::ok);
    CAPTURE(n);
    CHECK(e.n == kGoldenTorn[n].count);
    CHECK(crc32(e.tokens.data(), e.tokens.size() * 4) == kGoldenTorn[n].crc);
    CHECK(decode(built.tokenizer, e.tokens) == torn);
  }
}

TEST_CASE("random vocabularies and texts encode as the naive way does", "[tokenizer]") {
  std::mt19937 random(1);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  const std::vector<std::string> alphabet = {
      "a", "b", "c", " ", "\n", "\xC3\xA9", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80", "\x80", "\xFF"};
  for (int round = 0; round < 300; ++round) {
    Vocabulary v = vocabulary_of({}, true, round % 3 != 0);
    for (const std::string& letter : alphabet) {
      if (below(4)) v.pieces.push_back({letter, -1e9f, false});
    }
    for (std::uint32_t i = below(60); i > 0; --i) {
      std::string piece;
      for (std::uint32_t k = 2 + below(5); k > 0; --k) piece += alphabet[below(6)];
      // Few different scores, so that ties are common; some that may never merge.
      const float score = below(10) == 0 ? -1e10f : -static_cast<float>(below(5));
      bool known = false;
      for (const VocabPiece& p : v.pieces) known = known || p.bytes == piece;
      if (!known) v.pieces.push_back({piece, score, false});
    }
    const Built built(v);
    for (int t = 0; t < 6; ++t) {
      std::string text;
      for (std::uint32_t k = below(t == 5 ? 700 : 30); k > 0; --k)
        text += alphabet[below(10) < 7 ? below(4) : below(10)];
      const Encoded e = encode(built.tokenizer, text);
      REQUIRE(e.status == Status::ok);
      REQUIRE(e.tokens == encode_naively(v, text, true));
      REQUIRE(decode(built.tokenizer, e.tokens) == text);
      REQUIRE(decode(built.tokenizer, encode(built.tokenizer, text, {false, false}).tokens) == text);
    }
  }
}

TEST_CASE("merging: best first, of equals the first, BOS and EOS on request", "[tokenizer]") {
  const Built built(vocabulary_of(kPieces));
  const Token hello = 3 + 256 + 6, space = 3 + 256 + 11, h = 3 + 256 + 9, aa = 3 + 256 + 17, a = 3 + 256 + 16;
  CHECK(encode(built.tokenizer, "hello").tokens == std::vector<Token>{1, hello});
  CHECK(encode(built.tokenizer, "hello", {false, false}).tokens == std::vector<Token>{hello});
  CHECK(encode(built.tokenizer, "hello", {true, true}).tokens == std::vector<Token>{1, hello, 2});
  CHECK(encode(built.tokenizer, "aaa").tokens == std::vector<Token>{1, space, aa, a});
  CHECK(encode(built.tokenizer, "").tokens == std::vector<Token>{1});
  CHECK(encode(built.tokenizer, "", {false, false}).tokens.empty());
  CHECK(encode(built.tokenizer, "", {false, true}).tokens == std::vector<Token>{2});
  // " h" ranks above "o", below "he"; "x" has no piece.
  CHECK(encode(built.tokenizer, "hx").tokens == std::vector<Token>{1, 3 + 256 + 4, 3 + 'x'});
  CHECK(encode(built.tokenizer, "xh").tokens == std::vector<Token>{1, space, 3 + 'x', h});
  // The names of control and byte tokens are only text.
  for (const char* name : {"<0x0A>", "\n<s>\n", "\n</s>\n", "<unk>"}) {
    const Encoded e = encode(built.tokenizer, name, {false, false});
    CHECK(e.n > 3);
    CHECK(decode(built.tokenizer, e.tokens) == name);
  }
}

TEST_CASE("any bytes survive the way there and back", "[tokenizer]") {
  const Built built(vocabulary_of(kPieces));
  const std::string nul("a\0b", 3);
  for (const std::string& text :
       {std::string(" hello"), std::string("  hello  "), std::string(" "),
        std::string("caf\xC3\xA9 \xE4\xBD\xA0\xE5\xA5\xBD"),
        std::string("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7"), std::string("\xFF\xFE\x80\x80\x80\x80\x80"),
        std::string("\xC3"), std::string("\xF0\x9F\x98"), nul, std::string()}) {
    for (const EncodeOptions options :
         {EncodeOptions{true, false}, EncodeOptions{false, false}, EncodeOptions{true, true}}) {
      const Encoded e = encode(built.tokenizer, text, options);
      REQUIRE(e.status == Status::ok);
      CHECK(decode(built.tokenizer, e.tokens) == text);
    }
  }
}

TEST_CASE("a vocabulary without byte tokens says where the text has no token", "[tokenizer]") {
  // 105 tokens: 3 control tokens, 95 printable characters, newline, 6 merges; llama2.c would read token 13 for '\t'.
  std::vector<std::string> pieces;
  for (char c = ' '; c <= '~'; ++c) pieces.emplace_back(1, c);
  for (const char* p : {"\n", "he", "ll", "hell", "hello", " hello", " w"}) pieces.emplace_back(p);
  const Vocabulary v = vocabulary_of(pieces, false);
  REQUIRE(v.pieces.size() == 105);
  const Built built(v);
  CHECK(encode(built.tokenizer, "hello world\n").tokens == encode_naively(v, "hello world\n", true));
  const auto offset = [&](std::string_view text) {
    const Encoded e = encode(built.tokenizer, text);
    CHECK(e.status == Status::text_not_expressible);
    return e.n;
  };
  CHECK(offset("tab\there") == 3);
  CHECK(offset("caf\xC3\xA9") == 3);
  CHECK(offset("\xFF") == 0);
  CHECK(encode(built.tokenizer, "tab").status == Status::ok);

  // The same as a file of llama2.c's; and one whose row of byte tokens is cut off by its end.
  const auto file_of = [](const std::vector<std::string>& names) {
    Bytes file = {7, 0, 0, 0};
    for (const std::string& name : names) {
      for (int i = 0; i < 4; ++i) file.push_back(0);
      for (unsigned i = 0; i < 4; ++i) file.push_back(static_cast<std::uint8_t>(name.size() >> (8 * i)));
      file.insert(file.end(), name.begin(), name.end());
    }
    return file;
  };
  std::vector<std::string> names = {"<unk>", "\n<s>\n", "\n</s>\n"};
  names.insert(names.end(), pieces.begin(), pieces.end());
  Vocabulary read;
  REQUIRE(heed::quant::read_llama2c_tokenizer(read, file_of(names), 105).empty());
  CHECK(read.byte_count == 0);
  CHECK(encode(Built(read).tokenizer, "tab\there").status == Status::text_not_expressible);

  names.resize(3);
  for (int b = 0; b < 101; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(b));
    names.emplace_back(name);
  }
  names.emplace_back(" ");
  REQUIRE(heed::quant::read_llama2c_tokenizer(read, file_of(names), 105).empty());
  CHECK(read.byte_count == 101);
  const Built cut(read);
  CHECK(encode(cut.tokenizer, "abcd").tokens == std::vector<Token>{1, 104, 100, 101, 102, 103});
  const Encoded beyond = encode(cut.tokenizer, "abcde\xC3\xA9");
  CHECK(beyond.status == Status::text_not_expressible);
  CHECK(beyond.n == 4);  // 'e' is 101
}

TEST_CASE("a space that the vocabulary lacks is refused at the text's beginning", "[tokenizer]") {
  const Built built(vocabulary_of({"a"}, false));
  const Encoded e = encode(built.tokenizer, "a");
  CHECK(e.status == Status::text_not_expressible);
  CHECK(e.n == 0);
  CHECK(encode(built.tokenizer, "").status == Status::ok);
}

TEST_CASE("without BOS and prefix a character vocabulary is just that", "[tokenizer]") {
  Vocabulary v;
  v.pieces = {{"A", -1e10f, false}, {"B", -1e10f, false}, {"AB", -1e10f, false}, {"\xC3\xA9", -1e10f, false}};
  const Built built(v);
  CHECK(built.tokenizer.bos() == kNoToken);
  CHECK(encode(built.tokenizer, "ABBA\xC3\xA9", {true, true}).tokens == std::vector<Token>{0, 1, 1, 0, 3});
  CHECK(decode(built.tokenizer, {0, 1, 1, 0, 3}) == "ABBA\xC3\xA9");
}

TEST_CASE("wide tables: more than 65,535 tokens and bytes", "[tokenizer]") {
  std::vector<std::string> pieces = {" ", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
  for (int i = 0; i < 70000; ++i) {
    std::string piece;
    for (int k = i + 1; k > 0; k /= 10) piece += static_cast<char>('a' + k % 10);
    if (piece.size() > 1) pieces.push_back(piece);
  }
  const Vocabulary v = vocabulary_of(pieces);
  const Built built(v);
  const std::string text = "abcdefghij jihgfedcba aaaaabbbbbbacbdefghiaaabcdjjjj";
  CHECK(encode(built.tokenizer, text).tokens == encode_naively(v, text, true));
}

TEST_CASE("a long prompt takes no second", "[tokenizer]") {
  const Built built(vocabulary_of(kPieces));
  std::string text;
  while (text.size() < 60000) text += "hello aaaa lo \xC3\xA9 ";
  const Encoded e = encode(built.tokenizer, text);
  CHECK(e.status == Status::ok);
  CHECK(decode(built.tokenizer, e.tokens) == text);
}

TEST_CASE("buffers of the wrong size are refused", "[tokenizer]") {
  const Built built(vocabulary_of(kPieces));
  const std::string_view text = "hello hello";
  std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(text.size()) / 4 + 1);
  auto* bytes = reinterpret_cast<std::byte*>(scratch.data());
  const std::size_t size = Tokenizer::scratch_bytes(text.size());
  Token tokens[3];
  std::uint32_t n = 0;
  CHECK(built.tokenizer.encode(n, text, {}, tokens, {bytes, size}) == Status::ok);
  CHECK(n == 3);
  CHECK(built.tokenizer.encode(n, text, {}, {tokens, 2}, {bytes, size}) == Status::no_room);
  CHECK(n == 3);
  CHECK(built.tokenizer.encode(n, text, {}, tokens, {bytes, size - 1}) == Status::bad_argument);
  CHECK(built.tokenizer.encode(n, text, {}, tokens, {bytes + 1, size}) == Status::misaligned);
  CHECK(built.tokenizer.encode(n, {text.data(), std::size_t{1} << 27}, {}, tokens, {bytes, size}) ==
        Status::bad_argument);
  // Each character a token: the most that a text can give.
  const Encoded most = encode(built.tokenizer, "xyz", {true, true});
  CHECK(most.n == Tokenizer::max_tokens(3));
  static_assert(Tokenizer::scratch_bytes(0) == 8 && Tokenizer::scratch_bytes(60) == 504 &&
                Tokenizer::scratch_bytes(61) == 516);
}

TEST_CASE("decoding refuses tokens outside the vocabulary and strips one space at the beginning only", "[tokenizer]") {
  const Built built(vocabulary_of(kPieces));
  Span<const char> bytes;
  for (Token token : {-1, -2147483647 - 1, static_cast<Token>(built.tokenizer.vocab_size()), 2147483647}) {
    CHECK(built.tokenizer.decode(bytes, kNoToken, token) == Status::bad_token);
  }
  const Token hello = 3 + 256 + 6, two_spaces = 3 + 256 + 15;
  CHECK(decode(built.tokenizer, {hello, hello}) == "hello hello");
  CHECK(decode(built.tokenizer, {1, hello, hello}) == "hello hello");
  CHECK(decode(built.tokenizer, {hello}, hello) == " hello");
  CHECK(decode(built.tokenizer, {two_spaces}) == " ");
  const Built plain(vocabulary_of(kPieces, true, false));
  CHECK(decode(plain.tokenizer, {1, hello}) == " hello");
}

TEST_CASE("the stream holds a character back until it is whole", "[tokenizer][stream]") {
  const Built built(vocabulary_of(kPieces));
  const std::string emoji = "\xF0\x9F\x98\x80";
  const std::vector<Token> tokens = encode(built.tokenizer, "a" + emoji + "b", {false, false}).tokens;
  REQUIRE(tokens.size() == 7);  // space, a, four bytes, b
  StreamDecoder stream;
  std::vector<std::string> pieces;
  std::vector<char> out(StreamDecoder::out_bytes(built.tokenizer));
  for (Token token : tokens) {
    std::uint32_t n;
    REQUIRE(stream.push(n, built.tokenizer, token, out) == Status::ok);
    pieces.emplace_back(out.data(), n);
  }
  CHECK(pieces == std::vector<std::string>{"", "a", "", "", "", emoji, "b"});
  char rest[3];
  CHECK(stream.flush(rest) == 0);

  std::uint32_t n = 9;
  StreamDecoder small;
  CHECK(small.push(n, built.tokenizer, 3 + 0xF0, {out.data(), 5}) == Status::no_room);
  CHECK(n == 0);
  CHECK(small.push(n, built.tokenizer, 99999, out) == Status::bad_token);
  CHECK(small.flush(rest) == 0);
  CHECK(small.push(n, built.tokenizer, 3 + 0xF0, {out.data(), 6}) == Status::ok);
  CHECK(n == 0);
  CHECK(small.flush(rest) == 3);
  CHECK(std::string(rest, 3) == "\xEF\xBF\xBD");
  CHECK(small.flush(rest) == 0);
  StreamDecoder later(tokens[1]);
  REQUIRE(later.push(n, built.tokenizer, tokens[0], out) == Status::ok);
  CHECK(std::string(out.data(), n) == " ");
}

TEST_CASE("the stream gives valid UTF-8 for any bytes", "[tokenizer][stream]") {
  const Built built(vocabulary_of(kPieces, true, false));
  const std::string r = "\xEF\xBF\xBD";
  const auto through = [&](const std::string& bytes) {
    std::vector<Token> tokens;
    for (char c : bytes) tokens.push_back(3 + static_cast<std::uint8_t>(c));
    return stream_all(built.tokenizer, tokens);
  };
  // The first three are the examples of the Unicode standard, section 3.9.
  CHECK(through("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(through("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(through("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == r + r + r + r + "A");
  CHECK(through("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == r + r + r + r + r + "A" + r + r + "B");
  CHECK(through("\xE2\x82") == r);
  for (const char* whole : {"\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
                            "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\x7F"}) {
    CHECK(through(whole) == whole);
  }
}

// ---- Rules -----------------------------------------------------------------------------------------------------

namespace {

struct Broken {
  Built built{vocabulary_of(kPieces)};
  Bytes bytes = built.section;
  std::uint32_t n = built.tokenizer.vocab_size();
  std::size_t offsets = 64, sorted = 64 + 560, ranks = sorted + 40, pieces = ranks + 40;  // 279 tokens, 20 sorted

  void put(std::size_t at, std::uint32_t value, unsigned size = 4) {
    for (unsigned i = 0; i < size; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
  }
  std::uint32_t get(std::size_t at, unsigned size = 4) const {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint32_t{bytes[at + i]} << (8 * i);
    return value;
  }
  Status result() const {
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[bytes.size()]);
    if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
    Tokenizer t;
    return open(t, {exact.get(), bytes.size()}, n);
  }
};

Status with_word(std::size_t at, std::uint32_t value) {
  Broken b;
  b.put(at, value);
  return b.result();
}

}  // namespace

TEST_CASE("the section is laid out as SPEC.md says", "[tokenizer][rules]") {
  Broken b;
  CHECK(b.result() == Status::ok);
  CHECK(b.get(0) == 1);
  CHECK(b.get(4) == 1);
  CHECK(b.get(8) == 279);
  CHECK(b.get(12) == 20);
  CHECK(b.get(20) == 1);
  CHECK(b.get(24) == 2);
  CHECK(b.get(28) == 3);
  CHECK(b.get(32) == 256);
  CHECK(b.get(b.sorted, 2) == 3 + 256 + 12);  // "\n" sorts first
  CHECK(b.bytes.size() == b.pieces + b.get(16));
}

TEST_CASE("K1 a section shorter than its header", "[tokenizer][rules]") {
  Broken b;
  b.bytes.resize(63);
  CHECK(b.result() == Status::bad_tokenizer);
  b.bytes.clear();
  CHECK(b.result() == Status::bad_tokenizer);
}

TEST_CASE("K2 an unknown kind", "[tokenizer][rules]") {
  for (std::uint32_t kind : {0u, 2u, 0x01000000u, 0xFFFFFFFFu}) CHECK(with_word(0, kind) == Status::feature_not_built);
}

TEST_CASE("K3 unknown flags and reserved bytes", "[tokenizer][rules]") {
  CHECK(with_word(4, 0) == Status::ok);
  for (unsigned bit = 1; bit < 32; ++bit) CHECK(with_word(4, 1u << bit) == Status::bad_tokenizer);
  for (std::size_t at = 36; at < 64; ++at) {
    Broken b;
    b.bytes[at] = 1;
    CHECK(b.result() == Status::bad_tokenizer);
  }
}

TEST_CASE("K4 a vocabulary that is not the model's", "[tokenizer][rules]") {
  Broken b;
  for (std::uint32_t n : {0u, 278u, 280u}) {
    b.n = n;
    CHECK(b.result() == Status::bad_tokenizer);
  }
  for (std::uint32_t n : {0u, 1u << 24, 0xFFFFFFFFu}) {
    b.n = n;
    b.put(8, n);
    CHECK(b.result() == Status::bad_tokenizer);
  }
}

TEST_CASE("K5 more sorted tokens than tokens", "[tokenizer][rules]") {
  Broken b;
  b.put(12, 280);
  b.bytes.resize(b.bytes.size() + 2 * 520);
  CHECK(b.result() == Status::bad_tokenizer);
}

TEST_CASE("K6 a size that the counts do not give", "[tokenizer][rules]") {
  Broken b;
  b.bytes.push_back(0);
  CHECK(b.result() == Status::bad_tokenizer);
  for (std::size_t at : {12u, 16u}) {
    const Broken whole;
    CHECK(with_word(at, whole.get(at) + 1) == Status::bad_tokenizer);
    CHECK(with_word(at, whole.get(at) - 1) == Status::bad_tokenizer);
    CHECK(with_word(at, 0xFFFFFFFFu) == Status::bad_tokenizer);
  }
}

TEST_CASE("K7 BOS or EOS outside the vocabulary", "[tokenizer][rules]") {
  for (std::size_t at : {20u, 24u}) {
    CHECK(with_word(at, 0xFFFFFFFFu) == Status::ok);
    for (std::uint32_t t : {279u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFEu})
      CHECK(with_word(at, t) == Status::bad_tokenizer);
  }
}

TEST_CASE("K8 byte tokens outside the vocabulary, or BOS or EOS among them", "[tokenizer][rules]") {
  for (std::size_t at : {20u, 24u}) {
    CHECK(with_word(at, 3) == Status::bad_tokenizer);
    CHECK(with_word(at, 258) == Status::bad_tokenizer);
    CHECK(with_word(at, 0) == Status::ok);
  }
  CHECK(with_word(32, 257) == Status::bad_tokenizer);
  CHECK(with_word(32, 0xFFFFFFFFu) == Status::bad_tokenizer);
  CHECK(with_word(28, 24) == Status::bad_tokenizer);
  CHECK(with_word(28, 280) == Status::bad_tokenizer);
  CHECK(with_word(28, 0xFFFFFFFFu) == Status::bad_tokenizer);
  CHECK(with_word(32, 0) == Status::bad_tokenizer);  // none, but a first one
}

TEST_CASE("K9 padding that is not zero", "[tokenizer][rules]") {
  // 259 tokens make 260 offsets; an odd number of sorted ones pads both other tables. And one token pads the offsets.
  const Built odd(vocabulary_of({"b", "a", "ab"}, false));
  Tokenizer t;
  for (std::size_t at : {64u + 14u, 64u + 16u + 6u, 64u + 16u + 8u + 6u}) {
    Bytes bytes = odd.section;
    CHECK(open(t, bytes, 6) == Status::ok);
    REQUIRE(bytes[at] == 0);
    bytes[at] = 1;
    CHECK(open(t, bytes, 6) == Status::bad_tokenizer);
  }
}

TEST_CASE("K10 offsets that do not ascend from 0 to the end, or a piece too long", "[tokenizer][rules]") {
  Broken b;
  b.put(b.offsets, 1, 2);
  CHECK(b.result() == Status::bad_tokenizer);
  Broken down;
  down.put(down.offsets + 2 * 270, down.get(down.offsets + 2 * 269, 2) - 1, 2);
  CHECK(down.result() == Status::bad_tokenizer);
  for (std::uint32_t change : {1u, 0xFFFFu}) {
    Broken end;
    end.put(end.offsets + 2 * 279, end.get(end.offsets + 2 * 279, 2) + change, 2);
    CHECK(end.result() == Status::bad_tokenizer);
  }
  Vocabulary v = vocabulary_of({std::string(255, 'x')}, false);
  const Built longest(v);
  CHECK(longest.tokenizer.max_piece_bytes() == 255);
  // One byte more, taken from the piece before.
  Bytes bytes = longest.section;
  --bytes[64 + 2 * 3];
  Tokenizer t;
  CHECK(open(t, bytes, 4) == Status::bad_tokenizer);
}

TEST_CASE("K11 a byte token that is not its byte", "[tokenizer][rules]") {
  Broken b;
  const std::uint32_t at = b.get(b.offsets + 2 * (3 + 65), 2);
  REQUIRE(b.bytes[b.pieces + at] == 65);
  b.bytes[b.pieces + at] = 66;
  CHECK(b.result() == Status::bad_tokenizer);
  CHECK(with_word(28, 4) == Status::bad_tokenizer);
}

TEST_CASE("K12 a sorted list with a control or byte token, an unknown one, or out of order", "[tokenizer][rules]") {
  for (std::uint32_t id : {1u, 2u, 3u, 258u, 279u, 0xFFFFu}) {
    Broken b;
    b.put(b.sorted, id, 2);
    CAPTURE(id);
    CHECK(b.result() == Status::bad_tokenizer);
  }
  Broken swapped;
  const std::uint32_t first = swapped.get(swapped.sorted, 2), second = swapped.get(swapped.sorted + 2, 2);
  swapped.put(swapped.sorted, second, 2);
  swapped.put(swapped.sorted + 2, first, 2);
  CHECK(swapped.result() == Status::bad_tokenizer);
  Broken twice;
  twice.put(twice.sorted + 2, first, 2);
  CHECK(twice.result() == Status::bad_tokenizer);
  // An empty piece: shorten "b" to nothing by moving the end.
  const Built small(vocabulary_of({"b"}, false));
  Bytes bytes = small.section;
  bytes[64 + 2 * 3] = bytes[64 + 2 * 4];
  Tokenizer t;
  CHECK(open(t, small.section, 4) == Status::ok);
  CHECK(open(t, bytes, 4) == Status::bad_tokenizer);
}

TEST_CASE("truncated and mutated sections are refused or harmless", "[tokenizer][rules]") {
  Broken whole;
  for (std::size_t size = 0; size < whole.built.section.size(); ++size) {
    whole.bytes.assign(whole.built.section.begin(), whole.built.section.begin() + static_cast<std::ptrdiff_t>(size));
    REQUIRE(whole.result() != Status::ok);
  }
  const std::string text = "hello \xC3\xA9 aaaa\n \xF0\x9F\x98\x80 lo \xFF<0x41> hell";
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int refused = 0, opened = 0;
  for (int round = 0; round < 10000; ++round) {
    Broken b;
    const std::size_t tail = b.bytes.size() - 32;  // pieces that merge
    for (std::size_t k = 1 + below(3); k > 0; --k) {
      // Anywhere, or where a view can survive it.
      const std::size_t at = round % 2 ? below(b.bytes.size()) : below(4) ? b.ranks + below(40) : tail + below(32);
      if (below(2)) {
        b.bytes[at] ^= static_cast<std::uint8_t>(1u << below(8));
      } else {
        b.bytes[at] = static_cast<std::uint8_t>(below(256));
      }
    }
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[b.bytes.size()]);
    std::memcpy(exact.get(), b.bytes.data(), b.bytes.size());
    Tokenizer t;
    if (open(t, {exact.get(), b.bytes.size()}, b.n) == Status::ok) {
      ++opened;
      exercise(t, text);
    } else {
      ++refused;
    }
  }
  std::printf("tokenizer mutations: %d refused, %d opened and used\n", refused, opened);
  CHECK(refused > 1000);
  CHECK(opened > 1000);
}

// ---- The builder and the reader ---------------------------------------------------------------------------------

TEST_CASE("the builder says what does not fit", "[tokenizer][quant]") {
  Bytes section;
  const auto error = [&](const Vocabulary& v) { return heed::quant::build_tokenizer_section(section, v); };
  CHECK_FALSE(error({}).empty());
  Vocabulary v = vocabulary_of({"a"});
  CHECK(error(v).empty());
  v.bos = 260;
  CHECK(error(v) == "BOS or EOS lies outside the vocabulary");
  v.bos = 3;
  CHECK(error(v) == "BOS or EOS is a byte token");
  v = vocabulary_of({std::string(256, 'x')});
  CHECK(error(v) == "token 259 has 256 bytes, more than 255");
  v = vocabulary_of({"a"});
  v.pieces[68].bytes = "B";
  CHECK(error(v) == "token 68 is not the byte that its place says");
  v = vocabulary_of({"a"});
  v.first_byte = 5;
  CHECK(error(v) == "the byte tokens lie outside the vocabulary");
  // Of two equal pieces the lower id is encoded.
  CHECK(encode(Built(vocabulary_of({" ", "a", "a"})).tokenizer, "a").tokens == std::vector<Token>{1, 259, 260});
}

TEST_CASE("the llama2.c reader refuses hostile files with one line", "[tokenizer][quant]") {
  Bytes good = {7, 0, 0, 0};
  const std::vector<std::string> names = {"<unk>", "\n<s>\n", "\n</s>\n", " ", "a", "b", " a", "<0x41>"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    const float score = -static_cast<float>(i);
    std::uint32_t bits;
    std::memcpy(&bits, &score, 4);
    for (unsigned k = 0; k < 4; ++k) good.push_back(static_cast<std::uint8_t>(bits >> (8 * k)));
    for (unsigned k = 0; k < 4; ++k) good.push_back(static_cast<std::uint8_t>(names[i].size() >> (8 * k)));
    good.insert(good.end(), names[i].begin(), names[i].end());
  }
  Vocabulary v;
  const auto error = [&](const Bytes& bytes, std::uint32_t n) {
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[bytes.size()]);
    if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
    const std::string line = heed::quant::read_llama2c_tokenizer(v, {exact.get(), bytes.size()}, n);
    CHECK(line.find('\n') == std::string::npos);
    return line;
  };
  REQUIRE(error(good, 8).empty());
  CHECK(v.pieces[7].bytes == "A");  // out of its row: decodes to the byte, is never encoded
  CHECK(v.byte_count == 0);
  CHECK(encode(Built(v).tokenizer, "a b").tokens == std::vector<Token>{1, 6, 3, 5});

  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK_FALSE(error(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)), 8).empty());
  }
  CHECK(error(good, 7) ==
        "llama2.c tokenizer: 14 bytes follow the model's 7 tokens; does this tokenizer belong to the model?");
  CHECK_FALSE(error(good, 9).empty());
  CHECK_FALSE(error(good, 3).empty());
  CHECK_FALSE(error(good, 0xFFFFFFFFu).empty());
  Bytes bad = good;
  bad[11] = 0xFF;  // a negative length
  CHECK(error(bad, 8) == "llama2.c tokenizer: token 0 has a length of 4278190085, more than 255");
  bad = good;
  bad[6] = 0xC0;
  bad[7] = 0x7F;
  CHECK(error(bad, 8) == "llama2.c tokenizer: token 0 has a score that is not a number");
  std::mt19937 random(3);
  for (int round = 0; round < 5000; ++round) {
    bad = good;
    for (int k = 0; k < 3; ++k) bad[random() % bad.size()] = static_cast<std::uint8_t>(random());
    if (!error(bad, 8).empty()) continue;
    Bytes section;
    REQUIRE(heed::quant::build_tokenizer_section(section, v).empty());
    Tokenizer t;
    REQUIRE(open(t, section, 8) == Status::ok);
    exercise(t, "a b a");
  }
}
