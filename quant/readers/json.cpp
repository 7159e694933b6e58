// SPDX-License-Identifier: Apache-2.0
// json.cpp: nlohmann's parser, told to give up early.
#include "quant/readers/json.hpp"

#include <set>

namespace heed::quant {

Error parse_json(Json& object, Span<const std::uint8_t> text, int max_depth) {
  using Event = Json::parse_event_t;
  bool too_deep = false, twice = false;
  std::set<std::string> names;
  // Returning false drops a value, so that nothing deep is ever built.
  const auto callback = [&](int depth, Event event, Json& parsed) {
    if ((event == Event::object_start || event == Event::array_start) && depth >= max_depth) too_deep = true;
    if (event == Event::key && depth == 1) twice = !names.insert(parsed.get_ref<const std::string&>()).second || twice;
    return !too_deep;
  };
  object = Json::parse(text.begin(), text.end(), callback, false);
  if (too_deep) return Error("its JSON nests more than " + std::to_string(max_depth) + " deep");
  if (object.is_discarded()) return Error("its JSON cannot be parsed");
  if (!object.is_object()) return Error("its JSON is not an object");
  if (twice) return Error("its JSON has a name twice");
  return {};
}

std::string printable(const std::string& text) {
  std::string line = text.substr(0, 60);
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return text.size() > 60 ? line + "..." : line;
}

}  // namespace heed::quant
