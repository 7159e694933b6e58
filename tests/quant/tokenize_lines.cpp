// SPDX-License-Identifier: Apache-2.0
// tokenize_lines.cpp: the tokens of many texts by the vocabulary of a file, and the texts of these tokens, for scripts
// that compare them with another implementation's. `tokenize_lines TOKENIZER VOCAB_SIZE [--template] [--special] <
// texts > answers` texts: u32 length, bytes; answers: u32 n, n u32 tokens, u32 length, bytes of the decoded text; n is
// all ones for a text that was refused, and nothing follows it. --template adds the tokens around a text, --special
// finds special tokens in it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "quant/readers/tokenizer_folder.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/tokenizer.hpp"

using namespace heed;

namespace {

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "tokenize_lines: %s\n", why.c_str());
  std::exit(1);
}

bool read_u32(std::uint32_t& x) { return std::fread(&x, 4, 1, stdin) == 1; }

void write(const void* data, std::size_t bytes) {
  if (bytes && std::fwrite(data, 1, bytes, stdout) != bytes) fail("cannot write");
}

void write_u32(std::uint32_t x) { write(&x, 4); }

std::string decoded(const Tokenizer& tokenizer, const std::vector<Token>& tokens) {
  StreamDecoder decoder;
  std::vector<char> out(StreamDecoder::out_bytes(tokenizer));
  std::string text;
  for (const Token token : tokens) {
    std::uint32_t n = 0;
    if (decoder.push(n, tokenizer, token, {out.data(), out.size()}) != Status::ok) fail("a token cannot be decoded");
    text.append(out.data(), n);
  }
  char rest[3];
  return text.append(rest, decoder.flush(rest));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) fail("TOKENIZER VOCAB_SIZE [--template] [--special] < texts > answers");
  EncodeOptions options{false, false};
  for (int i = 3; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--template")) options.add_bos = options.add_eos = true;
    if (!std::strcmp(argv[i], "--special")) options.match_special = true;
  }
  const auto vocab_size = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10));
  quant::Vocabulary vocabulary;
  quant::TokenizerConfig config;
  if (const quant::Error error = quant::read_tokenizer(vocabulary, config, argv[1], vocab_size)) fail(error.sentence());
  std::vector<std::uint8_t> section;
  if (const std::string why = quant::build_tokenizer_section(section, vocabulary); !why.empty()) fail(why);
  Tokenizer tokenizer;
  if (const Status status = open(tokenizer, {section.data(), section.size()}, vocab_size); status != Status::ok)
    fail(to_string(status));

  std::string text;
  std::vector<Token> tokens;
  for (std::uint32_t size; read_u32(size);) {
    text.resize(size);
    if (size && std::fread(&text[0], 1, size, stdin) != size) fail("the texts end inside one");
    const std::size_t scratch_bytes = Tokenizer::scratch_bytes(size, tokenizer.growth());
    const std::unique_ptr<std::uint32_t[]> scratch(new std::uint32_t[scratch_bytes / 4 + 1]);
    tokens.resize(Tokenizer::max_tokens(size, tokenizer.growth()));
    std::uint32_t n = 0;
    const Status status = tokenizer.encode(n, {text.data(), text.size()}, options, {tokens.data(), tokens.size()},
                                           {reinterpret_cast<std::byte*>(scratch.get()), scratch_bytes});
    if (status != Status::ok && status != Status::text_not_expressible) fail(to_string(status));
    if (status != Status::ok) {
      write_u32(0xFFFFFFFFu);
      continue;
    }
    tokens.resize(n);
    write_u32(n);
    for (const Token token : tokens) write_u32(static_cast<std::uint32_t>(token));
    const std::string again = decoded(tokenizer, tokens);
    write_u32(static_cast<std::uint32_t>(again.size()));
    write(again.data(), again.size());
  }
}
