// SPDX-License-Identifier: Apache-2.0
// crc.hpp: CRC-32C eight bytes at a time, by the CPU's instruction, in three streams, or by tables.
#pragma once
#include "platform/simd/lanes.hpp"

namespace heed::simd {

template <class Arch, class Dot>
struct Crc {
  using W = Words<Arch>;

  // Reflected: residues have the coefficient of x^0 in the highest bit.
  static constexpr std::uint32_t kPolynomial = 0x82F63B78u;
  // values[k][b]: byte b followed by k zero bytes.
  struct Tables {
    std::uint32_t values[8][256];
  };
  static constexpr Tables make_tables() {
    Tables t{};
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t c = b;
      for (int i = 0; i < 8; ++i) c = (c >> 1) ^ (c & 1u ? kPolynomial : 0u);
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

  static constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
    std::uint32_t product = 0;
    for (int i = 0; i < 32; ++i) {
      product ^= b & (0u - (a >> 31));
      a <<= 1;
      b = (b >> 1) ^ (kPolynomial & (0u - (b & 1u)));
    }
    return product;
  }
  // x^(8 * bytes): what a register is multiplied by when so many zero bytes follow.
  static constexpr std::uint32_t shift_by(std::size_t bytes) {
    std::uint32_t result = 1u << 31, power = 1u << 23;  // 1 and x^8
    for (; bytes; bytes >>= 1) {
      if (bytes & 1) result = multiply(result, power);
      power = multiply(power, power);
    }
    return result;
  }

  // An instruction takes three cycles but one can start in each, so three stretches are read side by side.
  static constexpr std::size_t kStretch = 4096;
  HEED_INLINE static std::uint32_t three_stretches(std::uint32_t crc, const std::uint8_t* p) {
    constexpr std::uint32_t kShift = shift_by(kStretch);
    std::uint32_t second = 0, third = 0;
    const auto load = [p](std::size_t at) HEED_LAMBDA {
      std::uint64_t x;
      std::memcpy(&x, p + at, sizeof x);
      return x;
    };
    for (std::size_t i = 0; i < kStretch; i += 8) {
      crc = eight(crc, load(i));
      second = eight(second, load(kStretch + i));
      third = eight(third, load(2 * kStretch + i));
    }
    return multiply(multiply(crc, kShift) ^ second, kShift) ^ third;
  }

  static std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    crc = ~crc;
    if constexpr (W::kHasCrc)
      for (; bytes >= 3 * kStretch; bytes -= 3 * kStretch, p += 3 * kStretch) crc = three_stretches(crc, p);
    for (; bytes >= 8; bytes -= 8, p += 8) {
      std::uint64_t x;
      std::memcpy(&x, p, sizeof x);
      crc = eight(crc, x);
    }
    for (; bytes; --bytes) {
      crc ^= *p++;
      for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ (crc & 1u ? kPolynomial : 0u);
    }
    return ~crc;
  }
};

}  // namespace heed::simd
