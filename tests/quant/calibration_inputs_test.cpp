// SPDX-License-Identifier: Apache-2.0
// calibration_inputs_test.cpp: texts become sequences that a model can read, from all over a file, or are refused in a line.
#include "quant/calibration_inputs.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"

using namespace heed;
using namespace heed::quant;

namespace {

// A text in a file of its own.
class TextFile {
 public:
  explicit TextFile(const std::string& text) {
    const int file = mkstemp(path_.data());
    REQUIRE(file >= 0);
    close(file);
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~TextFile() { std::remove(path_.c_str()); }
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = (std::filesystem::temp_directory_path() / "heed-text-XXXXXX").string();
};

// The vocabulary of the golden image: a, b, n, some of their pairs, a space; BOS 1.
std::vector<std::uint8_t> section() {
  std::vector<std::uint8_t> bytes;
  REQUIRE(build_tokenizer_section(bytes, golden::tiny_vocabulary()).empty());
  return bytes;
}

FloatModel model_of(const StackConfig& config) {
  FloatModel model;
  model.config = config;
  model.bos = 1;
  return model;
}

Error read(std::vector<FloatSequence>& sequences, const StackConfig& config, const std::string& text) {
  const TextFile file(text);
  const std::vector<std::uint8_t> tokenizer = section();
  return read_texts(sequences, model_of(config), tokenizer, file.path());
}

}  // namespace

TEST_CASE("a stack that generates reads pieces as long as its context, behind BOS") {
  StackConfig c = golden::tiny_config();
  c.max_seq = 16;
  std::string text;
  for (int i = 0; i < 40; ++i) text += i % 2 ? "nab an ban" : "abba ban a";
  std::vector<FloatSequence> sequences;
  REQUIRE_FALSE(read(sequences, c, text));
  REQUIRE(sequences.size() == (text.size() + 63) / 64);
  for (const FloatSequence& s : sequences) {
    CHECK(s.tokens.size() <= 16);
    CHECK(s.tokens.size() > 1);
    CHECK(s.tokens[0] == 1);
    CHECK(positions_of(c, s) == s.tokens.size());
  }
  c.max_seq = 128;
  sequences.clear();
  REQUIRE_FALSE(read(sequences, c, "ban"));
  REQUIRE(sequences.size() == 1);
  CHECK(sequences[0].tokens == std::vector<std::uint32_t>{1, 11, 6});  // BOS, " ba", "n"
}

TEST_CASE("of a long text as many pieces as wanted, from its beginning to its end") {
  StackConfig c = golden::tiny_config();
  c.max_seq = 4;
  std::string text;
  for (std::size_t i = 0; i < 3 * kMostTexts; ++i) text += i < 2 * kMostTexts ? "aaaaaaaaaaaaaaaa" : "bbbbbbbbbbbbbbbb";
  std::vector<FloatSequence> sequences;
  REQUIRE_FALSE(read(sequences, c, text));
  REQUIRE(sequences.size() == kMostTexts);
  std::size_t late = 0;
  for (const FloatSequence& s : sequences) late += s.tokens.back() == 5;  // b
  CHECK(late > kMostTexts / 4);
  CHECK(late < kMostTexts / 2);
}

TEST_CASE("each line is a sequence of a stack that encodes, cut to what it can read") {
  StackConfig c = golden::tiny_config();
  c.use = Use::encode;
  c.mask = Mask::two_way;
  c.max_seq = 8;
  std::vector<FloatSequence> sequences;
  REQUIRE_FALSE(read(sequences, c, "ban\n\nabba ban a nab\nan"));
  REQUIRE(sequences.size() == 3);
  CHECK(sequences[0].tokens == std::vector<std::uint32_t>{11, 6});
  CHECK(sequences[1].tokens.size() == 8);
}

TEST_CASE("texts that cannot be read are refused") {
  StackConfig c = golden::tiny_config();
  std::vector<FloatSequence> sequences;
  CHECK(read(sequences, c, "ban xan").sentence().find("no token for byte 4") != std::string::npos);
  CHECK(read(sequences, c, "\n").sentence() != "");
  const TextFile file("ban");
  CHECK(read_texts(sequences, model_of(c), {}, file.path()).sentence().find("no tokenizer") != std::string::npos);
  c.input = Input::projected;
  CHECK(read(sequences, c, "ban").sentence().find("reads vectors") != std::string::npos);
  CHECK(read_texts(sequences, model_of(golden::tiny_config()), {}, "/nonexistent").sentence() != "");
}
