// SPDX-License-Identifier: Apache-2.0
// image_writer.hpp: the bytes of an image (SPEC.md, part 1), in the one order that the format allows.
#pragma once
#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "quant/error.hpp"
#include "quant/file.hpp"
#include "quant/pack.hpp"
#include "runtime/model.hpp"

namespace heed::quant {

// Which tensors an image has, and where they lie in its tensor section.
class TensorDirectory {
 public:
  // Precondition: check_config(config) == ok.
  TensorDirectory(const ModelConfig& config, Layout layout);

  Layout layout() const { return layout_; }
  const ModelConfig& config() const { return config_; }
  const std::vector<TensorEntry>& entries() const { return entries_; }
  const TensorEntry& entry(Role role, std::uint32_t layer, std::uint32_t stack) const {
    return entries_[tensors_of_[stack].index(role, layer)];
  }
  std::uint64_t section_bytes() const { return section_bytes_; }

 private:
  ModelConfig config_;
  StackTensors tensors_of_[kMaxStacks];
  Layout layout_;
  std::vector<TensorEntry> entries_;
  std::uint64_t section_bytes_ = 0;
};

// The tensor section in memory, sized by the configuration and filled tensor by tensor in any order.
class TensorSection {
 public:
  // Precondition: check_config(config) == ok.
  TensorSection(const ModelConfig& config, Layout layout)
      : directory_(config, layout), bytes_(static_cast<std::size_t>(directory_.section_bytes())) {}

  Layout layout() const { return directory_.layout(); }
  // Shapes must be those of tensor_slot().
  void put(Role role, std::uint32_t layer, const QuantizedMatrix& matrix, std::uint32_t stack = 0);
  void put_floats(Role role, std::uint32_t layer, const float* x, std::uint32_t stack = 0);
  void put_phases(const std::vector<std::uint32_t>& phases, Role role = Role::rotary_phases, std::uint32_t stack = 0);
  // ALiBi slopes [n_heads], or biases for each distance [n_heads, n_distances].
  void put_score_bias(const std::vector<std::int32_t>& bias, std::uint32_t stack = 0);
  // values [n_kv_heads, head_dim], exponents [n_kv_heads].
  void put_key_offset(std::uint32_t layer, const std::vector<std::int16_t>& values,
                      const std::vector<std::int8_t>& exponents, Role role = Role::key_offset, std::uint32_t stack = 0);
  // The bytes of a tensor, as another image of the same layout holds them.
  void put_bytes(Role role, std::uint32_t layer, const void* bytes, std::uint32_t stack = 0);
  // Bytes of the section, whatever tensors they belong to. Precondition: it has as many from `offset` on.
  void put_section_bytes(std::size_t offset, Span<const std::uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  }

  TensorSlot slot(Role role, std::uint32_t layer, std::uint32_t stack = 0) const {
    return tensor_slot(directory_.config().stacks[stack], role, layer);
  }
  std::uint64_t bytes_of(Role role, std::uint32_t layer, std::uint32_t stack = 0) const;
  const std::vector<TensorEntry>& directory() const { return directory_.entries(); }
  const ImageBytes& bytes() const { return bytes_; }

 private:
  std::uint8_t* data(Role role, std::uint32_t layer, std::uint32_t stack) {
    return bytes_.data() + std::size_t{directory_.entry(role, layer, stack).offset64} * 64;
  }

  TensorDirectory directory_;
  ImageBytes bytes_;
};

// Keys and values of the metadata, in the order in which they are written as `key=value` lines.
using Metadata = std::vector<std::pair<std::string, std::string>>;

// UTF-8 lines. Control characters in a value become spaces; keys are ours.
std::string metadata_text(const Metadata& metadata);
// The value of a key in a metadata section, or empty.
std::string metadata_value(Span<const std::uint8_t> section, const std::string& key);

// A section that an image may have or not, by its kind (SPEC.md 1.2).
struct OptionalSection {
  SectionKind kind;
  Span<const std::uint8_t> bytes;  // empty = no such section
};

// An image of these sections, in any order, each kind at most once, empty ones left out. `kernels` serves for the CRCs.
void write_sections(ImageBytes& image, std::vector<OptionalSection> parts, const Kernels& kernels);

// The whole image; the same parts give the same bytes. Sections come in any order, each kind at most once; `kernels`
// serves for the CRCs.
void write_image(ImageBytes& image, const ModelConfig& config, const TensorSection& tensors,
                 const std::vector<OptionalSection>& sections, const Kernels& kernels);
// With nothing but a tokenizer and metadata.
void write_image(ImageBytes& image, const ModelConfig& config, const TensorSection& tensors,
                 Span<const std::uint8_t> tokenizer, Span<const std::uint8_t> metadata, const Kernels& kernels);

// Takes the next bytes of something.
using Append = std::function<Error(Span<const std::uint8_t>)>;
// Takes bytes for a place of a file, which may lie behind its end so far.
using WriteAt = std::function<Error(std::uint64_t offset, Span<const std::uint8_t> bytes)>;

// An image that is written while its tensors come, without standing in memory; byte for byte that of write_image.
class ImageStream {
 public:
  // `sections` are those of write_image; the sizes of all are final, what they hold is not. `kernels` and `tensors` must
  // outlive this.
  ImageStream(WriteAt write, const TensorDirectory& tensors, const std::vector<OptionalSection>& sections,
              const Kernels& kernels);

  // The next bytes of the tensor section.
  Error append(Span<const std::uint8_t> bytes);
  // Everything else, when all of that section has come. `sections`: the same kinds and sizes once more.
  Error finish(const std::vector<OptionalSection>& sections);
  std::uint64_t bytes() const { return end_; }

 private:
  WriteAt write_;
  const TensorDirectory& tensors_;
  const Kernels& kernels_;
  std::vector<SectionEntry> table_;
  std::uint64_t end_ = 0, appended_ = 0;
  std::uint32_t crc_ = 0;  // of what has been appended
};

// Recomputes every CRC of an image whose header and section table lie within it; for tools and tests that edit one.
void refresh_checksums(Span<std::uint8_t> image, const Kernels& kernels);

}  // namespace heed::quant
