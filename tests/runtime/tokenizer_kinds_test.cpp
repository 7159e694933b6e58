// SPDX-License-Identifier: Apache-2.0
// tokenizer_kinds_test.cpp: byte pairs, unigram, WordPiece, added tokens and templates on vocabularies of a few pieces, and every
// rule K2, K3, K9 and K13 to K22 broken once. Random vocabularies are for tests/reference/spec_tokenizer.py.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "quant/character_map.hpp"
#include "quant/tokenizer_tables.hpp"
#include "quant/unicode.hpp"
#include "runtime/tokenizer.hpp"
#include "tests/support/charsmap.hpp"

namespace {

using namespace heed;
using heed::quant::AddedToken;
using heed::quant::PieceMerge;
using heed::quant::Vocabulary;
using Bytes = std::vector<std::uint8_t>;
using Tokens = std::vector<Token>;

struct Built {
  Bytes section;
  Tokenizer tokenizer;
  explicit Built(const Vocabulary& v) {
    const std::string error = quant::build_tokenizer_section(section, v);
    INFO(error);
    REQUIRE(error.empty());
    REQUIRE(open(tokenizer, section, static_cast<std::uint32_t>(v.pieces.size())) == Status::ok);
  }
};

struct Encoded {
  Status status;
  std::uint32_t n;
  Tokens tokens;
};

Encoded encode(const Tokenizer& t, std::string_view text, EncodeOptions options = {false, false, false}) {
  // On the heap and not a byte more than promised, so that the address sanitizer guards the ends.
  const std::unique_ptr<char[]> copy(new char[text.size()]);
  std::memcpy(copy.get(), text.data(), text.size());
  const std::size_t bytes = Tokenizer::scratch_bytes(text.size(), t.growth());
  const std::unique_ptr<std::uint32_t[]> scratch(new std::uint32_t[bytes / 4]);
  Encoded e{};
  e.tokens.resize(Tokenizer::max_tokens(text.size(), t.growth()));
  e.status = t.encode(e.n, {copy.get(), text.size()}, options, e.tokens, {reinterpret_cast<std::byte*>(scratch.get()), bytes});
  e.tokens.resize(e.status == Status::ok ? e.n : 0);
  return e;
}

Tokens tokens_of(const Built& built, std::string_view text, EncodeOptions options = {false, false, false}) {
  const Encoded e = encode(built.tokenizer, text, options);
  REQUIRE(e.status == Status::ok);
  return e.tokens;
}

std::string streamed(const Tokenizer& t, const Tokens& tokens) {
  StreamDecoder stream;
  std::vector<char> out(StreamDecoder::out_bytes(t));
  std::string text;
  std::uint32_t n;
  for (Token token : tokens) {
    REQUIRE(stream.push(n, t, token, out) == Status::ok);
    for (std::size_t at = 0; at < n;) {  // whole characters only
      const utf8::Character c = utf8::read(reinterpret_cast<const std::uint8_t*>(out.data()) + at, n - at);
      REQUIRE(c.code < utf8::kLimit);
      at += c.size;
    }
    text.append(out.data(), n);
  }
  char rest[3];
  n = stream.flush(rest);
  return text.append(rest, n);
}

Vocabulary bytes_vocabulary(SplitRule split) {
  Vocabulary v;
  v.kind = TokenizerKind::byte_pairs;
  v.split = split;
  for (int b = 0; b < 256; ++b) v.pieces.push_back({std::string(1, static_cast<char>(b)), 0, false});
  return v;
}

Vocabulary words_vocabulary() {
  Vocabulary v;
  v.kind = TokenizerKind::word_pieces;
  v.pieces = {{"[UNK]", 0, true}, {"[CLS]", 0, true}, {"[SEP]", 0, true}, {"[MASK]", 0, true}, {"un", 0, false},
              {"aff", 0, false, true}, {"able", 0, false, true}, {"##", 0, false}, {".", 0, false}, {"cafe", 0, false},
              {"\xE4\xBD\xA0", 0, false}, {"a", 0, false}, {"a", 0, false, true}, {"\xE1\x84\x80", 0, false},
              {"\xE1\x85\xA1", 0, false, true}, {"caf\xC3\xA9", 0, false}, {"Cafe", 0, false}};
  v.unk = 0;
  v.bos = 1;
  v.eos = 2;
  v.lower_case = v.strip_accents = true;
  v.added = {{3, true}};
  return v;
}

Vocabulary unigram_vocabulary() {
  Vocabulary v;
  v.kind = TokenizerKind::unigram;
  v.pieces = {{"<unk>", 0, true}, {"<s>", 0, true},  {"</s>", 0, true},      {" ", -3, false},         {"a", -4, false},
              {"b", -4, false},   {"ab", -5, false}, {" a", -4.5f, false},   {" ab", -9, false},      {"abab", -9.5f, false},
              {"\xC3\xA9", -6, false}, {"<x>", 0, true}};
  v.unk = 0;
  v.eos = 2;
  v.prefix_space = v.collapse_spaces = v.visible_space = true;
  return v;
}

// The words that a rule cuts a text into, found by making each expected one a piece.
void check_words(SplitRule split, std::string_view text, const std::vector<std::string>& words) {
  Vocabulary v = bytes_vocabulary(split);
  v.whole_words = true;
  Tokens expected;
  for (const std::string& word : words) {
    Token token = kNoToken;
    for (std::size_t i = 0; i < v.pieces.size(); ++i)
      if (v.pieces[i].bytes == word) token = static_cast<Token>(i);
    if (token == kNoToken) {
      token = static_cast<Token>(v.pieces.size());
      v.pieces.push_back({word, 0, false});
    }
    expected.push_back(token);
  }
  CAPTURE(text);
  CHECK(tokens_of(Built(v), text) == expected);
}

}  // namespace

