// SPDX-License-Identifier: Apache-2.0
// utf8.hpp: characters in bytes that are not believed to be UTF-8 (Unicode, table 3-7).
#pragma once
#include <cstddef>
#include <cstdint>

namespace heed::utf8 {

// Bytes of the character that begins with this one; 0 if none does.
constexpr std::uint32_t bytes_of(std::uint8_t lead) {
  return lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

// Whether `byte` may follow the `count` bytes of a beginning.
constexpr bool continues(const std::uint8_t* beginning, std::uint32_t count, std::uint8_t byte) {
  std::uint8_t low = 0x80, high = 0xBF;
  if (count == 1) {
    if (beginning[0] == 0xE0) low = 0xA0;   // shorter forms exist
    if (beginning[0] == 0xED) high = 0x9F;  // surrogates
    if (beginning[0] == 0xF0) low = 0x90;
    if (beginning[0] == 0xF4) high = 0x8F;  // beyond U+10FFFF
  }
  return byte >= low && byte <= high;
}

inline constexpr std::uint32_t kLimit = 0x110000;  // code points are below; kLimit + b is a byte b that is no character's

struct Character {
  std::uint32_t code;  // code point, or kLimit + byte
  std::uint32_t size;  // its bytes
};

// The character at p, of which `size` >= 1 bytes can be read. A byte that belongs to no character stands alone.
constexpr Character read(const std::uint8_t* p, std::size_t size) {
  const std::uint32_t n = bytes_of(p[0]);
  if (n == 1) return {p[0], 1};
  const Character alone{kLimit + p[0], 1};
  if (n == 0 || n > size) return alone;
  std::uint32_t code = p[0] & (0x7Fu >> n);
  for (std::uint32_t i = 1; i < n; ++i) {
    if (!continues(p, i, p[i])) return alone;
    code = code << 6 | (p[i] & 0x3Fu);
  }
  return {code, n};
}

// The reverse: writes 1 to 4 bytes and returns their number.
constexpr std::uint32_t write(std::uint8_t (&out)[4], std::uint32_t code) {
  if (code >= kLimit) code -= kLimit;
  else if (code >= 0x10000) {
    out[0] = static_cast<std::uint8_t>(0xF0 | code >> 18);
    out[1] = static_cast<std::uint8_t>(0x80 | (code >> 12 & 0x3F));
    out[2] = static_cast<std::uint8_t>(0x80 | (code >> 6 & 0x3F));
    out[3] = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
    return 4;
  } else if (code >= 0x800) {
    out[0] = static_cast<std::uint8_t>(0xE0 | code >> 12);
    out[1] = static_cast<std::uint8_t>(0x80 | (code >> 6 & 0x3F));
    out[2] = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
    return 3;
  } else if (code >= 0x80) {
    out[0] = static_cast<std::uint8_t>(0xC0 | code >> 6);
    out[1] = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
    return 2;
  }
  out[0] = static_cast<std::uint8_t>(code);
  return 1;
}

}  // namespace heed::utf8
