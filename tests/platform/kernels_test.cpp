// SPDX-License-Identifier: Apache-2.0
// kernels_test.cpp: every table that can run here gives the bits of the portable one, function by function, on edge
// shapes and edge values; and on x86 no normal input leaves a denormal or an underflow behind.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "runtime/numerics.hpp"
#include "tests/platform/runnable_kernels.hpp"
#include "tests/support/catch.hpp"

using namespace heed;

namespace heed {
extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_avxvnni_evex;  // of this test alone
#endif
}  // namespace heed

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Random {
  std::uint64_t state;
  explicit Random(std::uint64_t seed) : state(seed * 0x9E3779B97F4A7C15u + 1) {}
  std::uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state >> 32);
  }
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((std::uint64_t{next()} * n) >> 32); }
  float uniform() { return static_cast<float>(next() >> 8) * (1.0f / 8388608.0f) - 1.0f; }
  std::int8_t weight() { return static_cast<std::int8_t>(static_cast<int>(below(255)) - 127); }
};

// Zeroed memory with an alignment and 64 readable bytes behind it, as the arena gives; `guard` bytes are checked.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t n, std::size_t offset = 0)
      : bytes_(n * sizeof(T) + offset + 256, 0), n_(n) {
    auto p = reinterpret_cast<std::uintptr_t>(bytes_.data());
    data_ = reinterpret_cast<T*>((p + 63) / 64 * 64 + offset);
    std::memset(static_cast<void*>(data_ + n), 0x5A, 64);
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  std::size_t size() const { return n_; }
  bool guard_holds() const {
    const auto* p = reinterpret_cast<const unsigned char*>(data_ + n_);
    for (int i = 0; i < 64; ++i)
      if (p[i] != 0x5A) return false;
    return true;
  }
  bool same(const Buffer& other) const { return std::memcmp(data_, other.data_, n_ * sizeof(T)) == 0; }

 private:
  std::vector<unsigned char> bytes_;
  std::size_t n_;
  T* data_;
};

std::vector<const Kernels*> others() {
  std::vector<const Kernels*> tables = runnable_kernels();
  tables.erase(tables.begin());
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    tables.push_back(&kernels_avxvnni_evex);
#endif
  return tables;
}

// Denormal or underflow since the last call; false where it cannot be asked.
bool tiny_flags() {
#if defined(__x86_64__)
  const unsigned flags = _mm_getcsr();
  _mm_setcsr(flags & ~0x3Fu);
  return (flags & 0x12u) != 0;
#else
  return false;
#endif
}

enum class Values { normal, outlier, small, huge, special, denormal, zero, all_nan, lopsided };
constexpr Values kAllValues[] = {Values::normal, Values::outlier,  Values::small, Values::huge,
                                 Values::special, Values::denormal, Values::zero,  Values::all_nan, Values::lopsided};

void fill(float* x, std::size_t n, Values values, Random& random) {
  for (std::size_t i = 0; i < n; ++i) {
    const float u = random.uniform();
    switch (values) {
      case Values::normal: x[i] = u * 3.7f; break;
      case Values::outlier: x[i] = random.below(16) == 0 ? u * 900.0f : u; break;
      case Values::small: x[i] = u * 3e-12f; break;
      case Values::huge: x[i] = u * 1e13f; break;
      case Values::special: {
        const float specials[] = {kNan, -kNan, kInfinity, -kInfinity, 0.0f, -0.0f, 1e-42f, 3.4e38f, -3.4e38f, 1.0f};
        x[i] = random.below(3) == 0 ? specials[random.below(10)] : u * 100.0f;
        if (random.below(2)) x[i] = u;
        break;
      }
      case Values::denormal: x[i] = random.below(4) == 0 ? 0.5f * u : u * 1e-39f; break;
      case Values::zero: x[i] = random.below(2) ? 0.0f : -0.0f; break;
      case Values::all_nan: x[i] = kNan; break;
      case Values::lopsided: x[i] = i == n / 2 ? -1.0f : 1.0f; break;  // twice its maximum away from its mean
    }
  }
}

struct Quantised {
  Buffer<std::int8_t> memory;
  Activations a;
  Quantised(const Kernels& k, std::uint32_t cols, std::uint32_t group, std::uint32_t n)
      : memory(activations_bytes(k.traits, cols, group, n)),
        a(make_activations(memory.data(), k.traits, cols, group, n)) {
    std::memset(memory.data(), 0x33, memory.size());
  }
};

