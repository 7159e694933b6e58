// SPDX-License-Identifier: Apache-2.0
// json.hpp: JSON of files that nobody vouches for: bounded in size and depth, no duplicate names, no exceptions.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "quant/error.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

using Json = nlohmann::json;

// Parses `text`, which must be one object whose values nest at most `max_depth` deep (the object itself is 1) and
// whose own names differ.
Error parse_json(Json& object, Span<const std::uint8_t> text, int max_depth);

// A string from a file, fit for one line of an error: at most 60 characters, control characters as '?'.
std::string printable(const std::string& text);

}  // namespace heed::quant
