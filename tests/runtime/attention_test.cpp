// SPDX-License-Identifier: Apache-2.0
// attention_test.cpp: long contexts against exact arithmetic, and the attention layer alone: against floats, cut in
// pieces, tapped, and refused.
#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>

#include "platform/linux/thread_pool.hpp"
#include "quant/file.hpp"
#include "quant/pack.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;

// ---- SPEC.md 2.2, 2.3 and 2.7 once more, plainly -----------------------------------------------------------------

struct PlainS16 {
  std::vector<std::int32_t> s;
  std::int32_t max = 0;
  int exponent = 0;
};

PlainS16 plain_s16(Span<const float> x) {
  float m = 0.0f;
  for (const float v : x) m = std::max(m, std::fabs(v));
  PlainS16 p;
  std::frexp(m, &p.exponent);  // 2^(e-1) <= m < 2^e
  for (const float v : x) {
    const double y = std::nearbyint(std::ldexp(static_cast<double>(v), 15 - p.exponent));
    p.s.push_back(static_cast<std::int32_t>(std::min(32767.0, std::max(-32767.0, y))));
    p.max = std::max(p.max, std::abs(p.s.back()));
  }
  return p;
}

struct PlainVector {
  std::vector<std::int32_t> q;
  double scale = 0.0;
  int mantissa = 0, exponent = 0;  // of a key; a value has the exponent alone
};

std::int64_t floor_shift(std::int64_t x, int n) { return x >> n; }

PlainVector plain_query(Span<const float> x) {
  const PlainS16 p = plain_s16(x);
  const std::int64_t r = ((std::int64_t{127} << 22) + p.max / 2) / p.max;
  PlainVector v;
  for (const std::int32_t s : p.s) v.q.push_back(static_cast<std::int32_t>(floor_shift(s * r + (1 << 21), 22)));
  v.scale = static_cast<double>(static_cast<float>(p.max) * (1.0f / 127.0f)) * std::ldexp(1.0, p.exponent - 15);
  return v;
}

PlainVector plain_key(Span<const float> x) {
  const PlainS16 p = plain_s16(x);
  PlainVector v;
  v.mantissa = (p.max + 126) / 127;
  v.exponent = p.exponent - 15;
  std::int64_t numerator = 1 << 22;
  if (v.mantissa > 255) {
    v.mantissa = (p.max + 253) / 254;
    v.exponent = p.exponent - 14;
    numerator = 1 << 21;
  }
  const std::int64_t r = numerator / v.mantissa;
  for (const std::int32_t s : p.s) v.q.push_back(static_cast<std::int32_t>(floor_shift(s * r + (1 << 21), 22)));
  v.scale = std::ldexp(static_cast<double>(v.mantissa), v.exponent);
  return v;
}

PlainVector plain_value(Span<const float> x) {
  const PlainS16 p = plain_s16(x);
  const int n = (p.max + 128) >> 8 <= 127 ? 8 : 9;
  PlainVector v;
  for (const std::int32_t s : p.s) v.q.push_back(static_cast<std::int32_t>(floor_shift(s + (1 << (n - 1)), n)));
  v.exponent = p.exponent - 15 + n;
  v.scale = std::ldexp(1.0, v.exponent);
  return v;
}

// ---- Long contexts ----------------------------------------------------------------------------------------------

constexpr std::uint32_t kKeys = 2048, kDim = 64;
enum class Tail { flat, normal };

// What a query at the last position sees and how scores fall with the distance, as ALiBi has it.
struct Sight {
  double slope = 0.0;           // nats per position; 0 = no bias
  std::uint32_t window = kKeys;  // keys
};

