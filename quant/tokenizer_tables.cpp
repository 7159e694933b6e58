// SPDX-License-Identifier: Apache-2.0
// tokenizer_tables.cpp: sorts the pieces, ranks the scores and writes them as narrow as they fit.
#include "quant/tokenizer_tables.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

#include "quant/tokenizer_rules.hpp"

namespace heed::quant {
namespace {

bool can_merge(float score) { return score > -1e10f; }

// What a token prints, which is what it is found by.
std::string printed(const Vocabulary& v, const VocabPiece& piece) {
  const bool word = v.kind == TokenizerKind::word_pieces && !piece.continues && !piece.bytes.empty();
  return word ? " " + piece.bytes : piece.bytes;
}

std::string check_tokens(const Vocabulary& v) {
  const std::size_t size = v.pieces.size();
  if (size == 0 || size > kMaxVocabSize) return "a vocabulary of " + std::to_string(size) + " tokens is not supported";
  const auto is_outside = [&](Token t) { return t != kNoToken && static_cast<std::uint32_t>(t) >= size; };
  if (is_outside(v.bos) || is_outside(v.eos)) return "BOS or EOS lies outside the vocabulary";
  if (is_outside(v.unk)) return "the unknown token lies outside the vocabulary";
  if (v.byte_count > 256 || std::uint64_t{v.first_byte} + v.byte_count > size) {
    return "the byte tokens lie outside the vocabulary";
  }
  const auto is_byte = [&](Token t) { return static_cast<std::uint32_t>(t) - v.first_byte < v.byte_count; };
  if (is_byte(v.bos) || is_byte(v.eos)) return "BOS or EOS is a byte token";
  if (is_byte(v.unk)) return "the unknown token is a byte token";
  for (std::uint32_t b = 0; b < v.byte_count; ++b) {
    const std::uint32_t i = v.first_byte + b;
    if (v.pieces[i].bytes != std::string(1, static_cast<char>(b)))
      return "token " + std::to_string(i) + " is not the byte that its place says";
  }
  return {};
}

// Ids of what text can become, in ascending order of their bytes.
std::vector<std::uint32_t> sort_pieces(const Vocabulary& v, const std::vector<std::string>& bytes) {
  std::vector<bool> found_otherwise(v.pieces.size());
  // SentencePiece cuts these out before it looks for pieces; other kinds may make them from their parts too.
  if (v.kind == TokenizerKind::merges || v.kind == TokenizerKind::unigram)
    for (const AddedToken& added : v.added) found_otherwise[static_cast<std::size_t>(added.id)] = true;
  std::vector<std::uint32_t> sorted;
  for (std::uint32_t i = 0; i < v.pieces.size(); ++i) {
    const auto token = static_cast<Token>(i);
    const bool is_byte = i - v.first_byte < v.byte_count;
    if (!is_byte && !v.pieces[i].control && token != v.bos && token != v.eos && token != v.unk && !bytes[i].empty() &&
        !found_otherwise[i])
      sorted.push_back(i);
  }
  // std::string compares bytes as unsigned.
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return bytes[a] < bytes[b]; });
  sorted.erase(std::unique(sorted.begin(), sorted.end(),
                           [&](std::uint32_t a, std::uint32_t b) { return bytes[a] == bytes[b]; }),
               sorted.end());
  return sorted;
}

// Only the order of the scores matters to merging, so equal scores share a rank.
std::vector<std::uint32_t> rank_scores(const Vocabulary& v, const std::vector<std::uint32_t>& sorted) {
  std::vector<float> scores;
  for (std::uint32_t i : sorted) {
    if (can_merge(v.pieces[i].score)) scores.push_back(v.pieces[i].score);
  }
  std::sort(scores.begin(), scores.end(), std::greater<float>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  std::vector<std::uint32_t> ranks;
  for (std::uint32_t i : sorted) {
    const float score = v.pieces[i].score;
    const auto place = std::lower_bound(scores.begin(), scores.end(), score, std::greater<float>()) - scores.begin();
    ranks.push_back(can_merge(score) ? static_cast<std::uint32_t>(place) : kNeverMerged);
  }
  return ranks;
}

std::vector<std::uint32_t> bits_of_scores(const Vocabulary& v, const std::vector<std::uint32_t>& sorted) {
  std::vector<std::uint32_t> bits(sorted.size());
  for (std::size_t i = 0; i < sorted.size(); ++i) std::memcpy(&bits[i], &v.pieces[sorted[i]].score, 4);
  return bits;
}

}  // namespace