// What every table agrees on: scales, exponents, and the bytes where both keep an activation in one.
bool same_activations(const Kernels& k, const Quantised& x, const Kernels& l, const Quantised& y, std::uint32_t n) {
  if (!x.memory.guard_holds() || !y.memory.guard_holds()) return false;
  if (std::memcmp(x.a.scales, y.a.scales, n * 4) != 0) return false;
  if (x.a.groups && std::memcmp(x.a.exponents, y.a.exponents, std::size_t{n} * x.a.groups) != 0) return false;
  if (k.traits.activation_element_bytes != 1 || l.traits.activation_element_bytes != 1) return true;
  for (std::uint32_t i = 0; i < n; ++i)
    if (std::memcmp(x.a.values + i * x.a.value_stride, y.a.values + i * y.a.value_stride,
                    activation_cols(x.a.cols)) != 0)
      return false;
  return true;
}

const std::vector<std::uint32_t> kRowLengths = [] {
  std::vector<std::uint32_t> n;
  for (std::uint32_t i = 1; i <= 70; ++i) n.push_back(i);
  for (const std::uint32_t i : {96u, 127u, 128u, 172u, 255u, 256u, 288u, 768u, 1100u}) n.push_back(i);
  return n;
}();

struct Matrix {
  Buffer<std::int8_t> weights;
  Buffer<float> scales, bias;
  Buffer<std::uint8_t> multipliers;
  Tensor tensor;
  Matrix(Layout layout, std::uint32_t rows, std::uint32_t cols, std::uint32_t group, bool has_bias, Random& random,
         bool extreme = false)
      : weights(std::size_t{padded_rows(layout, rows)} * padded_cols(layout, cols)),
        scales(padded_rows(layout, rows)),
        bias(padded_rows(layout, rows)),
        multipliers(std::size_t{padded_rows(layout, rows)} * group_count(cols, group) + 1) {
    for (std::uint32_t r = 0; r < rows; ++r) {
      scales[r] = (random.uniform() + 1.1f) * 0.01f;
      bias[r] = random.uniform();
      for (std::uint32_t c = 0; c < cols; ++c)
        weights[weight_index(layout, rows, cols, r, c)] =
            extreme ? static_cast<std::int8_t>(r % 2 ? 127 : -127) : random.weight();
    }
    for (std::uint32_t r = rows; r < padded_rows(layout, rows); ++r) scales[r] = 1.0f;
    for (std::size_t i = 0; i + 1 < multipliers.size(); ++i)
      multipliers[i] = static_cast<std::uint8_t>(extreme ? 15 : 1 + random.below(15));
    tensor.weights = weights.data();
    tensor.scales = scales.data();
    tensor.bias = has_bias ? bias.data() : nullptr;
    tensor.multipliers = group ? multipliers.data() : nullptr;
    tensor.rows = rows;
    tensor.cols = cols;
    tensor.group = static_cast<std::uint16_t>(group);
    tensor.layout = layout;
  }
};

// dst of both tables for n tokens of `src`, rows [begin, end).
void check_product(const Kernels& k, const Matrix& m, const float* src, std::uint32_t n, std::uint32_t begin,
                   std::uint32_t end, bool accumulate) {
  const Tensor& t = m.tensor;
  const std::uint32_t rows = padded_rows(t.layout, t.rows), stride = rows + 3;
  Quantised x(k, t.cols, t.group, n), y(kernels_portable, t.cols, t.group, n);
  Buffer<float> a(std::size_t{n} * stride), b(std::size_t{n} * stride);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = b[i] = static_cast<float>(i % 17) - 8.0f;
  for (std::uint32_t i = 0; i < n; ++i) {
    kernels_portable.quantize_s8r_f32(y.a, i, src + std::size_t{i} * t.cols);
    k.quantize_s8r_f32(x.a, i, src + std::size_t{i} * t.cols);
  }
  const MatmulRange range = {n, begin, end, stride, accumulate};
  kernels_portable.matmul_f32_s8r_s8c(b.data(), y.a, t, range);
  tiny_flags();
  k.matmul_f32_s8r_s8c(a.data(), x.a, t, range);
  INFO(k.traits.name << " rows " << t.rows << " cols " << t.cols << " group " << t.group << " tokens " << n << " from "
                     << begin << " to " << end << " accumulate " << accumulate << " bias " << (t.bias != nullptr));
  CHECK_FALSE(tiny_flags());
  CHECK(a.same(b));
  CHECK(a.guard_holds());
}

std::vector<float> normal_floats(std::size_t n, Random& random) {
  std::vector<float> x(n);
  fill(x.data(), n, Values::outlier, random);
  return x;
}

