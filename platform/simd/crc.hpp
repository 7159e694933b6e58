// SPDX-License-Identifier: Apache-2.0
// crc.hpp: CRC-32C eight bytes at a time, by the CPU's instruction or by tables.
#pragma once
#include "platform/simd/lanes.hpp"

namespace heed::simd {

template <class Arch, class Dot>
struct Crc {
  using W = Words<Arch>;

  // values[k][b]: byte b followed by k zero bytes. Reflected polynomial 0x82F63B78.
  struct Tables {
    std::uint32_t values[8][256];
  };
  static constexpr Tables make_tables() {
    Tables t{};
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t c = b;
      for (int i = 0; i < 8; ++i) c = (c >> 1) ^ (c & 1u ? 0x82F63B78u : 0u);
      t.values[0][b] = c;
    }
    for (int k = 1; k < 8; ++k)
      for (std::uint32_t b = 0; b < 256; ++b)
        t.values[k][b] = (t.values[k - 1][b] >> 8) ^ t.values[0][t.values[k - 1][b] & 255u];
    return t;
  }

  HEED_INLINE static std::uint32_t eight(std::uint32_t crc, std::uint64_t x) {
    if constexpr (W::kHasCrc) {
      return W::crc(crc, x);
    } else {
      static constexpr Tables kTables = make_tables();
      x ^= crc;
      crc = 0;
      for (int k = 0; k < 8; ++k) crc ^= kTables.values[7 - k][(x >> (8 * k)) & 255u];
      return crc;
    }
  }

  static std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    crc = ~crc;
    for (; bytes >= 8; bytes -= 8, p += 8) {
      std::uint64_t x;
      std::memcpy(&x, p, sizeof x);
      crc = eight(crc, x);
    }
    for (; bytes; --bytes) {
      crc ^= *p++;
      for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ (crc & 1u ? 0x82F63B78u : 0u);
    }
    return ~crc;
  }
};

}  // namespace heed::simd
