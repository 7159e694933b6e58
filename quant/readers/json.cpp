// SPDX-License-Identifier: Apache-2.0
// json.cpp: nlohmann's parser, whose events build the value, so that each is checked as it comes and in constant time.
// (Its own parser with a callback looks through all of an object at the end of each member.)
#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(Json& root, std::size_t max_depth, std::size_t max_values, Span<const JsonRows> rows)
      : root_(root), max_depth_(max_depth), max_values_(max_values), rows_(rows) {}

  bool null() override { return put_whole(nullptr); }
  bool boolean(bool x) override { return put_whole(x); }
  bool number_integer(number_integer_t x) override { return put_whole(x); }
  bool number_unsigned(number_unsigned_t x) override { return put_whole(x); }
  bool number_float(number_float_t x, const string_t&) override { return put_whole(x); }
  bool string(string_t& x) override { return put_whole(std::move(x)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return enter(Json::object()); }
  bool start_array(std::size_t) override { return enter(Json::array()); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    if (in_rows()) {
      row_name_ = std::move(name);
      member_ = &row_;
      return true;
    }
    if (open_.size() <= 2) names_[open_.size() - 1] = name;
    auto [member, is_new] = open_.back()->get_ref<Json::object_t&>().emplace(std::move(name), nullptr);
    if (!is_new) return refuse("its JSON has a name twice: " + printable(member->first));
    member_ = &member->second;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return refuse("its JSON cannot be parsed");
  }

  const Error& refused() const { return refused_; }

 private:
  bool refuse(const std::string& why) {
    if (!refused_) refused_ = Error(why);
    return false;
  }
  // Whether the innermost object or list is one of the rows.
  bool in_rows() const { return taking_ && open_.size() == kRowsDepth; }
  // Where the value went; null when it is one too many.
  Json* put(Json value) {
    if (++values_ > max_values_) {
      refuse("its JSON has more than " + std::to_string(max_values_) + " values");
      return nullptr;
    }
    Json* at = open_.empty() ? &root_ : member_;
    if (in_rows()) {
      at = &row_;
    } else if (!open_.empty() && open_.back()->is_array()) {
      open_.back()->push_back(nullptr);
      at = &open_.back()->back();
    }
    *at = std::move(value);
    return at;
  }
  bool put_whole(Json value) { return put(std::move(value)) && (!in_rows() || take_row()); }
  // A whole row is in row_.
  bool take_row() {
    if (const Error error = taking_->take(row_name_, row_)) return refuse(error.sentence());
    row_ = nullptr;
    row_name_.clear();
    values_ = values_before_rows_;
    return true;
  }
  bool enter(Json value) {
    if (open_.size() == max_depth_) return refuse("its JSON nests more than " + std::to_string(max_depth_) + " deep");
    Json* at = put(std::move(value));
    if (!at) return false;
    const bool in_member = open_.size() == 2 && open_[0]->is_object() && open_[1]->is_object();
    open_.push_back(at);
    if (in_member && !taking_) {
      for (const JsonRows& rows : rows_)
        if (names_[0] == rows.object && names_[1] == rows.member) taking_ = &rows;
      values_before_rows_ = values_;
    }
    return true;
  }
  bool leave() {
    if (in_rows()) taking_ = nullptr;
    open_.pop_back();
    return !in_rows() || take_row();
  }

  static constexpr std::size_t kRowsDepth = 3;

  Json& root_;
  const std::size_t max_depth_, max_values_;
  std::size_t values_ = 0;
  std::vector<Json*> open_;  // objects and arrays around the next value
  Json* member_ = nullptr;   // of the innermost object, named but without its value
  Error refused_;

  const Span<const JsonRows> rows_;
  const JsonRows* taking_ = nullptr;  // those that are open
  std::string names_[2];              // of the members that are open in the root and in an object of it
  std::string row_name_;
  Json row_;
  std::size_t values_before_rows_ = 0;
};

}  // namespace

Error parse_json(Json& object, Span<const std::uint8_t> text, int max_depth, Span<const JsonRows> rows,
                 std::size_t max_values) {
  object = nullptr;
  Builder builder(object, static_cast<std::size_t>(max_depth), max_values, rows);
  if (!Json::sax_parse(text.begin(), text.end(), &builder))
    return builder.refused() ? builder.refused() : Error("its JSON cannot be parsed");
  return object.is_object() ? Error() : Error("its JSON is not an object");
}

Error parse_json(Json& object, Span<const std::uint8_t> text, int max_depth, std::size_t max_values) {
  return parse_json(object, text, max_depth, {}, max_values);
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
