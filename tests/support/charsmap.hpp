// SPDX-License-Identifier: Apache-2.0
// charsmap.hpp: a precompiled_charsmap as SentencePiece writes it, of a few entries: a double array by the first place that is free.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace heed::test {

class CharsmapWriter {
 public:
  explicit CharsmapWriter(const std::map<std::string, std::string>& map) : units_(1 << 14), taken_(1 << 14) {
    taken_[0] = true;
    place(0, map, 0);
  }
  std::vector<std::uint8_t> bytes() const {
    std::vector<std::uint8_t> out;
    const auto put = [&](std::uint32_t x) {
      for (int i = 0; i < 4; ++i) out.push_back(static_cast<std::uint8_t>(x >> (8 * i)));
    };
    put(static_cast<std::uint32_t>(units_.size() * 4));
    for (std::uint32_t unit : units_) put(unit);
    out.insert(out.end(), values_.begin(), values_.end());
    return out;
  }

 private:
  // The keys that are alike up to `depth`, below `node`.
  void place(std::uint32_t node, const std::map<std::string, std::string>& keys, std::size_t depth) {
    std::map<std::uint8_t, std::map<std::string, std::string>> children;
    const std::string* value = nullptr;
    for (const auto& [key, v] : keys) {
      if (key.size() == depth) {
        value = &v;
      } else {
        children[static_cast<std::uint8_t>(key[depth])][key] = v;
      }
    }
    // The children stand at base ^ byte, the value at base; the offset is base ^ node, which has 21 bits.
    std::uint32_t base = 1;
    const auto is_free = [&] {
      if (taken_[base]) return false;
      for (const auto& child : children)
        if (taken_[base ^ child.first]) return false;
      return true;
    };
    while (!is_free()) ++base;
    units_[node] |= (base ^ node) << 10;
    if (value) {
      units_[node] |= 0x100;
      units_[base] = 0x80000000u | static_cast<std::uint32_t>(values_.size());
      values_ += *value + '\0';
    }
    taken_[base] = true;
    for (const auto& child : children) {
      units_[base ^ child.first] = child.first;
      taken_[base ^ child.first] = true;
    }
    for (const auto& child : children) place(base ^ child.first, child.second, depth + 1);
  }

  std::vector<std::uint32_t> units_;
  std::vector<bool> taken_;
  std::string values_;
};

inline std::vector<std::uint8_t> charsmap(const std::map<std::string, std::string>& map) { return CharsmapWriter(map).bytes(); }

}  // namespace heed::test
