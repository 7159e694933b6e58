// SPDX-License-Identifier: Apache-2.0
// sections.cpp: generation and class names. Rule numbers are those of SPEC.md, part 5.
#include "runtime/one_rounding.hpp"

#include "runtime/sections.hpp"

namespace heed {

Status open(Generation& generation, Span<const std::uint8_t> section, std::uint32_t vocab_size) {
  generation = {};
  if (section.empty()) return Status::ok;
  if (reinterpret_cast<std::uintptr_t>(section.data()) % alignof(Token)) return Status::misaligned;
  constexpr std::size_t kLists = 3;
  if (section.size() < 4 * kLists) return Status::bad_section;  // G1
  const auto* counts = reinterpret_cast<const std::uint32_t*>(section.data());
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < kLists; ++i) total += counts[i];
  if (section.size() != 4 * (kLists + total)) return Status::bad_section;  // G1
  const auto* tokens = reinterpret_cast<const Token*>(section.data() + 4 * kLists);
  for (std::size_t i = 0; i < total; ++i)
    if (tokens[i] < 0 || static_cast<std::uint32_t>(tokens[i]) >= vocab_size) return Status::bad_section;  // G2
  generation.first = {tokens, counts[0]};
  generation.suppressed = {tokens + counts[0], counts[1]};
  generation.endings = {tokens + counts[0] + counts[1], counts[2]};
  return Status::ok;
}

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

Span<const std::uint8_t> class_name(Span<const std::uint8_t> section, std::uint32_t index) {
  for (std::size_t at = 0; at < section.size(); --index) {
    std::size_t end = at;
    while (end < section.size() && section[end] != '\n') ++end;
    if (index == 0) return section.subspan(at, end - at);
    at = end + 1;
  }
  return {};
}

}  // namespace heed
