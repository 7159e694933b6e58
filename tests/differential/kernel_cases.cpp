// SPDX-License-Identifier: Apache-2.0
// kernel_cases.cpp: single functions of a table on random vectors.
#include <algorithm>
#include <cstring>

#include "quant/pack.hpp"
#include "runtime/digest.hpp"
#include "runtime/numerics.hpp"
#include "tests/differential/case.hpp"
#include "tests/differential/hard_vectors.hpp"
#include "tests/reference/spec_oracle.hpp"

namespace heed::differential {
namespace {

constexpr std::uint32_t kAlign = 64, kSlack = 64;

// Aligned memory with garbage in it, and some behind it.
template <class T>
class Memory {
 public:
  explicit Memory(std::size_t n) : bytes_(n * sizeof(T) + 2 * kAlign + kSlack, std::uint8_t{0xA7}) {
    auto p = reinterpret_cast<std::uintptr_t>(bytes_.data());
    data_ = reinterpret_cast<T*>((p + kAlign - 1) / kAlign * kAlign);
  }
  explicit Memory(const std::vector<float>& x) : Memory(x.size() + 8) { std::copy(x.begin(), x.end(), data_); }
  T* data() { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }

 private:
  std::vector<std::uint8_t> bytes_;
  T* data_;
};

struct Quantised {
  Memory<std::int8_t> memory;
  Activations a;
  Quantised(const Kernels& k, std::size_t cols, int group, std::uint32_t n)
      : memory(activations_bytes(k.traits, static_cast<std::uint32_t>(cols), static_cast<std::uint32_t>(group), n)),
        a(make_activations(memory.data(), k.traits, static_cast<std::uint32_t>(cols), static_cast<std::uint32_t>(group),
                           n)) {}
};

// q of each column, p of each group, the scale.
void put(Words& words, const Activations& a, std::uint32_t index) {
  const std::int8_t* q = a.values + std::size_t{index} * a.value_stride;
  for (std::uint32_t i = 0; i < a.cols; ++i) words.push_back(static_cast<std::uint8_t>(q[i]));
  for (std::uint32_t g = 0; g < a.groups; ++g) words.push_back(a.exponents[std::size_t{index} * a.groups + g]);
  words.push_back(bits_of(a.scales[index]));
}
void put(Words& words, const spec::Activation& a, int group) {
  for (const std::int64_t q : a.q) words.push_back(static_cast<std::uint8_t>(q));
  if (group)
    for (std::size_t i = 0; i < a.p.size(); i += static_cast<std::size_t>(group))
      words.push_back(static_cast<std::uint64_t>(a.p[i]));
  words.push_back(bits_of(a.scale));
}
void put(Words& words, const float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) words.push_back(bits_of(x[i]));
}

std::uint32_t random_cols(Random& random) {
  switch (random.below(8)) {
    case 0: return 1 + random.below(4);
    case 1: return 16 * (1 + random.below(8)) + random.below(3) - 1;
    case 2: return 200 + random.below(400);
    default: return 1 + random.below(140);
  }
}
int random_group(Random& random) {
  constexpr int kGroups[] = {0, 32, 32, 64, 128, 256};
  return kGroups[random.below(6)];
}
float random_epsilon(Random& random) { return random.below(2) ? 1e-5f : hard_magnitude(random); }

// ---- 2.2 and 2.3 --------------------------------------------------------------------------------------------------
struct Quantise : Case {
  std::vector<float> x;
  int group;
  explicit Quantise(std::uint64_t seed) {
    Random random(seed);
    group = random_group(random);
    x = hard_vector(random_cols(random), random);
  }
  Words run(const Kernels& k, Random&) const override {
    Quantised out(k, x.size(), group, 1);
    k.quantize_s8r_f32(out.a, 0, Memory<float>(x).data());
    Words words;
    put(words, out.a, 0);
    return words;
  }
  Words oracle() const override {
    Words words;
    put(words, spec::quantise(spec::block_float(x), group), group);
    return words;
  }
};

// ---- 2.4 ----------------------------------------------------------------------------------------------------------
struct Norm : Case {
  std::vector<float> x, gain, bias;  // gain and bias may be empty
  int group;
  bool centred;
  float epsilon;
  explicit Norm(std::uint64_t seed) {
    Random random(seed);
    group = random_group(random);
    x = hard_vector(random_cols(random), random, random.below(4) != 0);
    centred = random.below(2) != 0;
    if (random.below(2)) gain = legal_vector(x.size(), random);
    if (centred && random.below(2)) bias = legal_vector(x.size(), random);
    epsilon = random_epsilon(random);
    if (!bias.empty() && random.below(4) == 0) {  // nothing is left but what rounding leaves
      const std::vector<float> y = spec::layer_norm_floats(x, gain.empty() ? nullptr : &gain, nullptr, epsilon);
      for (std::size_t i = 0; i < y.size(); ++i)
        if (std::fabs(y[i]) >= power(-40) && std::fabs(y[i]) <= power(40)) bias[i] = -y[i];
    }
    if (centred && random.below(4) == 0) x.assign(x.size(), x[0]);  // no deviation from the mean
    if (random.below(400) == 0) {                                   // the one way beyond a scale of 2^40
      x.assign(16400 + random.below(200), 0.0f);
      x[random.below(16400)] = power(random.between(-10, 10));
      gain.assign(x.size(), power(40));
      bias.clear();
      centred = false;
      group = 0;
      epsilon = power(-40);
    } else if (random.below(6) == 0)  // about the border of zero, which a gain may lift
      for (float& v : x) v = sign(random) * power(-41) * mantissa(random);
  }
  Words run(const Kernels& k, Random& how) const override {
    Quantised out(k, x.size(), group, 1);
    Memory<float> g(gain), b(bias);
    k.norm_s8r_f32(out.a, 0, Memory<float>(x).data(),
                   {gain.empty() ? nullptr : g.data(), bias.empty() ? nullptr : b.data(), epsilon, centred});
    Words words;
    put(words, out.a, 0);
    // As floats, in place or not; what lies behind them stays.
    Memory<float> from(x), to(std::vector<float>(x.size(), 0.5f));
    Memory<float>& y = how.below(2) ? to : from;
    const float behind = y[x.size()];
    k.norm_f32_f32(y.data(), from.data(), static_cast<std::uint32_t>(x.size()),
                   {gain.empty() ? nullptr : g.data(), bias.empty() ? nullptr : b.data(), epsilon, centred});
    put(words, y.data(), x.size());
    words.push_back(bits_of(y[x.size()]) ^ bits_of(behind));
    return words;
  }
  Words oracle() const override {
    const std::vector<float>*g = gain.empty() ? nullptr : &gain, *b = bias.empty() ? nullptr : &bias;
    Words words;
    put(words, centred ? spec::layer_norm(x, g, b, epsilon, group) : spec::rms_norm(x, g, epsilon, group), group);
    const std::vector<float> y = spec::norm_as_floats(x, g, b, epsilon, centred);
    put(words, y.data(), y.size());
    words.push_back(0);
    return words;
  }
};

// ---- 2.5 ----------------------------------------------------------------------------------------------------------
const std::uint16_t* factor_of(int activation) {
  const std::uint16_t* const tables[] = {kStep, kGeluTanh, kGeluErf, kSigmoid};
  return tables[activation];
}

struct Gate : Case {
  std::vector<float> gate, up;  // up may be empty
  int activation, group;
  explicit Gate(std::uint64_t seed) {
    Random random(seed);
    activation = static_cast<int>(random.below(4));
    group = random_group(random);
    gate = hard_vector(random_cols(random), random, random.below(4) != 0);
    if (random.below(4)) up = hard_vector(gate.size(), random, random.below(4) != 0);
    if (random.below(2)) {  // gates in the range in which F bends
      const float unit = power(random.between(-2, 5));
      for (float& v : gate) v = random.uniform() * unit;
    }
    const auto product = [&](std::int64_t a, int e) { return spec::activated(a, e, activation); };
    const std::uint32_t i = random.below(static_cast<std::uint32_t>(gate.size())),
                        plant = up.empty() ? 9 : random.below(9);
    if (plant < 3) {  // M = 32767 behind a negative product
      plant_product(gate[i], up[i], random, {32767, random.between(-2, 6), random.between(-4, 4), -1.0f, false},
                    product);
    } else if (plant == 3) {  // the scale is 2^-50: 32512 / 127 = 256
      const int sum = group ? -25 : -28, e = random.between(-30, -2);
      plant_product(gate[i], up[i], random, {32512, e, sum - e, sign(random), true}, product);
    }
    for (std::uint32_t j = 0; j < gate.size() && plant <= 3; ++j) {
      if (j == i) continue;
      gate[j] = random.uniform() * 0.01f * gate[i];
      up[j] = random.uniform() * 0.01f * up[i];
    }
  }
  Words run(const Kernels& k, Random&) const override {
    Quantised out(k, gate.size(), group, 1);
    Memory<float> g(gate), u(up);
    k.gate_s8r_f32(out.a, 0, g.data(), up.empty() ? nullptr : u.data(), factor_of(activation));
    Words words;
    put(words, out.a, 0);
    return words;
  }
  Words oracle() const override {
    Words words;
    put(words, spec::gated(gate, up.empty() ? nullptr : &up, activation, group), group);
    return words;
  }
};

// ---- 2.9 ----------------------------------------------------------------------------------------------------------
struct Product : Case {
  static constexpr float kEpsilon = 1099511627776.0f;  // 2^40
  quant::QuantizedMatrix matrix;
  std::vector<std::vector<float>> x;  // tokens
  bool normed = false;                // the input is an RMS norm's, whose scale may be 0
  std::vector<float> residual;        // empty unless the product is added to it
  std::vector<std::uint8_t> packed, any_order;
  explicit Product(std::uint64_t seed) {
    Random random(seed);
    matrix.rows = 1 + random.below(40);
    matrix.cols = random.below(12) ? random_cols(random) : 1000 + random.below(400);
    matrix.group = static_cast<std::uint32_t>(random_group(random));
    const std::uint32_t manner = random.below(4);
    for (std::uint32_t i = 0; i < matrix.rows * matrix.cols; ++i) {
      const int w = manner == 0   ? (i / matrix.cols % 2 ? -127 : 127)
                    : manner == 1 ? random.between(-1, 1)
                                  : random.between(-127, 127);
      matrix.weights.push_back(static_cast<std::int8_t>(w));
    }
    const bool largest = random.below(3) == 0;
    for (std::uint32_t i = 0; i < matrix.rows * group_count(matrix.cols, matrix.group); ++i)
      matrix.multipliers.push_back(static_cast<std::uint8_t>(largest ? 15 : 1 + random.below(15)));
    const bool wild = random.below(3) == 0;
    for (std::uint32_t r = 0; r < matrix.rows; ++r)
      matrix.scales.push_back(wild ? hard_magnitude(random) : mantissa(random) * power(random.between(-9, -6)));
    if (random.below(2)) matrix.bias = legal_vector(matrix.rows, random);
    const std::uint32_t tokens = 1 + random.below(random.below(3) ? 2 : 9);
    for (std::uint32_t t = 0; t < tokens; ++t) {
      x.push_back(hard_vector(matrix.cols, random, true));
      if (manner == 0 && random.below(2))  // the largest sums
        for (float& v : x.back()) v = 1.0f;
    }
    if (random.below(4) == 0) {
      normed = true;
      const float unit = power(random.between(-38, -20));
      for (std::vector<float>& v : x)
        for (float& u : v) u = random.uniform() * unit;
    }
    if (random.below(2)) residual = hard_vector(std::size_t{tokens} * matrix.rows, random, true);
    packed = pack(Layout::packed);
    layout_ = static_cast<Layout>(seed % kLayoutCount);
    any_order = pack(layout_);
  }
  std::vector<std::uint8_t> pack(Layout layout) const {
    std::vector<std::uint8_t> bytes(
        tensor_bytes(layout, matrix.rows, matrix.cols, matrix.group, !matrix.bias.empty()).total + kSlack);
    quant::pack(bytes.data(), matrix, layout);
    return bytes;
  }
  Words run(const Kernels& k, Random& how) const override {
    const bool any = (k.traits.layouts >> static_cast<unsigned>(layout_) & 1) != 0;
    const Layout layout = any ? layout_ : Layout::packed;
    const std::vector<std::uint8_t>& bytes = any ? any_order : packed;
    Memory<std::uint8_t> weights(bytes.size());
    std::copy(bytes.begin(), bytes.end(), weights.data());
    const Tensor tensor = quant::view(weights.data(), matrix, layout);
    const auto n = static_cast<std::uint32_t>(x.size());
    Quantised in(k, matrix.cols, static_cast<int>(matrix.group), n);
    for (std::uint32_t t = 0; t < n; ++t) {
      Memory<float> vector(x[t]);
      if (normed)
        k.norm_s8r_f32(in.a, t, vector.data(), {nullptr, nullptr, kEpsilon, false});
      else
        k.quantize_s8r_f32(in.a, t, vector.data());
    }
    const std::uint32_t rows = padded_rows(layout, matrix.rows), block = row_block(layout);
    Memory<float> out(std::size_t{n} * rows);
    for (std::uint32_t t = 0; t < n && !residual.empty(); ++t)
      for (std::uint32_t r = 0; r < rows; ++r)
        out[t * rows + r] = r < matrix.rows ? residual[t * matrix.rows + r] : 0.0f;
    const std::uint32_t cut = how.below(rows / block + 1) * block;
    if (cut) k.matmul_f32_s8r_s8c(out.data(), in.a, tensor, {n, 0, cut, rows, !residual.empty()});
    if (cut < rows) k.matmul_f32_s8r_s8c(out.data(), in.a, tensor, {n, cut, rows, rows, !residual.empty()});
    Words words;
    for (std::uint32_t t = 0; t < n; ++t) put(words, out.data() + t * rows, matrix.rows);
    Memory<float> row(matrix.cols);
    k.embed_f32_s8c(row.data(), tensor, matrix.rows / 2);
    put(words, row.data(), matrix.cols);
    return words;
  }
  Words oracle() const override {
    spec::Matrix m;
    m.rows = matrix.rows;
    m.cols = matrix.cols;
    m.group = static_cast<int>(matrix.group);
    m.weights = matrix.weights;
    m.multipliers = matrix.multipliers;
    m.scales = matrix.scales;
    m.bias = matrix.bias;
    Words words;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const spec::Activation a =
          normed ? spec::rms_norm(x[t], nullptr, kEpsilon, m.group) : spec::quantise(spec::block_float(x[t]), m.group);
      std::vector<float> y;
      if (residual.empty()) {
        y = spec::product(m, a);
      } else {
        const auto first = residual.begin() + static_cast<std::ptrdiff_t>(t * matrix.rows);
        y.assign(first, first + static_cast<std::ptrdiff_t>(matrix.rows));
        spec::add_product(y, m, a);
      }
      put(words, y.data(), y.size());
    }
    const std::vector<float> row = spec::embedding(m, matrix.rows / 2);
    put(words, row.data(), row.size());
    return words;
  }

