// SPDX-License-Identifier: Apache-2.0
// stored_type.cpp: one decoder for each format. The order of operations is that of ggml's own decoders, so that the floats
// are theirs bit for bit (tests/reference/stored_types.py).
#include "quant/stored_type.hpp"

#include <cstring>

namespace heed::quant {
namespace {

constexpr std::uint32_t kBlock = 32, kSuperBlock = 256;

std::uint32_t u16_at(const std::uint8_t* p) { return p[0] | std::uint32_t{p[1]} << 8; }
std::uint32_t u32_at(const std::uint8_t* p) { return u16_at(p) | u16_at(p + 2) << 16; }
float from_bits(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// IEEE binary16, subnormals and infinities included.
float f16_at(const std::uint8_t* p) {
  const std::uint32_t h = u16_at(p), sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 1023u;
  if (exponent == 0) return from_bits(sign | 0x3F800000u) * (static_cast<float>(fraction) * 0x1p-24f);
  return from_bits(sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13);
}

int low_nibble(std::uint8_t byte) { return byte & 15; }
int high_nibble(std::uint8_t byte) { return byte >> 4; }
int signed_byte(std::uint8_t byte) { return byte < 128 ? byte : byte - 256; }

void decode_f32(float* out, const std::uint8_t* p, std::size_t n) {
  if (n) std::memcpy(out, p, 4 * n);
}
void decode_f16(float* out, const std::uint8_t* p, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] = f16_at(p + 2 * i);
}
void decode_bf16(float* out, const std::uint8_t* p, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] = from_bits(u16_at(p + 2 * i) << 16);
}

// ---- Blocks of 32: element i and i + 16 share a byte ---------------------------------------------------------------

void q8_0(float* out, const std::uint8_t* p) {
  const float d = f16_at(p);
  for (std::uint32_t i = 0; i < kBlock; ++i) out[i] = static_cast<float>(signed_byte(p[2 + i])) * d;
}

void q4_0(float* out, const std::uint8_t* p) {
  const float d = f16_at(p);
  for (std::uint32_t i = 0; i < 16; ++i) {
    out[i] = static_cast<float>(low_nibble(p[2 + i]) - 8) * d;
    out[i + 16] = static_cast<float>(high_nibble(p[2 + i]) - 8) * d;
  }
}

void q4_1(float* out, const std::uint8_t* p) {
  const float d = f16_at(p), least = f16_at(p + 2);
  for (std::uint32_t i = 0; i < 16; ++i) {
    out[i] = static_cast<float>(low_nibble(p[4 + i])) * d + least;
    out[i + 16] = static_cast<float>(high_nibble(p[4 + i])) * d + least;
  }
}

// The fifth bit of element i is bit i of a word of its own.
int fifth_bit(std::uint32_t word, std::uint32_t i) { return static_cast<int>(word >> i & 1u) << 4; }

void q5_0(float* out, const std::uint8_t* p) {
  const float d = f16_at(p);
  const std::uint32_t fifths = u32_at(p + 2);
  for (std::uint32_t i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((low_nibble(p[6 + i]) | fifth_bit(fifths, i)) - 16) * d;
    out[i + 16] = static_cast<float>((high_nibble(p[6 + i]) | fifth_bit(fifths, i + 16)) - 16) * d;
  }
}

void q5_1(float* out, const std::uint8_t* p) {
  const float d = f16_at(p), least = f16_at(p + 2);
  const std::uint32_t fifths = u32_at(p + 4);
  for (std::uint32_t i = 0; i < 16; ++i) {
    out[i] = static_cast<float>(low_nibble(p[8 + i]) | fifth_bit(fifths, i)) * d + least;
    out[i + 16] = static_cast<float>(high_nibble(p[8 + i]) | fifth_bit(fifths, i + 16)) * d + least;
  }
}

// Four bits that choose from a table whose steps grow outwards.
void iq4_nl(float* out, const std::uint8_t* p) {
  static constexpr std::int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const float d = f16_at(p);
  for (std::uint32_t i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(kValues[low_nibble(p[2 + i])]);
    out[i + 16] = d * static_cast<float>(kValues[high_nibble(p[2 + i])]);
  }
}

// ---- Superblocks of 256: 8 or 16 sub-blocks whose scales are integers times the superblock's ------------------------

// Two bits of element i: bytes of 32 elements hold four such runs, one behind the other from the low bits up.
int two_bits(const std::uint8_t* bytes, std::uint32_t i) {
  return bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}
// Four bits of element i: low nibbles are one run of 32, high ones the next.
int four_bits(const std::uint8_t* bytes, std::uint32_t i) {
  return bytes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
}

void q2_k(float* out, const std::uint8_t* p) {
  const std::uint8_t *scales = p, *values = p + 16;
  const float d = f16_at(p + 80), d_least = f16_at(p + 82);
  for (std::uint32_t i = 0; i < kSuperBlock; ++i) {
    const std::uint8_t both = scales[i / 16];
    const float scale = d * static_cast<float>(low_nibble(both)), least = d_least * static_cast<float>(high_nibble(both));
    out[i] = scale * static_cast<float>(two_bits(values, i)) - least;
  }
}

void q3_k(float* out, const std::uint8_t* p) {
  const std::uint8_t *high_bits = p, *values = p + 32, *scales = p + 96;
  const float d = f16_at(p + 108);
  for (std::uint32_t sub = 0; sub < 16; ++sub) {
    // Six bits: four in the nibbles of eight bytes, two in four bytes behind them.
    const int low = sub < 8 ? low_nibble(scales[sub]) : high_nibble(scales[sub - 8]);
    const int high = scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    for (std::uint32_t i = 16 * sub; i < 16 * sub + 16; ++i) {
      const bool positive = (high_bits[i % 32] >> (i / 32) & 1) != 0;
      out[i] = scale * static_cast<float>(two_bits(values, i) - (positive ? 0 : 4));
    }
  }
}

// Scale and least value of a sub-block of 32 in units of the superblock's: six bits each, of eight sub-blocks in 12 bytes.
struct ScaleAndLeast {
  int scale, least;
};
ScaleAndLeast scale_and_least(const std::uint8_t* p, std::uint32_t sub) {
  if (sub < 4) return {p[sub] & 63, p[sub + 4] & 63};
  return {low_nibble(p[sub + 4]) | p[sub - 4] >> 6 << 4, high_nibble(p[sub + 4]) | p[sub] >> 6 << 4};
}

void q4_k(float* out, const std::uint8_t* p) {
  const float d = f16_at(p), d_least = f16_at(p + 2);
  for (std::uint32_t sub = 0; sub < 8; ++sub) {
    const ScaleAndLeast units = scale_and_least(p + 4, sub);
    const float scale = d * static_cast<float>(units.scale), least = d_least * static_cast<float>(units.least);
    for (std::uint32_t i = 32 * sub; i < 32 * sub + 32; ++i)
      out[i] = scale * static_cast<float>(four_bits(p + 16, i)) - least;
  }
}

void q5_k(float* out, const std::uint8_t* p) {
  const float d = f16_at(p), d_least = f16_at(p + 2);
  const std::uint8_t *fifths = p + 16, *values = p + 48;
  for (std::uint32_t sub = 0; sub < 8; ++sub) {
    const ScaleAndLeast units = scale_and_least(p + 4, sub);
    const float scale = d * static_cast<float>(units.scale), least = d_least * static_cast<float>(units.least);
    for (std::uint32_t i = 32 * sub; i < 32 * sub + 32; ++i)
      out[i] = scale * static_cast<float>(four_bits(values, i) | fifth_bit(fifths[i % 32], sub)) - least;
  }
}

void q6_k(float* out, const std::uint8_t* p) {
  const std::uint8_t *values = p, *high_bits = p + 128, *scales = p + 192;
  const float d = f16_at(p + 208);
  for (std::uint32_t i = 0; i < kSuperBlock; ++i) {
    // The nibbles of 64 bytes hold 128 elements, all low ones first.
    const std::uint8_t byte = values[i / 128 * 64 + i % 64];
    const int low = i % 128 < 64 ? low_nibble(byte) : high_nibble(byte);
    const float scale = d * static_cast<float>(signed_byte(scales[i / 16]));
    out[i] = scale * static_cast<float>((low | two_bits(high_bits, i) << 4) - 32);
  }
}

template <void (*block)(float*, const std::uint8_t*), std::uint32_t elements, std::uint32_t bytes>
void decode_blocks(float* out, const std::uint8_t* p, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) block(out + i * elements, p + i * bytes);
}

