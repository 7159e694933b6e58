// SPDX-License-Identifier: Apache-2.0
// Every function of the Cortex-M table that this target links gives the bits of portable, on edge shapes.
#include <cstring>
#include <initializer_list>

#include "platform/portable/attend.hpp"
#include "platform/tables.hpp"
#include "runtime/numerics.hpp"
#include "tests/check.hpp"
#include "tests/differential/hard_numbers.hpp"

namespace heed {

extern const Kernels kernels_portable;
extern const Kernels HEED_SINGLE_TABLE;

namespace {

const Kernels& table = HEED_SINGLE_TABLE;

std::uint32_t random_state = 1;
std::uint32_t random_bits() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}
std::uint32_t random_below(std::uint32_t n) { return (random_bits() >> 8) % n; }
std::int32_t random_s8() { return static_cast<std::int32_t>(random_below(255)) - 127; }
float random_float() { return (static_cast<float>(random_bits() >> 8) - 8388608.0f) * (1.0f / 8388608.0f); }

enum class Fill { normal, wide, extreme, zero, special, halves };
constexpr Fill kFills[] = {Fill::normal, Fill::wide, Fill::extreme, Fill::zero, Fill::special, Fill::halves};

void fill(float* x, std::uint32_t n, Fill how) {
  const float factor = pow2(static_cast<int>(random_below(24)) - 12);
  for (std::uint32_t i = 0; i < n; ++i) {
    x[i] = how == Fill::zero ? 0.0f : random_float() * factor;
    if (how == Fill::wide) x[i] *= pow2(-static_cast<int>(random_below(20)));
    if (how == Fill::halves) x[i] = (static_cast<float>(random_below(65536)) - 32768.0f) * 0.5f * factor;
    if (how == Fill::extreme) x[i] = random_bits() & 1 ? factor : -factor;
  }
  if (how != Fill::special) return;
  constexpr std::uint32_t kSpecial[] = {0x7FC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF,
                                        0x00000001, 0x80000000, 0x2B7FFFFF, 0xFFFFFFFF, 0x7F800001};
  for (std::uint32_t i = 0; i < n; i += 1 + random_below(8)) x[i] = float_of(kSpecial[random_below(9)]);
}

bool same(float a, float b) { return bits_of(a) == bits_of(b); }
bool same(const float* a, const float* b, std::uint32_t n) {
  for (std::uint32_t i = 0; i < n; ++i)
    if (!same(a[i], b[i])) return false;
  return true;
}

constexpr std::uint32_t kMaxTokens = 6, kMaxTestCols = 2400;
constexpr std::uint32_t kActivationBytes = kMaxTokens * (2 * kMaxTestCols + 128 + 4 + 5 * (kMaxTestCols / 32 + 1));
alignas(64) unsigned char portable_memory[kActivationBytes], table_memory[kActivationBytes];

// The same vectors as both tables hold them, behind different garbage.
struct Both {
  Activations plain, prepared;
  Both(std::uint32_t cols, std::uint32_t group, std::uint32_t n)
      : plain(make_activations(portable_memory, traits::kPortable, cols, group, n)),
        prepared(make_activations(table_memory, table.traits, cols, group, n)) {
    for (unsigned char& byte : table_memory) byte = static_cast<unsigned char>(random_bits() >> 24);
  }
};

// The int8 value i of a prepared vector. In threes, without groups and of up to 512 columns, vectors of Layout::pair lie
// together; queries do not, so that their n has to be 0.
std::int32_t value_of(const Activations& a, std::uint32_t index, std::uint32_t i) {
  const std::int8_t* row = a.values + std::size_t{index} * a.value_stride;
  if (table.traits.activation_element_bytes == 1 || __ARM_ARCH < 7) return row[i];
  std::int16_t x[4];
  std::memcpy(x, row + 2 * (i & ~3u), sizeof x);
  if (table.traits.preferred != Layout::pair) return x[i & 3];
  if (kBuiltFeatures.speed && !a.groups && a.cols <= 512 && index < a.n - a.n % 3) {
    row += 4 * (index % 3) - std::size_t{index % 3} * a.value_stride;
    std::memcpy(x, row + 6 * (i & ~3u), 4);
    std::memcpy(x + 2, row + 6 * (i & ~3u) + 12, 4);
  }
  return i & 1 ? x[i >> 1 & 1] : (x[2 + (i >> 1 & 1)] + x[i >> 1 & 1]) / 256;  // x1, x3, 256 x0 - x1, 256 x2 - x3
}

bool same(const Both& both, std::uint32_t index) {
  bool ok = same(both.plain.scales[index], both.prepared.scales[index]);
  for (std::uint32_t g = 0; g < both.plain.groups; ++g)
    ok &= both.plain.exponents[index * both.plain.groups + g] == both.prepared.exponents[index * both.plain.groups + g];
  for (std::uint32_t i = 0; i < activation_cols(both.plain.cols); ++i)
    ok &= both.plain.values[index * both.plain.value_stride + i] == value_of(both.prepared, index, i);
  return ok;
}

float source[2 * kMaxTestCols], other[kMaxTestCols], copy[kMaxTestCols], gain[kMaxTestCols];
constexpr std::uint32_t kWidths[] = {1, 5, 16, 31, 64, 172, 288, 515};
constexpr std::uint16_t kGroups[] = {0, 32, 64, 128, 256};

}  // namespace

