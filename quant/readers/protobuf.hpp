// SPDX-License-Identifier: Apache-2.0
// protobuf.hpp: the fields of a protobuf message, one after the other, inside a file that nobody vouches for.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>

#include "runtime/span.hpp"

namespace heed::quant {

// Walks through one message and allocates nothing. Every length is checked against what is left of the message, so
// messages inside it are spans inside the file. Groups, which proto3 no longer has, end the walk as broken.
class ProtobufMessage {
 public:
  enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

  explicit ProtobufMessage(Span<const std::uint8_t> message) : at_(message.begin()), end_(message.end()) {}

  // Whether there is another field, which the accessors then describe. False at the end of the message and where it is
  // broken.
  bool next() {
    std::uint64_t key = 0;
    if (broken_ || at_ == end_) return false;
    if (!read_varint(key) || key >> 3 == 0 || key >> 3 > kMaxField) return fail();
    field_ = static_cast<std::uint32_t>(key >> 3);
    wire_ = static_cast<Wire>(key & 7);
    bytes_ = {};
    number_ = 0;
    switch (wire_) {
      case Wire::varint: return read_varint(number_) || fail();
      case Wire::fixed64: return read_fixed(8) || fail();
      case Wire::fixed32: return read_fixed(4) || fail();
      case Wire::bytes: break;
      default: return fail();
    }
    std::uint64_t size = 0;
    if (!read_varint(size) || size > left()) return fail();
    bytes_ = {at_, static_cast<std::size_t>(size)};
    at_ += size;
    return true;
  }

  bool broken() const { return broken_; }
  std::uint32_t field() const { return field_; }
  bool is(std::uint32_t field, Wire wire) const { return field_ == field && wire_ == wire; }

  // Of varint, fixed32 and fixed64 fields; 0 of others.
  std::uint64_t number() const { return number_; }
  bool flag() const { return number_ != 0; }
  // An int32 is written as a varint of 64 bits, with its sign.
  std::int32_t int32() const { return static_cast<std::int32_t>(static_cast<std::uint32_t>(number_)); }
  float float32() const {
    const auto bits = static_cast<std::uint32_t>(number_);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  // Of bytes, strings and messages; empty of others.
  Span<const std::uint8_t> bytes() const { return bytes_; }
  std::string text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

 private:
  static constexpr std::uint64_t kMaxField = (1u << 29) - 1;

  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  bool fail() {
    broken_ = true;
    return false;
  }
  bool read_varint(std::uint64_t& x) {
    x = 0;
    for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const std::uint8_t byte = *at_++;
      if (shift == 63 && byte > 1) return false;
      x |= std::uint64_t{byte & 127u} << shift;
      if (byte < 128) return true;
    }
    return false;
  }
  bool read_fixed(unsigned size) {
    if (left() < size) return false;
    for (unsigned i = 0; i < size; ++i) number_ |= std::uint64_t{at_[i]} << (8 * i);
    at_ += size;
    return true;
  }

  const std::uint8_t *at_, *end_;
  std::uint32_t field_ = 0;
  Wire wire_ = Wire::varint;
  bool broken_ = false;
  std::uint64_t number_ = 0;
  Span<const std::uint8_t> bytes_;
};

}  // namespace heed::quant
