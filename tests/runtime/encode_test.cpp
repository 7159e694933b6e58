// SPDX-License-Identifier: Apache-2.0
// encode_test.cpp: encoding against SPEC 3.1 taken at its word, on random sections and hostile texts.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/tokenizer.hpp"

namespace {

using heed::Status;
using heed::Token;
using heed::Tokenizer;

constexpr std::uint32_t kNever = 0xFFFFFFFFu;

// What a section says. Tokens: 0 unknown, 1 BOS, 2 EOS, then the bytes, then `pieces`, then `unused` ones without text.
struct Section {
  std::vector<std::string> pieces;
  std::vector<std::uint32_t> ranks;  // [pieces], kNever = never by merging
  std::uint32_t byte_count = 256, unused = 0;
  bool prefix_space = false;

  std::uint32_t first_byte() const { return byte_count ? 3 : 0; }
  std::uint32_t first_piece() const { return 3 + byte_count; }
  std::uint32_t vocab_size() const { return first_piece() + static_cast<std::uint32_t>(pieces.size()) + unused; }

  // SPEC 3.1's tables, written here and not by the quantiser.
  std::vector<std::uint8_t> bytes() const {
    std::vector<std::uint8_t> out;
    const auto put = [&](std::uint32_t value, int n) {
      for (int i = 0; i < n; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    };
    const auto pad = [&] {
      while (out.size() % 4) out.push_back(0);
    };
    std::string text;
    std::vector<std::uint32_t> offsets(4, 0), order(pieces.size());
    for (std::uint32_t b = 0; b < byte_count; ++b) {
      text += static_cast<char>(b);
      offsets.push_back(static_cast<std::uint32_t>(text.size()));
    }
    for (const std::string& piece : pieces) {
      text += piece;
      offsets.push_back(static_cast<std::uint32_t>(text.size()));
    }
    offsets.resize(vocab_size() + 1, static_cast<std::uint32_t>(text.size()));
    for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return pieces[a] < pieces[b]; });
    for (std::uint32_t word : {1u, prefix_space ? 1u : 0u, vocab_size(), static_cast<std::uint32_t>(pieces.size()),
                               static_cast<std::uint32_t>(text.size()), 1u, 2u, first_byte(), byte_count})
      put(word, 4);
    out.resize(64, 0);
    const int id = vocab_size() > 65535 ? 4 : 2;
    for (std::uint32_t offset : offsets) put(offset, text.size() > 65535 ? 4 : 2);
    pad();
    for (std::uint32_t i : order) put(first_piece() + i, id);
    pad();
    for (std::uint32_t i : order) put(ranks[i], id);
    pad();
    out.insert(out.end(), text.begin(), text.end());
    return out;
  }
};

// SPEC's rule, and wrong readings of it, which the texts here must tell from it.
enum class Rule { spec, last_of_equals, highest_rank, never_merges_too, bytes_merge_too, longest_first };

struct Answer {
  bool expressible = true;
  std::uint32_t offset = 0;  // of the first byte without a token
  std::vector<Token> tokens;
};

Answer encode_by_the_rule(const Section& s, std::string_view text, Rule rule) {
  std::map<std::string, std::uint32_t> known;
  for (std::uint32_t i = 0; i < s.pieces.size(); ++i) known.emplace(s.pieces[i], i);
  struct Symbol {
    std::string bytes;
    bool is_byte;
    std::uint32_t token;
  };
  std::vector<Symbol> symbols;
  Answer answer;
  const auto add = [&](std::string_view character, std::uint32_t offset) {
    if (const auto at = known.find(std::string(character)); at != known.end()) {
      symbols.push_back({at->first, false, s.first_piece() + at->second});
      return true;
    }
    for (char c : character) {
      const auto x = static_cast<std::uint8_t>(c);
      if (x >= s.byte_count) {
        answer = {false, offset, {}};
        return false;
      }
      symbols.push_back({std::string(1, c), true, s.first_byte() + x});
      ++offset;
    }
    return true;
  };
  if (s.prefix_space && !text.empty() && !add(" ", 0)) return answer;
  for (std::size_t i = 0, j; i < text.size(); i = j) {
    for (j = i + 1; j < text.size() && j < i + 4 && (text[j] & 0xC0) == 0x80;) ++j;
    if (!add(text.substr(i, j - i), static_cast<std::uint32_t>(i))) return answer;
  }

  // What a pair of neighbours makes; kNever as a rank is no pair. Remembered, or 10,000 bytes would take minutes.
  struct Pair {
    std::uint64_t rank;
    std::uint32_t piece;
  };
  constexpr Pair kNoPair{~std::uint64_t{0}, 0};
  std::vector<Pair> pairs;
  const auto pair_at = [&](std::size_t i) {
    if (i + 1 >= symbols.size()) return kNoPair;
    if ((symbols[i].is_byte || symbols[i + 1].is_byte) && rule != Rule::bytes_merge_too) return kNoPair;
    const auto at = known.find(symbols[i].bytes + symbols[i + 1].bytes);
    if (at == known.end() || (s.ranks[at->second] == kNever && rule != Rule::never_merges_too)) return kNoPair;
    std::uint64_t rank = s.ranks[at->second];
    if (rule == Rule::highest_rank) rank = kNever - rank;
    if (rule == Rule::longest_first) rank += std::uint64_t{256 - at->first.size()} << 32;
    return Pair{rank, at->second};
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) pairs.push_back(pair_at(i));
  for (;;) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < pairs.size(); ++i) {
      if (pairs[i].rank < pairs[best].rank || (rule == Rule::last_of_equals && pairs[i].rank == pairs[best].rank)) best = i;
    }
    if (pairs.empty() || pairs[best].rank == kNoPair.rank) break;
    const std::uint32_t piece = pairs[best].piece;
    symbols[best] = {s.pieces[piece], false, s.first_piece() + piece};
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pairs[best] = pair_at(best);
    if (best) pairs[best - 1] = pair_at(best - 1);
  }
  for (const Symbol& symbol : symbols) answer.tokens.push_back(static_cast<Token>(symbol.token));
  return answer;
}