TEST_CASE("the splitting rules", "[tokenizer][byte pairs]") {
  const SplitRule gpt2 = SplitRule::gpt2, llama3 = SplitRule::llama3, qwen2 = SplitRule::qwen2;
  check_words(gpt2, "Hello world's  12345!", {"Hello", " world", "'s", " ", " 12345", "!"});
  check_words(llama3, "Hello world's  12345!", {"Hello", " world", "'s", " ", " ", "123", "45", "!"});
  check_words(qwen2, "a12", {"a", "1", "2"});
  check_words(gpt2, "I'LL we'll 'r 're'x", {"I", "'", "LL", " we", "'ll", " '", "r", " '", "re", "'", "x"});
  check_words(llama3, "I'LL we'LL 'Re 'rx", {"I", "'LL", " we", "'LL", " '", "Re", " '", "rx"});
  check_words(llama3, "'LLx'rex", {"'LL", "x", "'re", "x"});
  check_words(llama3, "a\n  ", {"a", "\n", "  "});
  check_words(llama3, "'rx'\xC5\xBFx", {"'rx", "'\xC5\xBF", "x"});
  check_words(gpt2, "'rx", {"'", "rx"});
  check_words(gpt2, " \n\n x\n", {" \n\n", " x", "\n"});
  check_words(llama3, " \n\n  x\n", {" \n\n", " ", " x", "\n"});
  check_words(llama3, "!\n\nx..\r\n a", {"!\n\n", "x", "..\r\n", " a"});
  check_words(llama3, "(a) \tb\t1", {"(a", ")", " ", "\tb", "\t", "1"});
  check_words(gpt2, "(a) \tb", {"(", "a", ")", " ", "\t", "b"});
  check_words(gpt2, "a  ", {"a", "  "});
  check_words(gpt2, "\xC3\xA9t\xC3\xA9\xC2\xA0\xE4\xBD\xA0\xC2\xBD", {"\xC3\xA9t\xC3\xA9", "\xC2\xA0", "\xE4\xBD\xA0", "\xC2\xBD"});
  check_words(SplitRule::gpt2_digits, "a  12 b", {"a", "  ", "1", "2", " b"});
  check_words(SplitRule::bloom, "Hi  there, you.", {"Hi", " ", " there", ",", " you", "."});
  check_words(SplitRule::none, "a b\n", {"a b\n"});
  // Bytes that are no character's are marks, and survive.
  check_words(gpt2, "a\xFF\x80 \xE2\x96", {"a", "\xFF\x80", " \xE2\x96"});
}