// A matrix of one panel, all ones.
class Ones {
 public:
  const Tensor& tensor(std::uint32_t cols, std::uint32_t group) {
    tensor_.weights = weights_.data();
    tensor_.scales = scales_.data();
    tensor_.multipliers = group ? multipliers_.data() : nullptr;
    tensor_.rows = 16;
    tensor_.cols = cols;
    tensor_.group = static_cast<std::uint16_t>(group);
    tensor_.layout = Layout::packed;
    return tensor_;
  }
  Ones() : weights_(16 * 1104), scales_(16), multipliers_(16 * 64) {
    std::memset(weights_.data(), 1, weights_.size());
    std::memset(multipliers_.data(), 3, multipliers_.size());
    for (std::size_t i = 0; i < 16; ++i) scales_[i] = 0.5f;
  }

 private:
  Buffer<std::int8_t> weights_;
  Buffer<float> scales_;
  Buffer<std::uint8_t> multipliers_;
  Tensor tensor_;
} ones_matrix;

}  // namespace

TEST_CASE("more than the portable table runs here") {
  std::string names;
  for (const Kernels* k : runnable_kernels()) names += std::string(k->traits.name) + " ";
  INFO(names);
  CHECK(runnable_kernels().size() > 1);
  SUCCEED(names);
}

TEST_CASE("CRC-32C: the check value, every tail, continuation") {
  Buffer<unsigned char> data(40000);
  Random random(1);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<unsigned char>(random.next());
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    CHECK(k->crc32c(0, "123456789", 9) == 0xE3069283u);
    for (std::size_t n = 0; n < 60; ++n)
      for (std::size_t from = 0; from < 9; from += 3) {
        const std::uint32_t want = kernels_portable.crc32c(7, data.data() + from, n);
        CHECK(k->crc32c(7, data.data() + from, n) == want);
        CHECK(k->crc32c(k->crc32c(7, data.data() + from, n / 3), data.data() + from + n / 3, n - n / 3) == want);
      }
    // Around what is read in three streams.
    for (const std::size_t n : {12287u, 12288u, 12289u, 24575u, 24576u, 36871u, 39997u})
      CHECK(k->crc32c(7, data.data() + 3, n) == kernels_portable.crc32c(7, data.data() + 3, n));
  }
}

TEST_CASE("quantised vectors") {
  for (const Kernels* k : others()) {
    Random random(2);
    for (const std::uint32_t cols : kRowLengths) {
      for (const std::uint32_t group : {0u, 32u, 64u, 128u, 256u}) {
        for (const Values values : kAllValues) {
          if (group > 64 && values != Values::normal && values != Values::special) continue;
          Buffer<float> src(2 * cols, 4 * (cols % 3));
          fill(src.data(), 2 * cols, values, random);
          Quantised x(*k, cols, group, 2), y(kernels_portable, cols, group, 2);
          for (std::uint32_t i = 0; i < 2; ++i) kernels_portable.quantize_s8r_f32(y.a, i, src.data() + i * cols);
          tiny_flags();
          for (std::uint32_t i = 0; i < 2; ++i) k->quantize_s8r_f32(x.a, i, src.data() + i * cols);
          INFO(k->traits.name << " cols " << cols << " group " << group << " values " << static_cast<int>(values));
          if (values == Values::normal || values == Values::outlier) CHECK_FALSE(tiny_flags());
          CHECK(same_activations(*k, x, kernels_portable, y, 2));
        }
      }
    }
  }
}

TEST_CASE("norms") {
  for (const Kernels* k : others()) {
    Random random(3);
    for (const std::uint32_t cols : kRowLengths) {
      for (const std::uint32_t group : {0u, 32u, 128u}) {
        for (const Values values : kAllValues) {
          Buffer<float> src(cols), gain(cols, 4), bias(cols, 8);
          fill(src.data(), cols, values, random);
          fill(gain.data(), cols, Values::normal, random);
          fill(bias.data(), cols, Values::normal, random);
          // Layer norm with and without gain and bias, RMS norm with and without gain.
          for (int kind = 0; kind < 6; ++kind) {
            Quantised x(*k, cols, group, 1), y(kernels_portable, cols, group, 1);
            NormWeights weights{};
            weights.gain = kind & 1 ? gain.data() : nullptr;
            weights.bias = kind & 2 ? bias.data() : nullptr;
            weights.centred = kind < 4;
            weights.epsilon = 1e-5f;
            if (kind >= 4) weights.bias = nullptr;
            kernels_portable.norm_s8r_f32(y.a, 0, src.data(), weights);
            tiny_flags();
            k->norm_s8r_f32(x.a, 0, src.data(), weights);
            INFO(k->traits.name << " cols " << cols << " group " << group << " kind " << kind << " values "
                                << static_cast<int>(values));
            if (values == Values::normal || values == Values::outlier) CHECK_FALSE(tiny_flags());
            CHECK(same_activations(*k, x, kernels_portable, y, 1));
            if (group == 0) {  // as floats, in place
              Buffer<float> floats_x(cols), floats_y(cols);
              std::memcpy(floats_x.data(), src.data(), cols * sizeof(float));
              kernels_portable.norm_f32_f32(floats_y.data(), src.data(), cols, weights);
              tiny_flags();
              k->norm_f32_f32(floats_x.data(), floats_x.data(), cols, weights);
              if (values == Values::normal) CHECK_FALSE(tiny_flags());
              CHECK(floats_x.same(floats_y));
              CHECK(floats_x.guard_holds());
            }
            // Sums are the table's own: they show in a product.
            const Tensor& ones = ones_matrix.tensor(cols, group);
            Buffer<float> a(16), b(16);
            const MatmulRange range = {1, 0, 16, 16, false};
            k->matmul_f32_s8r_s8c(a.data(), x.a, ones, range);
            kernels_portable.matmul_f32_s8r_s8c(b.data(), y.a, ones, range);
            CHECK(a.same(b));
          }
        }
      }
    }
  }
}

