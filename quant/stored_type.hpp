// SPDX-License-Identifier: Apache-2.0
// stored_type.hpp: the number formats that model files keep weights in, and their floats.
#pragma once
#include <cstddef>
#include <cstdint>

namespace heed::quant {

// IEEE floats, bfloat16, and the blocks of GGUF files: a few shared scales and integers of 2 to 8 bits.
enum class StoredType : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl
};
inline constexpr int kStoredTypeCount = 14;

// A row is a whole number of blocks, behind each other.
struct StoredFormat {
  const char* name;              // as its files spell it: "BF16", "Q4_K"
  std::uint32_t block_elements;  // 1, 32 or 256
  std::uint32_t block_bytes;
  // `n` blocks at any alignment to n * block_elements floats, in float32 with one rounding for each operation, the same
  // on every host. Infinities and what is not a number come out as they are.
  void (*decode)(float* out, const std::uint8_t* blocks, std::size_t n);
};
const StoredFormat& format_of(StoredType type);

}  // namespace heed::quant