// The tokenizer's answer from buffers of exactly the promised size, which the sanitizer guards.
Answer encode(const Tokenizer& tokenizer, std::string_view text) {
  const std::unique_ptr<char[]> copy(new char[text.size()]);
  if (!text.empty()) std::memcpy(copy.get(), text.data(), text.size());
  const std::size_t scratch_bytes = Tokenizer::scratch_bytes(text.size());
  const std::unique_ptr<std::uint32_t[]> scratch(new std::uint32_t[scratch_bytes / 4]);
  std::memset(scratch.get(), 0xA5, scratch_bytes);
  Answer answer;
  answer.tokens.resize(Tokenizer::max_tokens(text.size()));
  std::uint32_t n = 0;
  const Status status = tokenizer.encode(n, {copy.get(), text.size()}, {false, false}, answer.tokens,
                                         {reinterpret_cast<std::byte*>(scratch.get()), scratch_bytes});
  REQUIRE((status == Status::ok || status == Status::text_not_expressible));
  if (status != Status::ok) return {false, n, {}};
  answer.tokens.resize(n);
  return answer;
}

class Maker {
 public:
  explicit Maker(std::uint32_t seed) : random_(seed) {}
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }

  Section section() {
    static const std::vector<std::string> kLetters = {"a", "b", " ", "\n", std::string(1, '\0'), "\xC3\xA9", "\xE4\xBD\xA0",
                                                      "\xF0\x9F\x98\x80", "\x80", "\xFF", "\xC3", "\xE4\xBD", "\x7F"};
    letters_.clear();
    const std::uint32_t n_letters = 1 + below(below(2) ? 2 : 8);
    for (std::uint32_t i = 0; i < n_letters; ++i) letters_.push_back(i < 2 && below(2) ? kLetters[i] : kLetters[below(13)]);

    Section s;
    s.prefix_space = below(2);
    s.byte_count = below(4) ? 256 : below(257);
    std::set<std::string> taken;
    const auto add = [&](const std::string& piece) {
      if (piece.size() <= heed::kMaxPieceBytes && taken.insert(piece).second) s.pieces.push_back(piece);
    };
    for (const std::string& letter : letters_) {
      if (below(8)) add(letter);
    }
    if (below(2)) add(" ");
    // Two pieces make another: most can be reached by merging, some not, up to the longest that a piece may be.
    const std::uint32_t wanted = below(4) ? below(40) : below(300);
    const bool runs = below(3) == 0;
    for (std::uint32_t i = 0; i < wanted; ++i) {
      const auto part = [&] {
        if (s.pieces.empty() || below(16) == 0) return letters_[below(n_letters)];
        return s.pieces[below(static_cast<std::uint32_t>(s.pieces.size()))];
      };
      add(runs ? std::string(1 + below(255), letters_[0][0]) : part() + part());
    }

    const std::uint32_t kind = below(6), distinct = 1 + below(4);
    const bool wide = below(40) == 0;
    if (wide) s.unused = 65536;
    for (std::uint32_t i = 0; i < s.pieces.size(); ++i) {
      const auto length = static_cast<std::uint32_t>(s.pieces[i].size());
      std::uint32_t rank = kind == 0 ? 0 : kind == 1 ? below(distinct) : kind == 2 ? i : kind == 3 ? 255 - length : length;
      if (kind == 5) rank = wide ? kNever - 1 - below(3) : 65534 - below(3);
      s.ranks.push_back(below(12) == 0 ? kNever : rank);
    }
    return s;
  }

  std::string text(const Section& s, std::uint32_t symbols) {
    std::string text;
    const std::uint32_t how = below(4);
    const std::string again = letters_[below(static_cast<std::uint32_t>(letters_.size()))];
    for (std::uint32_t i = 0; i < symbols; ++i) {
      if (how == 0 || s.pieces.empty()) {
        text += letters_[below(static_cast<std::uint32_t>(letters_.size()))];
      } else if (how == 1) {
        text += again;
      } else if (how == 2) {
        text += below(50) ? again : letters_[below(static_cast<std::uint32_t>(letters_.size()))];
      } else {
        text += below(9) ? s.pieces[below(static_cast<std::uint32_t>(s.pieces.size()))] : std::string(1, static_cast<char>(below(256)));
        if (text.size() > symbols) break;
      }
    }
    return text;
  }

 private:
  std::mt19937 random_;
  std::vector<std::string> letters_;
};