TEST_CASE("byte pairs merge what the list names, by its order", "[tokenizer][byte pairs]") {
  Vocabulary v = bytes_vocabulary(SplitRule::gpt2);
  const Token a = 'a', b = 'b', c = 'c';
  v.pieces.push_back({"ab", 0, false});   // 256
  v.pieces.push_back({"bc", 0, false});   // 257
  v.pieces.push_back({"abc", 0, false});  // 258
  v.merges = {{b, c}, {a, b}, {256, c}};
  // "bc" merges first, and then "a" + "bc" is not in the list.
  CHECK(tokens_of(Built(v), "abc") == Tokens{a, 257});
  v.whole_words = true;
  CHECK(tokens_of(Built(v), "abc") == Tokens{258});
  CHECK(tokens_of(Built(v), " abc") == Tokens{' ', a, 257});
  v.whole_words = false;
  // Both ways to "abc": it does not matter what the parts are.
  v.merges.push_back({a, 257});
  CHECK(tokens_of(Built(v), "abc") == Tokens{258});
  // Two ways of three have ranks of their own: a + bcd merges behind ab, ab + cd before it.
  v.pieces.push_back({"cd", 0, false});    // 259
  v.pieces.push_back({"bcd", 0, false});   // 260
  v.pieces.push_back({"abcd", 0, false});  // 261
  v.merges = {{c, 'd'}, {256, 259}, {b, 259}, {a, b}, {a, 260}, {258, 'd'}};
  v.merges.pop_back();
  CHECK(tokens_of(Built(v), "abcd") == Tokens{261});
  v.merges.pop_back();
  CHECK(tokens_of(Built(v), "abcd") == Tokens{a, 260});
  // A piece longer than a merge can make is refused, and so is one that there is not.
  Bytes section;
  v.merges.push_back({a, a});
  CHECK(quant::build_tokenizer_section(section, v) == "merge 4 makes a piece that is not in the vocabulary");
}

TEST_CASE("byte pairs: half a character is never printed", "[tokenizer][byte pairs]") {
  const Built built(bytes_vocabulary(SplitRule::llama3));
  const std::string text = "\xE4\xBD\xA0 \xF0\x9F\x98\x80";
  CHECK(streamed(built.tokenizer, tokens_of(built, text)) == text);
  CHECK(streamed(built.tokenizer, {0xE4, 0xBD}) == "\xEF\xBF\xBD");
}

TEST_CASE("a byte without a token is refused or unknown", "[tokenizer][byte pairs]") {
  Vocabulary v = bytes_vocabulary(SplitRule::gpt2);
  v.pieces['!'].control = true;
  CHECK(encode(Built(v).tokenizer, "a!").status == Status::text_not_expressible);
  v.unk = '!';
  CHECK(tokens_of(Built(v), "a!!b") == Tokens{'a', '!', 'b'});
}

TEST_CASE("composition: order, blocking, Hangul, exclusions, and a run of marks of any length", "[tokenizer][byte pairs]") {
  if (!quant::unicode::is_known()) return;
  Vocabulary v = bytes_vocabulary(SplitRule::none);
  v.compose = true;
  const Built built(v);
  const auto composed = [&](const std::vector<std::uint32_t>& codes) {
    std::string text;
    for (std::uint32_t code : codes) text += quant::utf8_of(code);
    std::vector<std::uint32_t> out;
    std::string bytes;
    for (Token t : tokens_of(built, text)) bytes += static_cast<char>(t);
    for (std::size_t at = 0; at < bytes.size();) {
      const utf8::Character c = utf8::read(reinterpret_cast<const std::uint8_t*>(bytes.data()) + at, bytes.size() - at);
      out.push_back(c.code);
      at += c.size;
    }
    return out;
  };
  using Codes = std::vector<std::uint32_t>;
  CHECK(composed({'e', 0x301}) == Codes{0xE9});
  CHECK(composed({'a', 0x301, 0x323}) == Codes{0x1EA1, 0x301});       // the dot below goes first
  CHECK(composed({'a', 0x323, 0x302}) == Codes{0x1EAD});
  CHECK(composed({'a', 0x300, 0x301}) == Codes{0xE0, 0x301});          // the second is blocked
  CHECK(composed({'b', 0x315, 0x300}) == Codes{'b', 0x300, 0x315});
  CHECK(composed({0x1100, 0x1161, 0x11A8}) == Codes{0xAC01});
  CHECK(composed({0xAC00, 0x11A8}) == Codes{0xAC01});
  CHECK(composed({0xAC01, 0x11A8}) == Codes{0xAC01, 0x11A8});
  CHECK(composed({0x958}) == Codes{0x915, 0x93C});                     // excluded
  CHECK(composed({0x9C7, 0x9BE}) == Codes{0x9CB});                     // both are bases
  CHECK(composed({0x9C7, 0x301, 0x9BE}) == Codes{0x9C7, 0x301, 0x9BE});  // but not across a mark
  CHECK(composed({0x301, 'a'}) == Codes{0x301, 'a'});
  CHECK(composed({0x212B}) == Codes{0xC5});
  CHECK(composed({0x1D160}) == Codes{0x1D158, 0x1D165, 0x1D16E});
  Codes marks{'q'}, sorted{'q'};
  for (int i = 0; i < 500; ++i) marks.push_back(i % 2 ? 0x323 : 0x301);
  for (int i = 0; i < 500; ++i) sorted.push_back(i < 250 ? 0x323 : 0x301);
  CHECK(composed(marks) == sorted);
}

