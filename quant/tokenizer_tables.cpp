// SPDX-License-Identifier: Apache-2.0
// tokenizer_tables.cpp: sorts the pieces, ranks the scores and writes them as narrow as they fit.
#include "quant/tokenizer_tables.hpp"

#include <algorithm>
#include <functional>

#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

using Bytes = std::vector<std::uint8_t>;

void put(Bytes& out, std::uint32_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

void put_table(Bytes& out, const std::vector<std::uint32_t>& values, bool wide) {
  for (std::uint32_t v : values) put(out, v, wide ? 4 : 2);
  while (out.size() % 4) out.push_back(0);
}

bool can_merge(float score) { return score > -1e10f; }

}  // namespace

std::string build_tokenizer_section(Bytes& section, const Vocabulary& v) {
  section.clear();
  const std::size_t size = v.pieces.size();
  if (size == 0 || size > kMaxVocabSize) return "a vocabulary of " + std::to_string(size) + " tokens is not supported";
  const auto n = static_cast<std::uint32_t>(size);
  for (Token t : {v.bos, v.eos}) {
    if (t != kNoToken && static_cast<std::uint32_t>(t) >= n) return "BOS or EOS lies outside the vocabulary";
  }
  if (v.byte_count > 256 || std::uint64_t{v.first_byte} + v.byte_count > n) {
    return "the byte tokens lie outside the vocabulary";
  }
  for (Token t : {v.bos, v.eos}) {
    if (static_cast<std::uint32_t>(t) - v.first_byte < v.byte_count) return "BOS or EOS is a byte token";
  }

  std::vector<std::uint32_t> offsets{0}, sorted;
  std::string pieces;
  for (std::uint32_t i = 0; i < n; ++i) {
    const VocabPiece& piece = v.pieces[i];
    if (piece.bytes.size() > kMaxPieceBytes) {
      return "token " + std::to_string(i) + " has " + std::to_string(piece.bytes.size()) + " bytes, more than " +
             std::to_string(kMaxPieceBytes);
    }
    const bool is_byte = i - v.first_byte < v.byte_count;
    if (is_byte && piece.bytes != std::string(1, static_cast<char>(i - v.first_byte))) {
      return "token " + std::to_string(i) + " is not the byte that its place says";
    }
    pieces += piece.bytes;
    offsets.push_back(static_cast<std::uint32_t>(pieces.size()));
    const auto token = static_cast<Token>(i);
    if (!is_byte && !piece.control && token != v.bos && token != v.eos && !piece.bytes.empty()) sorted.push_back(i);
  }
  // std::string compares bytes as unsigned.
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return v.pieces[a].bytes < v.pieces[b].bytes; });
  sorted.erase(std::unique(sorted.begin(), sorted.end(),
                           [&](std::uint32_t a, std::uint32_t b) { return v.pieces[a].bytes == v.pieces[b].bytes; }),
               sorted.end());

  // Only the order of the scores matters to merging, so equal scores share a rank.
  std::vector<float> scores;
  for (std::uint32_t i : sorted) {
    if (can_merge(v.pieces[i].score)) scores.push_back(v.pieces[i].score);
  }
  std::sort(scores.begin(), scores.end(), std::greater<float>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  const bool wide_ids = n > 0xFFFFu;
  std::vector<std::uint32_t> ranks;
  for (std::uint32_t i : sorted) {
    const float score = v.pieces[i].score;
    const auto place = std::lower_bound(scores.begin(), scores.end(), score, std::greater<float>()) - scores.begin();
    ranks.push_back(can_merge(score) ? static_cast<std::uint32_t>(place) : 0xFFFFFFFFu);
  }

  put(section, static_cast<std::uint32_t>(TokenizerKind::merges), 4);
  put(section, v.prefix_space ? kTokenizerPrefixSpace : 0, 4);
  put(section, n, 4);
  put(section, static_cast<std::uint32_t>(sorted.size()), 4);
  put(section, static_cast<std::uint32_t>(pieces.size()), 4);
  put(section, static_cast<std::uint32_t>(v.bos), 4);
  put(section, static_cast<std::uint32_t>(v.eos), 4);
  put(section, v.byte_count ? v.first_byte : 0, 4);
  put(section, v.byte_count, 4);
  section.resize(kTokenizerHeaderBytes, 0);
  put_table(section, offsets, pieces.size() > 0xFFFFu);
  put_table(section, sorted, wide_ids);
  put_table(section, ranks, wide_ids);
  section.insert(section.end(), pieces.begin(), pieces.end());
  return {};
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
