// SPDX-License-Identifier: Apache-2.0
// layers_test.cpp: the layers beside attention, on every table that runs here: bit for bit what SPEC.md's oracle gives,
// in any pieces and threads, in exactly the memory that the plan says; and what they refuse.
#include "runtime/layers.hpp"

#include <cfenv>
#include <cmath>
#include <cstring>

#include "platform/linux/thread_pool.hpp"
#include "platform/tables.hpp"
#include "tests/reference/spec_oracle.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/matrix.hpp"
#include "tests/support/run.hpp"

namespace {

using namespace heed;
using namespace heed::test;

std::vector<float> normal_rows(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = random.normal();
  return x;
}

const float* odd(const float* x) { return reinterpret_cast<const float*>(reinterpret_cast<const char*>(x) + 1); }

// ---- A matrix, for the runtime and for the oracle -----------------------------------------------------------------

struct Matrix : RandomMatrix {
  spec::Matrix plain;

  Matrix() = default;
  Matrix(std::uint32_t rows, std::uint32_t cols, std::uint32_t group, bool with_bias, Layout layout, std::uint64_t seed)
      : RandomMatrix(rows, cols, group, with_bias, layout, seed),
        plain{rows, cols, static_cast<int>(group), quantized.weights, quantized.multipliers, quantized.scales, quantized.bias} {}
};

spec::Activation quantised(const spec::Floats& x, std::uint32_t group) {
  return spec::quantise(spec::block_float(x), static_cast<int>(group));
}

spec::Floats activated(const spec::Floats& x, Activation a) { return spec::activated(x, static_cast<int>(a)); }

template <class RowFunction>
std::vector<std::uint32_t> by_rows(const std::vector<float>& x, std::size_t d, RowFunction f) {
  std::vector<std::uint32_t> all;
  for (std::size_t i = 0; i < x.size(); i += d) {
    const spec::Floats y = f(spec::Floats(x.begin() + static_cast<std::ptrdiff_t>(i), x.begin() + static_cast<std::ptrdiff_t>(i + d)));
    for (const float v : y) all.push_back(bits_of(v));
  }
  return all;
}

// ---- A layer in a guarded block of exactly the bytes that it asks for ---------------------------------------------

template <class Layer, class Config, class Weights, class Memory>
struct InArena {
  std::unique_ptr<GuardedArena> arena;
  Layer layer;
  InArena(const Config& config, const Weights& weights, const Memory& memory, const Kernels& kernels)
      : arena(std::make_unique<GuardedArena>(memory.arena_bytes, memory.arena_align)) {
    REQUIRE(create(layer, config, weights, memory, kernels, arena->span()) == Status::ok);
  }
  ~InArena() { CHECK(arena->intact()); }

  // In calls of `piece` rows of d_in floats, which give rows of d_out.
  std::vector<std::uint32_t> forward(const std::vector<float>& x, std::size_t d_in, std::size_t d_out, std::size_t piece) {
    const std::size_t rows = x.size() / d_in;
    std::vector<float> y(rows * d_out);
    for (std::size_t at = 0; at < rows; at += piece) {
      const std::size_t n = std::min(piece, rows - at);
      std::memset(arena->span().data(), at % 2 ? 0xFF : 0x7F, arena->span().size());  // nothing is kept in it
      REQUIRE(layer.forward({y.data() + at * d_out, n * d_out}, {x.data() + at * d_in, n * d_in}) == Status::ok);
    }
    return bits({y.data(), y.size()});
  }
};
using LinearInArena = InArena<Linear, LinearConfig, Tensor, LinearMemory>;
using FeedForwardInArena = InArena<FeedForward, FeedForwardConfig, FeedForwardWeights, FeedForwardMemory>;

LinearMemory plan_of(const LinearConfig& c, const Kernels& k, std::uint32_t chunk) {
  LinearMemory memory;
  REQUIRE(make_linear_plan(memory, c, k.traits, chunk) == Status::ok);
  return memory;
}
FeedForwardMemory plan_of(const FeedForwardConfig& c, const Kernels& k, std::uint32_t chunk) {
  FeedForwardMemory memory;
  REQUIRE(make_feed_forward_plan(memory, c, k.traits, chunk) == Status::ok);
  return memory;
}

constexpr std::uint32_t kRows = 70;

// `run` takes the layer in every cut of kRows rows, which must give `expected`.
template <class Run>
void check_cuts(Run run, const std::vector<std::uint32_t>& expected) {
  ThreadPool pool;
  REQUIRE(pool.start(3));
  Parallel parallel = pool.parallel();
  parallel.threshold = 0;
  for (const std::uint32_t chunk : {0u, 1u, 7u, 64u, 128u}) {
    for (const std::uint32_t piece : {1u, 7u, kRows}) {
      INFO("calls of " << piece << ", chunks of " << chunk);
      CHECK(run(chunk, piece, nullptr) == expected);
    }
    INFO("threads, chunks of " << chunk);
    CHECK(run(chunk, kRows, &parallel) == expected);
  }
}

struct LinearCase {
  LinearConfig config;
  bool bias;
};
const LinearCase kLinears[] = {
    {{24, 10, 0, Activation::none}, true},       {{33, 17, 0, Activation::silu}, false},
    {{130, 48, 32, Activation::gelu_tanh}, true}, {{256, 5, 128, Activation::relu}, false},
    {{64, 64, 0, Activation::gelu_erf}, true},   {{1, 1, 0, Activation::none}, false},
    {{40, 20, 0, Activation::tanh}, true},       {{24, 33, 0, Activation::gelu_quick}, true},
};

}  // namespace