TEST_CASE("a vector is quantised as portable does", "[cortex_m]") {
  for (const std::uint32_t n : kWidths)
    for (const std::uint16_t group : kGroups)
      for (const Fill how : kFills) {
        const Both both(n, group, 4);
        for (std::uint32_t t = 0; t < 4; ++t) {
          fill(source, n, how);
          kernels_portable.quantize_s8r_f32(both.plain, t, source);
          table.quantize_s8r_f32(both.prepared, t, source);
        }
        for (std::uint32_t t = 0; t < 4; ++t) CHECK(same(both, t));
      }
}

// The norm of n floats in `source` as floats, which are written in place by the table; what lies behind them stays.
bool same_norm_to_floats(std::uint32_t n, const NormWeights& weights) {
  static float expected[kMaxTestCols], got[kMaxTestCols + 1];
  if (!kNormsToFloats) return true;
  for (std::uint32_t i = 0; i < n; ++i) got[i] = source[i];
  got[n] = 0.25f;
  kernels_portable.norm_f32_f32(expected, source, n, weights);
  table.norm_f32_f32(got, got, n, weights);
  return same(expected, got, n) && bits_of(got[n]) == bits_of(0.25f);
}

TEST_CASE("a norm gives the bits of portable", "[cortex_m]") {
  for (const std::uint32_t n : kWidths)
    for (const std::uint16_t group : kGroups)
      for (const Fill how : kFills)
        for (const int variant : {0, 1, 2, 3, 4, 5}) {  // gain or not; root mean square, layer norm, with a bias
          const Both both(n, group, 1);
          fill(source, n, how);
          fill(gain, n, Fill::normal);
          fill(other, n, Fill::normal);
          NormWeights weights{};
          weights.gain = variant & 1 ? gain : nullptr;
          weights.epsilon = 1e-5f;
          weights.centred = variant >= 2;
          weights.bias = variant >= 4 ? other : nullptr;
          kernels_portable.norm_s8r_f32(both.plain, 0, source, weights);
          table.norm_s8r_f32(both.prepared, 0, source, weights);
          CHECK(same(both, 0));
          if (group == 0) CHECK(same_norm_to_floats(n, weights));
        }
}

