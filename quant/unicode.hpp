// SPDX-License-Identifier: Apache-2.0
// unicode.hpp: what converting a tokenizer needs to know of Unicode, from utf8proc.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace heed::quant::unicode {

inline constexpr std::uint32_t kLimit = 0x110000;

// False in a program that was built without utf8proc; the others may be called only in one that has it.
bool is_known();
std::string version();

// Two letters: "Lu", "Zs"; "Cn" of what is not assigned.
std::string category(std::uint32_t code);
std::uint8_t combining_class(std::uint32_t code);
// The property White_Space.
bool is_white_space(std::uint32_t code);
// The full lower case of one character, without regard to what stands beside it.
std::vector<std::uint32_t> lower_case(std::uint32_t code);
// The full canonical decomposition of one character, in canonical order; Hangul too.
std::vector<std::uint32_t> decomposed(std::uint32_t code);

// Pairs that compose canonically, Hangul apart, in ascending order.
struct Composition {
  std::uint32_t first, second, composed;
};
std::vector<Composition> compositions();

}  // namespace heed::quant::unicode
