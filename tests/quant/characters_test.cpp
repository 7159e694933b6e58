// SPDX-License-Identifier: Apache-2.0
// characters_test.cpp: vocabularies of characters and of bytes: what they express survives the way there and back, what
// they cannot is refused with its place, and a list that is not one character per token is refused with its line.
#include "quant/readers/characters.hpp"

#include <cstdio>
#include <string>

#include "quant/convert.hpp"
#include "tests/golden/tiny.hpp"
#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/random.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::quant;
using namespace heed::test;

// A tokenizer and the section that it looks at.
struct Built {
  Built(const std::string& name, std::uint32_t vocab_size) {
    Vocabulary v;
    REQUIRE(read_characters(v, name, vocab_size).sentence() == "");
    REQUIRE(build_tokenizer_section(section, v) == "");
    REQUIRE(open(tokenizer, bytes(section), vocab_size) == Status::ok);
  }

  // What encoding says, with `tokens` and, refused, `n`.
  Status encode(const std::string& text, bool bos = false) {
    tokens.assign(Tokenizer::max_tokens(text.size()), kNoToken);
    std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(text.size()) / 4 + 1);
    const Status s = tokenizer.encode(n, {text.data(), text.size()}, {bos, false}, tokens,
                                      {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4});
    if (s == Status::ok) tokens.resize(n);
    return s;
  }

  // The raw bytes, and the text as it would be shown.
  std::string decode() const {
    std::string text;
    Token previous = kNoToken;
    for (const Token t : tokens) {
      Span<const char> piece;
      REQUIRE(tokenizer.decode(piece, previous, t) == Status::ok);
      text.append(piece.data(), piece.size());
      previous = t;
    }
    return text;
  }
  std::string stream() const {
    std::string text;
    StreamDecoder decoder;
    std::vector<char> out(StreamDecoder::out_bytes(tokenizer));
    for (const Token t : tokens) {
      std::uint32_t k = 0;
      REQUIRE(decoder.push(k, tokenizer, t, out) == Status::ok);
      text.append(out.data(), k);
    }
    char rest[3];
    text.append(rest, decoder.flush(rest));
    return text;
  }

  std::vector<std::uint8_t> section;
  Tokenizer tokenizer;
  std::vector<Token> tokens;
  std::uint32_t n = 0;
};

std::string refusal(const std::string& tokenizer, std::uint32_t vocab_size) {
  Vocabulary v;
  return read_characters(v, tokenizer, vocab_size).sentence();
}

// A vocabulary file of this content, in the folder that tests run in.
struct CharacterFile {
  explicit CharacterFile(const std::string& content) {
    REQUIRE_FALSE(write_file(path, {reinterpret_cast<const std::uint8_t*>(content.data()), content.size()}));
  }
  ~CharacterFile() { std::remove(path.c_str()); }
  std::string path = "characters_test_" + std::to_string(++count) + ".txt", tokenizer = "chars-file:" + path;
  static inline int count = 0;
};

}  // namespace

TEST_CASE("three letters: tokens in their order, and nothing else is expressed", "[characters]") {
  Built abc("chars:ABC", 3);
  CHECK(abc.tokenizer.bos() == kNoToken);
  CHECK(abc.tokenizer.eos() == kNoToken);
  REQUIRE(abc.encode("CBABCA") == Status::ok);
  CHECK(abc.tokens == std::vector<Token>{2, 1, 0, 1, 2, 0});
  CHECK(abc.decode() == "CBABCA");
  CHECK(abc.stream() == "CBABCA");
  CHECK(abc.encode("CBaBCA") == Status::text_not_expressible);
  CHECK(abc.n == 2);
  CHECK(abc.encode("ABC ") == Status::text_not_expressible);
  CHECK(abc.n == 3);
  REQUIRE(abc.encode("") == Status::ok);
  CHECK(abc.tokens.empty());
}

TEST_CASE("characters of every width, escapes, and an order that is not that of the bytes", "[characters]") {
  Built v("chars:z\\né🙂 \\\\a界\\x00\\t", 10);
  const std::string text("a\\z 🙂é\n界\t\0z", 17);
  REQUIRE(v.encode(text) == Status::ok);
  CHECK(v.tokens == std::vector<Token>{6, 5, 0, 4, 3, 2, 1, 7, 9, 8, 0});
  CHECK(v.decode() == text);
  CHECK(v.stream() == text);
  // A part of a character is not a character.
  CHECK(v.encode("a\xC3") == Status::text_not_expressible);
  CHECK(v.n == 1);
  CHECK(v.encode("aè") == Status::text_not_expressible);  // begins with the same byte as é
  CHECK(v.n == 1);
}

