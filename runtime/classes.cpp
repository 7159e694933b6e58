// SPDX-License-Identifier: Apache-2.0
// classes.cpp: class names. Rule numbers are those of SPEC.md, part 5.
#include "runtime/one_rounding.hpp"

#include "runtime/classes.hpp"

namespace heed {

Status check_classes(Span<const std::uint8_t> section, std::uint32_t n_outputs) {
  std::uint32_t lines = 0;
  std::uint8_t before = '\n';
  for (const std::uint8_t b : section) {
    if (b == '\n' && before == '\n') return Status::bad_section;  // N1
    lines += b == '\n';
    before = b;
  }
  return before == '\n' && lines == n_outputs ? Status::ok : Status::bad_section;  // N1
}

Span<const char> class_name(Span<const std::uint8_t> section, std::uint32_t index) {
  for (std::size_t at = 0; at < section.size(); --index) {
    std::size_t end = at;
    while (end < section.size() && section[end] != '\n') ++end;
    if (index == 0) return {reinterpret_cast<const char*>(section.data()) + at, end - at};
    at = end + 1;
  }
  return {};
}

}  // namespace heed
