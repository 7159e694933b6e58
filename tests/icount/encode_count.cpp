// SPDX-License-Identifier: Apache-2.0
// encode_count.cpp: two texts of one letter between the marks of icount_mark.hpp, one 32 times as long, in vocabularies that make
// all of it longer pieces, runs of 1, 2, 4 up to 128: by merging, as one word of byte pairs, and as a path of a unigram.
//
//   encode_count    for each prints the bytes of the two texts and the kind
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "examples/require.hpp"
#include "quant/tokenizer_tables.hpp"
#include "runtime/tokenizer.hpp"
#include "tests/icount/icount_mark.hpp"

using namespace heed;

namespace {

constexpr std::size_t kLongest = 128;

quant::Vocabulary runs(TokenizerKind kind) {
  quant::Vocabulary v;
  v.kind = kind;
  for (std::size_t length = 1; length <= kLongest; length *= 2)
    v.pieces.push_back({std::string(length, 'a'), -static_cast<float>(length), false});
  if (kind == TokenizerKind::byte_pairs)
    for (Token t = 0; std::size_t{1} << (t + 1) <= kLongest; ++t) v.merges.push_back({t, t});
  return v;
}

void count(TokenizerKind kind, const char* name) {
  const quant::Vocabulary vocabulary = runs(kind);
  std::vector<std::uint8_t> section;
  if (!quant::build_tokenizer_section(section, vocabulary).empty()) std::exit(2);
  Tokenizer tokenizer;
  require(open(tokenizer, section, static_cast<std::uint32_t>(vocabulary.pieces.size())));
  // A unigram looks at every piece that begins at each place.
  const std::size_t few = kind == TokenizerKind::unigram ? 500 : 4000;
  for (const std::size_t bytes : {few, 32 * few}) {
    const std::string text(bytes, 'a');
    std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(bytes, tokenizer.growth()) / 4);
    std::vector<Token> tokens(Tokenizer::max_tokens(bytes, tokenizer.growth()));
    std::uint32_t n = 0;
    icount::start_region();
    const Status status =
        tokenizer.encode(n, text, {}, tokens, {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4});
    icount::stop_region();
    require(status);
    std::printf("%zu %s\n", bytes, name);
  }
}

}  // namespace

int main() {
  count(TokenizerKind::merges, "merges");
  count(TokenizerKind::byte_pairs, "byte_pairs");
  count(TokenizerKind::unigram, "unigram");
  return 0;
}
