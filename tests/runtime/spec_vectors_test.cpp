// SPDX-License-Identifier: Apache-2.0
// spec_vectors_test.cpp: the vectors and answers that SPEC.md shows, read out of it, against the portable table, the
// scalars, the tokenizer, the sampler, and whole runs on every table. reference/spec_vectors.py wrote them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "platform/linux/map_file.hpp"
#include "platform/select.hpp"
#include "quant/convert.hpp"
#include "runtime/activation.hpp"
#include "runtime/digest.hpp"
#include "runtime/generation.hpp"
#include "runtime/numerics.hpp"
#include "runtime/sampler.hpp"
#include "runtime/session.hpp"
#include "runtime/tokenizer.hpp"
#include "tests/runtime/spec_vectors.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::test;

namespace {

// One prepared vector of the portable table.
struct Prepared {
  std::vector<float> memory;
  Activations a;
  Prepared(std::size_t cols, std::uint32_t group) {
    const auto n = static_cast<std::uint32_t>(cols);
    memory.resize(static_cast<std::size_t>(activations_bytes(kernels_portable.traits, n, group, 1)) / 4 + 64);
    a = make_activations(memory.data(), kernels_portable.traits, n, group, 1);
  }
  void show(Vector& v) const {
    v.are("q", std::vector<int>(a.values, a.values + a.cols));
    v.is_float("scale", a.scales[0]);
    if (a.groups) v.are("p", std::vector<int>(a.exponents, a.exponents + a.groups));
  }
};

const float* or_null(const std::vector<float>& x) { return x.empty() ? nullptr : x.data(); }

std::uint32_t crc_of(const std::vector<std::uint16_t>& table) {
  return kernels_portable.crc32c(0, table.data(), table.size() * 2);
}

template <class Table>
void show_table(Vector& v, const char* name, const Table& table, std::initializer_list<int> shown) {
  for (const int i : shown) v.is_integer(name + ('[' + std::to_string(i) + ']'), table[i]);
}

// ---- 2.1 to 2.10 --------------------------------------------------------------------------------------------------

void round_numbers(Vector& v) {
  std::vector<int> got;
  for (const float x : v.floats("x")) got.push_back(round_to_int(x));
  v.are("round", got);
}

void multiply_add(Vector& v) { v.is_float("a*b+c", v.number("a") * v.number("b") + v.number("c")); }

void snap_numbers(Vector& v) {
  std::vector<float> x = v.floats("x");
  for (float& y : x) y = snap(y);
  v.are_floats("snap", x.data(), x.size());
}

void limit_number(Vector& v) { v.is_float("limit", activation_scale(v.number("x"))); }

void block_float_of(Vector& v) {
  std::uint32_t peak = 0;
  const std::vector<float> x = v.floats("x");
  for (const float y : x) peak = magnitude_bits(y) > peak ? magnitude_bits(y) : peak;
  const BlockFloat b = block_float(peak);
  if (b.zero) return v.is_integer("zero", 1);
  std::vector<int> s;
  for (const float y : x) s.push_back(to_s16(y, b.to_s16_scale));
  v.is_integer("e", b.exponent);
  v.is_integer("M", b.max);
  v.are("s", s);
}

void quantise(Vector& v) {
  const std::vector<float> x = v.floats("x");
  const Prepared p(x.size(), v.integer<std::uint32_t>("group"));
  kernels_portable.quantize_s8r_f32(p.a, 0, x.data());
  p.show(v);
}

void norm(Vector& v) {
  const std::vector<float> x = v.floats("x"), gain = v.floats("gain");
  const bool centred = v.what == "layer_norm";
  const std::vector<float> bias = centred ? v.floats("bias") : std::vector<float>();
  const Prepared p(x.size(), v.integer<std::uint32_t>("group"));
  kernels_portable.norm_s8r_f32(p.a, 0, x.data(), {or_null(gain), or_null(bias), v.number("epsilon"), centred});
  p.show(v);
}

void normed(Vector& v) {
  std::vector<float> x = v.floats("x");
  const std::vector<float> gain = v.floats("gain"), bias = v.floats("bias");
  kernels_portable.norm_f32_f32(
      x.data(), x.data(), static_cast<std::uint32_t>(x.size()),
      {or_null(gain), or_null(bias), v.number("epsilon"), v.words("kind").at(0) == "layer"});
  v.are_floats("y", x.data(), x.size());
}

Activation activation_of(const Vector& v) {
  const char* const names[] = {"relu", "gelu_tanh", "gelu_erf", "silu", "gelu_quick", "tanh", "none"};
  for (std::size_t i = 0; i < std::size(names); ++i)
    if (v.words("function").at(0) == names[i]) return static_cast<Activation>(i);
  broken("function");
}

void factor_table(Vector& v) {
  const Activation a = activation_of(v);
  const std::uint16_t* table = a == Activation::tanh ? kTanh : activation_factor(a);
  show_table(v, "S", table, {0, 1, 256});
  v.is_hex("crc", crc_of({table, table + 257}));
}

void activation(Vector& v) {
  std::vector<float> gate = v.floats("gate"), up = v.floats("up");
  const Prepared p(gate.size(), v.integer<std::uint32_t>("group"));
  gate.resize(gate.size() + 8);
  if (!up.empty()) up.resize(gate.size());
  kernels_portable.gate_s8r_f32(p.a, 0, gate.data(), or_null(up), activation_factor(activation_of(v)));
  p.show(v);
}

void activated(Vector& v) {
  std::vector<float> x = v.floats("x");
  activate(x.data(), static_cast<std::uint32_t>(x.size()), activation_of(v));
  v.are_floats("y", x.data(), x.size());
}

void power_table(Vector& v) {
  std::vector<std::uint16_t> t;
  for (int i = 0; i < 256; ++i)
    t.push_back(static_cast<std::uint16_t>((kExp2High[i >> 4] * kExp2Low[i & 15] + (1 << 14)) >> 15));
  show_table(v, "T", t, {0, 17, 255});
  v.is_hex("crc", crc_of(t));
}

void sine_table(Vector& v) {
  std::vector<std::uint16_t> w;
  for (std::uint32_t i = 0; i <= 128; ++i) w.push_back(static_cast<std::uint16_t>(sin_cos(i << 23).sine));
  show_table(v, "W", w, {1, 127, 128});
  v.is_hex("crc", crc_of(w));
}

void sine(Vector& v) {
  const SinCos sc = sin_cos(static_cast<std::uint32_t>(std::stoul(v.words("phase").at(0), nullptr, 16)));
  v.is_integer("sine", sc.sine);
  v.is_integer("cosine", sc.cosine);
}

struct Turn {
  std::vector<std::int16_t> cosine_sine;
  Rotation rotation{nullptr, 0, false};
  explicit Turn(const Vector& v) {
    for (const auto phase : v.integers<std::uint32_t>("phases")) {
      const SinCos sc = sin_cos(phase * v.integer<std::uint32_t>("position"));
      cosine_sine.insert(cosine_sine.end(), {sc.cosine, sc.sine});
    }
    if (cosine_sine.empty()) return;
    rotation = {cosine_sine.data(), static_cast<std::uint16_t>(cosine_sine.size() / 2),
                v.words("pairing").at(0) == "halves"};
  }
};

// A block of the portable table's cache: keys in rows, values in columns.
struct Block {
  static constexpr std::uint32_t kCapacity = 16;
  std::vector<std::int8_t> keys, values, exponents;
  std::vector<std::uint8_t> mantissas;
  KvBlock block;
  explicit Block(std::size_t head_dim)
      : keys(kCapacity * round_up(static_cast<std::uint32_t>(head_dim), 4)),
        values(kCapacity * head_dim),
        exponents(4 * kCapacity),
        mantissas(kCapacity),
        block{keys.data(),
              values.data(),
              mantissas.data(),
              exponents.data(),
              exponents.data() + kCapacity,
              exponents.data() + 2 * kCapacity,
              exponents.data() + 3 * kCapacity,
              kCapacity,
              static_cast<std::uint32_t>(head_dim),
              static_cast<std::uint32_t>(head_dim)} {}
  Block(Block&&) = default;  // the bytes stay where they are
};

void query(Vector& v) {
  const std::vector<float> x = v.floats("x");
  const Turn turn(v);
  const Prepared p(x.size(), 0);
  kernels_portable.query_s8r_f32(p.a, 0, x.data(), turn.rotation);
  p.show(v);
}

void key(Vector& v) {
  const std::vector<float> x = v.floats("x");
  const Turn turn(v);
  const auto offset = v.integers<std::int16_t>("offset");
  const Block b(x.size());
  kernels_portable.store_key(b.block, 0, x.data(), turn.rotation,
                             {offset.empty() ? nullptr : offset.data(), v.integer<std::int8_t>("offset_e")});
  v.are("q", std::vector<int>(b.keys.begin(), b.keys.begin() + static_cast<std::ptrdiff_t>(x.size())));
  v.is_integer("m", b.mantissas[0]);
  v.is_integer("ek", b.block.key_exponents[0]);
}

void value(Vector& v) {
  const std::vector<float> x = v.floats("x");
  const Block b(x.size());
  kernels_portable.store_value(b.block, 0, x.data());
  std::vector<int> q;
  for (std::size_t d = 0; d < x.size(); ++d) q.push_back(b.values[d * Block::kCapacity]);
  v.are("q", q);
  v.is_integer("ev", b.block.value_exponents[0]);
}

void alibi(Vector& v) {
  std::vector<std::int32_t> bias;
  for (const std::int32_t distance : v.integers("distances")) bias.push_back(alibi_bias(v.integer("slope"), distance));
  v.are("bias", bias);
}

void relative_column(Vector& v) {
  std::vector<std::uint32_t> column;
  for (const std::int32_t ahead : v.integers("ahead"))
    column.push_back(
        bias_column(ahead, v.integer<std::uint32_t>("n_distances"), v.words("mask").at(0) == "two_way"));
  v.are("column", column);
}

// A session of an image on one table, in the table's layout.
struct Running {
  quant::ImageBytes bytes;
  Model model;
  Plan plan;
  Session session;
  std::unique_ptr<std::byte[]> memory;
  Running(const Model& image, const Kernels& k, const std::string& name) {
    if (quant::relayout(bytes, image, k.traits.preferred, kernels_portable) ||
        open(model, {bytes.data(), bytes.size()}, k) != Status::ok ||
        make_plan(plan, model.config(), k.traits) != Status::ok)
      broken(name);
    memory.reset(new std::byte[plan.arena_bytes + 64]);
    std::byte* arena = memory.get();
    while (reinterpret_cast<std::uintptr_t>(arena) % 64) ++arena;
    if (create(session, model, plan, k, {arena, static_cast<std::size_t>(plan.arena_bytes)}) != Status::ok) broken(name);
  }
};

// The first and the last key that a position sees, as the pattern's tap shows them, in a model of one layer.
struct SeenKeys {
  std::uint32_t position, first = ~0u, last = 0;
  static void take(void* context, std::uint32_t, std::uint32_t, std::uint32_t position, std::uint32_t first,
                   Span<const float> weights) {
    auto& seen = *static_cast<SeenKeys*>(context);
    if (position != seen.position) return;
    seen.first = std::min(seen.first, first);
    seen.last = std::max(seen.last, first + static_cast<std::uint32_t>(weights.size()) - 1);
  }
};

void keys_seen(Vector& v) {
  StackConfig c;
  c.use = Use::encode;
  c.mask = v.words("mask").at(0) == "two_way" ? Mask::two_way : Mask::causal;
  c.input = Input::vectors;
  c.output = Output::vectors;
  c.tied_unembedding = 0;
  c.position = Position::none;
  c.flags = kAttentionGainFolded | kFfnGainFolded | kFinalGainFolded;
  c.d_model = c.d_ff = c.head_dim = 4;
  c.n_layers = c.n_heads = c.n_kv_heads = 1;
  c.max_seq = v.integer<std::uint32_t>("n");
  c.window = v.integer<std::uint32_t>("window");
  c.attention_scale = 1.0f;
  quant::TensorSection tensors(c, Layout::row);
  quant::ImageBytes image;
  for_each_slot(c, [&](const TensorSlot& s) {
    quant::QuantizedMatrix m;
    m.rows = s.rows;
    m.cols = s.cols;
    m.weights.resize(std::size_t{m.rows} * m.cols);
    m.scales.assign(m.rows, 1.0f);
    tensors.put(s.role, s.layer, m);
  });
  quant::write_image(image, c, tensors, {}, {}, kernels_portable);
  Model model;
  if (open(model, {image.data(), image.size()}, kernels_portable) != Status::ok) broken("keys_seen");
  Running on(model, kernels_portable, "keys_seen");
  SeenKeys seen{v.integer<std::uint32_t>("position")};
  on.session.set_tap({SeenKeys::take, &seen});
  const std::vector<float> x(std::size_t{c.max_seq} * c.d_model, 1.0f);
  const RowSink nowhere{[](void*, std::uint32_t, Span<const float>) {}, nullptr};
  if (on.session.encode({{}, {}, x}, nowhere) != Status::ok) broken("keys_seen");
  v.is_integer("first", seen.first);
  v.is_integer("last", seen.last);
}

// The keys and values of a vector, and its query.
struct Attended {
  const Vector& v;
  std::vector<std::int32_t> q, keys, m, ek, values, ev;
  Prepared query;
  explicit Attended(const Vector& vector)
      : v(vector),
        q(v.integers("q")),
        keys(v.integers("keys")),
        m(v.integers("m")),
        ek(v.integers("ek")),
        values(v.integers("values")),
        ev(v.integers("ev")),
        query(q.size(), 0) {
    for (std::size_t d = 0; d < q.size(); ++d) query.a.values[d] = static_cast<std::int8_t>(q[d]);
    query.a.scales[0] = v.number("scale_q");
  }
  BlockQueries queries(std::size_t visible) const {
    const auto n = static_cast<std::uint32_t>(visible);
    BlockQueries queries{};
    queries.queries = query.a;
    queries.n = queries.per_position = 1;
    queries.visible = queries.visible_limit = n;
    queries.factor = v.number("attention_scale") * 1.44269504f;
    return queries;
  }
  // n of the keys, from `at` on.
  Block block(std::size_t at, std::size_t n) const {
    const std::size_t head_dim = q.size();
    Block b(head_dim);
    for (std::size_t j = 0; j < n; ++j, ++at) {
      for (std::size_t d = 0; d < head_dim; ++d) {
        b.block.keys[j * round_up(b.block.head_dim, 4) + d] = static_cast<std::int8_t>(keys[at * head_dim + d]);
        b.block.values[d * Block::kCapacity + j] = static_cast<std::int8_t>(values[at * head_dim + d]);
      }
      b.block.key_mantissas[j] = static_cast<std::uint8_t>(m[at]);
      const auto larger = [j](std::int8_t* maxima, std::int8_t e) {
        return j && maxima[j - 1] > e ? maxima[j - 1] : e;
      };
      b.block.key_exponents[j] = static_cast<std::int8_t>(ek[at]);
      b.block.key_exponent_maxima[j] = larger(b.block.key_exponent_maxima, b.block.key_exponents[j]);
      b.block.value_exponents[j] = static_cast<std::int8_t>(ev[at]);
      b.block.value_exponent_maxima[j] = larger(b.block.value_exponent_maxima, b.block.value_exponents[j]);
    }
    return b;
  }
  // N, D and ref of one block, from the weights that the table shows.
  void show(Vector& to, const BlockQueries& queries, const Block& b) const {
    std::vector<float> numerators(q.size());
    float denominator = 0.0f;
    std::int32_t reference = -(1 << 24), ref = 0;
    std::uint16_t weights[kBlockKeys];
    kernels_portable.attend_block({numerators.data(), &denominator, &reference}, queries, b.block, weights, &ref);
    std::int64_t sum = 0;
    std::vector<std::int64_t> weighed(q.size());
    const std::uint32_t visible = queries.visible;
    for (std::uint32_t j = queries.hidden > 0 ? static_cast<std::uint32_t>(queries.hidden) : 0; j < visible; ++j) {
      sum += weights[j];
      const int fold = b.block.value_exponent_maxima[visible - 1] - b.block.value_exponents[j];
      for (std::size_t d = 0; d < q.size(); ++d)
        weighed[d] += (weights[j] >> (fold > 31 ? 31 : fold)) * b.block.values[d * Block::kCapacity + j];
    }
    to.are("N", weighed);
    to.is_integer("D", sum);
    to.is_integer("ref", ref);
  }
};

void attend(Vector& v) {
  const Attended a(v);
  const std::size_t head_dim = a.q.size();
  std::vector<float> numerators(head_dim), output(head_dim);
  float denominator = 0.0f;
  std::int32_t reference = -(1 << 24);
  std::size_t at = 0;
  for (const auto n : v.integers<std::uint32_t>("blocks")) {
    const Block b = a.block(at, n);
    const BlockQueries queries = a.queries(n);
    kernels_portable.attend_block({numerators.data(), &denominator, &reference}, queries, b.block, nullptr, nullptr);
    at += n;
    if (at == a.m.size()) a.show(v, queries, b);  // what is shown of a block is of the last one
  }
  kernels_portable.attend_finish(output.data(), numerators.data(), denominator, static_cast<std::uint32_t>(head_dim));
  v.are_floats("numerator", numerators.data(), head_dim);
  v.is_float("denominator", denominator);
  v.are_floats("output", output.data(), head_dim);
}

void attend_window(Vector& v) {
  const Attended a(v);
  BlockQueries queries = a.queries(a.m.size());
  queries.hidden = v.integer("hidden");
  queries.keys_differ = true;
  a.show(v, queries, a.block(0, a.m.size()));
}

void attend_biased(Vector& v) {
  const Attended a(v);
  const std::size_t n = a.m.size();
  auto bias = v.integers("bias");
  std::reverse(bias.begin(), bias.end());  // that of key k lies k in front
  BlockQueries queries = a.queries(n);
  queries.bias = bias.data() + n - 1;
  queries.keys_differ = true;
  a.show(v, queries, a.block(0, n));
}

// Row 0 of a matrix of one row, padded with zeros and scales of 1.
struct Row {
  std::vector<std::int8_t> weights;
  std::vector<float> scales = std::vector<float>(4, 1.0f), bias = std::vector<float>(4);
  std::vector<std::uint8_t> multipliers;
  Tensor tensor;
  explicit Row(const Vector& v) {
    const auto w = v.integers<std::int8_t>("w");
    const auto m = v.integers<std::uint8_t>("multipliers");
    tensor.rows = 1;
    tensor.cols = static_cast<std::uint32_t>(w.size());
    tensor.group = v.integer<std::uint16_t>("group");
    weights.resize(4 * padded_cols(Layout::row, tensor.cols));
    std::copy(w.begin(), w.end(), weights.begin());
    scales[0] = v.number("scale");
    multipliers.resize(4 * m.size(), 1);
    for (std::size_t g = 0; g < m.size(); ++g) multipliers[4 * g] = m[g];
    tensor.weights = weights.data();
    tensor.scales = scales.data();
    if (!m.empty()) tensor.multipliers = multipliers.data();
  }
};

void product(Vector& v) {
  Row row(v);
  const std::vector<float> bias = v.floats("bias");
  if (!bias.empty()) {
    row.bias[0] = bias[0];
    row.tensor.bias = row.bias.data();
  }
  const auto q = v.integers<std::int8_t>("q");
  const auto exponents = v.integers<std::uint8_t>("p");
  const Prepared p(q.size(), row.tensor.group);
  std::copy(q.begin(), q.end(), p.a.values);
  std::copy(exponents.begin(), exponents.end(), p.a.exponents);
  p.a.scales[0] = v.number("scale_x");
  float y[4];
  kernels_portable.matmul_f32_s8r_s8c(y, p.a, row.tensor, {1, 0, 4, 4, false});
  v.is_float("out", y[0]);
}

void embedding(Vector& v) {
  const Row row(v);
  std::vector<float> x(row.tensor.cols);
  kernels_portable.embed_f32_s8c(x.data(), row.tensor, 0);
  v.are_floats("x", x.data(), x.size());
}

void exponential(Vector& v) { v.is_float("exp_f32", exp_f32(v.number("x"))); }

// ---- 3.1 to 3.3, and part 6 ---------------------------------------------------------------------------------------

struct Opened {
  MappedFile file;
  Model model;
  Tokenizer tokenizer;
  explicit Opened(const std::string& name) {
    const std::string path = HEED_SOURCE_DIR "/tests/golden/" + name;
    if (const char* error = file.open(path.c_str())) broken(path + ": " + error);
    if (open(model, file.bytes(), kernels_portable) != Status::ok || verify(model, kernels_portable) != Status::ok ||
        (!model.tokenizer().empty() &&
         open(tokenizer, model.tokenizer(), model.config().main().vocab_size) != Status::ok))
      broken(path + " is refused");
  }
  std::vector<Token> encode(const std::string& text, bool bos = true, bool eos = false) const {
    std::vector<Token> tokens(Tokenizer::max_tokens(text.size()));
    std::vector<std::uint32_t> scratch(Tokenizer::scratch_bytes(text.size()) / 4 + 1);
    std::uint32_t n = 0;
    const Status s = tokenizer.encode(n, {text.data(), text.size()}, {bos, eos}, tokens,
                                      {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4});
    if (s != Status::ok) broken(to_string(s));
    tokens.resize(n);
    return tokens;
  }
  std::string decode(const std::vector<Token>& tokens) const {
    StreamDecoder decoder;
    std::string text;
    std::vector<char> buffer(StreamDecoder::out_bytes(tokenizer));
    for (const Token t : tokens) {
      std::uint32_t n = 0;
      if (decoder.push(n, tokenizer, t, buffer) != Status::ok) broken("a token that is none");
      text.append(buffer.data(), n);
    }
    char rest[3];
    text.append(rest, decoder.flush(rest));
    return text;
  }
};

const Opened& tiny() {
  static const Opened image("tiny.heed");
  return image;
}

Words quoted(const std::string& text) { return words_of('"' + text + '"'); }

void encode(Vector& v) { v.are("tokens", tiny().encode(v.text("text"))); }
void decode(Vector& v) { v.is("text", quoted(tiny().decode(v.integers<Token>("tokens")))); }

// What a program prints: the rule of 3.3 with the library's decoder.
void printed(Vector& v) {
  std::vector<Token> tokens = v.integers<Token>("prompt");
  for (const Token t : v.integers<Token>("tokens")) tokens.push_back(t);
  const Tokenizer& tokenizer = tiny().tokenizer;
  if (tokens.back() == tokenizer.eos() || tokens.back() == tokenizer.bos()) tokens.pop_back();
  std::vector<Token> shown;
  for (const Token t : tokens)
    if (t != tokenizer.bos()) shown.push_back(t);
  v.is("text", quoted(tiny().decode(shown)));
}

// The generator shows its outputs only through what a sampler draws; 24 bits of each are compared: of 2^20 equal
// weights u * 2^20 / 2^24 is the token.
void splitmix64(Vector& v) {
  const std::uint32_t n = 1u << 20;
  const std::vector<float> logits(n);
  std::vector<std::uint32_t> scratch(n);
  Sampler sampler;
  SamplerConfig config;
  config.temperature = 1.0f;
  config.seed = v.integer<std::uint64_t>("seed");
  if (create(sampler, config, n, kernels_portable, {reinterpret_cast<std::byte*>(scratch.data()), n * 4}) != Status::ok)
    broken("splitmix64");
  Words got = v.out["outputs"];
  for (std::string& w : got) {
    Token token = kNoToken;
    if (sampler.pick(token, logits) != Status::ok) broken("splitmix64");
    if (static_cast<std::uint64_t>(token) != std::stoull(w, nullptr, 16) >> 44)
      w = "a number beginning with " + std::to_string(token);
  }
  v.is("outputs", got);
}

void weights(Vector& v) {
  const std::vector<float> logits = v.floats("logits");
  std::vector<std::uint32_t> w(logits.size());
  const float best = logits[kernels_portable.argmax(logits.data(), static_cast<std::uint32_t>(logits.size()))];
  kernels_portable.sample_weights(w.data(), logits.data(), static_cast<std::uint32_t>(w.size()), best,
                                  1.0f / v.number("temperature"));
  v.are("weights", w);
}

SamplerConfig sampling_of(const Vector& v) {
  SamplerConfig config;
  config.temperature = v.number("temperature");
  config.seed = v.integer<std::uint64_t>("seed");
  return config;
}

void pick(Vector& v) {
  const std::vector<float> logits = v.floats("logits");
  std::vector<std::uint32_t> scratch(logits.size());
  SamplerConfig config = sampling_of(v);
  config.top_k = v.integer<std::uint32_t>("top_k");
  config.top_p = v.number("top_p");
  Sampler sampler;
  if (create(sampler, config, static_cast<std::uint32_t>(logits.size()), kernels_portable,
             {reinterpret_cast<std::byte*>(scratch.data()), scratch.size() * 4}) != Status::ok)
    broken("pick");
  std::vector<Token> tokens(v.integer<std::uint32_t>("picks"));
  const auto suppressed = v.in.count("suppressed") ? v.integers<Token>("suppressed") : std::vector<Token>();
  for (Token& t : tokens)
    if (sampler.pick(t, logits, suppressed) != Status::ok) broken("pick");
  v.are("tokens", tokens);
}

void digest(Vector& v) {
  const auto tokens = v.integers<Token>("tokens");
  const std::vector<float> logits = v.floats("logits");
  const std::size_t n = logits.size() / tokens.size();
  Digest d;
  for (std::size_t i = 0; i < tokens.size(); ++i) d.add(kernels_portable, tokens[i], {logits.data() + i * n, n});
  v.is_hex("digest", d.value());
}

void row_digest(Vector& v) {
  const auto sequences = v.integers<std::uint32_t>("sequences");
  const std::vector<float> rows = v.floats("rows");
  std::size_t count = 0, at = 0;
  for (const std::uint32_t n : sequences) count += n;
  const std::size_t width = rows.size() / count;
  Digest d;
  for (const std::uint32_t n : sequences)
    for (std::uint32_t position = 0; position < n; ++position, at += width)
      d.add_row(kernels_portable, position, {rows.data() + at, width});
  v.is_hex("digest", d.value());
}

// Calls run(table) for each that runs here, up to the first that differs.
template <class Run>
void on_every_table(Vector& v, Run run) {
  int tables = 0;
  for (const Kernels* k : all_kernels()) {
    if (!is_runnable(*k)) continue;
    ++tables;
    run(*k);
    if (!v.differs.empty()) v.differs += " on " + std::string(k->traits.name);
    if (!v.differs.empty()) return;
  }
  if (tables == 0) v.differs = "no table";
}

// A whole run by the rules of 3.3, on every table that runs here.
void answer(Vector& v) {
  const std::string& name = v.words("image").at(0);
  const Opened image(name);
  const std::uint32_t vocab_size = image.model.config().main().vocab_size, count = v.integer<std::uint32_t>("n");
  Generation rules;
  if (open(rules, image.model.generation(), vocab_size, image.tokenizer.bos(), image.tokenizer.eos()) != Status::ok)
    broken(name);
  std::vector<Token> prompt = image.encode(v.text("text"), false), source;
  prompt.insert(prompt.begin(), rules.first().begin(), rules.first().end());
  v.are("prompt", prompt);
  std::vector<std::uint8_t> types;
  if (v.in.count("source")) {
    source = image.encode(v.text("source"), true, true);
    v.are("source_tokens", source);
    for (std::size_t i = 0; i < source.size(); ++i) types.push_back(i % 2);
  }
  on_every_table(v, [&](const Kernels& k) {
    Running on(image.model, k, name);
    std::vector<std::uint32_t> scratch(vocab_size);
    Sampler sampler;
    Span<const float> logits;
    if ((!source.empty() && on.session.set_source({source, types, {}}) != Status::ok) ||
        create(sampler, sampling_of(v), vocab_size, k,
               {reinterpret_cast<std::byte*>(scratch.data()), 4 * scratch.size()}) != Status::ok ||
        on.session.prefill(logits, prompt) != Status::ok)
      broken(name);
    v.are_floats("logits", logits.data(), logits.size());
    Digest digest;
    std::vector<Token> tokens;
    for (;;) {
      Token token = kNoToken;
      if (sampler.pick(token, logits, rules.suppressed()) != Status::ok) broken(name);
      digest.add(k, token, logits);
      tokens.push_back(token);
      if (rules.ends_text(token) || tokens.size() == count || on.session.position() == on.session.max_seq()) break;
      if (on.session.step(logits, token) != Status::ok) broken(name);
    }
    v.are("tokens", tokens);
    v.is_hex("digest", digest.value());
  });
}

// The row that a pooled stack gives of the frames that SPEC.md, part 6, numbers.
void encoded(Vector& v) {
  const std::string& name = v.words("image").at(0);
  const Opened image(name);
  const std::uint32_t d_input = image.model.config().main().d_input, n = v.integer<std::uint32_t>("frames");
  std::vector<float> x;
  for (std::uint32_t i = 0; i < n; ++i)
    for (std::uint32_t d = 0; d < d_input; ++d)
      x.push_back(static_cast<float>(static_cast<int>((131 * i + 37 * d) % 255) - 127) / 64.0f);
  on_every_table(v, [&](const Kernels& k) {
    Running on(image.model, k, name);
    Span<const float> row;
    if (on.session.encode(row, {{}, {}, x}) != Status::ok) broken(name);
    v.are_floats("logits", row.data(), row.size());
  });
}

struct {
  const char* what;
  void (*compute)(Vector&);
  int seen;
} g_vectors[] = {{"round", round_numbers, 0},
                 {"multiply_add", multiply_add, 0},
                 {"snap", snap_numbers, 0},
                 {"limit", limit_number, 0},
                 {"block_float", block_float_of, 0},
                 {"quantise", quantise, 0},
                 {"rms_norm", norm, 0},
                 {"layer_norm", norm, 0},
                 {"normed", normed, 0},
                 {"factor_table", factor_table, 0},
                 {"activation", activation, 0},
                 {"activated", activated, 0},
                 {"power_table", power_table, 0},
                 {"sine_table", sine_table, 0},
                 {"sine", sine, 0},
                 {"query", query, 0},
                 {"key", key, 0},
                 {"value", value, 0},
                 {"keys_seen", keys_seen, 0},
                 {"alibi", alibi, 0},
                 {"relative_column", relative_column, 0},
                 {"attend", attend, 0},
                 {"attend_window", attend_window, 0},
                 {"attend_biased", attend_biased, 0},
                 {"product", product, 0},
                 {"embedding", embedding, 0},
                 {"exp", exponential, 0},
                 {"encode", encode, 0},
                 {"decode", decode, 0},
                 {"printed", printed, 0},
                 {"splitmix64", splitmix64, 0},
                 {"weights", weights, 0},
                 {"pick", pick, 0},
                 {"digest", digest, 0},
                 {"row_digest", row_digest, 0},
                 {"answer", answer, 0},
                 {"encoded", encoded, 0}};

}  // namespace

int main() {
  int passed = 0, failed = 0;
  const auto fail = [&failed](const Vector& v, const std::string& why) {
    ++failed;
    std::printf("FAILED: SPEC.md:%d: %s: %s\n", v.line, v.what.c_str(), why.c_str());
  };
  for (Vector& v : read_vectors(HEED_SOURCE_DIR "/SPEC.md")) {
    bool known = false;
    for (auto& g : g_vectors) {
      if (v.what != g.what) continue;
      known = true;
      ++g.seen;
      g.compute(v);
    }
    if (!known) {
      fail(v, "nothing computes this");
      continue;
    }
    if (v.differs.empty() && v.computed.size() != v.out.size()) v.differs = "names are shown that nothing computes";
    for (const auto& [name, words] : v.wrong)
      if (v.out[name] == words) v.differs = "the wrong reading of " + name + " is right";
    if (v.differs.empty()) {
      ++passed;
    } else {
      fail(v, v.differs);
    }
  }
  for (const auto& g : g_vectors) {
    if (g.seen) continue;
    ++failed;
    std::printf("FAILED: SPEC.md shows no %s\n", g.what);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
