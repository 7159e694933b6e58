// SPDX-License-Identifier: Apache-2.0
// image_writer.hpp: the bytes of an image (SPEC.md, part 1), in the one order that the format allows.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "quant/error.hpp"
#include "quant/file.hpp"
#include "quant/pack.hpp"
#include "runtime/model.hpp"

namespace heed::quant {

// The tensor section and its directory, sized by the configuration and filled tensor by tensor in any order.
class TensorSection {
 public:
  // Precondition: check_config(config) == ok.
  TensorSection(const ModelConfig& config, Layout layout);

  Layout layout() const { return layout_; }
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

  TensorSlot slot(Role role, std::uint32_t layer, std::uint32_t stack = 0) const {
    return tensor_slot(config_.stacks[stack], role, layer);
  }
  std::uint64_t bytes_of(Role role, std::uint32_t layer, std::uint32_t stack = 0) const;
  const std::vector<TensorEntry>& directory() const { return directory_; }
  const ImageBytes& bytes() const { return bytes_; }

 private:
  std::uint8_t* data(Role role, std::uint32_t layer, std::uint32_t stack);

  ModelConfig config_;
  StackTensors tensors_of_[kMaxStacks];
  Layout layout_;
  std::vector<TensorEntry> directory_;
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

// Recomputes every CRC of an image whose header and section table lie within it; for tools and tests that edit one.
void refresh_checksums(Span<std::uint8_t> image, const Kernels& kernels);

}  // namespace heed::quant
