// SPDX-License-Identifier: Apache-2.0
// gguf_metadata.cpp: header, keys and values; nothing of the tensors.
#include "quant/readers/gguf_metadata.hpp"

#include <cstring>

#include "quant/readers/json.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kTypes = 13;
constexpr std::uint64_t kMaxKeyBytes = 65535;  // what the format allows
constexpr std::uint64_t kMaxKeys = 4096;       // models have about forty

// 0 for texts and lists.
std::uint64_t bytes_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean: return 1;
    case GgufType::u16:
    case GgufType::i16: return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32: return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64: return 8;
    case GgufType::text:
    case GgufType::array: break;
  }
  return 0;
}

bool is_signed(GgufType type) {
  return type == GgufType::i8 || type == GgufType::i16 || type == GgufType::i32 || type == GgufType::i64;
}

std::uint64_t little_endian(const std::uint8_t* bytes, unsigned size) {
  std::uint64_t x = 0;
  for (unsigned i = size; i-- > 0;) x = x << 8 | bytes[i];
  return x;
}

// Of a value that is f32 or f64.
double real(const GgufValue& value) {
  const std::uint64_t bits = little_endian(value.bytes.data(), value.type == GgufType::f32 ? 4 : 8);
  if (value.type == GgufType::f64) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  const auto half = static_cast<std::uint32_t>(bits);
  float x;
  std::memcpy(&x, &half, sizeof x);
  return static_cast<double>(x);
}

// What is left of a file; each `take` fails and takes nothing where that is too little.
struct Rest {
  const std::uint8_t *at, *end;

  std::uint64_t left() const { return static_cast<std::uint64_t>(end - at); }
  bool take(std::uint64_t& x, unsigned size) {
    if (left() < size) return false;
    x = little_endian(at, size);
    at += size;
    return true;
  }
  bool take_u32(std::uint32_t& x) {
    std::uint64_t wide = 0;
    const bool good = take(wide, 4);
    x = static_cast<std::uint32_t>(wide);
    return good;
  }
  bool skip_text() {
    std::uint64_t size = 0;
    return take(size, 8) && skip(size);
  }
  bool skip(std::uint64_t size) {
    if (size > left()) return false;
    at += size;
    return true;
  }
};

Error take_value(GgufValue& value, Rest& rest, const std::string& key) {
  const Error cut("the file ends inside the value of " + key);
  std::uint32_t type = 0;
  if (!rest.take_u32(type)) return cut;
  if (type >= kTypes) return Error(key + " has the type " + std::to_string(type) + ", which no GGUF file has");
  value.type = static_cast<GgufType>(type);
  if (value.type == GgufType::array) {
    value.is_list = true;
    if (!rest.take_u32(type) || !rest.take(value.count, 8)) return cut;
    if (type >= kTypes || static_cast<GgufType>(type) == GgufType::array)
      return Error(key + " is a list of the type " + std::to_string(type) + ", which is not supported");
    value.type = static_cast<GgufType>(type);
  }
  const std::uint8_t* begin = rest.at;
  if (value.type == GgufType::text) {
    for (std::uint64_t i = 0; i < value.count; ++i)
      if (!rest.skip_text()) return cut;
  } else if (value.count > rest.left() / bytes_of(value.type) || !rest.skip(value.count * bytes_of(value.type))) {
    return cut;
  }
  value.bytes = {begin, static_cast<std::size_t>(rest.at - begin)};
  return {};
}

Error is_no(const std::string& key, const char* what) { return Error(key + " is no " + what); }

}  // namespace