TEST_CASE("a file: a character per line, whatever ends the lines, and tokens that are no text", "[characters]") {
  const CharacterFile unix_file("<bos/eos>\n\\n\n \na\né\n<unused>\n<\n"),
      windows_file("<bos/eos>\r\n\\n\r\n \r\na\r\né\r\n<unused>\r\n<");
  for (const std::string& tokenizer : {unix_file.tokenizer, windows_file.tokenizer}) {
    Built v(tokenizer, 7);
    CHECK(v.tokenizer.bos() == 0);
    CHECK(v.tokenizer.eos() == 0);
    REQUIRE(v.encode("é a\n<", true) == Status::ok);
    CHECK(v.tokens == std::vector<Token>{0, 4, 2, 3, 1, 6});
    CHECK(v.decode() == "é a\n<");
    CHECK(v.encode("<bos/eos>") == Status::text_not_expressible);
    CHECK(v.n == 1);
  }
  Built two(CharacterFile("a\n<eos>\nb\n<bos>\n").tokenizer, 4);
  CHECK(two.tokenizer.bos() == 3);
  CHECK(two.tokenizer.eos() == 1);
}

TEST_CASE("bytes: any text at all, and whole characters as they come", "[characters]") {
  Built v("bytes", 256);
  CHECK(v.tokenizer.bos() == kNoToken);
  std::string all;
  for (int x = 0; x < 256; ++x) all += static_cast<char>(x);
  REQUIRE(v.encode(all) == Status::ok);
  for (int x = 0; x < 256; ++x) CHECK(v.tokens[static_cast<std::size_t>(x)] == x);
  CHECK(v.decode() == all);

  Random random(5);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (std::uint32_t k = random.below(100); k > 0; --k) text += static_cast<char>(random.below(256));
    REQUIRE(v.encode(text) == Status::ok);
    CHECK(v.tokens.size() == text.size());
    CHECK(v.decode() == text);
  }
  const std::string greeting = "Schöne Grüße, 世界 🙂\n";
  REQUIRE(v.encode(greeting) == Status::ok);
  CHECK(v.stream() == greeting);
  REQUIRE(v.encode("a\xF0\x9F\x99") == Status::ok);  // the beginning of a character
  CHECK(v.stream() == "a\xEF\xBF\xBD");

  Built one("bytes", 257), two("bytes", 258);
  CHECK(one.tokenizer.bos() == 256);
  CHECK(one.tokenizer.eos() == 256);
  CHECK(two.tokenizer.bos() == 256);
  CHECK(two.tokenizer.eos() == 257);
  REQUIRE(two.encode("hi", true) == Status::ok);
  CHECK(two.tokens == std::vector<Token>{256, 'h', 'i'});
  CHECK(two.decode() == "hi");
}

TEST_CASE("what is no list of single characters is refused in one line that says where", "[characters]") {
  CHECK(refusal("chars:ABC", 4) == "chars: 3 tokens; the model has 4");
  CHECK(refusal("chars:", 3) == "chars: 0 tokens; the model has 3");
  CHECK(refusal("chars:ABéA", 4) == "chars: byte 4: 'A' (U+0041) is already token 0");
  CHECK(refusal("chars:\\n\n", 2) == "chars: byte 2: U+000A is already token 0");
  CHECK(refusal("chars:A\xC3", 2) == "chars: byte 1: byte 0xC3 is not UTF-8");
  CHECK(refusal("chars:\xC0\x80", 1) == "chars: byte 0: byte 0xC0 is not UTF-8");
  CHECK(refusal("chars:\xED\xA0\x80", 1) == "chars: byte 0: byte 0xED is not UTF-8");
  const std::string escapes = "a backslash begins \\n, \\r, \\t, \\\\ or \\x00 to \\x7F";
  for (const char* bad : {"chars:\\", "chars:\\q", "chars:\\x", "chars:\\x4", "chars:\\x80", "chars:\\xg0"})
    CHECK(refusal(bad, 1) == "chars: byte 0: " + escapes);
  CHECK(refusal("bytes", 255).rfind("a byte vocabulary has 256 tokens", 0) == 0);
  CHECK(refusal("bytes", 512).find("the model has 512") != std::string::npos);

  const auto file_refusal = [](const std::string& content, std::uint32_t vocab_size) {
    const CharacterFile file(content);
    const std::string sentence = refusal(file.tokenizer, vocab_size);
    REQUIRE(sentence.rfind(file.path + ": ", 0) == 0);
    return sentence.substr(file.path.size() + 2);
  };
  CHECK(file_refusal("a\nb\n", 3) == "2 tokens; the model has 3");
  CHECK(file_refusal("a\n\nb\n", 3) == "line 2: no character; a newline is written \\n, a space \\x20");
  CHECK(file_refusal("a\nbc\n", 2) == "line 2: more than one character");
  CHECK(file_refusal("a\nb\na\n", 3) == "line 3: 'a' (U+0061) is already token 0");
  CHECK(file_refusal("<bos>\n<bos/eos>\n", 2) == "line 2: a second BOS");
  CHECK(file_refusal("<eos>\n<eos>\n", 2) == "line 2: a second EOS");
  CHECK(file_refusal("<pad>\n", 1) == "line 1: more than one character");
  CHECK(file_refusal(std::string("a\n\xFF\n"), 2) == "line 2: byte 0xFF is not UTF-8");
  CHECK(refusal("chars-file:no such file", 1).find("no such file") != std::string::npos);
}