 private:
  Layout layout_;
};

// ---- 2.6 to 2.8 ---------------------------------------------------------------------------------------------------
struct Attention : Case {
  std::uint32_t dim, value_dim, keys, first_visible, per_position, queries;
  std::vector<std::vector<float>> key, value, query;
  std::vector<std::uint32_t> phases;
  spec::Offset offset;
  int pairing;
  float scale;
  std::vector<float> numerators;  // that the sums begin with
  float denominator = 0.0f;
  std::int32_t reference = -(1 << 24);
  std::int32_t window_begin;          // the first key that the first run sees, each run one more; below 1 = all
  std::vector<std::int32_t> biases;   // [per_position, runs + keys] of keys that lie r - k + keys from the run; may be empty

  explicit Attention(std::uint64_t seed) {
    Random random(seed);
    constexpr std::uint32_t kDims[] = {1,  2,  3,  4,  5,  7,  8,  8,  12,  15,  16, 17,
                                       20, 31, 32, 33, 48, 64, 65, 80, 128, 255, 256};
    dim = value_dim = kDims[random.below(random.below(6) ? 14 : 23)];
    if (random.below(3) == 0) value_dim = kDims[random.below(random.below(6) ? 14 : 23)];
    keys = random.below(4) ? 1 + random.below(20) : 1 + random.below(64);
    if (random.below(5) == 0) keys += 64 * (1 + random.below(2));
    per_position = 1 + random.below(3);
    queries = per_position * (1 + random.below(3));
    first_visible = 1 + random.below((keys - 1) % 64 + 1);
    scale = random.below(3) ? 1.0f / std::sqrt(static_cast<float>(dim)) : hard_magnitude(random);
    pairing = static_cast<int>(random.below(2));
    if (dim >= 2 && random.below(3)) {
      const std::uint32_t pairs = random.below(2) ? dim / 2 : 1 + random.below(dim / 2);
      for (std::uint32_t i = 0; i < pairs; ++i)
        phases.push_back(random.below(4) ? static_cast<std::uint32_t>(random.next()) : random.below(16) << 28);
    }
    if (random.below(3) == 0) {
      for (std::uint32_t d = 0; d < dim; ++d)
        offset.values.push_back(random.below(8) ? random.between(-32767, 32767) : 32767 * random.between(-1, 1));
      const std::uint32_t where = random.below(4);
      offset.exponent = where == 0   ? random.between(-39, -37)
                        : where == 1 ? random.between(-39, 41)
                                     : random.between(-3, 2);
      if (random.below(4) == 0)
        for (std::int64_t& o : offset.values) o = o / 4096;
    }
    // One manner for all keys and values, or one for each; ordinary ones half the time.
    const std::uint32_t manner = random.below(4);
    const int key_spread = random.below(2) ? 0 : random.between(1, 40),
              value_spread = random.below(2) ? 0 : random.between(1, 40);
    const int level = manner == 1 ? -37 : 0;
    for (std::uint32_t k = 0; k < keys; ++k) {
      key.push_back(vector(random, dim, manner, key_spread, level));
      value.push_back(vector(random, value_dim, manner, value_spread, level));
      if (k > 0 && random.below(16) == 0) key.back() = key[k - 1];  // ties
      if (random.below(24) == 0) key.back().assign(dim, 0.0f);
      if (random.below(24) == 0) value.back().assign(value_dim, 0.0f);
      if (random.below(12) == 0) value.back()[random.below(value_dim)] = 0.0f;
    }
    for (std::uint32_t q = 0; q < queries; ++q) {
      query.push_back(vector(random, dim, manner == 1 && random.below(2) ? 0u : manner, 0,
                             random.below(4) ? 0 : random.between(-40, 39)));
      if (random.below(24) == 0) query.back().assign(dim, 0.0f);
      if (random.below(8) == 0) query.back() = key[random.below(keys)];
    }
    const std::uint32_t at_border = random.below(8);
    if (at_border == 0) flatten(random);
    if (at_border == 1) empty_dimension(random);
    if (random.below(3) == 0) begin_with(random);
    window_begin = random.below(2) ? -static_cast<std::int32_t>(runs())
                                   : random.between(-static_cast<int>(runs()), static_cast<int>(keys) - 1);
    // Every run sees a key, the last one too.
    window_begin = std::min(window_begin, static_cast<std::int32_t>(visible(queries - 1) - runs()));
    if (random.below(2)) set_biases(random);
  }
  std::uint32_t runs() const { return queries / per_position; }
  void set_biases(Random& random) {
    const std::uint32_t manner = random.below(5), width = runs() + keys;
    biases.resize(std::size_t{per_position} * width);
    for (std::uint32_t j = 0; j < per_position; ++j) {
      const int slope = 1 << random.below(12);
      for (std::uint32_t i = 0; i < width; ++i) {
        std::int32_t& b = biases[std::size_t{j} * width + i];
        switch (manner) {
          case 0: b = -slope * static_cast<std::int32_t>(i); break;                          // ALiBi
          case 1: b = random.between(-(1 << 23), 1 << 23); break;                            // anything
          case 2: b = (random.below(2) ? 1 << 23 : -(1 << 23)); break;                       // the largest
          case 3: b = random.below(3) ? random.between(-3000, 3000) : -(1 << 23); break;     // a mask
          default: b = random.between(-20000, 20000); break;
        }
      }
    }
  }
  std::int32_t bias(std::uint32_t q, std::uint32_t k) const {
    return biases[std::size_t{q % per_position} * (runs() + keys) + q / per_position + keys - k];
  }
  std::vector<float> vector(Random& random, std::uint32_t n, std::uint32_t manner, int spread, int level) const {
    if (manner == 0) return hard_vector(n, random, true);
    std::vector<float> x(n);
    const float unit = power(level + (spread ? random.between(-spread, 0) : 0));
    for (float& v : x) v = random.uniform() * unit;
    if (random.below(5) == 0) x[random.below(n)] = sign(random) * unit * (random.below(2) ? 0.99999f : 0.985f);
    return x;
  }
  // The slope of the scores about 2^-40, where they begin to be flat.
  void flatten(Random& random) {
    const float unit = power(random.between(-10, 10));
    for (auto& q : query)
      for (float& v : q) v = sign(random) * unit * 127.0f / 128.0f;
    const spec::Activation a = spec::make_query(query[0], rotation());
    int K = -1000;
    for (std::size_t k = 0; k < key.size() && k < 64; ++k)
      K = std::max(K, spec::make_key(key[k], rotation(), offset).k);
    const float target = power(-40 - 25 - K) / a.scale / 1.44269504f;
    if (!(target >= power(-40)) || !(target <= power(40))) return;
    scale = float_of(bits_of(target) + random.below(5) - 2);
    if (random.below(2)) {  // exactly at the border, where the factors allow it
      for (std::uint32_t bits = bits_of(target) - 40; bits < bits_of(target) + 40; ++bits)
        if (a.scale * (float_of(bits) * 1.44269504f) * power(K) * power(25) == power(-40)) scale = float_of(bits);
    }
  }
  void empty_dimension(Random& random) {
    const std::uint32_t d = random.below(value_dim);
    for (auto& v : value) v[d] = random.below(2) ? 0.0f : -0.0f;
  }
  // Sums that earlier blocks have left: references about as far away as they still count.
  void begin_with(Random& random) {
    spec::Sums fresh(value_dim);
    const spec::Cache cache = filled();
    const std::size_t last = std::min<std::size_t>(keys <= 64 ? first_visible : 64, keys);
    spec::attend_block(fresh, spec::make_query(query[0], rotation()), cache, 0, last, scale);
    constexpr int kDistance[] = {0, 1, -1, 7, 29, 30, 31, 32, -29, -30, -31, -32, 40, -40};
    reference = static_cast<std::int32_t>(fresh.reference) + kDistance[random.below(14)];
    for (std::uint32_t d = 0; d < value_dim; ++d) {
      const float near = random.below(3) ? power(-40) : power(random.between(-46, -9));
      numerators.push_back(random.below(3) ? sign(random) * (random.below(2) ? near : near * mantissa(random))
                                           : random.uniform() * power(random.between(-20, 30)));
    }
    denominator = random.below(3) ? static_cast<float>(1 + random.below(65536)) : 16384.0f * mantissa(random);
  }
  spec::Rotation rotation() const {
    spec::Rotation r;
    r.pairing = pairing;
    for (const std::uint32_t p : phases) r.cosine_sine.push_back({spec::cosine(p), spec::sine(p)});
    return r;
  }
  spec::Cache filled() const {
    spec::Cache cache;
    const spec::Rotation r = rotation();
    for (std::uint32_t k = 0; k < keys; ++k) {
      cache.keys.push_back(spec::make_key(key[k], r, offset));
      cache.values.push_back(spec::make_value(value[k]));
    }
    return cache;
  }
  // Keys that query q sees: of the last block fewer at first.
  std::uint32_t visible(std::uint32_t q) const {
    return std::min((keys - 1) / kBlockKeys * kBlockKeys + first_visible + q / per_position, keys);
  }
  // The first key that it sees.
  std::uint32_t seen_from(std::uint32_t q) const {
    const std::int32_t from = window_begin + static_cast<std::int32_t>(q / per_position);
    return from > 0 ? static_cast<std::uint32_t>(from) : 0;
  }