TEST_CASE("WordPiece", "[tokenizer][words]") {
  if (!quant::unicode::is_known()) return;
  Vocabulary v = words_vocabulary();
  const Built built(v);
  CHECK(tokens_of(built, "UnAffable.") == Tokens{4, 5, 6, 8});
  CHECK(tokens_of(built, " \t caf\xC3\xA9 cafe\xCC\x81\n") == Tokens{9, 9});
  CHECK(tokens_of(built, "unx un") == Tokens{0, 4});  // the whole word
  CHECK(tokens_of(built, "un\xE4\xBD\xA0un") == Tokens{4, 10, 4});
  CHECK(tokens_of(built, "u\xC2\xADn\x01\xFF") == Tokens{4});  // soft hyphen, control, no character
  CHECK(tokens_of(built, "\xEA\xB0\x80") == Tokens{13, 14});    // a syllable's jamo
  CHECK(tokens_of(built, "## [MASK]") == Tokens{0, 0, 0, 0, 0});
  CHECK(tokens_of(built, "") == Tokens{});
  CHECK(tokens_of(built, std::string(100, 'a')).size() == 100);
  CHECK(tokens_of(built, std::string(101, 'a')) == Tokens{0});
  CHECK(tokens_of(built, "un un", {true, true}) == Tokens{1, 4, 4, 2});
  CHECK(tokens_of(built, "un [MASK]un", {true, true, true}) == Tokens{1, 4, 3, 4, 2});
  CHECK(streamed(built.tokenizer, {4, 5, 6, 8, 3}) == "unaffable . [MASK]");
  // Cased: as it is written.
  v.lower_case = v.strip_accents = false;
  CHECK(tokens_of(Built(v), "Cafe caf\xC3\xA9 CAFE") == Tokens{16, 15, 0});
  // It needs no scratch.
  std::uint32_t n = 0;
  Token tokens[8];
  CHECK(built.tokenizer.encode(n, Span<const char>("unaffable", 9), {}, tokens, {}) == Status::ok);
  CHECK(n == 4);
}