TEST_CASE("a gate gives the bits of portable", "[cortex_m]") {
  for (const std::uint32_t n : kWidths)
    for (const std::uint16_t group : kGroups)
      for (const Fill how : kFills)
        for (const bool with_up : {false, true}) {
          if (!with_up && !kBuiltFeatures.ungated) continue;
          const Both both(n, group, 1);
          fill(source, n, how);
          fill(other, n, Fill::wide);
          std::memcpy(copy, source, n * sizeof(float));
          const float* up = with_up ? other : nullptr;
          kernels_portable.gate_s8r_f32(both.plain, 0, source, up, kSigmoid);
          table.gate_s8r_f32(both.prepared, 0, copy, up, kSigmoid);
          CHECK(same(both, 0));
        }
  for (int exponent = -50; exponent < 50; ++exponent) {  // from gates that count as nothing to those that saturate
    const Both both(64, 0, 1);
    fill(other, 64, Fill::normal);
    for (float& x : source) x = random_float() * pow2(exponent);
    std::memcpy(copy, source, 64 * sizeof(float));
    kernels_portable.gate_s8r_f32(both.plain, 0, source, other, kGeluTanh);
    table.gate_s8r_f32(both.prepared, 0, copy, other, kGeluTanh);
    CHECK(same(both, 0));
  }
}

// Rows of numbers at the borders, from a generator of its own: those that tests/differential draws on hosts.
TEST_CASE("random vectors give the bits of portable", "[cortex_m]") {
  test::Random random(1);
  const std::uint16_t* const factors[] = {kSigmoid, kGeluTanh, kGeluErf, kStep};
  std::uint32_t n = 0;
  Both both(1, 0, 1);
  for (int round = 0; round < 6000; ++round) {
    if (round % 20 == 0) {
      n = 1 + random.below(random.below(8) ? 100 : 300);
      both = Both(n, kBuiltFeatures.groups ? kGroups[random.below(5)] : 0, 1);
    }
    const bool finite = random.below(4) != 0;
    differential::fill(source, n, random, finite);
    differential::fill(other, n, random, finite);
    const std::uint32_t what = random.below(4);
    if (what == 0) {
      kernels_portable.quantize_s8r_f32(both.plain, 0, source);
      table.quantize_s8r_f32(both.prepared, 0, source);
    } else if (what == 1) {
      for (std::uint32_t i = 0; i < n; ++i) gain[i] = 0.5f + random.uniform() * 0.25f;
      NormWeights weights{};
      weights.gain = random.below(2) ? gain : nullptr;
      weights.epsilon = random.below(2) ? 1e-5f : differential::hard_magnitude(random);
      weights.centred = kBuiltFeatures.layer_norm && random.below(2);
      weights.bias = weights.centred && random.below(2) ? other : nullptr;
      kernels_portable.norm_s8r_f32(both.plain, 0, source, weights);
      table.norm_s8r_f32(both.prepared, 0, source, weights);
      CHECK(same_norm_to_floats(n, weights));
    } else {
      const std::uint16_t* const factor = factors[random.below(4)];
      const std::uint32_t at = random.below(n);
      if (random.below(2) && differential::plant_product(source[at], other[at], random, {32767, 3, 0, -1.0f, false},
                                                         [](std::int64_t a, int) { return (a * 32767 + (1 << 14)) >> 15; }))
        for (std::uint32_t i = 0; i < n; ++i)
          if (i != at) source[i] = source[at] * random.uniform() * 0.01f, other[i] = other[at] * random.uniform() * 0.01f;
      const float* const up = random.below(4) || !kBuiltFeatures.ungated ? other : nullptr;
      std::memcpy(copy, source, n * sizeof(float));
      kernels_portable.gate_s8r_f32(both.plain, 0, source, up, factor);
      table.gate_s8r_f32(both.prepared, 0, copy, up, factor);
    }
    CHECK(same(both, 0));
  }
}

