// SPDX-License-Identifier: Apache-2.0
// unicode_unknown.cpp: the place of unicode.cpp in a program that is built without utf8proc.
#include "quant/unicode.hpp"

namespace heed::quant::unicode {

bool is_known() { return false; }
std::string version() { return {}; }
std::string category(std::uint32_t) { return "Cn"; }
std::uint8_t combining_class(std::uint32_t) { return 0; }
bool is_white_space(std::uint32_t) { return false; }
std::vector<std::uint32_t> lower_case(std::uint32_t code) { return {code}; }
std::vector<std::uint32_t> decomposed(std::uint32_t code) { return {code}; }
std::vector<Composition> compositions() { return {}; }

}  // namespace heed::quant::unicode