template <void (*block)(float*, const std::uint8_t*), std::uint32_t elements, std::uint32_t bytes>
constexpr StoredFormat blocks(const char* name) {
  return {name, elements, bytes, decode_blocks<block, elements, bytes>};
}

constexpr StoredFormat kFormats[kStoredTypeCount] = {
    {"F32", 1, 4, decode_f32},
    {"F16", 1, 2, decode_f16},
    {"BF16", 1, 2, decode_bf16},
    blocks<q8_0, kBlock, 34>("Q8_0"),
    blocks<q4_0, kBlock, 18>("Q4_0"),
    blocks<q4_1, kBlock, 20>("Q4_1"),
    blocks<q5_0, kBlock, 22>("Q5_0"),
    blocks<q5_1, kBlock, 24>("Q5_1"),
    blocks<q2_k, kSuperBlock, 84>("Q2_K"),
    blocks<q3_k, kSuperBlock, 110>("Q3_K"),
    blocks<q4_k, kSuperBlock, 144>("Q4_K"),
    blocks<q5_k, kSuperBlock, 176>("Q5_K"),
    blocks<q6_k, kSuperBlock, 210>("Q6_K"),
    blocks<iq4_nl, kBlock, 18>("IQ4_NL"),
};

}  // namespace

const StoredFormat& format_of(StoredType type) { return kFormats[static_cast<int>(type)]; }

}  // namespace heed::quant
