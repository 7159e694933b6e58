// SPDX-License-Identifier: Apache-2.0
// fuzz_tokenizer.cpp: any bytes as a tokenizer section, any bytes as text: refused, or used within bounds.
// Input: u8 length of the text, the text, the section. The vocabulary is taken to be as large as the section says.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "runtime/tokenizer.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

using namespace heed;

// Every token is one of the vocabulary and prints whole characters.
void use(const Tokenizer& tokenizer, Span<const Token> tokens, Span<char> out) {
  StreamDecoder stream;
  for (Token token : tokens) {
    std::uint32_t written;
    require(stream.push(written, tokenizer, token, out) == Status::ok && written <= out.size());
    for (std::size_t at = 0; at < written;) {
      const auto c = utf8::read(reinterpret_cast<const std::uint8_t*>(out.data()) + at, written - at);
      require(c.code < utf8::kLimit);
      at += c.size;
    }
  }
}

// In little room too: whatever it answers, within bounds.
void use_pair(const Tokenizer& tokenizer, Span<const char> text, Span<Token> tokens, Span<std::byte> scratch) {
  const std::size_t half = text.size() / 2;
  std::uint32_t n = 0, n_first = 0;
  const Status status = tokenizer.encode_pair(n, n_first, text.subspan(0, half), text.subspan(half, text.size() - half),
                                              tokens.subspan(0, tokens.size() / 2), scratch.subspan(0, scratch.size() / 8 * 4));
  if (status == Status::ok) require(n_first <= n && n <= tokens.size() / 2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1 || size < 1u + data[0]) return 0;
  const Span<const char> text(reinterpret_cast<const char*>(data + 1), data[0]);
  const Span<const std::uint8_t> section(data + 1 + data[0], size - 1 - data[0]);
  std::uint32_t vocab_size = 0;
  if (section.size() >= 12) std::memcpy(&vocab_size, section.data() + 8, 4);
  Tokenizer tokenizer;
  if (open(tokenizer, section, vocab_size) != Status::ok) return 0;

  const std::size_t growth = tokenizer.growth();
  const std::size_t scratch_bytes = Tokenizer::scratch_bytes(text.size(), growth);
  const std::size_t most = Tokenizer::max_tokens(text.size(), growth);
  const std::unique_ptr<std::uint32_t[]> scratch(new std::uint32_t[scratch_bytes / 4]);
  const std::unique_ptr<Token[]> tokens(new Token[most]);
  const std::size_t out_bytes = StreamDecoder::out_bytes(tokenizer);
  const std::unique_ptr<char[]> out(new char[out_bytes]);
  std::uint32_t n = 0;
  const Span<std::byte> scratch_span(reinterpret_cast<std::byte*>(scratch.get()), scratch_bytes);
  const bool has_rules = (section[4] & kTokenizerHasRules) != 0;
  const Status status = tokenizer.encode(n, text, {true, true, true}, {tokens.get(), most}, scratch_span);
  // A section may understate its growth.
  require(status == Status::ok || status == Status::text_not_expressible ||
          (has_rules && (status == Status::no_room || status == Status::bad_argument)));
  if (has_rules) {
    if (status == Status::ok) use(tokenizer, {tokens.get(), n}, {out.get(), out_bytes});
    use_pair(tokenizer, text, {tokens.get(), most}, scratch_span);
    return 0;
  }
  if (status != Status::ok) {
    require(n < text.size());
    return 0;
  }

  // What was encoded decodes to itself.
  StreamDecoder stream;
  Token previous = kNoToken;
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    const Token token = tokens[i];
    std::uint32_t written;
    require(stream.push(written, tokenizer, token, {out.get(), out_bytes}) == Status::ok);
    require(written <= out_bytes);
    Span<const char> bytes;
    require(tokenizer.decode(bytes, previous, token) == Status::ok);
    previous = token;
    const bool control = (i == 0 && token == tokenizer.bos()) || (i + 1 == n && token == tokenizer.eos());
    if (control) continue;
    require(bytes.size() <= text.size() - at && std::memcmp(bytes.data(), text.data() + at, bytes.size()) == 0);
    at += bytes.size();
  }
  require(at == text.size());
  char rest[3];
  (void)stream.flush(rest);
  return 0;
}