TEST_CASE("gates") {
  for (const Kernels* k : others()) {
    Random random(4);
    for (const std::uint32_t cols : kRowLengths) {
      for (const std::uint32_t group : {0u, 32u}) {
        for (const Values values : kAllValues) {
          for (const Values up_values : {Values::normal, Values::special, Values::small}) {
            Buffer<float> gate(cols), up(cols, 4);
            fill(gate.data(), cols, values, random);
            fill(up.data(), cols, up_values, random);
            // The exponent of the gate walks through every shift.
            const float scale = std::ldexp(1.0f, static_cast<int>(cols % 41) - 20);
            for (std::uint32_t i = 0; i < cols && values == Values::normal; ++i) gate[i] *= scale;
            for (const float* u : {static_cast<const float*>(up.data()), static_cast<const float*>(nullptr)}) {
              Quantised x(*k, cols, group, 1), y(kernels_portable, cols, group, 1);
              Buffer<float> copy(cols), other(cols);
              std::memcpy(copy.data(), gate.data(), cols * 4);
              std::memcpy(other.data(), gate.data(), cols * 4);
              kernels_portable.gate_s8r_f32(y.a, 0, copy.data(), u, kSigmoid);
              tiny_flags();
              k->gate_s8r_f32(x.a, 0, other.data(), u, kSigmoid);
              INFO(k->traits.name << " cols " << cols << " group " << group << " values " << static_cast<int>(values)
                                  << " up " << (u ? static_cast<int>(up_values) : -1));
              if (values == Values::normal && up_values == Values::normal) CHECK_FALSE(tiny_flags());
              CHECK(same_activations(*k, x, kernels_portable, y, 1));
              CHECK(other.guard_holds());
            }
          }
        }
      }
    }
  }
}

// In element 3, 30000 * F and -17896 as s16 are multiplied: -29999 * 17896 is the largest product, which 14 places leave as
// M = 32767 and s = -32768 (SPEC.md 2.5).
TEST_CASE("gates: the largest product is negative and leaves -32768") {
  for (const Kernels* k : runnable_kernels()) {
    for (const std::uint32_t group : {0u, 32u, 64u, 256u}) {
      constexpr std::uint32_t kCols = 300;
      Buffer<float> gate(kCols + 4), up(kCols + 4);
      for (std::uint32_t i = 0; i < kCols; ++i) gate[i] = up[i] = 0.01f;
      gate[3] = 30000.0f / 32768.0f;
      up[3] = -17896.0f / 32768.0f;
      Quantised x(*k, kCols, group, 1);
      k->gate_s8r_f32(x.a, 0, gate.data(), up.data(), kStep);
      INFO(k->traits.name << " group " << group);
      CHECK(x.a.values[3] == -127);
      CHECK(x.a.scales[0] == 32767.0f * (1.0f / 127.0f) * std::ldexp(1.0f, -16) * (group ? 0.125f : 1.0f));
      for (std::uint32_t g = 0; g < x.a.groups; ++g) CHECK(x.a.exponents[g] == (g == 0 ? 3 : 0));
    }
  }
}

TEST_CASE("products: every width") {
  for (const Kernels* k : others()) {
    Random random(5);
    for (const std::uint32_t cols : kRowLengths) {
      const std::vector<float> src = normal_floats(9 * cols, random);
      for (const std::uint32_t group : {0u, 32u, 64u, 128u, 256u}) {
        if (group > 32 && cols < 70 && cols % 7) continue;
        const Matrix m(Layout::packed, 1 + cols % 40, cols, group, cols % 2 != 0, random);
        check_product(*k, m, src.data(), 1, 0, padded_rows(Layout::packed, m.tensor.rows), false);
        check_product(*k, m, src.data(), 1 + cols % 9, 0, padded_rows(Layout::packed, m.tensor.rows), cols % 3 == 0);
      }
    }
  }
}

