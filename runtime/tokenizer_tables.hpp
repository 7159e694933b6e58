// SPDX-License-Identifier: Apache-2.0
// tokenizer_tables.hpp: numbers of a tokenizer section, read by bytes, so that its tables need no alignment; compilers make one
// load of them where the core allows.
#pragma once
#include <cstddef>
#include <cstdint>

namespace heed::tokenizer_tables {

inline constexpr std::uint32_t kNone = (1u << 24) - 1;  // no piece: fits the 24 bits of a slot
inline constexpr std::uint32_t kNever = 0xFFFFFFFFu;    // the rank of a piece that no merge may make

constexpr std::uint32_t read_u32(const std::uint8_t* p) {
  return p[0] | std::uint32_t{p[1]} << 8 | std::uint32_t{p[2]} << 16 | std::uint32_t{p[3]} << 24;
}

constexpr std::uint32_t read_at(const std::uint8_t* table, std::uint32_t i, bool wide) {
  if (wide) return read_u32(table + std::size_t{i} * 4);
  const std::uint8_t* p = table + std::size_t{i} * 2;
  return p[0] | std::uint32_t{p[1]} << 8;
}

constexpr std::uint64_t table_bytes(std::uint64_t entries, bool wide) {
  return wide ? entries * 4 : (entries * 2 + 3) / 4 * 4;
}

}  // namespace heed::tokenizer_tables
