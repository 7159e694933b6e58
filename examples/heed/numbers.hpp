// SPDX-License-Identifier: Apache-2.0
// numbers.hpp: which numbers an option takes: decimal ones. CLI11's own conversion reads 010 as 8, takes 0x10, "+5" and
// " 5", lets -1 become the largest unsigned number and clamps what has too many digits, and its CLI::Range takes a NaN.
#pragma once
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>

namespace heed::tool {

// Whether `text` is digits and nothing else, and at most the largest number of 64 bits. Zeroes in front mean nothing
// and are taken away, so that nobody reads an octal number.
inline bool is_whole_number(std::string& text, std::uint64_t& value) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return false;
  text.erase(0, std::min(text.find_first_not_of('0'), text.size() - 1));
  errno = 0;
  value = std::strtoull(text.c_str(), nullptr, 10);
  return errno == 0;
}

// Whether `text` is digits with at most one point among them, and a decimal exponent if need be: no sign, no space, no
// hexadecimal, no name.
inline bool is_decimal_number(const std::string& text) {
  std::size_t at = 0, digits = 0;
  const auto skip_digits = [&] {
    const std::size_t first = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - first;
  };
  digits = skip_digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    digits += skip_digits();
  }
  if (digits == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (skip_digits() == 0) return false;
  }
  return at == text.size();
}

// For ->transform() of an option of an unsigned type: a whole number from `min` to `max`.
inline CLI::Validator whole_number(std::uint64_t min = 0,
                                   std::uint64_t max = std::numeric_limits<std::uint64_t>::max()) {
  const std::string range = std::to_string(min) + " to " + std::to_string(max);
  const bool any = max >= std::numeric_limits<std::uint32_t>::max();
  return CLI::Validator(
      [=](std::string& text) {
        const std::string given = text;
        std::uint64_t value = 0;
        if (is_whole_number(text, value) && value >= min && value <= max) return std::string();
        return given + " is not a whole number from " + range;
      },
      any ? "" : range);
}

// For an option of a floating-point type: a number from `min` to `max`, which are written as `range` says.
inline CLI::Validator number(double min, double max, const std::string& range) {
  return CLI::Validator(
      [=](std::string& text) {
        double value = 0.0;
        if (is_decimal_number(text) && CLI::detail::lexical_cast(text, value) && value >= min && value <= max)
          return std::string();
        return text + " is not a number from " + range;
      },
      range);
}

// The theta of a float model's rotary positions; 0 stays where it is not given.
inline CLI::Option* add_rope_theta_option(CLI::App& command, double& theta) {
  return command
      .add_option("--rope-theta", theta,
                  "Theta of CHECKPOINT's rotary positions, where the file does not say it or says it wrongly (default: that "
                  "of its tables, else 10000)")
      ->type_name("T")
      ->check(CLI::Validator(
          [](std::string& text) {
            double value = 0.0;
            if (is_decimal_number(text) && CLI::detail::lexical_cast(text, value) && value > 1.0 && value <= 1e12) return std::string();
            return text + " is not a number above 1, up to 1e12";
          },
          "above 1"));
}

}  // namespace heed::tool