TEST_CASE("a matrix alone is SPEC.md's product, in any pieces", "[layers]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const LinearCase& l : kLinears) {
      const LinearConfig& c = l.config;
      INFO(k->traits.name << ", [" << c.d_out << ", " << c.d_in << "], group " << c.group);
      const Matrix w(c.d_out, c.d_in, c.group, l.bias, k->traits.preferred, 11);
      std::vector<float> x = normal_rows(std::size_t{kRows} * c.d_in, 12);
      for (std::uint32_t i = 0; i < c.d_in; ++i) x[3 * c.d_in + i] = 0.0f;  // a zero row leaves the bias
      const auto expected = by_rows(x, c.d_in, [&](const spec::Floats& row) {
        return activated(spec::product(w.plain, quantised(row, c.group)), c.activation);
      });
      check_cuts(
          [&](std::uint32_t chunk, std::uint32_t piece, const Parallel* parallel) {
            LinearInArena r(c, w.tensor, plan_of(c, *k, chunk), *k);
            if (parallel) r.layer.set_parallel(*parallel);
            return r.forward(x, c.d_in, c.d_out, piece);
          },
          expected);
      if (c.d_in != c.d_out) continue;
      LinearInArena r(c, w.tensor, plan_of(c, *k, 0), *k);
      REQUIRE(r.layer.forward(x, x) == Status::ok);
      CHECK(bits({x.data(), x.size()}) == expected);
    }
  }
}

namespace {

struct FeedForwardCase {
  FeedForwardConfig config;
  bool biases;
};
const FeedForwardCase kFeedForwards[] = {
    {{24, 40, true, Activation::silu, 0, 0}, false},      {{17, 33, false, Activation::gelu_erf, 0, 0}, true},
    {{64, 130, true, Activation::gelu_tanh, 32, 64}, true}, {{96, 20, false, Activation::relu, 0, 32}, false},
    {{40, 24, true, Activation::gelu_quick, 0, 0}, false},
};

struct FeedForwardMatrices {
  Matrix gate, up, down;
  FeedForwardWeights weights;
  FeedForwardMatrices(const FeedForwardCase& f, Layout layout)
      : up(f.config.d_ff, f.config.d_model, f.config.group_in, f.biases, layout, 22),
        down(f.config.d_model, f.config.d_ff, f.config.group_down, f.biases, layout, 23) {
    if (f.config.gated) gate = Matrix(f.config.d_ff, f.config.d_model, f.config.group_in, f.biases, layout, 21);
    weights = {gate.tensor, up.tensor, down.tensor};
  }
};

}  // namespace