TEST_CASE("unigram: the best path, ties, unknown, spaces", "[tokenizer][unigram]") {
  Vocabulary v = unigram_vocabulary();
  const Built built(v);
  CHECK(tokens_of(built, "ab") == Tokens{3, 6});             // " " + "ab" is -8, " a" + "b" -8.5, " ab" -9
  CHECK(tokens_of(built, "  a  b  ") == Tokens{7, 3, 5});
  CHECK(tokens_of(built, "abab") == Tokens{3, 9});           // before "ab" + "ab", -13 with the space
  CHECK(tokens_of(built, "   ") == Tokens{});
  CHECK(tokens_of(built, "xyb") == Tokens{3, 0, 5});         // neighbours in one
  CHECK(tokens_of(built, "\xE2\x96\x81" "a\xE2\x96\x81") == Tokens{3, 7});
  CHECK(tokens_of(built, "\xFF") == Tokens{3, 0});
  CHECK(streamed(built.tokenizer, tokens_of(built, "ab a")) == "ab a");
  // Of equals the way that came first stays: the piece that begins earlier.
  v.pieces[8].score = -8;
  CHECK(tokens_of(Built(v), "ab") == Tokens{8});
  // The exact sum is compared with a rounded one: -1/2 - (1/2 - 2^-25) is rounded to -1, and greater.
  v = unigram_vocabulary();
  v.prefix_space = false;
  v.pieces[4].score = -0.5f;
  v.pieces[5].score = -0.5f + 0x1p-25f;
  v.pieces[6].score = -1;
  CHECK(tokens_of(Built(v), "ab") == Tokens{4, 5});
  v.pieces[5].score = -0.5f;
  CHECK(tokens_of(Built(v), "ab") == Tokens{6});
  // A space in front of an added token is inside the text.
  v = unigram_vocabulary();
  v.added = {{11}};
  CHECK(tokens_of(Built(v), "a  <x> ") == Tokens{7, 3, 11});
  // Bytes in the place of unknown characters.
  v = unigram_vocabulary();
  v.first_byte = static_cast<std::uint32_t>(v.pieces.size());
  v.byte_count = 256;
  for (int i = 0; i < 256; ++i) v.pieces.push_back({std::string(1, static_cast<char>(i)), 0, false});
  CHECK(tokens_of(Built(v), "\xC3\xA0") == Tokens{3, 12 + 0xC3, 12 + 0xA0});
  CHECK(streamed(Built(v).tokenizer, {3, 12 + 0xC3, 12 + 0xA0}) == "\xC3\xA0");
  // Without unknown and bytes the text is refused.
  v = unigram_vocabulary();
  v.unk = kNoToken;
  CHECK(encode(Built(v).tokenizer, "ax").status == Status::text_not_expressible);
  // A character map: the longest key.
  v = unigram_vocabulary();
  v.charsmap = heed::test::charsmap({{"e\xCC\x81", "\xC3\xA9"}, {"e", "b"}, {"\n", " "}, {"\xEF\xBC\xA1", "ab"}, {"\r", ""}});
  CHECK(tokens_of(Built(v), "e\xCC\x81" "e\n\r\xEF\xBC\xA1") == Tokens{3, 10, 5, 3, 6});
  v.charsmap.resize(9);
  Bytes section;
  CHECK(quant::build_tokenizer_section(section, v) == "precompiled_charsmap is broken");
}

TEST_CASE("unigram: memory is that of the longest stretch that no piece leaves", "[tokenizer][unigram]") {
  Vocabulary v = unigram_vocabulary();
  const Built built(v);
  std::string text;
  for (int i = 0; i < 500; ++i) text += "ab x ";
  std::uint32_t n = 0;
  std::vector<Token> tokens(5000);
  std::uint32_t scratch[20];
  const Span<std::byte> bytes(reinterpret_cast<std::byte*>(scratch), sizeof scratch);
  CHECK(built.tokenizer.encode(n, text, {false, false}, tokens, bytes) == Status::ok);
  CHECK(n == 2000);
  text.clear();
  for (int i = 0; i < 500; ++i) text += "ab";  // pieces reach across each other
  CHECK(built.tokenizer.encode(n, text, {false, false}, tokens, bytes) == Status::bad_argument);
  CHECK(tokens_of(built, text) == [] {
    Tokens all{3};
    for (int i = 0; i < 250; ++i) all.push_back(9);
    return all;
  }());
}

TEST_CASE("unknown and added tokens with SentencePiece BPE", "[tokenizer][added]") {
  Vocabulary v;
  v.pieces = {{"<unk>", 0, true}, {"<s>", 0, true}, {"</s>", 0, true}, {"<x>", 0, true}, {"<x><x>", 0, true}, {" ", -9, false},
              {"a", -9, false}, {"b", -9, false}, {"ab", -1, false}, {" a", -2, false}};
  v.unk = 0;
  v.bos = 1;
  v.prefix_space = true;
  v.added = {{1, true}, {3}, {4}};
  const Built built(v);
  CHECK(tokens_of(built, "ab") == Tokens{5, 8});
  CHECK(tokens_of(built, "axyb") == Tokens{9, 0, 7});
  const Tokens once = tokens_of(built, "xa\xE4\xBD\xA0");
  CHECK(once == Tokens{5, 0, 6, 0});
  CHECK(built.tokenizer.unk() == 0);
  CHECK(tokens_of(built, "a<x>b<x><x>") == Tokens{9, 3, 7, 4});  // the longest
  CHECK(tokens_of(built, "a<s>b") == Tokens{9, 0, 7});           // special: only if asked for
  CHECK(tokens_of(built, "a<s>b", {true, false, true}) == Tokens{1, 9, 1, 7});
  v.fresh_text = true;
  CHECK(tokens_of(Built(v), "a<s>a", {true, false, true}) == Tokens{1, 9, 1, 9});
  CHECK(tokens_of(Built(v), "a<x>a", {true, false, true}) == Tokens{1, 9, 3, 6});
  v.added = {{3, false, true, true}};
  CHECK(tokens_of(Built(v), "a \n<x>\t b") == Tokens{9, 3, 7});
  v.added = {{3, false, false, false, true}};
  CHECK(tokens_of(Built(v), "a <x> b") == Tokens{9, 5, 3, 5, 7});
  CHECK(tokens_of(Built(v), "a<x> ") == Tokens{9, 0, 5});
  // With all bytes there is no unknown text, and the section is as it was before.
  v = Vocabulary();
  v.pieces = {{"<unk>", 0, true}};
  v.first_byte = 1;
  v.byte_count = 256;
  for (int i = 0; i < 256; ++i) v.pieces.push_back({std::string(1, static_cast<char>(i)), 0, false});
  const Bytes before = Built(v).section;
  v.unk = 0;
  CHECK(Built(v).section == before);
}