// Relative L2 error of one query's output over 2,048 keys: `gap` between the sink's score and the middle of the tail;
// no sink below 0. `spread` is the tail's standard deviation, if it is normal.
double long_context_error(const Kernels& kernels, double gap, Tail tail, std::uint32_t sink, std::uint64_t seed,
                          const Sight& sight = {}, double spread = 1.0) {
  constexpr float kAttentionScale = 0.125f;
  Random random(seed);
  std::vector<float> query(kDim), common(kDim);
  double square = 0.0, along = 0.0;
  for (float& v : query) v = random.normal();
  for (float& v : common) v = random.normal();
  for (std::uint32_t d = 0; d < kDim; ++d) square += static_cast<double>(query[d]) * query[d];
  for (std::uint32_t d = 0; d < kDim; ++d) along += static_cast<double>(query[d]) * common[d];
  for (std::uint32_t d = 0; d < kDim; ++d) common[d] -= static_cast<float>(along / square) * query[d];

  const KvShape shape{1, kDim, kKeys, kernels.traits.alignment};
  GuardedArena cache_memory(shape.layer_bytes() + kernels.traits.slack, kernels.traits.alignment);
  const KvCache cache{shape, cache_memory.span().data()};
  GuardedArena query_memory(activations_bytes(kernels.traits, kDim, 0, 1) + kernels.traits.slack,
                            kernels.traits.alignment);
  const Activations queries = make_activations(query_memory.span().data(), kernels.traits, kDim, 0, 1);
  kernels.query_s8r_f32(queries, 0, query.data(), {nullptr, 0, false});
  const PlainVector q = plain_query(query);
  CHECK(static_cast<double>(queries.scales[0]) == q.scale);

  std::vector<double> scores, value_scales;
  std::vector<std::vector<std::int32_t>> values;
  for (std::uint32_t k = 0; k < kKeys; ++k) {
    const bool is_sink = gap >= 0.0 && k == sink;
    const double score = is_sink ? gap : tail == Tail::normal ? spread * static_cast<double>(random.normal()) : 0.0;
    std::vector<float> key(kDim), value(kDim);
    for (std::uint32_t d = 0; d < kDim; ++d)
      key[d] = common[d] + static_cast<float>(score / kAttentionScale / square) * query[d];
    const float size = std::ldexp(1.0f, random.between(0, 4));
    for (float& v : value) v = random.normal() * size;
    const KvBlock block = cache.block(0, k / kBlockKeys);
    kernels.store_key(block, k % kBlockKeys, key.data(), {nullptr, 0, false}, {nullptr, 0});
    kernels.store_value(block, k % kBlockKeys, value.data());
    const PlainVector pk = plain_key(key), pv = plain_value(value);
    if (block.key_mantissas[k % kBlockKeys] != pk.mantissa || block.key_exponents[k % kBlockKeys] != pk.exponent ||
        block.value_exponents[k % kBlockKeys] != pv.exponent)
      FAIL_CHECK("scales of key " << k << " are not those of SPEC.md");
    double dot = 0.0;
    for (std::uint32_t d = 0; d < kDim; ++d) dot += static_cast<double>(q.q[d]) * pk.q[d];
    scores.push_back(dot * q.scale * pk.scale * static_cast<double>(kAttentionScale) -
                     sight.slope * static_cast<double>(kKeys - 1 - k));
    values.push_back(pv.q);
    value_scales.push_back(pv.scale);
  }

  std::vector<float> numerators(kDim, 0.0f), output(kDim);
  float denominator = 0.0f;
  std::int32_t reference = kFreshReference;
  const AttentionSums sums{numerators.data(), &denominator, &reference};
  std::vector<std::int32_t> biases;  // by distance, Q10 of powers of two
  for (std::uint32_t distance = 0; distance < kKeys && sight.slope != 0.0; ++distance)
    biases.push_back(static_cast<std::int32_t>(std::lround(-sight.slope * distance * 1.4426950408889634 * 1024.0)));
  const std::uint32_t from = kKeys - sight.window;
  for (std::uint32_t b = from / kBlockKeys; b < kKeys / kBlockKeys; ++b) {
    BlockQueries one{queries, 0, 1, 1, kBlockKeys, kBlockKeys, 1.44269504f * kAttentionScale};
    one.hidden = static_cast<std::int32_t>(from) - static_cast<std::int32_t>(b * kBlockKeys);
    if (!biases.empty()) one.bias = biases.data() + (kKeys - 1 - b * kBlockKeys);
    one.keys_differ = one.hidden > 0 || one.bias;
    kernels.attend_block(sums, one, cache.block(0, b), nullptr, nullptr);
  }
  kernels.attend_finish(output.data(), numerators.data(), denominator, kDim);
  CHECK(cache_memory.intact());
  CHECK(query_memory.intact());

  double max = scores[from], sum = 0.0;
  for (std::uint32_t k = from; k < kKeys; ++k) max = std::max(max, scores[k]);
  std::vector<double> exact(kDim, 0.0);
  for (std::uint32_t k = from; k < kKeys; ++k) {
    const double w = std::exp(scores[k] - max);
    sum += w;
    for (std::uint32_t d = 0; d < kDim; ++d) exact[d] += w * values[k][d] * value_scales[k];
  }
  double error = 0.0, norm = 0.0;
  for (std::uint32_t d = 0; d < kDim; ++d) {
    const double e = exact[d] / sum, off = static_cast<double>(output[d]) - e;
    error += off * off;
    norm += e * e;
  }
  return std::sqrt(error / norm);
}

}  // namespace