std::string build_tokenizer_section(std::vector<std::uint8_t>& section, const Vocabulary& v) {
  section.clear();
  if (std::string refused = check_tokens(v); !refused.empty()) return refused;
  if (std::string refused = check_rules(v); !refused.empty()) return refused;
  const auto n = static_cast<std::uint32_t>(v.pieces.size());
  std::vector<std::string> bytes;
  std::vector<std::uint32_t> offsets{0};
  std::string pieces;
  for (std::uint32_t i = 0; i < n; ++i) {
    bytes.push_back(printed(v, v.pieces[i]));
    if (bytes[i].size() > kMaxPieceBytes) {
      return "token " + std::to_string(i) + " has " + std::to_string(bytes[i].size()) + " bytes, more than " +
             std::to_string(kMaxPieceBytes);
    }
    pieces += bytes[i];
    offsets.push_back(static_cast<std::uint32_t>(pieces.size()));
  }
  const std::vector<std::uint32_t> sorted = sort_pieces(v, bytes);

  const bool wide_ids = n > 0xFFFFu;
  bool wide_ranks = wide_ids;
  MergeTables merges;
  std::uint32_t flags = v.prefix_space || v.kind == TokenizerKind::word_pieces ? kTokenizerPrefixSpace : 0;
  if (needs_rules(v)) flags |= kTokenizerHasRules;
  std::vector<std::uint32_t> ranks;
  switch (v.kind) {
    case TokenizerKind::merges: ranks = rank_scores(v, sorted); break;
    case TokenizerKind::unigram:
      for (std::uint32_t i : sorted)
        if (!(v.pieces[i].score >= -kLargestScore && v.pieces[i].score <= kLargestScore))
          return "token " + std::to_string(i) + " has a score that is not from -10^6 to 10^6";
      ranks = bits_of_scores(v, sorted);
      wide_ranks = true;
      break;
    case TokenizerKind::byte_pairs:
      if (std::string refused = build_merge_tables(merges, v, sorted); !refused.empty()) return refused;
      ranks = merges.ranks;
      if (!wide_ids && merges.n_ranks >= 0xFFFFu) {
        wide_ranks = true;
        flags |= kTokenizerWideRanks;
      }
      break;
    case TokenizerKind::word_pieces: break;
  }

  put_number(section, static_cast<std::uint32_t>(v.kind), 4);
  put_number(section, flags, 4);
  put_number(section, n, 4);
  put_number(section, static_cast<std::uint32_t>(sorted.size()), 4);
  put_number(section, static_cast<std::uint32_t>(pieces.size()), 4);
  put_number(section, static_cast<std::uint32_t>(v.bos), 4);
  put_number(section, static_cast<std::uint32_t>(v.eos), 4);
  put_number(section, v.byte_count ? v.first_byte : 0, 4);
  put_number(section, v.byte_count, 4);
  section.resize(kTokenizerHeaderBytes, 0);
  put_table(section, offsets, pieces.size() > 0xFFFFu);
  put_table(section, sorted, wide_ids);
  put_table(section, ranks, wide_ranks);
  section.insert(section.end(), pieces.begin(), pieces.end());
  return needs_rules(v) ? append_rules(section, v, merges) : std::string();
}

bool from_byte_letters(std::string& bytes, const std::string& letters) {
  bytes.clear();
  for (std::size_t i = 0; i < letters.size(); ++i) {
    std::uint32_t letter = static_cast<std::uint8_t>(letters[i]);
    if (letter >= 0x80) {  // all letters beyond ASCII have two bytes
      if ((letter & 0xE0u) != 0xC0u || i + 1 == letters.size()) return false;
      letter = (letter & 0x1Fu) << 6 | (static_cast<std::uint8_t>(letters[++i]) & 0x3Fu);
    }
    // Printable letters of Latin-1 are their own bytes; the others have the letters from 256 on, in order.
    const auto own = [](std::uint32_t b) {
      return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
    };
    std::uint32_t byte = letter;
    if (letter >= 256) {
      std::uint32_t left = letter - 256;
      for (byte = 0; byte < 256 && (own(byte) || left-- > 0);) ++byte;
    }
    if (byte > 255 || (letter < 256 && !own(byte))) return false;
    bytes.push_back(static_cast<char>(byte));
  }
  return true;
}

}  // namespace heed::quant
