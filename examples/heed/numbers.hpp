// SPDX-License-Identifier: Apache-2.0
// numbers.hpp: which numbers an option takes. CLI11's own conversion lets -1 become the largest unsigned number, clamps
// what has too many digits, and its CLI::Range takes a NaN.
#pragma once
#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>

namespace heed::tool {

// For an option of an unsigned type: a whole number from `min` to `max`.
inline CLI::Validator whole_number(std::uint64_t min = 0,
                                   std::uint64_t max = std::numeric_limits<std::uint64_t>::max()) {
  const std::string range = std::to_string(min) + " to " + std::to_string(max);
  const bool any = max >= std::numeric_limits<std::uint32_t>::max();
  return CLI::Validator(
      [=](std::string& text) {
        char* end = nullptr;
        errno = 0;
        const std::uint64_t value = std::strtoull(text.c_str(), &end, 0);
        const bool is_number = !text.empty() && end == text.c_str() + text.size() && errno == 0;
        if (is_number && text.find('-') == std::string::npos && value >= min && value <= max) return std::string();
        return text + " is not a whole number from " + range;
      },
      any ? "" : range);
}

// For an option of a floating-point type: a number from `min` to `max`, so no NaN.
inline CLI::Validator number(int min, int max) {
  const std::string range = std::to_string(min) + " to " + std::to_string(max);
  return CLI::Validator(
      [=](std::string& text) {
        double value = 0.0;
        if (CLI::detail::lexical_cast(text, value) && value >= min && value <= max) return std::string();
        return text + " is not a number from " + range;
      },
      range);
}

}  // namespace heed::tool
