// SPDX-License-Identifier: Apache-2.0
// tokenizer_rules.hpp: the rules block of a tokenizer section (SPEC.md 3.1); for tokenizer_tables.cpp.
#pragma once
#include "quant/tokenizer_tables.hpp"

namespace heed::quant {

inline constexpr std::uint32_t kNeverMerged = 0xFFFFFFFFu;

// The ranks of byte_pairs' merges, for pieces in ascending order of their bytes.
struct MergeTables {
  std::vector<std::uint32_t> ranks;        // [sorted], of the piece; kNeverMerged
  std::vector<std::uint8_t> left;          // [sorted], bytes of the left part: 0 = any, 255 = those of `more`
  std::vector<std::uint32_t> more;         // [n, 2]: place and left << 24, rank; ascending
  std::uint32_t n_ranks = 0;
};

// These return an empty string, or one line that says what does not fit.
std::string check_rules(const Vocabulary& vocabulary);
std::string build_merge_tables(MergeTables& tables, const Vocabulary& vocabulary, const std::vector<std::uint32_t>& sorted);
std::string append_rules(std::vector<std::uint8_t>& section, const Vocabulary& vocabulary, const MergeTables& merges);

// False where the section of a vocabulary of kind `merges` is as it was before there were rules blocks.
bool needs_rules(const Vocabulary& vocabulary);

void put_number(std::vector<std::uint8_t>& out, std::uint32_t value, unsigned bytes);
// Entries of two or four bytes, and zeros up to a multiple of four.
void put_table(std::vector<std::uint8_t>& out, const std::vector<std::uint32_t>& values, bool wide);

}  // namespace heed::quant