namespace {

constexpr std::uint32_t kMaxRows = 264, kMaxWeights = 64 * 1024;
alignas(64) std::int8_t weights[kMaxWeights];
float row_scales[kMaxRows], row_bias[kMaxRows];
std::uint8_t multipliers[kMaxRows * (kMaxTestCols / 32 + 1)];
float portable_out[kMaxTokens * (kMaxRows + 4)], table_out[kMaxTokens * (kMaxRows + 4)];

Tensor random_tensor(Layout layout, std::uint32_t rows, std::uint32_t cols, std::uint16_t group, bool bias,
                     bool extreme) {
  Tensor t;
  t.weights = weights;
  t.scales = row_scales;
  t.bias = bias ? row_bias : nullptr;
  t.multipliers = group ? multipliers : nullptr;
  t.rows = rows;
  t.cols = cols;
  t.group = group;
  t.layout = layout;
  const std::uint32_t n = padded_rows(layout, rows), columns = padded_cols(layout, cols);
  const std::uint32_t groups = group_count(cols, group);
  for (std::uint32_t r = 0; r < n; ++r) {
    row_scales[r] = r < rows ? (random_float() + 1.5f) * pow2(-static_cast<int>(random_below(12))) : 1.0f;
    row_bias[r] = r < rows ? random_float() : 0.0f;
    for (std::uint32_t c = 0; c < columns; ++c) {
      std::int32_t w = r >= rows || c >= cols ? 0 : extreme ? (source[c] < 0.0f ? -127 : 127) : random_s8();
      if (extreme && (r & 1)) w = -w;
      const std::size_t i = weight_index(layout, rows, cols, r, c);
      if (layout == Layout::pair && (c & 1)) w -= weights[i - 1] < 0;
      weights[i] = static_cast<std::int8_t>(w);
    }
    for (std::uint32_t g = 0; g < groups; ++g)
      multipliers[multiplier_index(layout, groups, r, g)] =
          static_cast<std::uint8_t>(r >= rows || extreme ? 15 : 1 + random_below(15));
  }
  return t;
}

bool same_products(const Both& both, const Tensor& t, const MatmulRange& range) {
  for (std::uint32_t i = 0; i < kMaxTokens * (kMaxRows + 4); ++i) portable_out[i] = table_out[i] = random_float();
  kernels_portable.matmul_f32_s8r_s8c(portable_out, both.plain, t, range);
  table.matmul_f32_s8r_s8c(table_out, both.prepared, t, range);
  return same(portable_out, table_out, kMaxTokens * (kMaxRows + 4));
}

struct Shape {
  std::uint32_t rows, cols;
};

}  // namespace

TEST_CASE("a product gives the bits of portable", "[cortex_m]") {
  constexpr Shape kShapes[] = {{1, 1},    {3, 5},   {4, 8},   {8, 12},   {9, 31},   {12, 32},  {20, 33},  {16, 40},
                               {64, 64},  {72, 172}, {8, 288}, {8, 504},  {4, 508},  {4, 512},  {8, 516},  {8, 520},
                               {140, 172}, {260, 96}, {4, 1020}, {4, 1024}, {4, 1030}, {4, 1500}, {4, 2048}, {8, 2100}};
  for (const Shape& shape : kShapes)
    for (int layout = 0; layout < kLayoutCount; ++layout) {
      if (!(table.traits.layouts >> layout & 1)) continue;
      for (const std::uint16_t group : kGroups)
        for (const bool extreme : {false, true}) {
          const std::uint32_t tokens = shape.cols > 600 ? 2 : 1 + random_below(kMaxTokens);
          const Both both(shape.cols, group, tokens);
          for (std::uint32_t i = 0; i < tokens; ++i) {
            fill(source, shape.cols, extreme ? Fill::extreme : Fill::wide);
            kernels_portable.quantize_s8r_f32(both.plain, i, source);
            table.quantize_s8r_f32(both.prepared, i, source);
            // What norms and gates leave of a vector that is too small: zeros with the signs of the sums.
            if (random_below(8) == 0) both.plain.scales[i] = both.prepared.scales[i] = 0.0f;
          }
          const Tensor t = random_tensor(static_cast<Layout>(layout), shape.rows, shape.cols, group,
                                         extreme && kBuiltFeatures.biases, extreme);
          const std::uint32_t padded = padded_rows(t.layout, t.rows);
          CHECK(same_products(both, t, {tokens, 0, padded, kMaxRows + 4, false}));
          CHECK(same_products(both, t, {tokens, padded / 8 * 4, padded, kMaxRows + 4, true}));
        }
    }
}