TEST_CASE("products: every number of rows and tokens, ranges, bias, accumulation") {
  for (const Kernels* k : others()) {
    Random random(6);
    for (std::uint32_t rows = 1; rows <= 40; ++rows) {
      const std::vector<float> src = normal_floats(19 * 72, random);
      for (const std::uint32_t group : {0u, 32u}) {
        const Matrix m(Layout::packed, rows, 72, group, rows % 2 != 0, random);
        for (std::uint32_t n = 1; n <= 9; ++n) {
          const std::uint32_t end = padded_rows(Layout::packed, rows);
          check_product(*k, m, src.data(), n, 0, end, n % 2 == 0);
          if (end > 16) check_product(*k, m, src.data(), n, 16, end, n % 2 != 0);
        }
      }
    }
    // Long rows of many panels, which one token takes in several streams.
    for (const std::uint32_t rows : {64u, 112u, 144u, 400u}) {
      for (const std::uint32_t cols : {520u, 1056u}) {
        const std::vector<float> src = normal_floats(12 * cols, random);
        for (const std::uint32_t group : {0u, 64u}) {
          const Matrix m(Layout::packed, rows, cols, group, true, random);
          for (const std::uint32_t n : {1u, 5u, 12u}) {
            check_product(*k, m, src.data(), n, 0, rows, false);
            check_product(*k, m, src.data(), n, 16, rows, true);
          }
        }
      }
    }
    for (const std::uint32_t rows : {112u, 256u, 400u}) {
      const std::vector<float> src = normal_floats(19 * 40, random);
      for (const std::uint32_t group : {0u, 32u}) {
        const Matrix m(Layout::packed, rows, 40, group, true, random);
        for (const std::uint32_t n : {1u, 2u, 3u, 7u, 8u, 19u}) {
          check_product(*k, m, src.data(), n, 0, rows, false);
          check_product(*k, m, src.data(), n, 48, rows - 16, true);
        }
      }
    }
  }
}

TEST_CASE("products: the largest sums") {
  for (const Kernels* k : others()) {
    Random random(7);
    for (const std::uint32_t cols : {1024u, 1056u, 2048u, 2120u, 4000u}) {
      for (const std::uint32_t group : {0u, 32u, 64u, 256u}) {
        const Matrix m(Layout::packed, 20, cols, group, false, random, true);
        std::vector<float> src(9 * cols);
        for (std::size_t i = 0; i < src.size(); ++i) src[i] = (i / cols) % 2 ? 1.0f : random.below(3) ? 1.0f : -1.0f;
        for (const std::uint32_t n : {1u, 9u}) check_product(*k, m, src.data(), n, 0, 32, false);
      }
    }
  }
}

TEST_CASE("products of activations that are zero or special") {
  for (const Kernels* k : others()) {
    Random random(8);
    for (const Values values : {Values::zero, Values::all_nan, Values::special, Values::huge, Values::small}) {
      const Matrix m(Layout::packed, 33, 100, values == Values::huge ? 0 : 32, true, random);
      std::vector<float> src(5 * 100);
      fill(src.data(), src.size(), values, random);
      check_product(*k, m, src.data(), 5, 0, 48, false);
    }
  }
}

TEST_CASE("rows of a matrix as floats") {
  for (const Kernels* k : others()) {
    Random random(9);
    for (const std::uint32_t cols : kRowLengths) {
      for (const std::uint32_t group : {0u, 32u, 64u}) {
        const Matrix m(Layout::packed, 37, cols, group, false, random);
        Buffer<float> a(cols), b(cols);
        for (const std::uint32_t row : {0u, 1u, 15u, 16u, 36u}) {
          k->embed_f32_s8c(a.data(), m.tensor, row);
          kernels_portable.embed_f32_s8c(b.data(), m.tensor, row);
          INFO(k->traits.name << " cols " << cols << " group " << group << " row " << row);
          CHECK(a.same(b));
          CHECK(a.guard_holds());
        }
      }
    }
  }
}

TEST_CASE("argmax") {
  for (const Kernels* k : runnable_kernels()) {
    Random random(10);
    INFO(k->traits.name);
    for (std::uint32_t n = 1; n <= 150; ++n) {
      Buffer<float> x(n, 4 * (n % 3));
      for (const Values values : kAllValues) {
        fill(x.data(), n, values, random);
        CHECK(k->argmax(x.data(), n) == kernels_portable.argmax(x.data(), n));
        if (n > 1) {  // ties go to the lower index
          const std::uint32_t i = random.below(n), j = random.below(n);
          x[i] = x[j] = 2e30f;
          CHECK(k->argmax(x.data(), n) == kernels_portable.argmax(x.data(), n));
        }
      }
      for (std::uint32_t i = 0; i < n; ++i) x[i] = -kInfinity;
      CHECK(k->argmax(x.data(), n) == 0);
      x[n - 1] = -3.402823466e38f;
      CHECK(k->argmax(x.data(), n) == n - 1);
      x[0] = kNan;
      CHECK(k->argmax(x.data(), n) == 0);
    }
  }
}