Error GgufMetadata::open(Span<const std::uint8_t> file) {
  values_.clear();
  Rest rest{file.begin(), file.end()};
  std::uint32_t magic = 0, version = 0;
  std::uint64_t n_values = 0;
  if (!rest.take_u32(magic) || magic != 0x46554747u) return Error("it is no GGUF file");
  if (!rest.take_u32(version)) return Error("the file ends inside its header");
  if (version != 0 && (version & 0xFFFFu) == 0) return Error("it is a big-endian GGUF file, which is not supported");
  if (version != 2 && version != 3) return Error("GGUF version " + std::to_string(version) + " is not supported");
  if (!rest.take(tensor_count_, 8) || !rest.take(n_values, 8)) return Error("the file ends inside its header");
  if (n_values > kMaxKeys) return Error("it has " + std::to_string(n_values) + " keys, more than 4,096");
  for (std::uint64_t i = 0; i < n_values; ++i) {
    std::uint64_t size = 0;
    if (!rest.take(size, 8) || size > rest.left()) return Error("the file ends inside key " + std::to_string(i));
    if (size > kMaxKeyBytes) return Error("key " + std::to_string(i) + " has more than 65,535 bytes");
    const std::string key(reinterpret_cast<const char*>(rest.at), static_cast<std::size_t>(size));
    rest.at += size;
    GgufValue value;
    if (Error error = take_value(value, rest, printable(key))) return error;
    if (!values_.emplace(key, value).second) return Error("it has the key " + printable(key) + " twice");
  }
  end_ = static_cast<std::size_t>(rest.at - file.begin());
  return {};
}

const GgufValue* GgufMetadata::find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

Error GgufMetadata::text_or(std::string& x, const std::string& key, const std::string& fallback) const {
  const GgufValue* value = find(key);
  x = fallback;
  if (!value) return {};
  Span<const std::uint8_t> text;
  if (value->is_list || value->type != GgufType::text || !GgufTexts(*value).next(text)) return is_no(key, "text");
  x.assign(reinterpret_cast<const char*>(text.data()), text.size());
  return {};
}

Error GgufMetadata::flag_or(bool& x, const std::string& key, bool fallback) const {
  const GgufValue* value = find(key);
  x = fallback;
  if (!value) return {};
  if (value->is_list || value->type != GgufType::boolean || value->bytes[0] > 1) return is_no(key, "boolean");
  x = value->bytes[0] != 0;
  return {};
}

Error GgufMetadata::number_or(std::uint32_t& x, const std::string& key, std::uint32_t fallback) const {
  const GgufValue* value = find(key);
  x = fallback;
  if (!value) return {};
  const bool is_float = value->type == GgufType::f32 || value->type == GgufType::f64;
  const std::uint64_t size = bytes_of(value->type);
  if (value->is_list || size == 0 || is_float || value->type == GgufType::boolean) return is_no(key, "whole number");
  const std::uint64_t wide = little_endian(value->bytes.data(), static_cast<unsigned>(size));
  if (wide > 0xFFFFFFFFu || (is_signed(value->type) && wide >> (8 * size - 1))) return is_no(key, "number from 0 to 2^32 - 1");
  x = static_cast<std::uint32_t>(wide);
  return {};
}

Error GgufMetadata::real_or(double& x, const std::string& key, double fallback) const {
  const GgufValue* value = find(key);
  x = fallback;
  if (!value) return {};
  if (value->is_list || (value->type != GgufType::f32 && value->type != GgufType::f64)) return is_no(key, "real number");
  x = real(*value);
  return {};
}

std::string printable(const GgufValue& value) {
  if (value.is_list) return "[" + std::to_string(value.count) + " elements]";
  switch (value.type) {
    case GgufType::text: {
      constexpr std::size_t kMost = 64;
      const std::size_t n = value.bytes.size() - 8;
      const std::string text(reinterpret_cast<const char*>(value.bytes.data()) + 8, n < kMost ? n : kMost);
      return "\"" + printable(text) + (n < kMost ? "\"" : "...\"");
    }
    case GgufType::f32:
    case GgufType::f64: return Json(real(value)).dump();  // "null" where it is no number
    case GgufType::boolean: return value.bytes[0] ? "true" : "false";
    default: break;
  }
  const auto size = static_cast<unsigned>(bytes_of(value.type));
  std::uint64_t x = little_endian(value.bytes.data(), size);
  if (!is_signed(value.type) || !(x >> (8 * size - 1))) return std::to_string(x);
  if (size < 8) x |= ~std::uint64_t{0} << 8 * size;
  return "-" + std::to_string(0 - x);
}

bool GgufTexts::next(Span<const std::uint8_t>& text) {
  if (at_ == end_) return false;
  const auto size = static_cast<std::size_t>(little_endian(at_, 8));
  text = {at_ + 8, size};
  at_ += 8 + size;
  return true;
}

std::uint32_t gguf_bits32(const GgufValue& list, std::uint64_t i) {
  return static_cast<std::uint32_t>(little_endian(list.bytes.data() + 4 * i, 4));
}

}  // namespace heed::quant
