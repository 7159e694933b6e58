// SPDX-License-Identifier: Apache-2.0
// unicode.cpp: properties of characters, from utf8proc; see unicode_unknown.cpp for programs without it.
#include "quant/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>

namespace heed::quant::unicode {
namespace {

std::uint32_t composed(std::uint32_t first, std::uint32_t second) {
  utf8proc_int32_t buffer[2] = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second)};
  const auto n = utf8proc_normalize_utf32(
      buffer, 2, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  return n == 1 ? static_cast<std::uint32_t>(buffer[0]) : 0;
}

}  // namespace

bool is_known() { return true; }
std::string version() { return utf8proc_unicode_version(); }
std::string category(std::uint32_t code) { return utf8proc_category_string(static_cast<utf8proc_int32_t>(code)); }

std::uint8_t combining_class(std::uint32_t code) {
  return static_cast<std::uint8_t>(utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->combining_class);
}

bool is_white_space(std::uint32_t code) {
  return (code >= 9 && code <= 13) || code == 0x85 || category(code)[0] == 'Z';
}

std::vector<std::uint32_t> lower_case(std::uint32_t code) {
  if (code == 0x130) return {'i', 0x307};  // the one character whose lower case is two
  return {static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)))};
}

std::vector<std::uint32_t> decomposed(std::uint32_t code) {
  utf8proc_int32_t out[32];
  int boundary = 0;
  const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), out, 32, UTF8PROC_DECOMPOSE, &boundary);
  if (n <= 0) return {code};
  return {out, out + n};
}

std::vector<Composition> compositions() {
  std::vector<Composition> all;
  for (std::uint32_t code = 0x80; code < kLimit; ++code) {
    if ((code >= 0xAC00 && code < 0xD7A4) || (code >= 0xD800 && code < 0xE000)) continue;
    // The last character of what it is made of, and what the others compose to.
    std::vector<std::uint32_t> parts = decomposed(code);
    if (parts.size() < 2) continue;
    std::uint32_t first = parts[0];
    for (std::size_t i = 1; first && i + 1 < parts.size(); ++i) first = composed(first, parts[i]);
    if (first && composed(first, parts.back()) == code) all.push_back({first, parts.back(), code});
  }
  std::sort(all.begin(), all.end(), [](const Composition& a, const Composition& b) {
    return a.first != b.first ? a.first < b.first : a.second < b.second;
  });
  return all;
}

}  // namespace heed::quant::unicode