TEST_CASE("weights for sampling") {
  for (const Kernels* k : others()) {
    Random random(11);
    for (const std::uint32_t n : kRowLengths) {
      Buffer<float> x(n);
      for (const Values values : kAllValues) {
        fill(x.data(), n, values, random);
        for (const float inverse : {1.0f, 0.7f, 31.0f, 0.0f}) {
          Buffer<std::uint32_t> a(n), b(n);
          k->sample_weights(a.data(), x.data(), n, 3.7f, inverse);
          kernels_portable.sample_weights(b.data(), x.data(), n, 3.7f, inverse);
          INFO(k->traits.name << " n " << n << " values " << static_cast<int>(values));
          CHECK(a.same(b));
          CHECK(a.guard_holds());
          // Where the logits are.
          Buffer<std::uint32_t> c(n);
          std::memcpy(c.data(), x.data(), n * sizeof(float));
          k->sample_weights(c.data(), reinterpret_cast<const float*>(c.data()), n, 3.7f, inverse);
          CHECK(c.same(b));
        }
      }
    }
  }
}

namespace {

const std::uint32_t kHeadDims[] = {1, 2, 3, 4, 5, 8, 10, 13, 15, 16, 17, 20, 31, 32, 33, 48, 60, 64, 80, 96, 128, 200, 256};

struct Rotations {
  std::vector<std::int16_t> table;
  Rotations(std::uint32_t pairs, Random& random) {
    for (std::uint32_t i = 0; i < pairs; ++i) {
      const SinCos sc = sin_cos(random.next());
      table.push_back(sc.cosine);
      table.push_back(sc.sine);
    }
  }
};

struct Block {
  Buffer<std::int8_t> keys, values;
  Buffer<std::uint8_t> mantissas;
  Buffer<std::int8_t> key_exponents, key_maxima, value_exponents, value_maxima;
  KvBlock block;
  Block(std::uint32_t capacity, std::uint32_t head_dim, std::uint32_t value_dim)
      : keys(std::size_t{capacity} * round_up(head_dim, 4)),
        values(std::size_t{capacity} * value_dim),
        mantissas(capacity),
        key_exponents(capacity),
        key_maxima(capacity),
        value_exponents(capacity),
        value_maxima(capacity) {
    // What an earlier use has left must not matter.
    for (auto* b : {&keys, &values, &key_exponents, &key_maxima, &value_exponents, &value_maxima})
      for (std::size_t i = 0; i < b->size(); ++i) (*b)[i] = static_cast<std::int8_t>(i * 37 + 128);
    for (std::size_t i = 0; i < mantissas.size(); ++i) mantissas[i] = static_cast<std::uint8_t>(255 - i);
    block = {keys.data(),          values.data(),     mantissas.data(), key_exponents.data(), key_maxima.data(),
             value_exponents.data(), value_maxima.data(), capacity,     head_dim,             value_dim};
  }
  bool guards_hold() const {
    for (const auto* b : {&keys, &values, &key_exponents, &key_maxima, &value_exponents, &value_maxima})
      if (!b->guard_holds()) return false;
    return mantissas.guard_holds();
  }
};

bool same_scales(const Block& a, const Block& b) {
  return a.mantissas.same(b.mantissas) && a.key_exponents.same(b.key_exponents) && a.key_maxima.same(b.key_maxima) &&
         a.value_exponents.same(b.value_exponents) && a.value_maxima.same(b.value_maxima);
}

}  // namespace

TEST_CASE("queries") {
  for (const Kernels* k : others()) {
    Random random(12);
    for (const std::uint32_t dim : kHeadDims) {
      for (const Values values : kAllValues) {
        Buffer<float> src(dim, 4);
        fill(src.data(), dim, values, random);
        for (const std::uint32_t pairs : {0u, 1u, dim / 4, dim / 2}) {
          if (2 * pairs > dim) continue;
          const Rotations rotations(pairs, random);
          for (const bool halves : {false, true}) {
            const Rotation rotation = {pairs ? rotations.table.data() : nullptr, static_cast<std::uint16_t>(pairs),
                                       halves};
            Quantised x(*k, dim, 0, 2), y(kernels_portable, dim, 0, 2);
            for (std::uint32_t i = 0; i < 2; ++i) kernels_portable.query_s8r_f32(y.a, i, src.data(), rotation);
            tiny_flags();
            for (std::uint32_t i = 0; i < 2; ++i) k->query_s8r_f32(x.a, i, src.data(), rotation);
            INFO(k->traits.name << " head_dim " << dim << " pairs " << pairs << " halves " << halves << " values "
                                << static_cast<int>(values));
            if (values == Values::normal) CHECK_FALSE(tiny_flags());
            CHECK(same_activations(*k, x, kernels_portable, y, 2));
          }
        }
      }
    }
  }
}