TEST_CASE("long contexts keep their tail", "[attention]") {
  for (const Kernels* k : runnable_kernels()) {
    const auto worst = [&](double gap, Tail tail) {
      double error = 0.0;
      for (const std::uint32_t sink : {0u, 1000u, 1024u, kKeys - 1})
        for (std::uint64_t seed = 1; seed <= 3; ++seed)
          error = std::max(error, long_context_error(*k, gap, tail, sink, seed));
      return error;
    };
    INFO(k->traits.name);
    for (const Tail tail : {Tail::flat, Tail::normal}) {
      const char* name = tail == Tail::flat ? "flat" : "normal";
      for (const double gap : {6.0, 8.0, 10.0}) {
        const double error = worst(gap, tail);
        INFO(name << " tail, gap " << gap << ", error " << error);
        CHECK(error <= (gap == 10.0 ? 0.015 : 0.005));
        std::printf("%s: sink %.0f above a %s tail: %.3f %%\n", k->traits.name, gap, name, 100.0 * error);
      }
    }
    const double error = worst(-1.0, Tail::flat);
    INFO("all equal, error " << error);
    CHECK(error <= 0.005);
    std::printf("%s: all scores equal: %.4f %%\n", k->traits.name, 100.0 * error);
  }
}

// Slopes of the published tables, 2^-1 to 2^-8; scores that a distance has to make up for, up to 200 nats of them; windows
// that begin anywhere in a block. Besides the pattern's 16 bits, which windows and no biases have as well, a bias is off by
// half of 2^-10, and the distance between two scores by 2^-15 of it: at 200 nats that is 0.6 % of a weight.
TEST_CASE("biases of scores and windows are those of a softmax in doubles", "[attention]") {
  for (const Kernels* k : runnable_kernels()) {
    double worst_slope = 0.0, worst_window = 0.0, worst_far = 0.0;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      for (int i = 1; i <= 8; ++i)
        for (const double spread : {0.0, 1.0, 6.0})
          worst_slope = std::max(worst_slope, long_context_error(*k, -1.0, Tail::normal, 0, seed,
                                                                 {std::ldexp(1.0, -i)}, spread));
      for (const std::uint32_t window : {1u, 2u, 63u, 64u, 65u, 100u, 1000u, 2047u})
        for (const double slope : {0.0, 0.0625})
          worst_window = std::max(worst_window, long_context_error(*k, -1.0, Tail::normal, 0, seed, {slope, window}));
      // The best key of its block lies behind others by its score alone.
      for (const std::uint32_t sink : {kKeys - 40, kKeys - 100, kKeys - 400})
        worst_far = std::max(worst_far, long_context_error(*k, 0.5 * (kKeys - 1 - sink) + 2.0, Tail::normal, sink, seed,
                                                           {0.5}));
    }
    INFO(k->traits.name << ": slopes " << worst_slope << ", windows " << worst_window << ", far " << worst_far);
    CHECK(worst_slope <= 0.002);
    CHECK(worst_window <= 0.002);
    CHECK(worst_far <= 0.002);
    std::printf("%s: biases %.3f %%, windows %.3f %%, keys that come far behind others %.3f %%\n", k->traits.name,
                100.0 * worst_slope, 100.0 * worst_window, 100.0 * worst_far);
  }
}

