// SPDX-License-Identifier: Apache-2.0
// attention_layer_test.cpp: what the attention layer alone can be asked for, against attention in doubles from the same
// weights, and in every cut, chunk, table and number of threads to the same bits.
#include <cmath>
#include <cstring>

#include "platform/linux/thread_pool.hpp"
#include "runtime/attention.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/matrix.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;

// ---- Random layers ----------------------------------------------------------------------------------------------

struct Case {
  const char* name;
  AttentionConfig config;
  std::uint32_t positions;  // of the queries
  bool biases = false, key_offsets = false;
};

AttentionConfig shape(std::uint32_t d_model, std::uint32_t heads, std::uint32_t kv_heads, std::uint32_t head_dim,
                      std::uint32_t max_seq, std::uint32_t rotary_dims = 0) {
  AttentionConfig c;
  c.d_model = d_model;
  c.n_heads = heads;
  c.n_kv_heads = kv_heads;
  c.head_dim = head_dim;
  c.max_seq = max_seq;
  c.rotary_dims = rotary_dims;
  return c;
}

template <class Change>
AttentionConfig with(AttentionConfig c, Change change) {
  change(c);
  return c;
}

std::vector<Case> cases() {
  const AttentionConfig plain = shape(48, 4, 2, 12, 150, 12), odd = shape(33, 3, 1, 7, 90), wide = shape(24, 2, 2, 20, 140);
  const auto two_way = [](auto& c) { c.mask = Mask::two_way; };
  const auto window = [](auto& c) { c.window = 21; };
  const auto source = [](auto& c) { c.d_source = 40; };
  const auto undivided = [](auto& c) { c.value_map = ValueMap::undivided; };
  const auto alibi = [](auto& c) { c.alibi = true; };
  const auto relative = [](auto& c) { c.n_distances = 31; };
  return {
      {"biases of the matrices", plain, 150, true},
      {"two-way", with(plain, two_way), 150, true},
      {"two-way without positions, key offsets", with(odd, two_way), 90, false, true},
      {"window", with(plain, window), 150},
      {"window of one", with(odd, [](auto& c) { c.window = 1; }), 70},
      {"window of 64, scale", with(odd, [](auto& c) { c.window = 64; c.scale = 0.25f; }), 90, true},
      {"two-way window", with(with(plain, two_way), window), 150},
      {"source", with(odd, source), 50, true},
      {"source, key offsets", with(wide, source), 141, false, true},
      {"undivided value map", with(wide, undivided), 140, true},
      {"undivided value map of a source", with(with(wide, source), undivided), 65},
      {"RMS norm of heads", with(plain, [](auto& c) { c.query_key_norm = HeadNorm::rms; }), 100},
      {"layer norm of heads", with(odd, [](auto& c) { c.query_key_norm = HeadNorm::layer; }), 90, true},
      {"RMS norm of heads, source", with(with(odd, source), [](auto& c) { c.query_key_norm = HeadNorm::rms; }), 20},
      {"slopes", with(odd, alibi), 90},
      {"slopes, two-way", with(with(odd, two_way), alibi), 90},
      {"slopes, window", with(with(wide, alibi), window), 140, false, true},
      {"biases by distance", with(plain, relative), 150},
      {"biases by distance, two-way window", with(with(with(plain, two_way), relative), window), 150, true},
  };
}

struct Layer {
  Case what;
  std::vector<RandomMatrix> matrices;
  AttentionWeights weights;
  std::vector<std::uint32_t> phases;
  std::vector<std::int16_t> offsets;
  std::vector<std::int8_t> offset_exponents;
  std::vector<float> norms[4];  // query gain and bias, key gain and bias
  std::vector<std::int32_t> score_bias;