namespace {

struct Shape {
  std::uint32_t head_dim, capacity, filled, visible, positions, per_position;
  std::uint32_t value_dim = head_dim;
  std::int32_t hidden = kNoneHidden;
  bool biased = false;
};

// Fills a block in both tables and attends to it, twice over, so that sums are merged.
void check_attention(const Kernels& k, const Shape& shape, Values values, Random& random, float factor, bool offset) {
  const std::uint32_t dim = shape.head_dim, value_dim = shape.value_dim;
  Block x(shape.capacity, dim, value_dim), y(shape.capacity, dim, value_dim);
  std::vector<std::int16_t> offsets(dim);
  for (auto& o : offsets) o = static_cast<std::int16_t>(static_cast<int>(random.below(65535)) - 32767);
  const KeyOffset key_offset = {offset ? offsets.data() : nullptr, static_cast<std::int8_t>(random.below(8)) };
  const Rotations rotations(dim / 2, random);
  const Rotation rotation = {dim > 1 ? rotations.table.data() : nullptr, static_cast<std::uint16_t>(dim / 2),
                             random.below(2) != 0};
  INFO(k.traits.name << " head_dim " << dim << " capacity " << shape.capacity << " filled " << shape.filled
                     << " visible " << shape.visible << " positions " << shape.positions << " per position "
                     << shape.per_position << " values " << static_cast<int>(values) << " factor " << factor
                     << " offset " << offset);
  const bool normal = values == Values::normal;
  for (std::uint32_t slot = 0; slot < shape.filled; ++slot) {
    Buffer<float> key(dim, 4), value(value_dim);
    fill(key.data(), dim, values, random);
    fill(value.data(), value_dim, values, random);
    // Scales that wander by powers of two from key to key.
    const float scale = std::ldexp(1.0f, static_cast<int>(random.below(normal ? 6 : 3)) - 3);
    for (std::uint32_t d = 0; d < dim; ++d) key[d] *= scale;
    for (std::uint32_t d = 0; d < value_dim; ++d) value[d] *= scale;
    kernels_portable.store_key(y.block, slot, key.data(), rotation, key_offset);
    kernels_portable.store_value(y.block, slot, value.data());
    tiny_flags();
    k.store_key(x.block, slot, key.data(), rotation, key_offset);
    k.store_value(x.block, slot, value.data());
    if (normal) CHECK_FALSE(tiny_flags());
  }
  CHECK(same_scales(x, y));
  CHECK(x.guards_hold());

  const std::uint32_t n = shape.positions * shape.per_position, first = 1;
  Quantised qx(k, dim, 0, n + first), qy(kernels_portable, dim, 0, n + first);
  for (std::uint32_t i = 0; i < n + first; ++i) {
    Buffer<float> src(dim);
    fill(src.data(), dim, values, random);
    k.query_s8r_f32(qx.a, i, src.data(), rotation);
    kernels_portable.query_s8r_f32(qy.a, i, src.data(), rotation);
  }
  Buffer<float> numerators_x((n + first) * value_dim), numerators_y((n + first) * value_dim);
  Buffer<float> denominators_x(n + first), denominators_y(n + first);
  Buffer<std::int32_t> references_x(n + first), references_y(n + first);
  for (std::uint32_t i = 0; i < n + first; ++i) references_x[i] = references_y[i] = -(1 << 21);
  const AttentionSums sx = {numerators_x.data(), denominators_x.data(), references_x.data()};
  const AttentionSums sy = {numerators_y.data(), denominators_y.data(), references_y.data()};
  BlockQueries bx = {qx.a, first, n, shape.per_position, shape.visible, shape.filled, factor};
  bx.hidden = shape.hidden;
  // Exactly as many as may be read: of the keys that each run sees.
  const std::uint32_t behind = shape.filled - 1, width = behind + shape.positions;
  Buffer<std::int32_t> biases(std::size_t{shape.per_position} * width);
  for (std::size_t i = 0; i < biases.size(); ++i)
    biases[i] = random.below(4) ? -static_cast<std::int32_t>(64 * (i % width)) : random.below(1 << 24) - (1 << 23);
  if (shape.biased) bx.bias = biases.data() + behind;
  bx.bias_stride = width;
  bx.keys_differ = bx.bias || bx.hidden + static_cast<std::int32_t>(shape.positions) > 1;
  BlockQueries by = bx;
  by.queries = qy.a;
  for (int round = 0; round < 2; ++round) {
    kernels_portable.attend_block(sy, by, y.block, nullptr, nullptr);
    tiny_flags();
    k.attend_block(sx, bx, x.block, nullptr, nullptr);
    if (normal) CHECK_FALSE(tiny_flags());
    bx.factor = by.factor = factor * 0.6f;
  }
  CHECK(references_x.same(references_y));
  CHECK(denominators_x.same(denominators_y));
  CHECK(numerators_x.same(numerators_y));
  CHECK(numerators_x.guard_holds());

  Buffer<float> out_x(value_dim), out_y(value_dim);
  const float one_more = denominators_x[first] + 1.0f;
  k.attend_finish(out_x.data(), numerators_x.data() + first * value_dim, one_more, value_dim);
  kernels_portable.attend_finish(out_y.data(), numerators_y.data() + first * value_dim, one_more, value_dim);
  CHECK(out_x.same(out_y));
  CHECK(out_x.guard_holds());

  Buffer<std::uint16_t> wx(shape.visible), wy(shape.visible);
  std::int32_t rx = 0, ry = 0;
  bx.n = by.n = 1;
  k.attend_block(sx, bx, x.block, wx.data(), &rx);
  kernels_portable.attend_block(sy, by, y.block, wy.data(), &ry);
  CHECK(rx == ry);
  CHECK(wx.same(wy));
  CHECK(wx.guard_holds());
  CHECK(numerators_x.same(numerators_y));
}

}  // namespace