  Words run(const Kernels& k, Random& how) const override {
    std::vector<std::int16_t> table;
    for (const std::uint32_t p : phases) {
      const SinCos sc = sin_cos(p);
      table.push_back(sc.cosine);
      table.push_back(sc.sine);
    }
    Words words;
    for (const std::int16_t s : table) words.push_back(static_cast<std::uint16_t>(s));
    table.resize(table.size() + kSlack);
    const Rotation rotation = {phases.empty() ? nullptr : table.data(), static_cast<std::uint16_t>(phases.size()),
                               pairing == 1};
    std::vector<std::int16_t> offsets(offset.values.begin(), offset.values.end());
    const KeyOffset key_offset = {offsets.empty() ? nullptr : offsets.data(),
                                  static_cast<std::int8_t>(offset.exponent)};
    Quantised q(k, dim, 0, queries);
    for (std::uint32_t i = 0; i < queries; ++i) {
      k.query_s8r_f32(q.a, i, Memory<float>(query[i]).data(), rotation);
      put(words, q.a, i);
    }
    Memory<float> sums_n(std::size_t{queries} * value_dim), sums_d(queries);
    Memory<std::int32_t> sums_r(queries);
    for (std::uint32_t i = 0; i < queries; ++i) {
      for (std::uint32_t d = 0; d < value_dim; ++d) sums_n[i * value_dim + d] = numerators.empty() ? 0.0f : numerators[d];
      sums_d[i] = denominator;
      sums_r[i] = reference;
    }
    for (std::uint32_t begin = 0; begin < keys; begin += kBlockKeys) {
      const std::uint32_t in_block = std::min(keys - begin, kBlockKeys);
      const bool is_last = begin + in_block == keys;
      const std::uint32_t capacity =
          round_up(in_block + (how.below(2) ? 0 : how.below(kBlockKeys - in_block + 1)), kKeyGranule);
      Memory<std::int8_t> memory(kv_block_bytes(capacity, dim, value_dim));
      const KvBlock b = make_kv_block(memory.data(), capacity, dim, value_dim);
      for (std::uint32_t slot = 0; slot < in_block; ++slot) {
        k.store_key(b, slot, Memory<float>(key[begin + slot]).data(), rotation, key_offset);
        k.store_value(b, slot, Memory<float>(value[begin + slot]).data());
        words.push_back(b.key_mantissas[slot]);
        words.push_back(static_cast<std::uint8_t>(b.key_exponents[slot]));
        words.push_back(static_cast<std::uint8_t>(b.value_exponents[slot]));
      }
      // Runs that have met a block, and fresh ones behind them, for which it is the first of their window. Later runs may
      // see nothing of it.
      std::uint32_t run = 0;
      for (const bool fresh : {false, true}) {
        BlockQueries some = {q.a, run * per_position, 0, per_position, is_last ? first_visible : in_block, in_block,
                             scale * 1.44269504f};
        some.visible = std::min(some.visible + (is_last ? run : 0), in_block);
        some.hidden = window_begin + static_cast<std::int32_t>(run) - static_cast<std::int32_t>(begin);
        if (!biases.empty()) some.bias = biases.data() + keys - begin + run;
        some.bias_stride = runs() + keys;
        for (; run < runs() && seen_from(run * per_position) < begin + in_block; ++run) {
          if ((sums_r[run * per_position] == kFreshReference) != fresh) break;
          some.n += per_position;
        }
        some.keys_differ = some.bias || some.hidden + static_cast<std::int32_t>(some.n / per_position) > 1;
        if (some.n) k.attend_block({sums_n.data(), sums_d.data(), sums_r.data()}, some, b, nullptr, nullptr);
      }
    }
    Memory<float> out(value_dim);
    for (std::uint32_t i = 0; i < queries; ++i) {
      put(words, &sums_n[i * value_dim], value_dim);
      words.push_back(bits_of(sums_d[i]));
      words.push_back(static_cast<std::uint32_t>(sums_r[i]));
      k.attend_finish(out.data(), &sums_n[i * value_dim], sums_d[i], value_dim);
      put(words, out.data(), value_dim);
    }
    return words;
  }
  Words oracle() const override {
    Words words;
    const spec::Rotation r = rotation();
    for (const auto& cs : r.cosine_sine) {
      words.push_back(static_cast<std::uint16_t>(cs.first));
      words.push_back(static_cast<std::uint16_t>(cs.second));
    }
    std::vector<spec::Activation> q;
    for (std::uint32_t i = 0; i < queries; ++i) {
      q.push_back(spec::make_query(query[i], r));
      put(words, q[i], 0);
    }
    const spec::Cache cache = filled();
    for (std::uint32_t k = 0; k < keys; ++k) {
      words.push_back(static_cast<std::uint8_t>(cache.keys[k].m));
      words.push_back(static_cast<std::uint8_t>(cache.keys[k].k));
      words.push_back(static_cast<std::uint8_t>(cache.values[k].v));
    }
    for (std::uint32_t i = 0; i < queries; ++i) {
      spec::Sums sums(value_dim);
      if (!numerators.empty()) {
        sums.numerators = numerators;
        sums.denominator = denominator;
        sums.reference = reference;
      }
      spec::Sight sight;
      sight.from = seen_from(i);
      if (!biases.empty())
        for (std::uint32_t k = 0; k < keys; ++k) sight.biases.push_back(bias(i, k));
      for (const auto& block : spec::blocks_of(visible(i)))
        if (block.second > sight.from) spec::attend_block(sums, q[i], cache, block.first, block.second, scale, sight);
      put(words, sums.numerators.data(), value_dim);
      words.push_back(bits_of(sums.denominator));
      words.push_back(static_cast<std::uint32_t>(sums.reference));
      const std::vector<float> out = spec::finish(sums);
      put(words, out.data(), value_dim);
    }
    return words;
  }
};