  Layer(const Case& w, Layout layout) : what(w) {
    const AttentionConfig& c = w.config;
    Random random(91);
    const std::uint32_t d_query = c.n_heads * c.head_dim, d_key = c.n_kv_heads * c.head_dim;
    const bool undivided = c.value_map == ValueMap::undivided, to_source = c.d_source != 0;
    const std::uint32_t key_width = to_source ? c.d_source : c.d_model;
    // Scores of a deviation of about 2, so that a pattern is neither flat nor one key.
    matrices.emplace_back(d_query, c.d_model, 0, w.biases, layout, 81, 1.5f);
    matrices.emplace_back(d_key, key_width, 0, w.biases, layout, 82, 1.5f);
    matrices.emplace_back(undivided ? c.n_kv_heads * c.d_model : d_key, key_width, 0, w.biases, layout, 83);
    matrices.emplace_back(c.d_model, d_query, 0, w.biases, layout, 84);
    weights.w_query = matrices[0].tensor;
    weights.w_key = matrices[1].tensor;
    weights.w_value_down = matrices[2].tensor;
    if (!undivided) weights.w_value_up = matrices[3].tensor;
    for (std::uint32_t i = 0; i < c.rotary_dims / 2; ++i) phases.push_back(683565276u >> i);
    if (c.rotary_dims) weights.rotary_phases = phases.data();
    if (w.key_offsets) {
      for (std::uint32_t i = 0; i < d_key; ++i) offsets.push_back(static_cast<std::int16_t>(random.between(-9000, 9000)));
      offset_exponents.assign(c.n_kv_heads, 1);
      weights.key_offsets = offsets.data();
      weights.key_offset_exponents = offset_exponents.data();
    }
    if (c.query_key_norm != HeadNorm::none) {
      for (auto& n : norms)
        for (std::uint32_t d = 0; d < c.head_dim; ++d) n.push_back(1.0f + 0.5f * random.uniform());
      const bool layer_norm = c.query_key_norm == HeadNorm::layer;
      weights.query_norm = {norms[0].data(), layer_norm ? norms[1].data() : nullptr, c.norm_epsilon, layer_norm};
      weights.key_norm = {norms[2].data(), layer_norm ? norms[3].data() : nullptr, c.norm_epsilon, layer_norm};
    }
    if (c.alibi)
      for (std::uint32_t h = 0; h < c.n_heads; ++h) score_bias.push_back((1 << 22) >> (h + 2));  // 2^-2, 2^-3, ... a position
    for (std::uint32_t i = 0; i < c.n_heads * c.n_distances; ++i) score_bias.push_back(random.between(-3000, 3000));
    if (!score_bias.empty()) weights.score_bias = score_bias.data();
  }
  Layer(const Layer&) = delete;

  std::vector<float> rows(std::uint32_t n, std::uint32_t width, std::uint64_t seed) const {
    Random random(seed);
    std::vector<float> x(std::size_t{n} * width);
    for (float& v : x) v = random.normal();
    return x;
  }
  std::vector<float> embeddings() const { return rows(what.positions, what.config.d_model, 85); }
  std::vector<float> source() const { return rows(what.config.max_seq - 3, what.config.d_source, 86); }
};

// ---- Attention in doubles ---------------------------------------------------------------------------------------

using Doubles = std::vector<double>;

Doubles product(const quant::QuantizedMatrix& m, const float* x) {
  Doubles y(m.rows);
  for (std::uint32_t r = 0; r < m.rows; ++r) {
    y[r] = m.bias.empty() ? 0.0 : static_cast<double>(m.bias[r]);
    for (std::uint32_t k = 0; k < m.cols; ++k) y[r] += m.value(r, k) * static_cast<double>(x[k]);
  }
  return y;
}

void norm_head(double* x, std::uint32_t n, HeadNorm kind, const NormWeights& w) {
  if (kind == HeadNorm::none) return;
  double mean = 0.0, square = 0.0;
  if (kind == HeadNorm::layer)
    for (std::uint32_t d = 0; d < n; ++d) mean += x[d] / n;
  for (std::uint32_t d = 0; d < n; ++d) square += (x[d] - mean) * (x[d] - mean) / n;
  for (std::uint32_t d = 0; d < n; ++d) {
    x[d] = (x[d] - mean) / std::sqrt(square + static_cast<double>(w.epsilon)) * static_cast<double>(w.gain[d]);
    if (w.bias) x[d] += static_cast<double>(w.bias[d]);
  }
}