TEST_CASE("a shared product leaves the activations as they are", "[cortex_m]") {
  static unsigned char before[sizeof table_memory];
  for (const Shape& shape : {Shape{8, 12}, Shape{20, 33}, Shape{64, 64}, Shape{72, 172}})
    for (std::uint32_t tokens = 3; tokens <= kMaxTokens; ++tokens) {
      const Both both(shape.cols, 0, tokens);
      for (std::uint32_t i = 0; i < tokens; ++i) {
        fill(source, shape.cols, i == 2 ? Fill::extreme : Fill::normal);
        kernels_portable.quantize_s8r_f32(both.plain, i, source);
        table.quantize_s8r_f32(both.prepared, i, source);
      }
      const Tensor t = random_tensor(table.traits.preferred, shape.rows, shape.cols, 0, false, false);
      const std::uint32_t padded = padded_rows(t.layout, t.rows), half = padded / 8 * 4;
      std::memcpy(before, table_memory, sizeof before);
      CHECK(same_products(both, t, {tokens, 0, padded, kMaxRows + 4, false, true}));
      CHECK(same_products(both, t, {tokens, half, padded, kMaxRows + 4, true, true}));
      CHECK(std::memcmp(before, table_memory, sizeof before) == 0);
      if (t.layout == Layout::row) {  // weights that are the activations themselves see what becomes of these meanwhile
        Tensor same_bytes = t;
        same_bytes.weights = both.prepared.values;
        CHECK(same_products(both, same_bytes, {tokens, 0, padded, kMaxRows + 4, false, true}));
      }
      CHECK(same_products(both, t, {tokens, 0, padded, kMaxRows + 4, true, false}));
      CHECK(std::memcmp(before, table_memory, sizeof before) == 0);  // what was packed meanwhile is back
    }
}

TEST_CASE("a weight row is read back as portable does", "[cortex_m]") {
  for (int layout = 0; layout < kLayoutCount; ++layout) {
    if (!(table.traits.layouts >> layout & 1)) continue;
    for (const std::uint16_t group : kGroups)
      for (const std::uint32_t cols : {1u, 7u, 64u, 172u}) {
        const Tensor t = random_tensor(static_cast<Layout>(layout), 9, cols, group, false, false);
        kernels_portable.embed_f32_s8c(source, t, 7);
        table.embed_f32_s8c(copy, t, 7);
        CHECK(same(source, copy, cols));
      }
  }
}