TEST_CASE("what stands around one text and two", "[tokenizer][around]") {
  Vocabulary v = unigram_vocabulary();
  std::uint32_t n = 0, n_first = 0;
  Token tokens[32];
  std::uint32_t scratch[64];
  const Span<std::byte> bytes(reinterpret_cast<std::byte*>(scratch), sizeof scratch);
  const auto pair = [&](const Built& built) {
    REQUIRE(built.tokenizer.encode_pair(n, n_first, Span<const char>("a", 1), Span<const char>("b", 1), tokens, bytes) == Status::ok);
    return Tokens(tokens, tokens + n);
  };
  CHECK(pair(Built(v)) == Tokens{7, 2, 3, 5, 2});  // EOS behind each, as T5 has it
  CHECK(n_first == 2);
  v.has_template = true;
  v.text_template = {{1}, {2, 2}, {2}, true};  // RoBERTa's
  const Built built(v);
  CHECK(pair(built) == Tokens{1, 7, 2, 2, 3, 5, 2});
  CHECK(n_first == 4);
  CHECK(built.tokenizer.has_second_type());
  CHECK(tokens_of(built, "a", {true, true}) == Tokens{1, 7, 2});
  CHECK(tokens_of(built, "a", {false, true}) == Tokens{7, 2});
  // How many they would be.
  CHECK(built.tokenizer.encode_pair(n, n_first, Span<const char>("a", 1), Span<const char>("b", 1), {tokens, 3}, bytes) == Status::no_room);
  CHECK(n == 7);
  CHECK(built.tokenizer.encode(n, Span<const char>("a b", 3), {true, true}, {tokens, 1}, bytes) == Status::no_room);
  CHECK(n == 5);
  v.text_template.before = {1, 1};
  Bytes section;
  CHECK(!quant::build_tokenizer_section(section, v).empty());
}

TEST_CASE("bytes and the letters that stand for them", "[tokenizer]") {
  std::string bytes;
  CHECK((quant::from_byte_letters(bytes, "\xC4\xA0the") && bytes == " the"));
  CHECK((quant::from_byte_letters(bytes, "\xC3\xA9\xC5\x83") && bytes == "\xE9\xAD"));
  CHECK(!quant::from_byte_letters(bytes, " "));
  CHECK(!quant::from_byte_letters(bytes, "\xE4\xBD\xA0"));
}

namespace {

// Where the rules block of a section begins, and a number of it.
std::size_t block_of(const Bytes& s) {
  const auto u32 = [&](std::size_t at) {
    std::uint32_t x;
    std::memcpy(&x, s.data() + at, 4);
    return x;
  };
  const std::size_t n = u32(8), m = u32(12), kind = u32(0);
  const std::size_t ranks = kind == 4 ? 0 : kind == 3 ? 4 * m : (2 * m + 3) / 4 * 4;
  return (64 + (2 * (n + 1) + 3) / 4 * 4 + (2 * m + 3) / 4 * 4 + ranks + u32(16) + 3) / 4 * 4;
}

void put(Bytes& s, std::size_t at, std::uint32_t x) { std::memcpy(s.data() + at, &x, 4); }
std::uint32_t get(const Bytes& s, std::size_t at) {
  std::uint32_t x;
  std::memcpy(&x, s.data() + at, 4);
  return x;
}

Status status_of(const Bytes& section) {
  // Not a byte more, so that reading behind the end shows.
  const std::unique_ptr<std::uint8_t[]> copy(new std::uint8_t[section.size()]);
  std::memcpy(copy.get(), section.data(), section.size());
  Tokenizer t;
  return open(t, {copy.get(), section.size()}, section.size() >= 12 ? get(section, 8) : 0);
}

}  // namespace