TEST_CASE("a feed-forward layer alone is SPEC.md's, in any pieces", "[layers]") {
  for (const Kernels* k : runnable_kernels()) {
    for (const FeedForwardCase& f : kFeedForwards) {
      const FeedForwardConfig& c = f.config;
      INFO(k->traits.name << ", d_model " << c.d_model << ", d_ff " << c.d_ff);
      const FeedForwardMatrices m(f, k->traits.preferred);
      std::vector<float> x = normal_rows(std::size_t{kRows} * c.d_model, 24);
      const auto expected = by_rows(x, c.d_model, [&](const spec::Floats& row) {
        const spec::Activation in = quantised(row, c.group_in);
        const spec::Floats up = spec::product(m.up.plain, in);
        const int activation = static_cast<int>(c.activation), group = static_cast<int>(c.group_down);
        return spec::product(m.down.plain, c.gated ? spec::gated(spec::product(m.gate.plain, in), &up, activation, group)
                                                   : spec::gated(up, nullptr, activation, group));
      });
      check_cuts(
          [&](std::uint32_t chunk, std::uint32_t piece, const Parallel* parallel) {
            FeedForwardInArena r(c, m.weights, plan_of(c, *k, chunk), *k);
            if (parallel) r.layer.set_parallel(*parallel);
            return r.forward(x, c.d_model, c.d_model, piece);
          },
          expected);
      FeedForwardInArena r(c, m.weights, plan_of(c, *k, 0), *k);
      REQUIRE(r.layer.forward(x, x) == Status::ok);
      CHECK(bits({x.data(), x.size()}) == expected);
    }
  }
}

TEST_CASE("plans of layers, made while compiling, for any table", "[layers]") {
  static constexpr LinearConfig kLinear{40, 10, 0, Activation::none};
  constexpr std::uint64_t kBytes = [] {
    LinearMemory memory;
    return make_linear_plan(memory, kLinear, traits::kPortable, 4) == Status::ok ? memory.arena_bytes : 0;
  }();
  // 4 vectors of 48 bytes with 4 scales and 4 sums, and 4 rows of 16 floats.
  static_assert(kBytes == ((4 * 48 + 4 * 4 + 4 * 4 + traits::kPortable.alignment - 1) / traits::kPortable.alignment) *
                                  traits::kPortable.alignment + 4 * 16 * 4 + traits::kPortable.slack);
  for (const KernelTraits* t : traits::kAll) {
    INFO(t->name);
    LinearMemory linear, other;
    FeedForwardMemory ffn;
    REQUIRE(make_linear_plan(linear, kLinear, *t) == Status::ok);
    CHECK((linear.chunk == t->default_chunk && linear.arena_align == t->alignment));
    REQUIRE(make_linear_plan(other, kLinear, *t, linear.chunk) == Status::ok);
    CHECK(other.arena_bytes == linear.arena_bytes);
    REQUIRE(make_feed_forward_plan(ffn, {40, 96, true, Activation::silu, 0, 0}, *t, 2) == Status::ok);
    CHECK(ffn.change.offset == ffn.gate.offset);  // nobody reads the products when the change is written
    CHECK(ffn.up.offset + ffn.up.bytes + t->slack <= ffn.arena_bytes);
    CHECK(ffn.arena_bytes <= ffn.up.offset + ffn.up.bytes + t->slack + t->alignment - 1);
  }
}

