// SPDX-License-Identifier: Apache-2.0
// encode_count.cpp: two texts of one letter between the marks of icount_mark.hpp, one 32 times as long, in a vocabulary
// that merges all of it: runs of 1, 2, 4 up to 128.
//
//   encode_count    prints the bytes of the two texts
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "examples/require.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/tokenizer.hpp"
#include "tests/icount/icount_mark.hpp"

using namespace heed;

int main() {
  quant::Vocabulary vocabulary;
  for (std::size_t length = 1; length <= kMaxPieceBytes; length *= 2)
    vocabulary.pieces.push_back({std::string(length, 'a'), -static_cast<float>(length), false});
  std::vector<std::uint8_t> section;
  if (!quant::build_tokenizer_section(section, vocabulary).empty()) return 2;
  Tokenizer tokenizer;
  require(open(tokenizer, section, static_cast<std::uint32_t>(vocabulary.pieces.size())));
  for (const std::size_t bytes : {std::size_t{4000}, std::size_t{128000}}) {
    const std::string text(bytes, 'a');
    std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(bytes) / 4);
    std::vector<Token> tokens(Tokenizer::max_tokens(bytes));
    std::uint32_t n = 0;
    icount::start_region();
    const Status status =
        tokenizer.encode(n, text, {}, tokens, {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4});
    icount::stop_region();
    require(status);
    std::printf("%zu\n", bytes);
  }
  return 0;
}