namespace {

// ---- The layer alone --------------------------------------------------------------------------------------------

// A random layer, its weights in a table's layout.
struct Layer {
  AttentionConfig config;
  std::vector<quant::QuantizedMatrix> matrices;
  std::vector<quant::ImageBytes> packed;
  AttentionWeights weights;
  std::vector<std::uint32_t> phases;
  std::vector<std::int16_t> offsets;
  std::vector<std::int8_t> offset_exponents;

  Layer(const AttentionConfig& c, Layout layout, std::uint64_t seed, bool with_offsets = false) : config(c) {
    Random random(seed);
    const std::uint32_t dq = c.n_heads * c.head_dim, dk = c.n_kv_heads * c.head_dim;
    const auto add = [&](std::uint32_t rows, std::uint32_t cols, float gain) {
      quant::QuantizedMatrix m;
      m.rows = rows;
      m.cols = cols;
      for (std::uint32_t i = 0; i < rows * cols; ++i)
        m.weights.push_back(static_cast<std::int8_t>(random.between(-127, 127)));
      for (std::uint32_t i = 0; i < rows; ++i)
        m.scales.push_back(gain * (1.0f + 0.5f * random.uniform()) / (73.0f * std::sqrt(static_cast<float>(cols))));
      matrices.push_back(m);
    };
    add(dq, c.d_model, 2.0f);
    add(dk, c.d_model, 2.0f);
    add(dk, c.d_model, 1.0f);
    add(c.d_model, dq, 1.0f);
    std::vector<Tensor> views;
    for (const quant::QuantizedMatrix& m : matrices) {
      packed.emplace_back(static_cast<std::size_t>(tensor_bytes(layout, m.rows, m.cols, 0, false).total));
      quant::pack(packed.back().data(), m, layout);
    }
    for (std::size_t i = 0; i < matrices.size(); ++i)
      views.push_back(quant::view(packed[i].data(), matrices[i], layout));
    weights.w_query = views[0];
    weights.w_key = views[1];
    weights.w_value_down = views[2];
    weights.w_value_up = views[3];
    for (std::uint32_t i = 0; i < c.rotary_dims / 2; ++i) phases.push_back(683565276u >> i);
    if (c.rotary_dims) weights.rotary_phases = phases.data();
    if (with_offsets) {
      for (std::uint32_t i = 0; i < dk; ++i)
        offsets.push_back(static_cast<std::int16_t>(random.between(-20000, 20000)));
      offset_exponents.assign(c.n_kv_heads, 1);
      weights.key_offsets = offsets.data();
      weights.key_offset_exponents = offset_exponents.data();
    }
  }
  Layer(const Layer&) = delete;
};

AttentionConfig layer_config(std::uint32_t d_model, std::uint32_t heads, std::uint32_t kv_heads, std::uint32_t head_dim,
                             std::uint32_t max_seq, std::uint32_t rotary, RotaryPairing pairing) {
  AttentionConfig c;
  c.d_model = d_model;
  c.n_heads = heads;
  c.n_kv_heads = kv_heads;
  c.head_dim = head_dim;
  c.max_seq = max_seq;
  c.rotary_dims = rotary;
  c.rotary_pairing = pairing;
  return c;
}

const AttentionConfig kLayers[] = {
    layer_config(48, 4, 2, 12, 200, 12, RotaryPairing::adjacent),
    layer_config(33, 3, 1, 7, 90, 4, RotaryPairing::halves),
    layer_config(64, 2, 2, 64, 140, 0, RotaryPairing::adjacent),
};

std::vector<float> embeddings_of(const AttentionConfig& c, std::uint32_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> x(std::size_t{n} * c.d_model);
  for (float& v : x) v = random.normal();
  return x;
}

// A layer in a guarded block of memory.
struct RunningLayer {
  AttentionMemory memory;
  std::unique_ptr<GuardedArena> arena;
  Attention attention;
  RunningLayer(const Layer& layer, const Kernels& kernels, std::uint32_t chunk = 0) {
    REQUIRE(make_attention_plan(memory, layer.config, kernels.traits, chunk) == Status::ok);
    arena = std::make_unique<GuardedArena>(memory.arena_bytes, memory.arena_align);
    REQUIRE(create(attention, layer.config, layer.weights, memory, kernels, arena->span()) == Status::ok);
  }
  ~RunningLayer() {
    if (arena) CHECK(arena->intact());
  }
};

std::vector<std::uint32_t> forward_in_pieces(const Layer& layer, const Kernels& kernels, const std::vector<float>& x,
                                             std::size_t piece, std::uint32_t chunk,
                                             const Parallel* parallel = nullptr) {
  RunningLayer r(layer, kernels, chunk);
  if (parallel) r.attention.set_parallel(*parallel);
  std::vector<float> change(x.size());
  const std::size_t step = piece * layer.config.d_model;
  for (std::size_t at = 0; at < x.size(); at += step) {
    const std::size_t n = std::min(step, x.size() - at);
    REQUIRE(r.attention.forward({change.data() + at, n}, {x.data() + at, n}) == Status::ok);
  }
  return bits({change.data(), change.size()});
}

// Attention in doubles, from the same weights; nothing quantised but those.
std::vector<double> exact_attention(const Layer& layer, const std::vector<float>& x) {
  const AttentionConfig& c = layer.config;
  const std::size_t n = x.size() / c.d_model;
  const auto product = [&](const quant::QuantizedMatrix& m, const std::vector<double>& v) {
    std::vector<double> y(m.rows);
    for (std::uint32_t r = 0; r < m.rows; ++r)
      for (std::uint32_t k = 0; k < m.cols; ++k) y[r] += m.value(r, k) * v[k];
    return y;
  };
  const auto rotate = [&](std::vector<double>& v, std::size_t position) {
    const std::uint32_t pairs = c.rotary_dims / 2;
    for (std::size_t head = 0; head < v.size() / c.head_dim; ++head) {
      for (std::uint32_t i = 0; i < pairs; ++i) {
        const double angle = static_cast<double>(static_cast<std::uint32_t>(layer.phases[i] * position)) *
                             6.283185307179586 / 4294967296.0;
        const bool halves = c.rotary_pairing == RotaryPairing::halves;
        double& a = v[head * c.head_dim + (halves ? i : 2 * i)];
        double& b = v[head * c.head_dim + (halves ? i + pairs : 2 * i + 1)];
        const double u = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = u;
      }
    }
  };
  std::vector<std::vector<double>> keys, values;
  std::vector<double> change;
  for (std::size_t t = 0; t < n; ++t) {
    const std::vector<double> e(x.begin() + static_cast<std::ptrdiff_t>(t * c.d_model),
                                x.begin() + static_cast<std::ptrdiff_t>((t + 1) * c.d_model));
    std::vector<double> q = product(layer.matrices[0], e), k = product(layer.matrices[1], e);
    rotate(q, t);
    rotate(k, t);
    keys.push_back(k);
    values.push_back(product(layer.matrices[2], e));
    std::vector<double> heads(q.size());
    for (std::uint32_t h = 0; h < c.n_heads; ++h) {
      const std::size_t kv = h / (c.n_heads / c.n_kv_heads) * c.head_dim;
      std::vector<double> w;
      double max = -1e300, sum = 0.0;
      for (std::size_t j = 0; j <= t; ++j) {
        double s = 0.0;
        for (std::uint32_t d = 0; d < c.head_dim; ++d) s += q[h * c.head_dim + d] * keys[j][kv + d];
        w.push_back(s / std::sqrt(static_cast<double>(c.head_dim)));
        max = std::max(max, w.back());
      }
      for (double& v : w) sum += v = std::exp(v - max);
      for (std::size_t j = 0; j <= t; ++j)
        for (std::uint32_t d = 0; d < c.head_dim; ++d) heads[h * c.head_dim + d] += w[j] / sum * values[j][kv + d];
    }
    const std::vector<double> y = product(layer.matrices[3], heads);
    change.insert(change.end(), y.begin(), y.end());
  }
  return change;
}

}  // namespace

