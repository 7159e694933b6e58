// SPDX-License-Identifier: Apache-2.0
// image_writer.cpp: lays sections behind each other and signs them.
#include "quant/image_writer.hpp"

#include <algorithm>
#include <cstring>

namespace heed::quant {
TensorDirectory::TensorDirectory(const ModelConfig& config, Layout layout) : config_(config), layout_(layout) {
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack) {
    tensors_of_[stack] = StackTensors(config.stacks[stack], static_cast<std::uint32_t>(entries_.size()));
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
      e.offset64 = static_cast<std::uint32_t>(section_bytes_ / 64);
      e.bytes64 = static_cast<std::uint32_t>(slot_bytes(slot, layout) / 64);
      entries_.push_back(e);
      section_bytes_ += slot_bytes(slot, layout);
    });
  }
}

std::uint64_t TensorSection::bytes_of(Role role, std::uint32_t layer, std::uint32_t stack) const {
  return slot_bytes(slot(role, layer, stack), layout());
}

void TensorSection::put(Role role, std::uint32_t layer, const QuantizedMatrix& matrix, std::uint32_t stack) {
  pack(data(role, layer, stack), matrix, layout());
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

namespace {

// Sections behind each other in the order of their kinds, each at a multiple of 64.
std::vector<SectionEntry> make_table(std::vector<SectionEntry> table, std::uint64_t& end) {
  std::sort(table.begin(), table.end(), [](const SectionEntry& a, const SectionEntry& b) { return a.kind < b.kind; });
  end = sizeof(ImageHeader) + table.size() * sizeof(SectionEntry);
  for (SectionEntry& s : table) {
    s.offset = (end + 63) / 64 * 64;
    end = s.offset + s.bytes;
  }
  return table;
}

SectionEntry entry_of(SectionKind kind, std::uint64_t bytes) {
  SectionEntry s{};
  s.kind = static_cast<std::uint32_t>(kind);
  s.bytes = bytes;
  return s;
}

ImageHeader make_header(const std::vector<SectionEntry>& table, std::uint64_t end) {
  ImageHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kFormatVersion;
  header.n_sections = static_cast<std::uint32_t>(table.size());
  header.total_bytes = end;
  return header;
}

std::uint32_t header_crc(const ImageHeader& header, const void* table, const Kernels& kernels) {
  const std::uint32_t crc = kernels.crc32c(0, &header, sizeof header);
  return kernels.crc32c(crc, table, header.n_sections * sizeof(SectionEntry));
}

Span<const std::uint8_t> bytes_of(const void* data, std::size_t bytes) {
  return {static_cast<const std::uint8_t*>(data), bytes};
}

// The sections that every image has, but for its tensors.
std::vector<OptionalSection> with_directory(std::vector<OptionalSection> sections, const ModelConfig& config,
                                            const std::vector<TensorEntry>& entries) {
  sections.push_back({SectionKind::stacks, bytes_of(config.stacks, config.n_stacks * sizeof(StackConfig))});
  sections.push_back({SectionKind::directory, bytes_of(entries.data(), entries.size() * sizeof(TensorEntry))});
  return sections;
}

}  // namespace

void write_sections(ImageBytes& image, std::vector<OptionalSection> parts, const Kernels& kernels) {
  std::vector<SectionEntry> table;
  for (const OptionalSection& part : parts)
    if (!part.bytes.empty()) table.push_back(entry_of(part.kind, part.bytes.size()));
  std::uint64_t end = 0;
  table = make_table(std::move(table), end);
  const ImageHeader header = make_header(table, end);
  image.assign(static_cast<std::size_t>(end), 0);
  std::memcpy(image.data(), &header, sizeof header);
  std::memcpy(image.data() + sizeof header, table.data(), table.size() * sizeof(SectionEntry));
  for (const SectionEntry& s : table)
    for (const OptionalSection& part : parts)
      if (s.kind == static_cast<std::uint32_t>(part.kind) && !part.bytes.empty())
        std::memcpy(image.data() + s.offset, part.bytes.data(), part.bytes.size());
  refresh_checksums({image.data(), image.size()}, kernels);
}

void write_image(ImageBytes& image, const ModelConfig& config, const TensorSection& tensors,
                 const std::vector<OptionalSection>& sections, const Kernels& kernels) {
  std::vector<OptionalSection> parts = with_directory(sections, config, tensors.directory());
  parts.push_back({SectionKind::tensors, bytes_of(tensors.bytes().data(), tensors.bytes().size())});
  write_sections(image, std::move(parts), kernels);
}

void write_image(ImageBytes& image, const ModelConfig& config, const TensorSection& tensors,
                 Span<const std::uint8_t> tokenizer, Span<const std::uint8_t> metadata, const Kernels& kernels) {
  write_image(image, config, tensors, {{SectionKind::tokenizer, tokenizer}, {SectionKind::metadata, metadata}}, kernels);
}

ImageStream::ImageStream(WriteAt write, const TensorDirectory& tensors, const std::vector<OptionalSection>& sections,
                         const Kernels& kernels)
    : write_(std::move(write)), tensors_(tensors), kernels_(kernels) {
  table_.push_back(entry_of(SectionKind::tensors, tensors.section_bytes()));
  for (const OptionalSection& part : with_directory(sections, tensors.config(), tensors.entries()))
    if (!part.bytes.empty()) table_.push_back(entry_of(part.kind, part.bytes.size()));
  table_ = make_table(std::move(table_), end_);
}

Error ImageStream::append(Span<const std::uint8_t> bytes) {
  for (const SectionEntry& s : table_) {
    if (s.kind != static_cast<std::uint32_t>(SectionKind::tensors)) continue;
    if (bytes.size() > s.bytes - appended_) return Error("more bytes come than the tensors of the image have");
    if (Error error = write_(s.offset + appended_, bytes)) return error;
  }
  crc_ = kernels_.crc32c(crc_, bytes.data(), bytes.size());
  appended_ += bytes.size();
  return {};
}

Error ImageStream::finish(const std::vector<OptionalSection>& sections) {
  if (appended_ != tensors_.section_bytes()) return Error("tensors of the image have not come");
  const std::vector<OptionalSection> parts = with_directory(sections, tensors_.config(), tensors_.entries());
  for (SectionEntry& s : table_) {
    if (s.kind == static_cast<std::uint32_t>(SectionKind::tensors)) s.crc = crc_;
    for (const OptionalSection& part : parts) {
      if (static_cast<std::uint32_t>(part.kind) != s.kind || part.bytes.empty()) continue;
      if (part.bytes.size() != s.bytes) return Error("a section of the image has changed its size");
      s.crc = kernels_.crc32c(0, part.bytes.data(), part.bytes.size());
      if (Error error = write_(s.offset, part.bytes)) return error;
    }
  }
  ImageHeader header = make_header(table_, end_);
  header.header_crc = header_crc(header, table_.data(), kernels_);
  if (Error error = write_(sizeof header, bytes_of(table_.data(), table_.size() * sizeof(SectionEntry)))) return error;
  return write_(0, bytes_of(&header, sizeof header));
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
  header.header_crc = header_crc(header, table, kernels);
  std::memcpy(image.data(), &header, sizeof header);
}

}  // namespace heed::quant