namespace {

constexpr std::uint32_t kMaxBlockBytes = kv_block_bytes(kBlockKeys, kMaxHeadDim, kMaxHeadDim) + 16;
alignas(16) std::int8_t portable_block[kMaxBlockBytes], table_block[kMaxBlockBytes];

KvBlock lay_out(std::int8_t* memory, std::uint32_t capacity, std::uint32_t head_dim, std::uint32_t value_dim) {
  for (std::uint32_t i = 0; i < kMaxBlockBytes; ++i) memory[i] = static_cast<std::int8_t>(random_bits() >> 24);
  return make_kv_block(memory, capacity, head_dim, value_dim);
}

constexpr std::uint32_t kMaxQueries = 6;
std::int16_t cosine_sine[kMaxHeadDim], offset_values[kMaxHeadDim];
float numerators[2][kMaxQueries * kMaxHeadDim], denominators[2][kMaxQueries];
std::int32_t references[2][kMaxQueries];
std::uint16_t key_weights[2][kBlockKeys];

// Sums of earlier blocks, or none.
bool same_attention(const Both& both, const KvBlock* blocks, BlockQueries queries, bool first = false) {
  const std::uint32_t value_dim = blocks[0].value_dim;
  for (std::uint32_t i = 0; i < kMaxQueries * value_dim; ++i)
    numerators[0][i] = numerators[1][i] = random_float() * 1e3f;
  for (std::uint32_t i = 0; i < kMaxQueries; ++i) {
    denominators[0][i] = denominators[1][i] = random_float() + 1.0f;
    references[0][i] = references[1][i] = static_cast<std::int32_t>(random_below(i & 1 ? 81 : 21)) - (i & 1 ? 40 : 10);
  }
  for (std::uint32_t i = 0; first && i < kMaxQueries; ++i) {
    denominators[0][i] = denominators[1][i] = 0.0f;
    references[0][i] = references[1][i] = kFreshReference;
  }
  for (std::uint32_t i = 0; i < kMaxQueries * value_dim; ++i)
    if (first || i % 5 == 0) {
      numerators[0][i] = numerators[1][i] = 0.0f;
    } else if (i % 5 == 1) {
      // Around 2^-40, below which a numerator is 0, as it is or on its way there.
      const float near = pow2(static_cast<int>(random_below(8)) - 43) * (1.0f + 0x1p-23f * random_float());
      numerators[0][i] = numerators[1][i] = i & 1 ? near : -near;
    }
  // M55's table stores the first block of a query; what was there is not read.
  if (first && table.traits.preferred == Layout::block64)
    for (std::uint32_t i = queries.first * value_dim; i < (queries.first + queries.n) * value_dim; ++i)
      numerators[1][i] = float_of(0x7FC00001u);
  const Kernels* kernels[2] = {&kernels_portable, &table};
  std::int32_t reference[2] = {};
  for (int i = 0; i < 2; ++i) {
    queries.queries = i ? both.prepared : both.plain;
    const AttentionSums sums{numerators[i], denominators[i], references[i]};
    kernels[i]->attend_block(sums, queries, blocks[i], nullptr, nullptr);
    BlockQueries one = queries;
    one.n = 1;
    if (kBuiltFeatures.pattern_tap) kernels[i]->attend_block(sums, one, blocks[i], key_weights[i], &reference[i]);
    float* const sum = numerators[i] + queries.first * value_dim;
    kernels[i]->attend_finish(sum, sum, denominators[i][queries.first], value_dim);
  }
  bool ok = same(numerators[0], numerators[1], kMaxQueries * value_dim) &&
            same(denominators[0], denominators[1], kMaxQueries);
  for (std::uint32_t i = 0; i < kMaxQueries; ++i) ok &= references[0][i] == references[1][i];
  for (std::uint32_t k = 0; kBuiltFeatures.pattern_tap && k < queries.visible; ++k) ok &= key_weights[0][k] == key_weights[1][k];
  return ok && reference[0] == reference[1];
}

bool same_scales(const KvBlock* b, std::uint32_t slot) {
  return b[0].key_mantissas[slot] == b[1].key_mantissas[slot] && b[0].key_exponents[slot] == b[1].key_exponents[slot] &&
         b[0].key_exponent_maxima[slot] == b[1].key_exponent_maxima[slot] &&
         b[0].value_exponents[slot] == b[1].value_exponents[slot] &&
         b[0].value_exponent_maxima[slot] == b[1].value_exponent_maxima[slot];
}

// A window's first keys and biases of scores, in calls of any number of queries.
void check_keys_that_differ(const Both& both, const KvBlock* blocks) {
  static std::int32_t biases[kMaxQueries * (kBlockKeys + kMaxQueries) + kBlockKeys];
  const std::uint32_t capacity = blocks[0].capacity, slope = 1u << random_below(12);
  for (std::uint32_t i = 0; i < sizeof biases / sizeof biases[0]; ++i) {
    const std::uint32_t distance = i % (kBlockKeys + kMaxQueries);
    biases[i] = capacity % 32 ? -static_cast<std::int32_t>(slope * distance)
                              : static_cast<std::int32_t>(random_bits() >> 8) - (1 << 23);
  }
  for (std::uint32_t n = 1; n <= kMaxQueries; ++n)
    for (const std::uint32_t per_position : {std::uint32_t{1}, std::uint32_t{2}, n}) {
      const std::uint32_t runs = (n + per_position - 1) / per_position;
      const std::uint32_t visible = 1 + random_below(capacity), more = random_below(capacity - visible + 1);
      BlockQueries q{{}, kMaxQueries - n, n, per_position, visible, visible + more, 0.3f};
      if (kBuiltFeatures.windows && random_below(3)) {
        // Every run sees one key at least, the last one too.
        const std::uint32_t most = visible + (more < runs - 1 ? more : runs - 1);
        q.hidden = static_cast<std::int32_t>(random_below(most)) - static_cast<std::int32_t>(runs - 1);
        if (random_below(2)) q.hidden = static_cast<std::int32_t>(most) - static_cast<std::int32_t>(runs);
        if (q.hidden >= static_cast<std::int32_t>(visible)) q.hidden = static_cast<std::int32_t>(visible) - 1;
      }
      if (kBuiltFeatures.score_bias && random_below(3)) q.bias = biases + kBlockKeys;
      q.bias_stride = kBlockKeys + kMaxQueries;
      q.keys_differ = q.bias || q.hidden + static_cast<std::int32_t>(runs) > 1;
      CHECK(same_attention(both, blocks, q, n % 2 == 0));
      q.visible = q.visible_limit = capacity;  // all runs see the end of the block
      CHECK(same_attention(both, blocks, q, n % 2 != 0));
    }
}

void check_attention(std::uint32_t head_dim, std::uint32_t value_dim, std::uint32_t capacity, Fill how, bool halves,
                     bool offset) {
  const auto pairs = static_cast<std::uint16_t>(how == Fill::zero ? 0 : head_dim / 2);
  const Rotation rotation{pairs ? cosine_sine : nullptr, pairs, halves};
  const auto offset_exponent = static_cast<std::int8_t>(static_cast<int>(random_below(9)) - 4);
  const KeyOffset key_offset{offset ? offset_values : nullptr, offset_exponent};
  for (std::uint32_t i = 0; i < kMaxHeadDim; ++i) {
    cosine_sine[i] = static_cast<std::int16_t>(random_s8() * 180);
    offset_values[i] = static_cast<std::int16_t>(random_s8() * 258);
  }
  const KvBlock blocks[2] = {lay_out(portable_block, capacity, head_dim, value_dim),
                             lay_out(table_block, capacity, head_dim, value_dim)};
  Both both(head_dim, 0, kMaxQueries);
  both.prepared.n = 0;
  for (std::uint32_t i = 0; i < kMaxQueries; ++i) {
    fill(source, head_dim, how == Fill::special && i != 2 ? Fill::normal : how);
    kernels_portable.query_s8r_f32(both.plain, i, source, rotation);
    table.query_s8r_f32(both.prepared, i, source, rotation);
    CHECK(same(both, i));
  }
  for (std::uint32_t slot = 0; slot < capacity; ++slot) {
    fill(source, head_dim, how == Fill::zero && slot % 3 ? Fill::wide : how);
    kernels_portable.store_key(blocks[0], slot, source, rotation, key_offset);
    table.store_key(blocks[1], slot, source, rotation, key_offset);
    fill(source, value_dim, slot % 7 == 3 ? Fill::zero : how);
    kernels_portable.store_value(blocks[0], slot, source);
    table.store_value(blocks[1], slot, source);
    CHECK(same_scales(blocks, slot));
    const float factor = how == Fill::wide ? 3e-9f : how == Fill::extreme ? 40.0f : 0.37f;
    const std::uint32_t visible = slot + 1;
    if (slot < 9 || slot % 5 == 0 || visible == capacity)
      CHECK(same_attention(both, blocks, {{}, 0, 1, 1, visible, visible, factor}));
  }
  CHECK(same_attention(both, blocks, {{}, 1, 5, 2, capacity - 2, capacity, 0.5f}));
  CHECK(same_attention(both, blocks, {{}, 0, 6, 1, 1, capacity, 0.0f}));
  // Several queries together: any number of them, in runs, of which some see one key more than the one before.
  for (std::uint32_t n = 1; n <= kMaxQueries; ++n)
    for (const std::uint32_t run : {std::uint32_t{1}, std::uint32_t{2}, std::uint32_t{3}, n}) {
      const std::uint32_t visible = 1 + random_below(capacity), most = visible + random_below(capacity - visible + 1);
      CHECK(same_attention(both, blocks, {{}, kMaxQueries - n, n, run, visible, most, 0.3f}, n % 2 == 0));
      CHECK(same_attention(both, blocks, {{}, 0, n, run, capacity, capacity, 0.3f}, run == 1));
    }
  // Runs that are cut by two queries taken together, keys that stop being added within the call.
  for (const std::uint32_t per_position : {1u, 2u, 3u})
    for (const std::uint32_t n : {2u, 3u, 5u, 6u}) {
      const std::uint32_t visible = 1 + random_below(capacity), more = random_below(4);
      const std::uint32_t limit = visible + more < capacity ? visible + more : capacity;
      const float factor = pow2(static_cast<int>(random_below(24)) - 16);
      CHECK(same_attention(both, blocks, {{}, 6 - n, n, per_position, visible, limit, factor}));
    }
  // Two queries of which the second alone sees the first key of four.
  for (std::uint32_t visible = 3; visible < 6 && visible < capacity; ++visible)
    CHECK(same_attention(both, blocks, {{}, 1, 4, 1, visible, capacity, 0.3f}, visible == 3));
  if (portable::kKeysDiffer) check_keys_that_differ(both, blocks);
}

}  // namespace

