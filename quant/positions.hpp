// SPDX-License-Identifier: Apache-2.0
// positions.hpp: what a description says about positions (SPEC.md 7.4) as tables: rotary phases, sinusoids, slopes and
// biases by distance. The same bits on every host.
#pragma once
#include <cstdint>
#include <vector>

namespace heed::quant {

enum class RopeScaling : std::uint8_t { none, linear, ntk, yarn, llama3 };

// Frequencies of rotary positions. Fields that a scaling does not name are not read.
struct Rope {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;             // all four; at least 1
  double original_max_seq = 0.0;   // yarn, llama3: positions before the stretching
  double beta_fast = 32.0, beta_slow = 1.0;               // yarn: turns over original_max_seq
  double attention_factor = 0.0;                          // yarn; 0 = 0.1 ln factor + 1
  double low_freq_factor = 1.0, high_freq_factor = 4.0;   // llama3

  // What the dimensions that rotate are multiplied by, of queries and of keys: 1 without yarn.
  double query_key_factor() const;
};

// Radians per position of pair i < dims / 2. dims is even, with ntk above 2.
std::vector<double> rotary_frequencies(std::uint32_t dims, const Rope& rope);

// round(frequency / (2 pi) * 2^32): turn per position, 2^32 = one turn.
std::vector<std::uint32_t> rotary_phases(std::uint32_t dims, const Rope& rope);
std::vector<std::uint32_t> rotary_phases(std::uint32_t dims, double theta);
// The same of frequencies, each from 0 to below 2 pi.
std::vector<std::uint32_t> rotary_phases(const std::vector<double>& frequencies);

enum class SinusoidOrder : std::uint8_t { interleaved, sines_first };
struct Sinusoids {
  SinusoidOrder order = SinusoidOrder::interleaved;
  bool half_minus_one = false;       // exponents i / (N - 1) and not i / N, N = d_model / 2
  std::uint32_t first_position = 0;  // number of position 0
  double theta = 10000.0;
};
// [max_seq, d_model]; d_model is even, and above 2 with half_minus_one. first_position + max_seq is at most 2^22.
std::vector<float> sinusoid_table(std::uint32_t max_seq, std::uint32_t d_model, const Sinusoids& sinusoids);

// ALiBi's own slopes, one per head.
std::vector<float> alibi_slopes(std::uint32_t n_heads);

// T5's buckets: which one the distance `query position - key position` belongs to.
// Precondition: buckets even and 4 or more if two_way, else 2 or more; max_distance above half of those of one side.
std::uint32_t relative_bucket(std::int64_t distance, std::uint32_t buckets, std::uint32_t max_distance, bool two_way);

// How many distances a table needs so that all others count as its last one or two: 0 .. n - 1, or if two_way
// -m .. m with n = 2 m + 1. Distances beyond max_seq - 1 do not occur.
std::uint32_t relative_distances(std::uint32_t buckets, std::uint32_t max_distance, bool two_way,
                                 std::uint32_t max_seq);

// [n_heads, n_distances] of a table [buckets, n_heads].
std::vector<float> spread_buckets(const float* table, std::uint32_t n_heads, std::uint32_t buckets,
                                  std::uint32_t max_distance, bool two_way, std::uint32_t n_distances);

// What an image holds (SPEC.md 2.8): slopes as round(slope * log2(e) * 2^22), biases as round(bias * log2(e) * 2^10),
// both limited to what the format allows.
std::vector<std::int32_t> slopes_as_integers(const float* slopes, std::size_t n);
std::vector<std::int32_t> biases_as_integers(const float* biases, std::size_t n);

}  // namespace heed::quant