TEST_CASE("what a matrix alone refuses", "[layers]") {
  const Kernels& k = *find_kernels("portable");
  const LinearConfig c{40, 24, 32, Activation::gelu_erf};
  const Matrix w(24, 40, 32, true, k.traits.preferred, 31);
  const auto plan = [&](auto change, std::uint32_t chunk = 0) {
    LinearConfig other = c;
    change(other);
    LinearMemory memory;
    return make_linear_plan(memory, other, k.traits, chunk);
  };
  CHECK(plan([](auto&) {}) == Status::ok);
  CHECK(plan([](auto&) {}, 4097) == Status::bad_argument);
  CHECK(plan([](auto& o) { o.d_in = 0; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.d_in = kMaxCols + 1; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.d_out = 0; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.d_out = (1u << 20) + 1; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.group = 16; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.activation = static_cast<Activation>(7); }) == Status::bad_config);

  struct Given {
    LinearConfig config;
    Tensor weights;
    LinearMemory memory;
    Span<std::byte> arena;
  };
  const LinearMemory memory = plan_of(c, k, 3);
  GuardedArena arena(memory.arena_bytes, memory.arena_align);
  const auto refused = [&](auto change) {
    Given g{c, w.tensor, memory, arena.span()};
    change(g);
    Linear linear;
    const Status status = create(linear, g.config, g.weights, g.memory, k, g.arena);
    float x = 0.0f;  // what was refused computes nothing
    if (status != Status::ok) CHECK(linear.forward({&x, 1}, {&x, 1}) == Status::bad_argument);
    return status;
  };
  CHECK(refused([](Given&) {}) == Status::ok);
  CHECK(refused([](Given& g) { g.arena = {g.arena.data(), g.arena.size() - 1}; }) == Status::arena_too_small);
  CHECK(refused([](Given& g) { g.arena = {g.arena.data() + 1, g.arena.size()}; }) == Status::misaligned);
  CHECK(refused([](Given& g) { g.arena = {}; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.memory.arena_bytes += 64; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.config.d_out = 25; }) == Status::bad_argument);  // and so another plan
  CHECK(refused([](Given& g) { g.weights.rows = 23; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.cols = 41; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.group = 0; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.multipliers = nullptr; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.weights = nullptr; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.scales = nullptr; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.weights += 4; }) == Status::misaligned);
  CHECK(refused([](Given& g) { g.weights.layout = static_cast<Layout>(4); }) == Status::layout_unsupported);

  Linear linear;
  REQUIRE(create(linear, c, w.tensor, memory, k, arena.span()) == Status::ok);
  std::vector<float> x = normal_rows(80, 32), y(48, 1.5f);
  const auto forward = [&](std::size_t out, std::size_t in) { return linear.forward({y.data(), out}, {x.data(), in}); };
  CHECK(forward(24, 39) == Status::bad_argument);
  CHECK(forward(23, 40) == Status::bad_argument);
  CHECK(forward(24, 80) == Status::bad_argument);
  CHECK(linear.forward({nullptr, 24}, {x.data(), 40}) == Status::bad_argument);
  CHECK(linear.forward({y.data(), 24}, {nullptr, 40}) == Status::bad_argument);
  CHECK(linear.forward({y.data(), 24}, {odd(x.data()), 40}) == Status::misaligned);
  REQUIRE(std::fesetround(FE_UPWARD) == 0);
  const Status status = forward(24, 40);
  std::fesetround(FE_TONEAREST);
  CHECK(status == Status::rounding_mode);
  CHECK(y == std::vector<float>(48, 1.5f));
  CHECK(linear.forward({}, {}) == Status::ok);
  CHECK(forward(48, 80) == Status::ok);
  CHECK(Linear().forward({y.data(), 24}, {x.data(), 40}) == Status::bad_argument);
  CHECK(arena.intact());
}