TEST_CASE("attention: every head size") {
  for (const Kernels* k : others()) {
    Random random(13);
    for (const std::uint32_t dim : kHeadDims) {
      for (const std::uint32_t capacity : {16u, 32u, 48u, 64u}) {
        const Shape shape = {dim, capacity, capacity, 1 + random.below(capacity), 3, 2};
        check_attention(*k, shape, Values::normal, random, 1.4427f / std::sqrt(static_cast<float>(dim)), dim % 2 == 0);
      }
    }
  }
}

TEST_CASE("attention: every fill") {
  for (const Kernels* k : others()) {
    Random random(14);
    for (const std::uint32_t dim : {8u, 10u, 64u}) {
      for (const std::uint32_t capacity : {16u, 48u, 64u})
        for (std::uint32_t filled = 1; filled <= capacity; ++filled) {
          const Shape shape = {dim, capacity, filled, 1 + random.below(filled), 2, 1 + random.below(3)};
          check_attention(*k, shape, Values::normal, random, 0.3f, false);
        }
    }
  }
}

TEST_CASE("attention: values of another width") {
  for (const Kernels* k : others()) {
    Random random(16);
    for (const std::uint32_t dim : {1u, 8u, 30u, 64u})
      for (const std::uint32_t value_dim : {1u, 7u, 8u, 33u, 64u, 100u, 256u}) {
        const Shape shape = {dim, 48, 41, 1 + random.below(41), 3, 2, value_dim};
        check_attention(*k, shape, Values::normal, random, 0.3f, false);
      }
  }
}

TEST_CASE("attention: what a window hides, and biases") {
  for (const Kernels* k : others()) {
    Random random(17);
    for (const Values values : kAllValues)
      for (const std::uint32_t filled : {1u, 2u, 15u, 16u, 17u, 33u, 48u, 63u, 64u})
        for (int i = 0; i < 12; ++i) {
          Shape shape = {i % 2 ? 8u : 20u, round_up(filled, 16), filled, 1 + random.below(filled), 1 + random.below(9),
                         1 + random.below(3)};
          shape.value_dim = shape.head_dim;
          // Every run sees a key, the last one too.
          const auto most = static_cast<std::int32_t>(std::min(shape.visible + shape.positions - 1, filled)) -
                            static_cast<std::int32_t>(shape.positions);
          if (i % 3) shape.hidden = std::min(most, static_cast<std::int32_t>(random.below(filled)));
          shape.biased = i % 3 != 1;
          check_attention(*k, shape, values, random, i % 4 ? 0.3f : 1e-9f, i % 5 == 0);
        }
  }
}

TEST_CASE("attention: values and factors at the edges") {
  for (const Kernels* k : others()) {
    Random random(15);
    for (const Values values : kAllValues)
      for (const float factor : {0.0f, 1e-9f, 1e-4f, 0.05f, 1.0f, 30.0f, 1e5f})
        for (const std::uint32_t dim : {8u, 48u}) {
          const Shape shape = {dim, 64, 50, 31, 4, 2};
          check_attention(*k, shape, values, random, factor, factor == 1.0f);
        }
  }
}