TEST_CASE("each rule of the rules block broken once", "[tokenizer][hostile]") {
  if (!quant::unicode::is_known()) return;
  Vocabulary pairs = bytes_vocabulary(SplitRule::gpt2);
  for (const char* p : {"ab", "bc", "abc", "cd", "bcd", "abcd"}) pairs.pieces.push_back({p, 0, false});
  pairs.merges = {{'c', 'd'}, {256, 259}, {'b', 259}, {'a', 'b'}, {'a', 260}};
  pairs.compose = true;
  pairs.pieces.push_back({"<x>", 0, true});
  pairs.pieces.push_back({"<y>", 0, true});
  pairs.added = {{262, true}, {263}};
  pairs.has_template = true;
  pairs.text_template = {{262}, {}, {263}, false};
  pairs.bos = 262;
  Vocabulary unigram = unigram_vocabulary();
  unigram.charsmap = heed::test::charsmap({{"e\xCC\x81", "\xC3\xA9"}, {"e", "b"}});
  const Bytes good_pairs = Built(pairs).section, good_unigram = Built(unigram).section, good_words = Built(words_vocabulary()).section;
  REQUIRE(status_of(good_pairs) == Status::ok);

  const auto broken = [&](const Bytes& good, const std::function<void(Bytes&, std::size_t)>& change) {
    Bytes section = good;
    change(section, block_of(good));
    return status_of(section);
  };
  const auto field = [&](const Bytes& good, std::size_t i, std::uint32_t x) {
    return broken(good, [&](Bytes& s, std::size_t block) { put(s, block + 4 * i, x); });
  };
  const Status bad = Status::bad_tokenizer;
  // K2, K3.
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t) { put(s, 0, 5); }) == Status::feature_not_built);
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t) { put(s, 4, 0); }) == Status::feature_not_built);
  CHECK(broken(good_unigram, [](Bytes& s, std::size_t) { put(s, 4, 7); }) == bad);
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t) { put(s, 4, 10); }) == bad);
  // K9: in front of the block.
  REQUIRE((64 + get(good_words, 16)) % 4 != block_of(good_words) % 4);
  CHECK(broken(good_words, [](Bytes& s, std::size_t block) { s[block - 1] = 1; }) == bad);
  // K13.
  for (const Bytes* good : {&good_pairs, &good_unigram, &good_words}) {
    Bytes s = *good;
    s.push_back(0);
    CHECK(status_of(s) == bad);
    for (std::size_t size = block_of(*good); size < good->size(); ++size) {
      s.resize(size);
      s.assign(good->begin(), good->begin() + static_cast<std::ptrdiff_t>(size));
      if (status_of(s) == Status::ok) FAIL("cut to " << size << " bytes");
    }
  }
  for (std::size_t i : {7, 8, 9, 10, 11, 12}) CHECK(field(good_pairs, i, 0xFFFFFFF0u) == bad);
  // K14.
  CHECK(field(good_pairs, 0, 1) == bad);
  CHECK(field(good_pairs, 0, 256) == bad);
  CHECK(field(good_unigram, 0, 4) == bad);
  CHECK(field(good_words, 0, 8) == bad);
  for (std::size_t i : {13, 14, 15}) CHECK(field(good_pairs, i, 1) == bad);
  // K15.
  CHECK(field(good_pairs, 1, 264) == bad);
  CHECK(field(good_pairs, 1, 'a') == bad);
  CHECK(field(good_words, 1, 0xFFFFFFFFu) == bad);
  CHECK(field(good_pairs, 1, 263) == Status::ok);
  // K16.
  CHECK(field(good_pairs, 2, 6) == bad);
  CHECK(field(good_unigram, 2, 1) == bad);
  CHECK(field(good_pairs, 3, 0) == bad);
  CHECK(field(good_pairs, 3, 256) == bad);
  // K17.
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t b) { put(s, b, get(s, b) & ~kRuleTemplate); }) == bad);
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t b) { put(s, b + 64, 264); }) == bad);
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t b) { put(s, b + 16, 2), put(s, b + 24, 1), put(s, b + 28, 1); }) == bad);
  // K18: of the two added tokens behind the two around.
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t b) { put(s, b + 72, 264); }) == bad);
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t b) { put(s, b + 72, 263); }) == bad);
  CHECK(broken(good_pairs, [](Bytes& s, std::size_t b) { put(s, b + 72, 262 | 1u << 28); }) == bad);
  // K19: of abcd's two ways.
  const std::size_t more = 80;
  REQUIRE(get(good_pairs, block_of(good_pairs) + 32) == 2);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, b + more, get(s, b + more) + 1); }) == bad);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, b + more, get(s, b + more) & 0xFFFFFF); }) == bad);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, b + more, (get(s, b + more) & 0xFFFFFF) | 4u << 24); }) == bad);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, b + more + 8, get(s, b + more)); }) == bad);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t) {
          for (std::size_t i = s.size() - 262; i < s.size(); ++i)
            if (s[i] == 255) s[i] = 1;
        }) == bad);
  // K20.
  const std::size_t ranges = more + 16;
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, b + ranges, 1); }) == bad);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, b + ranges + 4, 0x110000); }) == bad);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, b + ranges + 8, get(s, b + ranges + 4)); }) == bad);
  const auto compositions = [&](std::size_t b) { return b + ranges + 4 * (std::size_t{get(good_pairs, b + 36)} + get(good_pairs, b + 40)); };
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, compositions(b) + 8, 0); }) == bad);
  CHECK(broken(good_pairs, [&](Bytes& s, std::size_t b) { put(s, compositions(b), 0xFFFFFFFFu); }) == bad);
  // K21: root, then "e" with its value and one edge.
  REQUIRE(get(good_unigram, block_of(good_unigram) + 36) == 0);
  const std::size_t units = 64;
  const auto unit = [&](std::size_t i, std::uint32_t x) {
    return broken(good_unigram, [&](Bytes& s, std::size_t b) { put(s, b + units + 4 * i, x); });
  };
  CHECK(unit(0, 0) == bad);                                     // no header
  CHECK(unit(0, 1 | 255 << 1) == bad);                          // more edges than units
  CHECK(unit(0, 1 | 1 << 1 | 1 << 9) == bad);                   // a value of the root
  CHECK(unit(1, 'e' << 1 | 1u << 10) == bad);                   // to an edge
  CHECK(unit(1, 'e' << 1 | 4000u << 10) == bad);                // to nothing
  CHECK(unit(1, 'e' << 1 | 1 << 9 | 4000u << 10) == bad);       // a value beyond the end
  CHECK(unit(1, 'e' << 1 | 1 << 9) == Status::ok);              // another value
  CHECK(broken(good_unigram, [](Bytes& s, std::size_t) { s[s.size() - 3] = 200; }) == bad);
  // K22.
  const auto score = [&](float x) {
    return broken(good_unigram, [&](Bytes& s, std::size_t) {
      std::memcpy(s.data() + 64 + (2 * (std::size_t{get(s, 8)} + 1) + 3) / 4 * 4 + (2 * std::size_t{get(s, 12)} + 3) / 4 * 4, &x, 4);
    });
  };
  CHECK(score(-3) == Status::ok);
  CHECK(score(-2e6f) == bad);
  CHECK(score(static_cast<float>(1e30) * 1e30f) == bad);
  CHECK(score(__builtin_nanf("")) == bad);
}

TEST_CASE("what sections ask of a build", "[tokenizer][features]") {
  CHECK(required_features(Built(unigram_vocabulary()).section).unigram);
  CHECK(required_features(Built(bytes_vocabulary(SplitRule::none)).section).byte_pairs);
  Vocabulary v;
  v.pieces = {{"a", 0, false}, {"b", 0, true}};
  CHECK(is_empty(required_features(Built(v).section)));
  v.unk = 1;
  CHECK(required_features(Built(v).section).added_tokens);
  CHECK(is_empty(required_features(Span<const std::uint8_t>())));
}
