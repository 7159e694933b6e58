// SPDX-License-Identifier: Apache-2.0
// gguf_bytes.hpp: a GGUF file in memory, key by key and tensor by tensor, that tests may spoil.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace heed::test {

class GgufBytes {
 public:
  enum Type : std::uint32_t { u32 = 4, i32 = 5, f32 = 6, boolean = 7, text = 8, array = 9, f64 = 12 };
  std::uint32_t version = 3, alignment = 32;

  template <class T>
  static std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(&bytes[0], &value, sizeof value);
    return bytes;
  }
  static std::string name(const std::string& x) { return raw(std::uint64_t{x.size()}) + x; }

  GgufBytes& key(const std::string& k, std::uint32_t type, const std::string& value) {
    keys_ += name(k) + raw(type) + value;
    ++n_keys_;
    return *this;
  }
  GgufBytes& add(const std::string& k, const std::string& value) { return key(k, text, name(value)); }
  GgufBytes& add(const std::string& k, std::uint32_t value) { return key(k, u32, raw(value)); }
  GgufBytes& add(const std::string& k, float value) { return key(k, f32, raw(value)); }

  // `shape` as the file has it: the neighbours' size first. The data is padded to the alignment.
  GgufBytes& tensor(const std::string& n, const std::vector<std::uint64_t>& shape, std::uint32_t type,
                    std::string bytes) {
    return described(n, shape, type, data_.size()).data(std::move(bytes));
  }
  GgufBytes& described(const std::string& n, const std::vector<std::uint64_t>& shape, std::uint32_t type,
                       std::uint64_t offset) {
    tensors_ += name(n) + raw(static_cast<std::uint32_t>(shape.size()));
    for (const std::uint64_t size : shape) tensors_ += raw(size);
    tensors_ += raw(type) + raw(offset);
    ++n_tensors_;
    return *this;
  }
  GgufBytes& data(std::string bytes) {
    data_ += pad(std::move(bytes));
    return *this;
  }

  std::vector<std::uint8_t> bytes() const {
    const std::string all = pad("GGUF" + raw(version) + raw(n_tensors_) + raw(n_keys_) + keys_ + tensors_) + data_;
    return {all.begin(), all.end()};
  }

 private:
  std::string pad(std::string x) const {
    x.resize((x.size() + alignment - 1) / alignment * alignment, '\0');
    return x;
  }
  std::string keys_, tensors_, data_;
  std::uint64_t n_keys_ = 0, n_tensors_ = 0;
};

}  // namespace heed::test