void rotate(double* x, const std::vector<std::uint32_t>& phases, std::uint32_t position) {
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const double angle = static_cast<double>(phases[i] * position) * (6.283185307179586 / 4294967296.0);
    const double a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * std::cos(angle) - b * std::sin(angle);
    x[2 * i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
}

bool sees(const AttentionConfig& c, std::int64_t position, std::int64_t key) {
  if (c.d_source) return true;
  if (c.mask == Mask::causal && key > position) return false;
  return c.window == 0 || std::abs(position - key) < c.window;
}

// In powers of two.
double bias_of(const Layer& layer, std::uint32_t head, std::int64_t position, std::int64_t key) {
  const AttentionConfig& c = layer.what.config;
  if (c.alibi) return -std::ldexp(static_cast<double>(layer.score_bias[head] * std::abs(position - key)), -22);
  if (c.n_distances == 0) return 0.0;
  const std::int64_t last = c.n_distances - 1, middle = c.mask == Mask::two_way ? last / 2 : 0;
  const std::int64_t at = std::max<std::int64_t>(0, std::min(position - key + middle, last));
  return std::ldexp(static_cast<double>(layer.score_bias[head * c.n_distances + static_cast<std::size_t>(at)]), -10);
}

Doubles exact_attention(const Layer& layer, const std::vector<float>& x, const std::vector<float>& source) {
  const AttentionConfig& c = layer.what.config;
  const bool undivided = c.value_map == ValueMap::undivided;
  const std::uint32_t value_dim = undivided ? c.d_model : c.head_dim, key_width = c.d_source ? c.d_source : c.d_model;
  const std::vector<float>& heard = c.d_source ? source : x;
  std::vector<Doubles> keys, values;
  for (std::size_t i = 0; i < heard.size(); i += key_width) {
    keys.push_back(product(layer.matrices[1].quantized, heard.data() + i));
    values.push_back(product(layer.matrices[2].quantized, heard.data() + i));
    for (std::uint32_t h = 0; h < c.n_kv_heads; ++h) {
      norm_head(&keys.back()[h * c.head_dim], c.head_dim, c.query_key_norm, layer.weights.key_norm);
      rotate(&keys.back()[h * c.head_dim], layer.phases, static_cast<std::uint32_t>(keys.size() - 1));
    }
  }
  const double scale = c.scale != 0.0f ? static_cast<double>(c.scale) : 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  Doubles all;
  for (std::size_t position = 0; position < x.size() / c.d_model; ++position) {
    Doubles query = product(layer.matrices[0].quantized, x.data() + position * c.d_model);
    Doubles heads(std::size_t{c.n_heads} * value_dim), change(c.d_model);
    for (std::uint32_t h = 0; h < c.n_heads; ++h) {
      double* const q = &query[h * c.head_dim];
      norm_head(q, c.head_dim, c.query_key_norm, layer.weights.query_norm);
      rotate(q, layer.phases, static_cast<std::uint32_t>(position));
      const std::uint32_t kv = h / (c.n_heads / c.n_kv_heads);
      Doubles pattern(keys.size());
      double sum = 0.0;
      for (std::size_t j = 0; j < keys.size(); ++j) {
        const auto p = static_cast<std::int64_t>(position), key = static_cast<std::int64_t>(j);
        if (!sees(c, p, key)) continue;
        double score = 0.0;
        for (std::uint32_t d = 0; d < c.head_dim; ++d) score += q[d] * keys[j][kv * c.head_dim + d];
        sum += pattern[j] = std::exp(score * scale + 0.6931471805599453 * bias_of(layer, h, p, key));
      }
      for (std::size_t j = 0; j < keys.size(); ++j)
        for (std::uint32_t d = 0; d < value_dim; ++d)
          heads[h * value_dim + d] += pattern[j] / sum * values[j][kv * value_dim + d];
    }
    if (undivided) {
      for (std::uint32_t i = 0; i < heads.size(); ++i) change[i % c.d_model] += heads[i];
    } else {
      const std::vector<float> rounded(heads.begin(), heads.end());
      change = product(layer.matrices[3].quantized, rounded.data());
    }
    all.insert(all.end(), change.begin(), change.end());
  }
  return all;
}

// ---- The layer in exactly the memory that it asks for --------------------------------------------------------------

struct RunningLayer {
  AttentionMemory memory;
  std::unique_ptr<GuardedArena> arena;
  Attention attention;
  RunningLayer(const Layer& layer, const Kernels& kernels, std::uint32_t chunk = 0) {
    REQUIRE(make_attention_plan(memory, layer.what.config, kernels.traits, chunk) == Status::ok);
    arena = std::make_unique<GuardedArena>(memory.arena_bytes, memory.arena_align);
    REQUIRE(create(attention, layer.what.config, layer.weights, memory, kernels, arena->span()) == Status::ok);
  }
  ~RunningLayer() { CHECK(arena->intact()); }
};

std::vector<float> forward(const Layer& layer, const Kernels& kernels, std::size_t piece, std::uint32_t chunk,
                           const Parallel* parallel = nullptr) {
  const AttentionConfig& c = layer.what.config;
  RunningLayer r(layer, kernels, chunk);
  if (parallel) r.attention.set_parallel(*parallel);
  if (c.d_source) REQUIRE(r.attention.set_source(layer.source()) == Status::ok);
  const std::vector<float> x = layer.embeddings();
  std::vector<float> change(x.size());
  for (std::size_t at = 0, step = piece * c.d_model; at < x.size(); at += step) {
    const std::size_t n = std::min(step, x.size() - at);
    REQUIRE(r.attention.forward({change.data() + at, n}, {x.data() + at, n}) == Status::ok);
  }
  return change;
}

}  // namespace

