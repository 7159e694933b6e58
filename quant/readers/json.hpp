// SPDX-License-Identifier: Apache-2.0
// json.hpp: JSON of files that nobody vouches for: bounded in depth and number of values, no name twice, no exceptions,
// and a time that grows with the text alone.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "quant/error.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

using Json = nlohmann::json;

// A value in memory takes up to a hundred bytes, in a text two. Enough for a hundred thousand tensors.
inline constexpr std::size_t kMaxJsonValues = 1u << 20;

// Parses `text`, which must be one object whose values nest at most `max_depth` deep (the object itself is 1), with at
// most `max_values` of them, and where the names in each object differ.
Error parse_json(Json& object, Span<const std::uint8_t> text, int max_depth, std::size_t max_values = kMaxJsonValues);

// A long object or list of a text, {"object": {"member": {...}}}, that does not become a value in memory: each of its
// members goes to `take` and is forgotten. What `take` refuses ends the parsing with its sentence.
struct JsonRows {
  const char *object, *member;
  std::function<Error(std::string& name, Json& value)> take;  // the name is empty in a list
};

// The same, where `rows` are left empty in `object` and neither count as values nor are looked through for equal names.
Error parse_json(Json& object, Span<const std::uint8_t> text, int max_depth, Span<const JsonRows> rows,
                 std::size_t max_values = kMaxJsonValues);

// A string from a file, fit for one line of an error: at most 60 characters, control characters as '?'.
std::string printable(const std::string& text);

}  // namespace heed::quant