TEST_CASE("what a feed-forward layer alone refuses", "[layers]") {
  const Kernels& k = *find_kernels("portable");
  const FeedForwardCase f{{24, 40, true, Activation::silu, 0, 32}, true};
  const FeedForwardMatrices m(f, k.traits.preferred);
  const auto plan = [&](auto change, std::uint32_t chunk = 0) {
    FeedForwardConfig other = f.config;
    change(other);
    FeedForwardMemory memory;
    return make_feed_forward_plan(memory, other, k.traits, chunk);
  };
  CHECK(plan([](auto&) {}) == Status::ok);
  CHECK(plan([](auto&) {}, 4097) == Status::bad_argument);
  CHECK(plan([](auto& o) { o.d_model = 0; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.d_model = 65537; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.d_ff = 0; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.d_ff = kMaxCols + 1; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.group_in = 1; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.group_down = 1; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.activation = Activation::tanh; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.activation = Activation::none; }) == Status::bad_config);
  CHECK(plan([](auto& o) { o.activation = static_cast<Activation>(9); }) == Status::bad_config);

  struct Given {
    FeedForwardConfig config;
    FeedForwardWeights weights;
    FeedForwardMemory memory;
    Span<std::byte> arena;
  };
  const FeedForwardMemory memory = plan_of(f.config, k, 2);
  GuardedArena arena(memory.arena_bytes, memory.arena_align);
  const auto refused = [&](auto change) {
    Given g{f.config, m.weights, memory, arena.span()};
    change(g);
    FeedForward layer;
    return create(layer, g.config, g.weights, g.memory, k, g.arena);
  };
  CHECK(refused([](Given&) {}) == Status::ok);
  CHECK(refused([](Given& g) { g.arena = {g.arena.data(), g.arena.size() - 1}; }) == Status::arena_too_small);
  CHECK(refused([](Given& g) { g.arena = {g.arena.data() + 1, g.arena.size()}; }) == Status::misaligned);
  CHECK(refused([](Given& g) { g.memory.arena_bytes -= 4; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.w_gate = {}; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.w_gate.rows = 24; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.w_up.group = 32; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.w_down.group = 0; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.w_down.cols = 24; }) == Status::bad_argument);
  CHECK(refused([](Given& g) { std::swap(g.weights.w_up, g.weights.w_down); }) == Status::bad_argument);
  CHECK(refused([](Given& g) { g.weights.w_up.bias = odd(g.weights.w_up.bias); }) == Status::misaligned);
  // The portable table eats all layouts, but not two at once.
  for (Tensor FeedForwardWeights::*other :
       {&FeedForwardWeights::w_gate, &FeedForwardWeights::w_up, &FeedForwardWeights::w_down})
    CHECK(refused([&](Given& g) { (g.weights.*other).layout = Layout::block64; }) == Status::bad_argument);
  CHECK(refused([](Given& g) {  // no gate, and yet its matrix
          g.config.gated = false;
          REQUIRE(make_feed_forward_plan(g.memory, g.config, find_kernels("portable")->traits, 2) == Status::ok);
        }) == Status::bad_argument);

  FeedForward layer;
  std::vector<float> x = normal_rows(48, 33), y(48, 1.5f);
  CHECK(layer.forward(y, x) == Status::bad_argument);  // no `create` before
  REQUIRE(create(layer, f.config, m.weights, memory, k, arena.span()) == Status::ok);
  CHECK(layer.forward({y.data(), 24}, {x.data(), 48}) == Status::bad_argument);
  CHECK(layer.forward({y.data(), 47}, {x.data(), 47}) == Status::bad_argument);
  REQUIRE(std::fesetround(FE_DOWNWARD) == 0);
  const Status status = layer.forward(y, x);
  std::fesetround(FE_TONEAREST);
  CHECK(status == Status::rounding_mode);
  CHECK(y == std::vector<float>(48, 1.5f));
  CHECK(layer.forward(y, x) == Status::ok);
  CHECK(arena.intact());
}

// ---- Between layers -------------------------------------------------------------------------------------------------

TEST_CASE("a norm of rows is SPEC.md's as floats", "[layers]") {
  constexpr std::uint32_t kWidths[] = {1, 7, 48, 130};
  for (const Kernels* k : runnable_kernels()) {
    for (const std::uint32_t d : kWidths) {
      for (const int parts : {0, 1, 2, 3}) {  // gain, bias
        for (const bool centred : {false, true}) {
          if (!centred && parts > 1) continue;
          INFO(k->traits.name << ", width " << d << (centred ? ", layer norm " : ", RMS ") << parts);
          const spec::Floats gain = normal_rows(d, 41), bias = normal_rows(d, 42);
          const bool has_gain = parts & 1, has_bias = parts & 2;
          const NormWeights w{has_gain ? gain.data() : nullptr, has_bias ? bias.data() : nullptr, 1e-5f, centred};
          std::vector<float> x = normal_rows(std::size_t{5} * d, 43);
          for (std::uint32_t i = 0; i < d; ++i) {
            x[d + i] = 0.0f;
            x[2 * d + i] = 3.0f;
          }
          const auto expected = by_rows(x, d, [&](const spec::Floats& row) {
            return spec::norm_as_floats(row, has_gain ? &gain : nullptr, has_bias ? &bias : nullptr, w.epsilon, centred);
          });
          std::vector<float> y(x.size());
          REQUIRE(norm(y, x, d, w, *k) == Status::ok);
          CHECK(bits({y.data(), y.size()}) == expected);
          REQUIRE(norm(x, x, d, w, *k) == Status::ok);
          CHECK(bits({x.data(), x.size()}) == expected);
        }
      }
    }
  }
}

