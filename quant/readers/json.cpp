// SPDX-License-Identifier: Apache-2.0
// json.cpp: nlohmann's parser, whose events build the value, so that each is checked as it comes and in constant time.
// (Its own parser with a callback looks through all of an object at the end of each member.)
#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(Json& root, std::size_t max_depth, std::size_t max_values)
      : root_(root), max_depth_(max_depth), max_values_(max_values) {}

  bool null() override { return put(nullptr) != nullptr; }
  bool boolean(bool x) override { return put(x) != nullptr; }
  bool number_integer(number_integer_t x) override { return put(x) != nullptr; }
  bool number_unsigned(number_unsigned_t x) override { return put(x) != nullptr; }
  bool number_float(number_float_t x, const string_t&) override { return put(x) != nullptr; }
  bool string(string_t& x) override { return put(std::move(x)) != nullptr; }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return enter(Json::object()); }
  bool start_array(std::size_t) override { return enter(Json::array()); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    auto [member, is_new] = open_.back()->get_ref<Json::object_t&>().emplace(std::move(name), nullptr);
    if (!is_new) return refuse("has a name twice: " + printable(member->first));
    member_ = &member->second;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return refuse("cannot be parsed");
  }

  const std::string& refused() const { return refused_; }

 private:
  bool refuse(const std::string& why) {
    if (refused_.empty()) refused_ = why;
    return false;
  }
  // Where the value went; null when it is one too many.
  Json* put(Json value) {
    if (++values_ > max_values_) {
      refuse("has more than " + std::to_string(max_values_) + " values");
      return nullptr;
    }
    Json* at = open_.empty() ? &root_ : member_;
    if (!open_.empty() && open_.back()->is_array()) {
      open_.back()->push_back(nullptr);
      at = &open_.back()->back();
    }
    *at = std::move(value);
    return at;
  }
  bool enter(Json value) {
    if (open_.size() == max_depth_) return refuse("nests more than " + std::to_string(max_depth_) + " deep");
    Json* at = put(std::move(value));
    if (at) open_.push_back(at);
    return at != nullptr;
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  Json& root_;
  const std::size_t max_depth_, max_values_;
  std::size_t values_ = 0;
  std::vector<Json*> open_;  // objects and arrays around the next value
  Json* member_ = nullptr;   // of the innermost object, named but without its value
  std::string refused_;
};

}  // namespace

Error parse_json(Json& object, Span<const std::uint8_t> text, int max_depth, std::size_t max_values) {
  object = nullptr;
  Builder builder(object, static_cast<std::size_t>(max_depth), max_values);
  if (!Json::sax_parse(text.begin(), text.end(), &builder))
    return Error("its JSON " + (builder.refused().empty() ? "cannot be parsed" : builder.refused()));
  return object.is_object() ? Error() : Error("its JSON is not an object");
}

std::string printable(const std::string& text) {
  std::size_t end = 60;
  if (text.size() > end)
    while (end > 56 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // no half character
  std::string line = text.substr(0, end);
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return text.size() > 60 ? line + "..." : line;
}

}  // namespace heed::quant