TEST_CASE("the layer alone is attention", "[attention]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const AttentionConfig& c : kLayers) {
      for (const bool offsets : {false, true}) {
        INFO(k->traits.name << ", width " << c.d_model << (offsets ? ", key offsets" : ""));
        const Layer layer(c, k->traits.preferred, 61, offsets);  // softmax does not see the offset
        const std::vector<float> x = embeddings_of(c, c.max_seq, 63);
        std::vector<float> change(x.size());
        RunningLayer r(layer, *k);
        REQUIRE(r.attention.forward(change, x) == Status::ok);
        CHECK(r.attention.position() == c.max_seq);
        const std::vector<double> exact = exact_attention(layer, x);
        double error = 0.0, norm = 0.0;
        for (std::size_t i = 0; i < exact.size(); ++i) {
          error += (static_cast<double>(change[i]) - exact[i]) * (static_cast<double>(change[i]) - exact[i]);
          norm += exact[i] * exact[i];
        }
        INFO("relative error " << std::sqrt(error / norm));
        // Keys and offset rotate differently: an offset far from the keys' mean costs accuracy, not correctness.
        CHECK(std::sqrt(error / norm) < (offsets ? 0.05 : 0.03));
      }
    }
  }
}

TEST_CASE("the layer alone gives the same bits in any pieces, on any table and any threads", "[attention]") {
  ThreadPool pool;
  REQUIRE(pool.start(3));
  Parallel parallel = pool.parallel();
  parallel.threshold = 0;
  for (const AttentionConfig& c : kLayers) {
    const std::vector<float> x = embeddings_of(c, c.max_seq, 67);
    const Layer reference(c, Layout::packed, 65, true);
    const std::vector<std::uint32_t> expected =
        forward_in_pieces(reference, *find_kernels("portable"), x, c.max_seq, 0);
    for (const Kernels* k : runnable_kernels()) {
      INFO(k->traits.name << ", width " << c.d_model);
      const Layer layer(c, k->traits.preferred, 65, true);
      for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{64}, std::size_t{c.max_seq}}) {
        for (const std::uint32_t chunk : {0u, 1u, 5u, 64u}) {
          INFO("calls of " << piece << ", chunks of " << chunk);
          CHECK(forward_in_pieces(layer, *k, x, piece, chunk) == expected);
        }
      }
      CHECK(forward_in_pieces(layer, *k, x, 50, 0, &parallel) == expected);
    }
  }
}