TEST_CASE("means, sums and activations of rows", "[layers]") {
  // An order of additions that another one would not give: 2^24 + 1 + 1 is 2^24 from the left.
  std::vector<float> rows = {16777216.0f, -0.5f, 1.0f, -0.5f, 1.0f, 3.0f}, out(2), x = {1.0f, -2.0f, 4.0f};
  REQUIRE(mean(out, rows) == Status::ok);
  CHECK(out[0] == 16777216.0f * (1.0f / 3.0f));
  CHECK(out[1] == 2.0f * (1.0f / 3.0f));
  REQUIRE(mean({rows.data(), 2}, rows) == Status::ok);
  CHECK(rows[0] == out[0]);
  CHECK(rows[1] == out[1]);
  float tiny[] = {-1e-12f, 1e-12f}, small = 1.0f;
  REQUIRE(mean({&small, 1}, {tiny, 2}) == Status::ok);
  CHECK(bits_of(small) == 0);
  tiny[1] = -1e-13f;  // their mean is below 2^-40
  REQUIRE(mean({&small, 1}, {tiny, 2}) == Status::ok);
  CHECK(bits_of(small) == 0);
  CHECK(mean(out, {rows.data(), 5}) == Status::bad_argument);
  CHECK(mean(out, {}) == Status::bad_argument);
  CHECK(mean({}, rows) == Status::bad_argument);
  CHECK(mean({nullptr, 2}, rows) == Status::bad_argument);

  REQUIRE(add(x, std::vector<float>{0.5f, 0.5f, -4.0f}) == Status::ok);
  CHECK(x == std::vector<float>{1.5f, -1.5f, 0.0f});
  CHECK(add(x, out) == Status::bad_argument);
  CHECK(add({}, {}) == Status::ok);

  std::vector<float> y = normal_rows(30, 51), wide = y;
  for (const Activation a : {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf, Activation::silu, Activation::gelu_quick,
                             Activation::tanh, Activation::none}) {
    std::vector<float> z = y;
    const auto expected = by_rows(z, 10, [&](const spec::Floats& row) { return activated(row, a); });
    REQUIRE(activate(z, 10, a) == Status::ok);
    CHECK(bits({z.data(), z.size()}) == expected);
  }
  wide[0] = 1e6f;  // a row shares an exponent, and the next one has its own
  std::vector<float> other = y;
  REQUIRE(activate(wide, 10, Activation::silu) == Status::ok);
  REQUIRE(activate(other, 10, Activation::silu) == Status::ok);
  CHECK(bits_of(wide[1]) != bits_of(other[1]));
  CHECK(bits({wide.data() + 10, 20}) == bits({other.data() + 10, 20}));
  CHECK(activate(y, 11, Activation::silu) == Status::bad_argument);
  CHECK(activate(y, 0, Activation::silu) == Status::bad_argument);
  CHECK(activate(y, 10, static_cast<Activation>(8)) == Status::bad_argument);

  const Kernels& k = *find_kernels("portable");
  const std::vector<float> gain(10, 1.0f);
  const auto refused = [&](std::uint32_t d, NormWeights w, Span<float> to) { return norm(to, y, d, w, k); };
  CHECK(refused(10, {gain.data(), nullptr, 1e-5f, false}, y) == Status::ok);
  CHECK(refused(0, {gain.data(), nullptr, 1e-5f, false}, y) == Status::bad_argument);
  CHECK(refused(11, {gain.data(), nullptr, 1e-5f, false}, y) == Status::bad_argument);
  CHECK(refused(10, {gain.data(), nullptr, 0.0f, false}, y) == Status::bad_argument);
  CHECK(refused(10, {gain.data(), gain.data(), 1e-5f, false}, y) == Status::bad_argument);
  CHECK(refused(10, {gain.data(), nullptr, 1e-5f, false}, {y.data(), 20}) == Status::bad_argument);
  CHECK(refused(10, {gain.data(), nullptr, 1e-5f, false}, {nullptr, 30}) == Status::bad_argument);
  CHECK(refused(10, {odd(gain.data()), nullptr, 1e-5f, false}, y) == Status::misaligned);
  const std::vector<float> before = y;
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    REQUIRE(std::fesetround(mode) == 0);
    const Status statuses[] = {refused(10, {gain.data(), nullptr, 1e-5f, false}, y), add(y, y), mean({y.data(), 10}, y),
                               activate(y, 10, Activation::silu)};
    std::fesetround(FE_TONEAREST);
    for (const Status s : statuses) CHECK(s == Status::rounding_mode);
  }
  CHECK(y == before);
}