// ---- 2.11 and 2.12 ------------------------------------------------------------------------------------------------
struct Sampling : Case {
  std::vector<float> logits, x;
  float largest = 0.0f, inverse = 1.0f;
  explicit Sampling(std::uint64_t seed) {
    Random random(seed);
    logits = hard_vector(1 + random.below(60), random);
    if (random.below(2))
      for (float& l : logits) l = random.uniform() * 30.0f;
    for (const float l : logits)
      if (l > largest && l < power(100)) largest = l;
    inverse = random.below(2) ? 1.0f : 1.0f / (0.05f + static_cast<float>(random.below(2000)) * 0.001f);
    for (int i = 0; i < 40; ++i) x.push_back(random.below(4) ? random.uniform() * 90.0f : hard_vector(1, random)[0]);
  }
  Words run(const Kernels& k, Random&) const override {
    Memory<float> in(logits);
    Memory<std::uint32_t> weights(logits.size() + 16);
    k.sample_weights(weights.data(), in.data(), static_cast<std::uint32_t>(logits.size()), largest, inverse);
    Words words;
    for (std::size_t i = 0; i < logits.size(); ++i) words.push_back(weights[i]);
    for (const float v : x) words.push_back(bits_of(exp_f32(v)));
    return words;
  }
  Words oracle() const override {
    Words words;
    for (const float l : logits) words.push_back(spec::sample_weight(l, largest, inverse));
    for (const float v : x) words.push_back(bits_of(spec::exponential(v)));
    return words;
  }
};

