// SPDX-License-Identifier: Apache-2.0
// image_writer.cpp: lays sections behind each other and signs them.
#include "quant/image_writer.hpp"

#include <algorithm>
#include <cstring>

namespace heed::quant {
namespace {

std::size_t round_up_64(std::size_t n) { return (n + 63) & ~std::size_t{63}; }

}  // namespace

TensorSection::TensorSection(const ModelConfig& config, Layout layout) : config_(config), layout_(layout) {
  std::uint64_t at = 0;
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack) {
    tensors_of_[stack] = StackTensors(config.stacks[stack], static_cast<std::uint32_t>(directory_.size()));
    for_each_slot(config.stacks[stack], [&](const TensorSlot& slot) {
      TensorEntry e{};
      e.role = slot.role;
      e.type = slot.type;
      e.layout = slot.type == ElementType::s8 ? layout : Layout::row;
      e.stack = static_cast<std::uint8_t>(stack);
      e.layer = slot.layer;
      e.group = static_cast<std::uint16_t>(slot.group);
      e.rows = slot.rows;
      e.cols = slot.cols;
      e.offset64 = static_cast<std::uint32_t>(at / 64);
      e.bytes64 = static_cast<std::uint32_t>(slot_bytes(slot, layout) / 64);
      directory_.push_back(e);
      at += slot_bytes(slot, layout);
    });
  }
  bytes_.resize(static_cast<std::size_t>(at));
}

std::uint8_t* TensorSection::data(Role role, std::uint32_t layer, std::uint32_t stack) {
  return bytes_.data() + std::size_t{directory_[tensors_of_[stack].index(role, layer)].offset64} * 64;
}

std::uint64_t TensorSection::bytes_of(Role role, std::uint32_t layer, std::uint32_t stack) const {
  return slot_bytes(slot(role, layer, stack), layout_);
}

void TensorSection::put(Role role, std::uint32_t layer, const QuantizedMatrix& matrix, std::uint32_t stack) {
  pack(data(role, layer, stack), matrix, layout_);
}

void TensorSection::put_floats(Role role, std::uint32_t layer, const float* x, std::uint32_t stack) {
  std::memcpy(data(role, layer, stack), x, 4 * std::size_t{slot(role, layer, stack).cols});
}

void TensorSection::put_phases(const std::vector<std::uint32_t>& phases, Role role, std::uint32_t stack) {
  std::memcpy(data(role, 0, stack), phases.data(), 4 * phases.size());
}

void TensorSection::put_score_bias(const std::vector<std::int32_t>& bias, std::uint32_t stack) {
  std::memcpy(data(Role::score_bias, 0, stack), bias.data(), 4 * bias.size());
}

void TensorSection::put_key_offset(std::uint32_t layer, const std::vector<std::int16_t>& values,
                                   const std::vector<std::int8_t>& exponents, Role role, std::uint32_t stack) {
  std::uint8_t* at = data(role, layer, stack);
  std::memcpy(at, values.data(), 2 * values.size());
  std::memcpy(at + 2 * values.size(), exponents.data(), exponents.size());
}

void TensorSection::put_bytes(Role role, std::uint32_t layer, const void* bytes, std::uint32_t stack) {
  std::memcpy(data(role, layer, stack), bytes, static_cast<std::size_t>(bytes_of(role, layer, stack)));
}

std::string metadata_text(const Metadata& metadata) {
  std::string text;
  for (const auto& [key, value] : metadata) {
    text += key + '=';
    for (const char c : value) text += static_cast<unsigned char>(c) < 32 || c == 127 ? ' ' : c;
    text += '\n';
  }
  return text;
}

std::string metadata_value(Span<const std::uint8_t> section, const std::string& key) {
  const std::string text(section.begin(), section.end()), start = key + '=';
  for (std::size_t line = 0; line < text.size();) {
    std::size_t end = text.find('\n', line);
    if (end == std::string::npos) end = text.size();
    if (text.compare(line, start.size(), start) == 0 && line + start.size() <= end)
      return text.substr(line + start.size(), end - line - start.size());
    line = end + 1;
  }
  return {};
}

void write_sections(ImageBytes& image, std::vector<OptionalSection> parts, const Kernels& kernels) {
  parts.erase(std::remove_if(parts.begin(), parts.end(), [](const OptionalSection& s) { return s.bytes.empty(); }),
              parts.end());
  std::sort(parts.begin(), parts.end(),
            [](const OptionalSection& a, const OptionalSection& b) { return a.kind < b.kind; });

  std::vector<SectionEntry> table;
  std::size_t end = sizeof(ImageHeader) + parts.size() * sizeof(SectionEntry);
  for (const OptionalSection& part : parts) {
    SectionEntry s{};
    s.kind = static_cast<std::uint32_t>(part.kind);
    s.offset = round_up_64(end);
    s.bytes = part.bytes.size();
    table.push_back(s);
    end = static_cast<std::size_t>(s.offset) + part.bytes.size();
  }
  ImageHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kFormatVersion;
  header.n_sections = static_cast<std::uint32_t>(parts.size());
  header.total_bytes = end;

  image.assign(end, 0);
  std::memcpy(image.data(), &header, sizeof header);
  std::memcpy(image.data() + sizeof header, table.data(), table.size() * sizeof(SectionEntry));
  for (std::size_t i = 0; i < parts.size(); ++i)
    std::memcpy(image.data() + table[i].offset, parts[i].bytes.data(), parts[i].bytes.size());
  refresh_checksums({image.data(), image.size()}, kernels);
}

void write_image(ImageBytes& image, const ModelConfig& config, const TensorSection& tensors,
                 const std::vector<OptionalSection>& sections, const Kernels& kernels) {
  const auto bytes_of = [](const void* data, std::size_t bytes) {
    return Span<const std::uint8_t>(static_cast<const std::uint8_t*>(data), bytes);
  };
  std::vector<OptionalSection> parts = sections;
  parts.push_back({SectionKind::stacks, bytes_of(config.stacks, config.n_stacks * sizeof(StackConfig))});
  parts.push_back({SectionKind::directory,
                   bytes_of(tensors.directory().data(), tensors.directory().size() * sizeof(TensorEntry))});
  parts.push_back({SectionKind::tensors, bytes_of(tensors.bytes().data(), tensors.bytes().size())});
  write_sections(image, std::move(parts), kernels);
}

void write_image(ImageBytes& image, const ModelConfig& config, const TensorSection& tensors,
                 Span<const std::uint8_t> tokenizer, Span<const std::uint8_t> metadata, const Kernels& kernels) {
  write_image(image, config, tensors, {{SectionKind::tokenizer, tokenizer}, {SectionKind::metadata, metadata}}, kernels);
}

void refresh_checksums(Span<std::uint8_t> image, const Kernels& kernels) {
  ImageHeader header;
  std::memcpy(&header, image.data(), sizeof header);
  std::uint8_t* const table = image.data() + sizeof header;
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    SectionEntry s;
    std::memcpy(&s, table + i * sizeof s, sizeof s);
    if (s.offset <= image.size() && s.bytes <= image.size() - s.offset)
      s.crc = kernels.crc32c(0, image.data() + s.offset, static_cast<std::size_t>(s.bytes));
    std::memcpy(table + i * sizeof s, &s, sizeof s);
  }
  header.header_crc = 0;
  std::uint32_t crc = kernels.crc32c(0, &header, sizeof header);
  crc = kernels.crc32c(crc, table, header.n_sections * sizeof(SectionEntry));
  header.header_crc = crc;
  std::memcpy(image.data(), &header, sizeof header);
}

}  // namespace heed::quant