TEST_CASE("attention over a block gives the bits of portable", "[cortex_m]") {
  for (const std::uint32_t head_dim : {1u, 2u, 3u, 4u, 5u, 6u, 8u, 12u, 16u, 23u, 32u, 36u, 48u, 64u, 80u, 96u, 128u, 132u, 256u})
    for (const Fill how : kFills) {
      check_attention(head_dim, head_dim, 16, how, true, false);
      check_attention(head_dim, head_dim, head_dim > 64 ? 32 : 64, how, false, true);
    }
  // Values of another width than keys.
  for (const std::uint32_t head_dim : {1u, 8u, 16u, 30u, 64u, 100u})
    for (const std::uint32_t value_dim : {1u, 3u, 8u, 16u, 20u, 64u, 72u, 130u, 256u})
      if (value_dim != head_dim) check_attention(head_dim, value_dim, 48, Fill::normal, head_dim % 16 == 0, false);
}

TEST_CASE("sampling gives the bits of portable", "[cortex_m]") {
  static std::uint32_t sampled[2][kMaxTestCols];
  for (const std::uint32_t n : {1u, 2u, 31u, 512u})
    for (const Fill how : kFills) {
      fill(source, n, how);
      CHECK(kernels_portable.argmax(source, n) == table.argmax(source, n));
      fill(source, n, Fill::normal);
      kernels_portable.sample_weights(sampled[0], source, n, 4096.0f, 0.8f);
      table.sample_weights(sampled[1], source, n, 4096.0f, 0.8f);
      for (std::uint32_t i = 0; i < n; ++i) CHECK(sampled[0][i] == sampled[1][i]);
    }
}

TEST_CASE("the checksum is CRC-32C", "[cortex_m]") {
  CHECK(table.crc32c(0, "123456789", 9) == 0xE3069283u);
  CHECK(table.crc32c(table.crc32c(0, "1234", 4), "56789", 5) == 0xE3069283u);
}

}  // namespace heed
