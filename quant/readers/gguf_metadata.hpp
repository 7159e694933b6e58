// SPDX-License-Identifier: Apache-2.0
// gguf_metadata.hpp: the keys and values at the beginning of a GGUF file (versions 2 and 3), as views of its bytes.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "quant/error.hpp"
#include "runtime/span.hpp"

namespace heed::quant {

// As the file numbers them.
enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

struct GgufValue {
  GgufType type{};  // of the value, or of a list's elements
  bool is_list = false;
  std::uint64_t count = 1;  // of elements
  // Of all elements behind each other, in the file, at no particular alignment; a text is u64 length and its bytes.
  Span<const std::uint8_t> bytes;
};

// A view of a file, which must outlive it.
class GgufMetadata {
 public:
  // The bytes are not trusted: every length is checked against what is left of the file, and lists of lists, keys given
  // twice, more than 4,096 keys and unknown types are refused. What it allocates is at most a small multiple of the bytes
  // that it reads.
  Error open(Span<const std::uint8_t> file);

  std::uint64_t tensor_count() const { return tensor_count_; }
  // The offset of the first byte behind the metadata, where the tensors' descriptions begin.
  std::size_t end() const { return end_; }

  // Null where there is none.
  const GgufValue* find(const std::string& key) const;

  // Each gives its fallback where the key is missing. Fails where the value has another type or does not fit: "KEY is
  // no ...".
  Error text_or(std::string& x, const std::string& key, const std::string& fallback) const;
  Error flag_or(bool& x, const std::string& key, bool fallback) const;
  // Of any whole type.
  Error number_or(std::uint32_t& x, const std::string& key, std::uint32_t fallback) const;
  // f32 or f64, which may be no number or infinite.
  Error real_or(double& x, const std::string& key, double fallback) const;

  // All of them.
  const std::map<std::string, GgufValue>& values() const { return values_; }

 private:
  std::map<std::string, GgufValue> values_;
  std::uint64_t tensor_count_ = 0;
  std::size_t end_ = 0;
};

// Goes through the texts of a list of texts that GgufMetadata has checked.
class GgufTexts {
 public:
  explicit GgufTexts(const GgufValue& list) : at_(list.bytes.begin()), end_(list.bytes.end()) {}
  bool next(Span<const std::uint8_t>& text);

 private:
  const std::uint8_t *at_, *end_;
};

// What an error says of a value: a number, true or false, the beginning of a text, or how many elements a list has.
std::string printable(const GgufValue& value);

// Element i of a list of 32-bit numbers: f32, u32 or i32, as its bits.
std::uint32_t gguf_bits32(const GgufValue& list, std::uint64_t i);

}  // namespace heed::quant