namespace {

// What kernels.hpp asks of a call of attend_block, looked at before the call goes on to the table.
const Kernels* watched_table = nullptr;
std::atomic<std::uint32_t> calls{0}, mixed_calls{0}, unready_calls{0};

void watched_attend_block(const AttentionSums& sums, const BlockQueries& queries, const KvBlock& block,
                          std::uint16_t* weights, std::int32_t* reference) {
  std::uint32_t fresh = 0;
  bool ready = true;
  for (std::uint32_t q = queries.first; q < queries.first + queries.n; ++q) {
    if (sums.references[q] != kFreshReference) continue;
    ++fresh;
    ready = ready && sums.denominators[q] == 0.0f;
    for (std::uint32_t d = 0; d < block.head_dim; ++d) ready = ready && sums.numerators[q * block.head_dim + d] == 0.0f;
  }
  if (!weights) {
    ++calls;
    if (fresh != 0 && fresh != queries.n) ++mixed_calls;
    if (!ready) ++unready_calls;
  }
  watched_table->attend_block(sums, queries, block, weights, reference);
}

}  // namespace

TEST_CASE("all queries of one call meet their first block together", "[attention]") {
  watched_table = find_kernels("portable");
  Kernels watched = *watched_table;
  watched.attend_block = watched_attend_block;
  ThreadPool pool;
  REQUIRE(pool.start(3));
  Parallel parallel = pool.parallel();
  parallel.threshold = 0;
  for (const AttentionConfig& c : kLayers) {
    const Layer layer(c, watched.traits.preferred, 65);
    const std::vector<float> x = embeddings_of(c, c.max_seq, 67);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{c.max_seq}})
      for (const std::uint32_t chunk : {1u, 5u, 64u, c.max_seq})
        for (const Parallel* threads : {static_cast<const Parallel*>(nullptr), static_cast<const Parallel*>(&parallel)}) {
          INFO("width " << c.d_model << ", calls of " << piece << ", chunks of " << chunk);
          calls = mixed_calls = unready_calls = 0;
          forward_in_pieces(layer, watched, x, piece, chunk, threads);
          CHECK(calls > 0);
          CHECK(mixed_calls == 0);
          CHECK(unready_calls == 0);
        }
  }
}

