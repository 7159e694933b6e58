// SPDX-License-Identifier: Apache-2.0
// spec_oracle.hpp: heed's numerics once more, from SPEC.md part 2, each step on its own (spec_model.hpp has whole
// models). Plain scalar code over vectors of 64-bit integers and floats; shares nothing with runtime/ and platform/.
//
// `broken` names one rule that is broken on purpose (spec_deviations.hpp).
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/reference/spec_deviations.hpp"

namespace spec {

using Integers = std::vector<std::int64_t>;
using Floats = std::vector<float>;

enum class Deviation {
  none,
#define SPEC_ENUMERATOR(section, name, meaning) name,
  SPEC_DEVIATIONS(SPEC_ENUMERATOR)
#undef SPEC_ENUMERATOR
      count
};
struct DeviationText {
  const char *section, *name, *meaning;
};
const DeviationText& text_of(Deviation d);

extern Deviation broken;

std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t bytes);

// 2.2: s16 values with maximum M and exponent e; M = 0 is zero.
struct Block {
  Integers s;
  int e = 0;
  std::int64_t M = 0;
};
Block block_float(const Floats& x);

// 2.3: int8 values, the exponent of each one's group, and a scale.
struct Activation {
  Integers q, p;
  float scale = 0.0f;
};
Activation quantise(const Block& block, int group);

// 2.4; gain and bias may be null.
Activation rms_norm(const Floats& x, const Floats* gain, float epsilon, int group);
// What layer norm quantises if there is a gain or a bias; empty if no element differs from the mean.
Floats layer_norm_floats(const Floats& x, const Floats* gain, const Floats* bias, float epsilon);
Activation layer_norm(const Floats& x, const Floats* gain, const Floats* bias, float epsilon, int group);
// Either, as floats.
Floats norm_as_floats(const Floats& x, const Floats* gain, const Floats* bias, float epsilon, bool centred);

// 2.5: activation as in 1.3; up is null without a gate.
std::int64_t activated(std::int64_t a, int e, int activation);  // a * F(a) of one s16 value: (a_i * f + 2^14) >> 15
Activation gated(const Floats& gate, const Floats* up, int activation, int group);
Floats activated(const Floats& x, int activation);  // as floats

// 2.7
std::int64_t sine(std::uint32_t phase);
std::int64_t cosine(std::uint32_t phase);

struct Rotation {  // of one position; no pairs = none
  std::vector<std::pair<std::int64_t, std::int64_t>> cosine_sine;
  int pairing = 0;
};
struct Offset {  // of one head's key; empty = none
  Integers values;
  int exponent = 0;
};
struct Key {
  Integers q;
  std::int64_t m = 0;
  int k = 0;
};
struct Value {
  Integers q;
  int v = 0;
};
Activation make_query(const Floats& x, const Rotation& rotation);
Key make_key(const Floats& x, const Rotation& rotation, const Offset& offset);
Value make_value(const Floats& x);

// Biases of scores: of a key that far away, and where in a table that of a key so far ahead of the query stands.
std::int64_t alibi_bias(std::int64_t slope, std::int64_t distance);
std::size_t relative_distance(std::int64_t ahead, std::int64_t n_distances, bool two_way);

// 2.8
struct Sums {
  Floats numerators;
  float denominator = 0.0f;
  std::int64_t reference = 0;
  explicit Sums(std::size_t value_dim);
};
struct Cache {  // of one layer and one KV head
  std::vector<Key> keys;
  std::vector<Value> values;
};
// The blocks of `length` visible keys, in the order in which they are merged: first key, last key + 1.
std::vector<std::pair<std::size_t, std::size_t>> blocks_of(std::size_t length);
// What a query sees: the keys from `from` on, and for each key of the cache a bias of its score (none if empty).
struct Sight {
  std::size_t from = 0;
  Integers biases;
};
// Keys first .. last - 1 of the cache as one block, of which one at least is seen.
void attend_block(Sums& sums, const Activation& query, const Cache& cache, std::size_t first, std::size_t last,
                  float attention_scale, const Sight& sight = {});
Floats finish(const Sums& sums);

// 2.9
struct Matrix {
  std::int64_t rows = 0, cols = 0;
  int group = 0;
  std::vector<std::int8_t> weights;       // [rows, cols]
  std::vector<std::uint8_t> multipliers;  // [rows, groups]
  Floats scales, bias;                    // bias may be empty
};
Floats product(const Matrix& matrix, const Activation& a);
void add_product(Floats& x, const Matrix& matrix, const Activation& a);
Floats embedding(const Matrix& matrix, std::size_t row);

// 2.10, and the sampler's weight that it serves for (3.2)
float exponential(float x);
std::uint32_t sample_weight(float logit, float largest, float inverse_temperature);

// 3.3: CRC over what `generated` tokens were picked from. logits[i] are those behind token i of the whole text.
std::uint32_t digest(const std::vector<std::int32_t>& text, std::size_t prompt, const std::vector<Floats>& logits);

}  // namespace spec
