// SPDX-License-Identifier: Apache-2.0
// base64.hpp: bytes that a JSON file spells in base64.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace heed::quant {

// False where `text` is not base64 in groups of four characters, the last one filled with "=".
inline bool from_base64(std::vector<std::uint8_t>& bytes, const std::string& text) {
  bytes.clear();
  if (text.size() % 4) return false;
  std::size_t filling = 0;
  while (filling < 2 && filling < text.size() && text[text.size() - 1 - filling] == '=') ++filling;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t group = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0 && i < text.size() - filling) return false;
    group = group << 6 | static_cast<std::uint32_t>(value < 0 ? 0 : value);
    if (i % 4 != 3) continue;
    for (const unsigned shift : {16u, 8u, 0u}) bytes.push_back(static_cast<std::uint8_t>(group >> shift));
    group = 0;
  }
  bytes.resize(bytes.size() - filling);
  return true;
}

}  // namespace heed::quant