bool same(const Answer& a, const Answer& b) {
  return a.expressible == b.expressible && a.offset == b.offset && a.tokens == b.tokens;
}

}  // namespace

TEST_CASE("random sections and texts encode as SPEC 3.1 says, and not as it could be misread", "[tokenizer]") {
  const char* full = std::getenv("HEED_FULL");
  const std::uint32_t rounds = full && std::string_view(full) == "1" ? 12000 : HEED_ENCODE_ROUNDS;
  constexpr Rule kWrong[] = {Rule::last_of_equals, Rule::highest_rank, Rule::never_merges_too, Rule::bytes_merge_too,
                             Rule::longest_first};
  std::uint32_t texts = 0, refused = 0, told[5] = {};
  std::size_t longest = 0;
  for (std::uint32_t round = 0; round < rounds; ++round) {
    Maker maker(round);
    const Section section = maker.section();
    const std::vector<std::uint8_t> bytes = section.bytes();
    Tokenizer tokenizer;
    CAPTURE(round);
    REQUIRE(open(tokenizer, bytes, section.vocab_size()) == Status::ok);
    for (std::uint32_t t = 0; t < 8; ++t, ++texts) {
      // Around 1, 16, 256 and now and then 4096 slots, where the tree gets another level.
      const std::uint32_t symbols = t < 4 ? maker.below(20) : t < 6 ? maker.below(300) : t == 6 ? 240 + maker.below(40) : 0;
      const std::string text = maker.text(section, t == 7 && round % 50 == 0 ? 4000 + maker.below(500) : symbols);
      longest = std::max(longest, text.size());
      const Answer given = encode(tokenizer, text);
      const bool right = same(given, encode_by_the_rule(section, text, Rule::spec));
      CAPTURE(t, text.size());
      REQUIRE(right);
      refused += !given.expressible;
      if (t == 5)
        for (std::size_t w = 0; w < 5; ++w) told[w] += !same(given, encode_by_the_rule(section, text, kWrong[w]));
    }
  }
  std::printf("encode_test: %u texts of up to %zu bytes, %u not expressible, wrong rules told apart:", texts, longest, refused);
  for (std::uint32_t n : told) std::printf(" %u", n);
  std::printf("\n");
  // Texts that tell nothing would let any encoder pass.
  CHECK(refused > texts / 100);
  for (std::uint32_t n : told) CHECK(n > rounds / 100);
}

TEST_CASE("texts of one letter, of every length around the sizes of the tree", "[tokenizer]") {
  for (int order = 0; order < 3; ++order) {
    Section section;
    for (std::uint32_t length = 1; length <= 255; ++length) {
      section.pieces.emplace_back(length, 'a');
      section.ranks.push_back(order == 0 ? 0 : order == 1 ? length : 255 - length);
    }
    const std::vector<std::uint8_t> bytes = section.bytes();
    Tokenizer tokenizer;
    REQUIRE(open(tokenizer, bytes, section.vocab_size()) == Status::ok);
    for (std::uint32_t at : {0u, 16u, 256u, 272u, 4096u, 4368u}) {
      if (at > 4000 && order != 1) continue;  // SPEC's rule takes quadratic time
      for (std::uint32_t length = at < 20 ? 0 : at - 20; length < at + 20; length += at < 4000 ? 1 : 13) {
        const std::string text(length, 'a');
        CAPTURE(order, length);
        const bool right = same(encode(tokenizer, text), encode_by_the_rule(section, text, Rule::spec));
        REQUIRE(right);
      }
    }
  }
}
