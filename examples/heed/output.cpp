// SPDX-License-Identifier: Apache-2.0
// output.cpp: numbers as text.
#include "examples/heed/output.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace heed::tool {

void print_json(const Json& json) {
  // A file name need not be UTF-8.
  std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

std::string grouped(std::uint64_t n) {
  std::string s = std::to_string(n);
  for (std::size_t i = s.size(); i > 3;) s.insert(i -= 3, ",");
  return s;
}

std::string counted(std::uint64_t n, const char* what) { return grouped(n) + " " + what + (n == 1 ? "" : "s"); }

std::string hex8(std::uint32_t n) {
  char s[9];
  std::snprintf(s, sizeof s, "%08x", static_cast<unsigned>(n));
  return s;
}

std::string engineering(double x) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  int unit = 0;
  for (; x >= 1000.0 && unit < 4; ++unit) x /= 1000.0;
  char s[32];
  std::snprintf(s, sizeof s, "%.*f%s", x < 10.0 ? 2 : x < 100.0 ? 1 : 0, x, kUnits[unit]);
  return s;
}

std::string shell_word(const std::string& text) {
  const auto is_plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || std::strchr("%+,-./:=@_", c);
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_plain)) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

}  // namespace heed::tool