TEST_CASE("the layer alone: rows of the pattern", "[attention]") {
  struct Seen {
    std::vector<double> sums;
    std::vector<std::uint32_t> next;
    bool sane = true;
    std::uint32_t max_seq;
  };
  for (const Kernels* k : runnable_kernels()) {
    for (const AttentionConfig& c : kLayers) {
      INFO(k->traits.name << ", width " << c.d_model);
      const Layer layer(c, k->traits.preferred, 71);
      const std::vector<float> x = embeddings_of(c, c.max_seq, 73);
      std::vector<float> change(x.size());
      RunningLayer r(layer, *k);
      Seen seen;
      seen.max_seq = c.max_seq;
      seen.sums.resize(std::size_t{c.n_heads} * c.max_seq);
      seen.next.resize(seen.sums.size());
      r.attention.set_tap({[](void* context, std::uint32_t layer_index, std::uint32_t head, std::uint32_t position,
                              std::uint32_t first_key, Span<const float> weights) {
                             auto& s = *static_cast<Seen*>(context);
                             const std::size_t row = std::size_t{head} * s.max_seq + position;
                             s.sane = s.sane && layer_index == 0 && s.next[row] == first_key &&
                                      first_key + weights.size() <= position + 1 && weights.size() <= 64;
                             s.next[row] += static_cast<std::uint32_t>(weights.size());
                             for (const float w : weights) s.sums[row] += static_cast<double>(w);
                           },
                           &seen});
      REQUIRE(r.attention.forward(change, x) == Status::ok);
      CHECK(seen.sane);
      for (std::size_t row = 0; row < seen.sums.size(); ++row)
        if (seen.next[row] != row % c.max_seq + 1 || std::abs(seen.sums[row] - 1.0) > 1e-3)
          FAIL_CHECK("position " << row % c.max_seq << ": " << seen.next[row] << " weights, sum " << seen.sums[row]);
    }
  }
}

TEST_CASE("the layer alone: a rounding mode that changes after creation is refused", "[attention]") {
  const AttentionConfig& c = kLayers[0];
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    const Layer layer(c, k->traits.preferred, 75);
    const std::vector<float> x = embeddings_of(c, c.max_seq, 77);
    RunningLayer r(layer, *k);
    std::vector<float> change(x.size());
    const auto forward = [&] { return r.attention.forward({change.data(), x.size()}, {x.data(), x.size()}); };
    for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      REQUIRE(std::fesetround(mode) == 0);
      const Status status = forward();
      std::fesetround(FE_TONEAREST);
      CHECK(status == Status::rounding_mode);
      CHECK(r.attention.position() == 0);
    }
    REQUIRE(forward() == Status::ok);
    CHECK(bits({change.data(), x.size()}) == forward_in_pieces(layer, *k, x, c.max_seq, 0));
  }
}