struct Digests : Case {
  std::vector<std::int32_t> text;
  std::vector<std::vector<float>> logits;
  std::size_t prompt;
  explicit Digests(std::uint64_t seed) {
    Random random(seed);
    prompt = 1 + random.below(3);
    const std::size_t n = prompt + 1 + random.below(4), vocab = 1 + random.below(50);
    for (std::size_t i = 0; i < n; ++i) {
      text.push_back(static_cast<std::int32_t>(random.below(1u << 20)));
      logits.push_back(hard_vector(vocab, random, true));
    }
  }
  Words run(const Kernels& k, Random&) const override {
    Digest digest;
    for (std::size_t i = prompt; i < text.size(); ++i) digest.add(k, text[i], logits[i - 1]);
    return {digest.value()};
  }
  Words oracle() const override { return {spec::digest(text, prompt, logits)}; }
};

}  // namespace

std::unique_ptr<Case> make_quantise(std::uint64_t seed) { return std::make_unique<Quantise>(seed); }
std::unique_ptr<Case> make_norm(std::uint64_t seed) { return std::make_unique<Norm>(seed); }
std::unique_ptr<Case> make_gate(std::uint64_t seed) { return std::make_unique<Gate>(seed); }
std::unique_ptr<Case> make_product(std::uint64_t seed) { return std::make_unique<Product>(seed); }
std::unique_ptr<Case> make_attention(std::uint64_t seed) { return std::make_unique<Attention>(seed); }
std::unique_ptr<Case> make_sampling(std::uint64_t seed) { return std::make_unique<Sampling>(seed); }
std::unique_ptr<Case> make_digest(std::uint64_t seed) { return std::make_unique<Digests>(seed); }

}  // namespace heed::differential