TEST_CASE("only the three forms are no files", "[characters]") {
  for (const char* name : {"bytes", "chars:", "chars:abc", "chars-file:f"}) CHECK(is_character_vocabulary(name));
  for (const char* name : {"", "none", "byte", "bytes.bin", "./bytes", "chars", "tok512.bin", "./chars:abc"})
    CHECK_FALSE(is_character_vocabulary(name));
}

TEST_CASE("a character is described with its beginning", "[characters]") {
  const auto described = [](const std::string& text, std::size_t offset) {
    const std::string words = describe_character({text.data(), text.size()}, offset);
    return words + " at " + std::to_string(offset);
  };
  CHECK(described("ab", 1) == "'b' (U+0062) at 1");
  CHECK(described("aé", 2) == "'é' (U+00E9) at 1");
  CHECK(described("a🙂", 4) == "'🙂' (U+1F642) at 1");
  CHECK(described("a\n", 1) == "U+000A at 1");
  CHECK(described("a\x80", 1) == "byte 0x80 at 1");
  CHECK(described("é\x80", 2) == "byte 0x80 at 2");
  CHECK(described("\xE4\xB8", 1) == "byte 0xB8 at 1");
}

TEST_CASE("a checkpoint becomes a model of letters, or of bytes", "[characters]") {
  const Kernels& kernels = best_kernels();
  for (const std::string& name : {std::string("chars:ABC"), std::string("bytes")}) {
    INFO(name);
    const bool letters = name != "bytes";
    StackConfig config = golden::tiny_config();
    config.vocab_size = config.n_outputs = letters ? 3 : 256;
    const std::vector<std::uint8_t> checkpoint = checkpoint_bytes(golden::numbered_model(config, 3), 1);
    const std::string source = letters ? "characters_test_3.bin" : "characters_test_256.bin";
    REQUIRE_FALSE(write_file(source, bytes(checkpoint)));
    ImageBytes image;
    ConvertReport report;
    ConvertOptions options;
    CHECK(convert(image, report, source, letters ? "chars:AB" : "chars:ABC", options, kernels));
    REQUIRE(convert(image, report, source, name, options, kernels).sentence() == "");
    std::remove(source.c_str());
    for (const auto& [key, value] : report.metadata) {
      INFO(key << '=' << value);
      CHECK(key != "bos");
      CHECK(key != "eos");
    }

    Model model;
    REQUIRE(open(model, bytes(image), kernels) == Status::ok);
    Built v(name, config.vocab_size);
    REQUIRE(open(v.tokenizer, model.tokenizer(), config.vocab_size) == Status::ok);
    REQUIRE(v.encode("CBA") == Status::ok);
    RunOptions run_options;
    run_options.sampler = warm_sampler();
    run_options.generate = 100;
    v.tokens = run(kernels, bytes(image), v.tokens, run_options).tokens;
    const std::string written = v.decode(), shown = v.stream();
    const std::vector<Token> tokens = v.tokens;
    CHECK(written.size() == 100);
    if (letters) CHECK(shown == written);
    REQUIRE(v.encode(written) == Status::ok);
    CHECK(v.tokens == tokens);
  }
}