TEST_CASE("the layer alone is attention, whatever it is asked for", "[attention]") {
  for (const Case& what : cases()) {
    const Layer layer(what, Layout::packed);
    const Doubles exact = exact_attention(layer, layer.embeddings(), what.config.d_source ? layer.source() : std::vector<float>());
    const std::vector<float> change = forward(layer, *find_kernels("portable"), what.positions, 0);
    double error = 0.0, size = 0.0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      error += (static_cast<double>(change[i]) - exact[i]) * (static_cast<double>(change[i]) - exact[i]);
      size += exact[i] * exact[i];
    }
    INFO(what.name << ": relative error " << std::sqrt(error / size));
    CHECK(std::sqrt(error / size) < (what.key_offsets ? 0.05 : 0.03));
  }
}

TEST_CASE("the layer alone gives the same bits however it is cut, whatever it is asked for", "[attention]") {
  ThreadPool pool;
  REQUIRE(pool.start(3));
  Parallel parallel = pool.parallel();
  parallel.threshold = 0;
  for (const Case& what : cases()) {
    const Layer packed(what, Layout::packed);
    const std::vector<float> expected = forward(packed, *find_kernels("portable"), what.positions, 0);
    const bool whole = what.config.mask == Mask::two_way && !what.config.d_source;  // a call is a sequence
    for (const Kernels* k : runnable_kernels()) {
      const Layer layer(what, k->traits.preferred);
      for (const std::uint32_t chunk : {0u, 1u, 7u, 64u}) {
        for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{what.positions}}) {
          if (whole && piece != what.positions) continue;
          INFO(what.name << " on " << k->traits.name << ", calls of " << piece << ", chunks of " << chunk);
          CHECK(forward(layer, *k, piece, chunk) == expected);
        }
      }
      INFO(what.name << " on " << k->traits.name << ", threads");
      CHECK(forward(layer, *k, what.positions, 0, &parallel) == expected);
    }
  }
}

TEST_CASE("the layer alone: a change may be written over its embeddings", "[attention]") {
  for (const Case& what : cases()) {
    INFO(what.name);
    const Layer layer(what, Layout::packed);
    const Kernels& k = *find_kernels("portable");
    RunningLayer r(layer, k, 16);
    if (what.config.d_source) REQUIRE(r.attention.set_source(layer.source()) == Status::ok);
    std::vector<float> x = layer.embeddings();
    REQUIRE(r.attention.forward(x, x) == Status::ok);
    CHECK(x == forward(layer, k, what.positions, 0));
  }
}

TEST_CASE("the layer alone: one that looks both ways keeps nothing between two calls", "[attention]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const Case& what : cases()) {
      if (what.config.mask != Mask::two_way) continue;
      INFO(what.name << " on " << k->traits.name);
      const Layer layer(what, k->traits.preferred);
      RunningLayer r(layer, *k, 8);
      const std::vector<float> x = layer.embeddings();
      std::vector<float> change(x.size());
      for (const int garbage : {0xFF, 0x00, 0x7F}) {
        std::memset(r.arena->span().data(), garbage, r.arena->span().size());
        REQUIRE(r.attention.forward(change, x) == Status::ok);
        CHECK(change == forward(layer, *k, what.positions, 0));
      }
    }
  }
}

TEST_CASE("the layer alone: a source, and a sequence that is heard anew", "[attention]") {
  const Kernels& k = *find_kernels("portable");
  for (const Case& what : cases()) {
    INFO(what.name);
    const AttentionConfig& c = what.config;
    const Layer layer(what, Layout::packed);
    RunningLayer r(layer, k);
    const std::vector<float> x = layer.embeddings(), expected = forward(layer, k, what.positions, 0);
    std::vector<float> change(x.size());
    if (!c.d_source) {
      CHECK(r.attention.set_source(x) == Status::bad_argument);
      std::vector<float> other = layer.rows(5, c.d_model, 99), thrown_away(other.size());
      REQUIRE(r.attention.forward(thrown_away, other) == Status::ok);
      if (c.mask == Mask::causal) REQUIRE(r.attention.rewind(0) == Status::ok);
      REQUIRE(r.attention.forward(change, x) == Status::ok);
      CHECK(change == expected);
      continue;
    }
    CHECK(r.attention.forward(change, x) == Status::bad_argument);  // nothing is there to be read
    std::vector<float> source = layer.source();
    CHECK(r.attention.set_source({source.data(), source.size() - 1}) == Status::bad_argument);
    CHECK(r.attention.set_source(layer.rows(c.max_seq + 1, c.d_source, 99)) == Status::context_full);
    REQUIRE(r.attention.set_source(layer.rows(c.max_seq, c.d_source, 99)) == Status::ok);
    REQUIRE(r.attention.forward(change, x) == Status::ok);
    CHECK(change != expected);
    REQUIRE(r.attention.set_source(source) == Status::ok);
    source.assign(source.size(), 0.0f);  // its keys and values are kept, not it
    REQUIRE(r.attention.forward(change, x) == Status::ok);
    CHECK(change == expected);
    CHECK(r.attention.position() == c.max_seq - 3);
  }
}

