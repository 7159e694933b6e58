// SPDX-License-Identifier: Apache-2.0
// image_writer.cpp: lays sections behind each other and signs them.
#include "quant/image_writer.hpp"

#include <cstring>

namespace heed::quant {
namespace {

std::size_t round_up_64(std::size_t n) { return (n + 63) & ~std::size_t{63}; }

}  // namespace

TensorSection::TensorSection(const ModelConfig& config, Layout layout) : config_(config), layout_(layout) {
  std::uint64_t at = 0;
  const auto add = [&](Role role, std::uint32_t layer) {
    const TensorSlot slot = tensor_slot(config, role, layer);
    TensorEntry e{};
    e.role = slot.role;
    e.type = slot.type;
    e.layout = slot.type == ElementType::s8 ? layout : Layout::row;
    e.layer = slot.layer;
    e.group = static_cast<std::uint16_t>(slot.group);
    e.rows = slot.rows;
    e.cols = slot.cols;
    e.offset64 = static_cast<std::uint32_t>(at / 64);
    directory_.push_back(e);
    at += slot_bytes(slot, layout);
  };
  const auto add_all = [&](std::uint32_t roles, std::uint32_t layer) {
    for (std::uint32_t role = 0; role < kRoleCount; ++role)
      if ((roles >> role) & 1u) add(static_cast<Role>(role), layer);
  };
  add_all(global_roles(config) & kRolesBeforeLayers, 0);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) add_all(layer_roles(config), layer);
  add_all(global_roles(config) & ~kRolesBeforeLayers, 0);
  bytes_.resize(static_cast<std::size_t>(at));
}

std::uint8_t* TensorSection::data(Role role, std::uint32_t layer) {
  return bytes_.data() + std::size_t{directory_[tensor_index(config_, role, layer)].offset64} * 64;
}

std::uint64_t TensorSection::bytes_of(Role role, std::uint32_t layer) const {
  return slot_bytes(tensor_slot(config_, role, layer), layout_);
}

void TensorSection::put(Role role, std::uint32_t layer, const QuantizedMatrix& matrix) {
  pack(data(role, layer), matrix, layout_);
}

void TensorSection::put_floats(Role role, std::uint32_t layer, const float* x) {
  std::memcpy(data(role, layer), x, 4 * std::size_t{tensor_slot(config_, role, layer).cols});
}

void TensorSection::put_phases(const std::vector<std::uint32_t>& phases) {
  std::memcpy(data(Role::rotary_phases, 0), phases.data(), 4 * phases.size());
}

void TensorSection::put_key_offset(std::uint32_t layer, const std::vector<std::int16_t>& values,
                                   const std::vector<std::int8_t>& exponents) {
  std::uint8_t* at = data(Role::key_offset, layer);
  std::memcpy(at, values.data(), 2 * values.size());
  std::memcpy(at + 2 * values.size(), exponents.data(), exponents.size());
}

void TensorSection::put_bytes(Role role, std::uint32_t layer, const void* bytes) {
  std::memcpy(data(role, layer), bytes, static_cast<std::size_t>(bytes_of(role, layer)));
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

void write_image(ImageBytes& image, const ModelConfig& config, const TensorSection& tensors,
                 Span<const std::uint8_t> tokenizer, Span<const std::uint8_t> metadata, const Kernels& kernels) {
  struct Part {
    SectionKind kind;
    const void* data;
    std::size_t bytes;
  };
  std::vector<Part> parts;
  parts.push_back({SectionKind::config, &config, sizeof config});
  parts.push_back(
      {SectionKind::directory, tensors.directory().data(), tensors.directory().size() * sizeof(TensorEntry)});
  if (!tokenizer.empty()) parts.push_back({SectionKind::tokenizer, tokenizer.data(), tokenizer.size()});
  if (!metadata.empty()) parts.push_back({SectionKind::metadata, metadata.data(), metadata.size()});
  parts.push_back({SectionKind::tensors, tensors.bytes().data(), tensors.bytes().size()});

  std::vector<SectionEntry> table;
  std::size_t end = sizeof(ImageHeader) + parts.size() * sizeof(SectionEntry);
  for (const Part& part : parts) {
    SectionEntry s{};
    s.kind = static_cast<std::uint32_t>(part.kind);
    s.offset = round_up_64(end);
    s.bytes = part.bytes;
    table.push_back(s);
    end = static_cast<std::size_t>(s.offset) + part.bytes;
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
    std::memcpy(image.data() + table[i].offset, parts[i].data, parts[i].bytes);
  refresh_checksums({image.data(), image.size()}, kernels);
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
