// SPDX-License-Identifier: Apache-2.0
// sections.cpp: taking an image apart and putting it together again.
#include "tests/support/sections.hpp"

#include <cstring>

#include "platform/select.hpp"

namespace heed::test {

quant::ImageBytes with_sections(const quant::ImageBytes& image, const std::vector<quant::OptionalSection>& sections) {
  ImageHeader header;
  std::memcpy(&header, image.data(), sizeof header);
  std::vector<quant::OptionalSection> parts = sections;
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    SectionEntry entry;
    std::memcpy(&entry, image.data() + sizeof header + i * sizeof entry, sizeof entry);
    bool replaced = false;
    for (const quant::OptionalSection& s : sections) replaced = replaced || static_cast<std::uint32_t>(s.kind) == entry.kind;
    if (!replaced)
      parts.push_back({static_cast<SectionKind>(entry.kind),
                       {image.data() + entry.offset, static_cast<std::size_t>(entry.bytes)}});
  }
  quant::ImageBytes whole;
  quant::write_sections(whole, std::move(parts), *find_kernels("portable"));
  return whole;
}

std::vector<std::uint8_t> generation_section(const std::vector<Token>& first, const std::vector<Token>& suppressed,
                                             const std::vector<Token>& endings) {
  const std::vector<Token>* const lists[] = {&first, &suppressed, &endings};
  std::vector<Token> words;
  for (const auto* list : lists) words.push_back(static_cast<Token>(list->size()));
  for (const auto* list : lists) words.insert(words.end(), list->begin(), list->end());
  std::vector<std::uint8_t> bytes(words.size() * sizeof(Token));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

}  // namespace heed::test
