// SPDX-License-Identifier: Apache-2.0
// sampler_golden.hpp: written by sampler_reference.py; crc: CRC-32 (zlib's) of all picks as int32.
#pragma once
#include <cstdint>

struct GoldenPicks {
  std::uint32_t vocab_size;
  float temperature;
  std::uint32_t top_k;
  float top_p;
  std::uint64_t seed;
  bool coarse;
  std::uint32_t picks;
  std::uint32_t crc;
  std::int32_t first[4];
  float repeat_penalty = 1.0f;
  std::uint32_t repeat_last = 64;
  float min_p = 0.0f;
  std::uint32_t prompt = 0;
};

inline constexpr GoldenPicks kGoldenPicks[] = {
    {512, 1.0f, 0, 1.0f, 0ull, false, 200, 0x87A4336B, {465, 181, 4, 487}},
    {512, 0.8f, 0, 1.0f, 1ull, false, 200, 0x330B2846, {312, 394, 500, 265}},
    {512, 0.8f, 40, 1.0f, 1ull, false, 200, 0xFA95ADF2, {327, 394, 503, 267}},
    {512, 0.8f, 0, 0.9f, 1ull, false, 200, 0xBE7E603F, {312, 394, 503, 267}},
    {512, 0.8f, 40, 0.9f, 1ull, false, 200, 0xB32CD935, {339, 394, 503, 257}},
    {512, 2.0f, 0, 0.9f, 7ull, true, 200, 0x549A0901, {165, 3, 461, 311}},
    {512, 2.0f, 13, 1.0f, 7ull, true, 200, 0x86F9180C, {140, 49, 359, 277}},
    {512, 2.0f, 29, 0.55f, 7ull, true, 200, 0xCB273963, {140, 49, 453, 277}},
    {512, 100.0f, 0, 0.999f, 18446744073709551615ull, true, 200, 0x7FD5DC0E, {457, 467, 112, 218}},
    {512, 100.0f, 0, 1.0f, 18446744073709551615ull, false, 200, 0xD1DE8F9A, {457, 467, 112, 218}},
    {512, 0.05f, 0, 0.3f, 12345678901234567ull, false, 200, 0xF66FCE5A, {399, 399, 37, 70}},
    {512, 1.0f, 1, 1.0f, 3ull, true, 50, 0xAE217E82, {67, 63, 3, 70}},
    {512, 1.0f, 0, 1e-09f, 3ull, true, 50, 0xAE217E82, {67, 63, 3, 70}},
    {512, 0.0f, 0, 1.0f, 3ull, true, 50, 0xAE217E82, {67, 63, 3, 70}},
    {1, 1.0f, 0, 0.5f, 0ull, false, 3, 0x7BD5C66F, {0, 0, 0, -1}},
    {2, 1.5f, 5, 0.5f, 0ull, false, 100, 0xCEA2DC35, {0, 1, 1, 0}},
    {65, 1.0f, 64, 0.99999994f, 9ull, false, 200, 0x947F56C6, {20, 49, 11, 51}},
    {4099, 3.0f, 1000, 0.97f, 11ull, false, 20, 0x54EFD95F, {1340, 1039, 2604, 2087}},
    {4099, 3.0f, 0, 0.5f, 11ull, true, 20, 0xB9599516, {1338, 996, 2551, 1989}},
    {50257, 1.2f, 0, 0.95f, 42ull, true, 4, 0x91744ABC, {37183, 7994, 14097, 17193}},
    {512, 1.0f, 0, 1.0f, 5ull, false, 200, 0x1C8EC71D, {164, 394, 97, 61}, 1.1f, 64, 0.0f, 0},
    {512, 0.8f, 40, 0.9f, 1ull, false, 200, 0x82D235ED, {349, 399, 503, 257}, 1.3f, 64, 0.0f, 80},
    {512, 0.0f, 0, 1.0f, 0ull, true, 200, 0x2B33F166, {67, 63, 4, 70}, 1.5f, 7, 0.0f, 3},
    {512, 0.0f, 0, 1.0f, 0ull, false, 200, 0xF3C88EE2, {399, 399, 37, 70}, 1.0009765625f, 1, 0.0f, 1},
    {512, 2.0f, 0, 1.0f, 8ull, true, 200, 0xAEE4EDE4, {312, 320, 335, 285}, 0.75f, 300, 0.0f, 5},
    {16, 1.0f, 0, 1.0f, 2ull, true, 200, 0x6F670D35, {10, 3, 14, 7}, 100.0f, 5, 0.0f, 40},
    {16, 1.0f, 0, 1.0f, 2ull, false, 200, 0xD8634620, {10, 3, 14, 14}, 0.01f, 16, 0.0f, 2},
    {1, 1.0f, 0, 1.0f, 2ull, false, 5, 0x0FD59B8D, {0, 0, 0, 0}, 3.0f, 2, 0.0f, 1},
    {512, 1.0f, 0, 1.0f, 5ull, false, 200, 0xC70F477D, {164, 394, 97, 61}, 1.0f, 64, 0.05f, 0},
    {512, 3.0f, 0, 1.0f, 5ull, true, 200, 0x40E840F8, {164, 394, 100, 54}, 1.0f, 64, 0.33333334f, 0},
    {512, 3.0f, 40, 0.9f, 5ull, false, 200, 0x80FDBB77, {218, 399, 97, 61}, 1.0f, 64, 0.5f, 0},
    {512, 3.0f, 0, 0.2f, 5ull, true, 200, 0x921D69D0, {150, 389, 39, 70}, 1.0f, 64, 1.0f, 0},
    {512, 9.0f, 0, 1.0f, 5ull, false, 200, 0x72978903, {185, 388, 120, 54}, 1.0f, 64, 5.9604645e-08f, 0},
    {512, 50.0f, 100, 1.0f, 5ull, true, 200, 0x8BCE4C94, {183, 389, 105, 50}, 1.0f, 64, 0.9f, 0},
    {4099, 1.5f, 0, 0.95f, 9ull, false, 40, 0x7E0D7793, {2779, 3199, 1292, 3310}, 1.2f, 64, 0.1f, 100},
    {50257, 0.9f, 1000, 0.99f, 42ull, true, 4, 0xBC9C96E4, {34133, 5419, 10170, 11863}, 1.1f, 64, 0.02f, 200},
};

// exp_f32 of these, as bits.
struct GoldenExp {
  float x;
  std::uint32_t bits;
};
inline constexpr GoldenExp kGoldenExp[] = {
    {0.0f, 0x3F800000},
    {-0.25f, 0x3F475F7D},
    {-0.34375f, 0x3F3587FB},
    {-0.5f, 0x3F1B4598},
    {-1.0f, 0x3EBC5AB3},
    {-2.71875f, 0x3D87148B},
    {-10.0f, 0x383E6BCF},
    {-16.5f, 0x33929426},
    {-40.0f, 0x229CBC92},
    {-87.0f, 0x00B33686},
    {-1000.0f, 0x00B33686},
    {1.0f, 0x402DF855},
    {88.0f, 0x7EF882B7},
};

// The first numbers of SplitMix64 from seed 0, as published test vectors have them.
inline constexpr std::uint64_t kSplitMix64[3] = {0xE220A8397B1DCDAFull, 0x6E789E6AA1B965F4ull, 0x06C45D188009454Full};