TEST_CASE("the layer alone: a window keeps only what it shows", "[attention]") {
  const Kernels& k = *find_kernels("portable");
  const auto bytes = [&](std::uint32_t window, std::uint32_t max_seq, std::uint32_t chunk) {
    AttentionConfig c = shape(32, 2, 2, 16, max_seq);
    c.window = window;
    AttentionMemory memory;
    REQUIRE(make_attention_plan(memory, c, k.traits, chunk) == Status::ok);
    return memory.kv_cache.bytes;
  };
  // 64 + 8 - 1 keys touch at most three blocks.
  CHECK(bytes(64, 1u << 20, 8) == bytes(64, 4096, 8));
  CHECK(bytes(64, 4096, 8) == bytes(0, 192, 8));
  CHECK(bytes(64, 100, 8) == bytes(0, 100, 8));
}

TEST_CASE("the layer alone: what it refuses, whatever it is asked for", "[attention]") {
  const Kernels& k = *find_kernels("portable");
  const auto refused = [&](const char* name, auto change) {
    for (const Case& what : cases()) {
      if (std::string(what.name) != name) continue;
      const Layer layer(what, Layout::packed);
      AttentionConfig config = what.config;
      AttentionWeights weights = layer.weights;
      change(config, weights);
      AttentionMemory memory;
      if (const Status s = make_attention_plan(memory, config, k.traits); s != Status::ok) return s;
      GuardedArena arena(memory.arena_bytes, memory.arena_align);
      Attention attention;
      return create(attention, config, weights, memory, k, arena.span());
    }
    FAIL("no case is called " << name);
    return Status::ok;
  };
  for (const Case& what : cases()) CHECK(refused(what.name, [](auto&, auto&) {}) == Status::ok);
  CHECK(refused("source", [](auto& c, auto&) { c.window = 5; }) == Status::bad_config);
  CHECK(refused("source", [](auto& c, auto&) { c.rotary_dims = 4; }) == Status::bad_config);
  CHECK(refused("source", [](auto& c, auto&) { c.alibi = true; }) == Status::bad_config);
  CHECK(refused("source", [](auto& c, auto&) { c.d_source = 65537; }) == Status::bad_config);
  CHECK(refused("source", [](auto& c, auto&) { c.d_source = 33; }) == Status::bad_argument);
  CHECK(refused("source", [](auto&, auto& w) { w.w_value_down.cols = 33; }) == Status::bad_argument);
  CHECK(refused("slopes", [](auto& c, auto&) { c.n_distances = 3; }) == Status::bad_config);
  CHECK(refused("slopes", [](auto&, auto& w) { w.score_bias = nullptr; }) == Status::bad_argument);
  CHECK(refused("biases by distance, two-way window", [](auto& c, auto&) { c.n_distances = 30; }) == Status::bad_config);
  CHECK(refused("biases by distance", [](auto&, auto& w) { w.score_bias = nullptr; }) == Status::bad_argument);
  CHECK(refused("undivided value map", [](auto& c, auto&) { c.d_model = 257; }) == Status::bad_config);
  CHECK(refused("undivided value map", [](auto&, auto& w) { w.w_value_up = w.w_query; }) == Status::bad_argument);
  CHECK(refused("undivided value map", [](auto& c, auto&) { c.value_map = ValueMap::factors; }) == Status::bad_argument);
  CHECK(refused("RMS norm of heads", [](auto& c, auto&) { c.norm_epsilon = 0.0f; }) == Status::bad_config);
  CHECK(refused("window", [](auto& c, auto&) { c.window = (1u << 20) + 1; }) == Status::bad_config);
  CHECK(refused("biases of the matrices", [](auto&, auto& w) {
          w.w_key.bias = reinterpret_cast<const float*>(reinterpret_cast<const char*>(w.w_key.bias) + 1);
        }) == Status::misaligned);
}