TEST_CASE("the layer alone: rewind, and what is refused", "[attention]") {
  const AttentionConfig& c = kLayers[0];
  for (const Kernels* k : runnable_kernels()) {
    INFO(k->traits.name);
    const Layer layer(c, k->traits.preferred, 75);
    const std::vector<float> x = embeddings_of(c, c.max_seq, 77), other = embeddings_of(c, c.max_seq, 79);
    const std::vector<std::uint32_t> expected = forward_in_pieces(layer, *k, x, c.max_seq, 0);
    RunningLayer r(layer, *k);
    const std::size_t d = c.d_model;
    std::vector<float> change(x.size() + d);
    const auto forward = [&](const std::vector<float>& from, std::size_t first, std::size_t n) {
      return r.attention.forward({change.data() + first * d, n * d}, {from.data() + first * d, n * d});
    };
    REQUIRE(forward(x, 0, 70) == Status::ok);
    REQUIRE(forward(other, 70, 50) == Status::ok);
    CHECK(r.attention.rewind(121) == Status::bad_argument);
    REQUIRE(r.attention.rewind(70) == Status::ok);
    REQUIRE(forward(x, 70, c.max_seq - 71) == Status::ok);

    CHECK(r.attention.forward({change.data(), 2 * d}, {x.data(), 2 * d}) == Status::context_full);
    CHECK(r.attention.forward({change.data(), d}, {x.data(), 2 * d}) == Status::bad_argument);
    CHECK(r.attention.forward({change.data(), d + 1}, {x.data(), d + 1}) == Status::bad_argument);
    CHECK(r.attention.position() == c.max_seq - 1);
    REQUIRE(forward(x, c.max_seq - 1, 1) == Status::ok);
    CHECK(bits({change.data(), x.size()}) == expected);
    CHECK(forward(x, 0, 1) == Status::context_full);

    Attention attention;
    CHECK(attention.forward({change.data(), d}, {x.data(), d}) == Status::bad_argument);  // never created
    const Span<std::byte> memory = r.arena->span();
    const auto refused = [&](const std::function<void(AttentionConfig&, AttentionWeights&, AttentionMemory&)>& edit) {
      AttentionConfig config = c;
      AttentionWeights weights = layer.weights;
      AttentionMemory plan = r.memory;
      edit(config, weights, plan);
      return create(attention, config, weights, plan, *k, memory);
    };
    CHECK(create(attention, c, layer.weights, r.memory, *k, memory.subspan(0, memory.size() - 1)) ==
          Status::arena_too_small);
    CHECK(create(attention, c, layer.weights, r.memory, *k, {}) == Status::bad_argument);
    CHECK(create(attention, c, layer.weights, r.memory, *k, memory.subspan(4, memory.size() - 4)) ==
          Status::misaligned);
    CHECK(refused([](auto& config, auto&, auto&) { config.head_dim = 0; }) == Status::bad_config);
    CHECK(refused([](auto&, auto&, auto& plan) { plan.arena_bytes += 64; }) == Status::bad_argument);
    CHECK(refused([](auto&, auto&, auto& plan) { plan = {}; }) == Status::bad_argument);
    CHECK(refused([](auto&, auto& w, auto&) { w.w_key.rows -= 1; }) == Status::bad_argument);
    CHECK(refused([](auto&, auto& w, auto&) { w.w_value_up = {}; }) == Status::bad_argument);
    CHECK(refused([](auto&, auto& w, auto&) { w.w_query.group = 32; }) == Status::bad_argument);
    CHECK(refused([](auto&, auto& w, auto&) { w.rotary_phases = nullptr; }) == Status::bad_argument);
    if (k->traits.layouts != 15) {
      CHECK(refused([](auto&, auto& w, auto&) { w.w_key.layout = Layout::block64; }) == Status::layout_unsupported);
    }
    CHECK(refused([](auto&, auto&, auto&) {}) == Status::ok);
  }
}
