// SPDX-License-Identifier: Apache-2.0
// model_cases.cpp: every configuration that check_config takes, in small, with weights in many manners.
#include "tests/differential/model_cases.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "platform/linux/thread_pool.hpp"
#include "platform/select.hpp"
#include "platform/tables.hpp"
#include "tests/differential/hard_vectors.hpp"
#include "tests/reference/spec_oracle.hpp"
#include "tests/support/arena.hpp"

namespace heed::differential {
namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "differential: %s\n", what);
  std::exit(2);
}

std::uint32_t width(Random& random, bool small) {
  switch (random.below(small ? 4 : 6)) {
    case 0: return 1 + random.below(8);
    case 1: return 16 * (1 + random.below(small ? 3 : 6)) + random.below(3) - 1;
    case 4: return 100 + random.below(60);
    default: return 8 + random.below(small ? 30 : 60);
  }
}

StackConfig random_config(Random& random, bool small) {
  StackConfig c;
  c.norm = random.below(2) ? Norm::layer : Norm::rms;
  c.activation = static_cast<Activation>(random.below(4));
  c.gated = random.below(3) != 0;
  c.d_model = width(random, small);
  c.d_ff = !small && random.below(40) == 0 ? 1025 + random.below(300) : width(random, small);
  c.n_layers = 1 + random.below(random.below(3) ? 2 : 3);
  constexpr std::uint32_t kDims[] = {1, 2, 3, 4, 5, 7, 8, 8, 9, 12, 15, 16, 17, 20, 31, 32, 33, 64, 65, 128, 255, 256};
  c.head_dim = kDims[random.below(random.below(8) || small ? 14 : 22)];
  c.n_kv_heads = 1 + random.below(c.head_dim > 40 ? 1 : 3);
  c.n_heads = c.n_kv_heads * (1 + random.below(c.head_dim > 40 ? 2 : 3));
  c.vocab_size = c.n_outputs = 1 + random.below(40);
  c.max_seq = 1;
  const std::uint32_t position = random.below(5);
  c.position = position < 2 ? Position::none : Position::rotary;
  c.position_table = position == 1;
  if (c.head_dim < 2 && c.position == Position::rotary) c.position = Position::none;
  if (c.position == Position::rotary) {
    c.rotary_dims = random.below(2) ? c.head_dim / 2 * 2 : 2 * (1 + random.below(c.head_dim / 2));
    c.rotary_pairing = static_cast<RotaryPairing>(random.below(2));
  }
  c.tied_unembedding = random.below(2) != 0;
  c.flags = random.below(8) | (random.below(2) ? kKeyOffset : 0);
  c.biases = random.below(3) ? random.below(256) : 0;
  if (c.norm == Norm::rms) c.biases &= ~kBiasNorm;
  constexpr std::uint16_t kGroups[] = {0, 0, 32, 32, 64, 128, 256};
  const bool grouped = random.below(3) != 0;
  for (int site = 0; site < 5; ++site) c.groups[site] = grouped ? kGroups[random.below(7)] : std::uint16_t{0};
  return c;
}

// How the numbers of one model are drawn.
struct Manner {
  enum { ordinary, spread, wild, extreme } kind;
  int exponent;  // of extreme
  explicit Manner(Random& random) {
    const std::uint32_t k = random.below(20);
    kind = k < 10 ? ordinary : k < 15 ? spread : k < 18 ? wild : extreme;
    exponent = hard_exponent(random);
  }
  float scale(Random& random, float usual) const {
    switch (kind) {
      case ordinary: return usual * (1.0f + 0.5f * random.uniform());
      case spread:
        return std::max(power(-40), std::min(power(39), usual * mantissa(random) * power(random.between(-12, 12))));
      case extreme: return power(exponent);
      default: return hard_magnitude(random);
    }
  }
};

quant::QuantizedMatrix random_matrix(Random& random, const TensorSlot& slot, const Manner& manner, bool sharp) {
  quant::QuantizedMatrix m;
  m.rows = slot.rows;
  m.cols = slot.cols;
  m.group = slot.group;
  const std::uint32_t weights = random.below(12), heavy = random.below(m.cols);
  for (std::uint32_t r = 0; r < m.rows; ++r) {
    const bool empty = random.below(16) == 0;
    for (std::uint32_t c = 0; c < m.cols; ++c) {
      int w = random.between(-127, 127);
      if (weights == 0) w = random.below(2) ? 127 : -127;
      if (weights == 1) w = random.between(-1, 1);
      if (weights == 2) w = random.below(8) ? 0 : w;
      if (weights == 3) w = c == heavy ? -127 : random.between(-3, 3);
      if (weights == 4) w = r % 2 ? 127 : -127;
      if (empty || weights == 11) w = 0;
      m.weights.push_back(static_cast<std::int8_t>(w));
    }
  }
  const float usual = (sharp ? 2.0f : 1.0f) / (73.0f * std::sqrt(static_cast<float>(m.cols)) * (m.group ? 8.0f : 1.0f));
  for (std::uint32_t r = 0; r < m.rows; ++r) m.scales.push_back(manner.scale(random, usual));
  const bool largest = random.below(8) == 0;
  for (std::uint32_t i = 0; i < m.rows * group_count(m.cols, m.group); ++i)
    m.multipliers.push_back(static_cast<std::uint8_t>(largest ? 15 : 1 + random.below(15)));
  if (slot.bias)
    for (std::uint32_t r = 0; r < m.rows; ++r)
      m.bias.push_back(random.below(6) == 0 ? (random.below(2) ? 0.0f : -0.0f)
                                            : sign(random) * manner.scale(random, 0.25f));
  return m;
}

// Gate and up of biases alone, the product of largest magnitude negative with M = 32767 behind it (2.5).
void plant_gate(Random& random, const StackConfig& c, quant::QuantizedMatrix& gate, quant::QuantizedMatrix& up) {
  const std::uint32_t row = random.below(c.d_ff);
  for (quant::QuantizedMatrix* m : {&gate, &up}) {
    std::fill(m->weights.begin(), m->weights.end(), std::int8_t{0});
    for (float& b : m->bias) b = random.uniform() * 0.01f + 0.02f;
  }
  plant_product(gate.bias[row], up.bias[row], random,
                {32767, random.between(-2, 6), random.between(-4, 4), -1.0f, false},
                [&](std::int64_t a, int e) { return spec::activated(a, e, static_cast<int>(c.activation)); });
}

quant::ImageBytes random_image(Random& random, StackConfig& c, Layout layout) {
  const Manner manner(random);
  c.norm_epsilon = random.below(2) ? 1e-5f : hard_magnitude(random);
  c.attention_scale = random.below(2) ? 1.0f / std::sqrt(static_cast<float>(c.head_dim)) : hard_magnitude(random);
  const bool planted = c.gated && (c.biases & kBiasFfnIn) && random.below(2);
  const int offset_level = random.below(3) ? 0 : random.between(-36, 38);
  quant::TensorSection tensors(c, layout);
  quant::QuantizedMatrix gate;
  for (const TensorEntry& e : tensors.directory()) {
    const TensorSlot slot = tensor_slot(c, e.role, e.layer);
    if (slot.type == ElementType::s8) {
      quant::QuantizedMatrix m = random_matrix(random, slot, manner, e.role == Role::w_query || e.role == Role::w_key);
      if (planted && e.role == Role::w_gate) {
        gate = m;
        continue;
      }
      if (planted && e.role == Role::w_up) {
        plant_gate(random, c, gate, m);
        tensors.put(Role::w_gate, e.layer, gate);
      }
      tensors.put(e.role, e.layer, m);
    } else if (slot.type == ElementType::f32) {
      std::vector<float> x = legal_vector(slot.cols, random);
      const bool gain = !is_norm_bias(e.role);
      for (float& v : x)
        if (manner.kind == Manner::ordinary) v = gain ? 1.0f + 0.5f * random.uniform() : 0.25f * random.uniform();
      for (float& v : x)
        if (v != 0.0f && std::fabs(v) < power(-40)) v = 0.0f;
      tensors.put_floats(e.role, e.layer, x.data());
    } else if (slot.type == ElementType::u32) {
      std::vector<std::uint32_t> phases;
      const bool usual = random.below(2) != 0;
      for (std::uint32_t i = 0; i < slot.cols; ++i)
        phases.push_back(usual             ? 683565276u >> (i < 28 ? i : 28)
                         : random.below(8) ? static_cast<std::uint32_t>(random.next())
                                           : random.below(16) << 28);
      tensors.put_phases(phases);
    } else {
      std::vector<std::int16_t> values;
      std::vector<std::int8_t> exponents;
      for (std::uint32_t i = 0; i < slot.rows * slot.cols; ++i)
        values.push_back(
            static_cast<std::int16_t>(random.below(8) ? random.between(-32767, 32767) : 32767 * random.between(-1, 1)));
      for (std::uint32_t i = 0; i < slot.rows; ++i)
        exponents.push_back(static_cast<std::int8_t>(offset_level + random.between(-3, 3)));
      tensors.put_key_offset(e.layer, values, exponents);
    }
  }
  quant::ImageBytes image;
  quant::write_image(image, c, tensors, {}, {}, *find_kernels("portable"));
  return image;
}

// A pool for each number of threads, alive to the end.
ThreadPool& pool(std::uint32_t threads) {
  static ThreadPool pools[3];
  static bool started[3] = {};
  if (!started[threads - 2]) started[threads - 2] = pools[threads - 2].start(threads);
  return pools[threads - 2];
}

}  // namespace

ModelCase::ModelCase(std::uint64_t seed, bool small, bool all, Layout only) {
  Random random(seed ^ 0x6D6F64656Cu);
  config = random_config(random, small);
  layout = all ? (random.below(4) ? Layout::packed : static_cast<Layout>(random.below(kLayoutCount))) : only;
  const std::uint32_t length = random.below(8);
  std::uint32_t n = 1 + random.below(8);
  if (length == 0) n = 60 + random.below(12);
  if (length == 1) n = 20 + random.below(30);
  if (length == 2 && random.below(3) == 0) n = 120 + random.below(40);
  if (small) n = std::min(n, length == 0 ? 70u : 20u);
  if (config.d_model * config.d_ff * config.n_layers > 30000) n = std::min(n, 12u);
  config.max_seq = n + (random.below(2) ? 0 : random.below(70));
  image = random_image(random, config, layout);
  max_seq = random.below(2) ? config.max_seq : n;
  std::uint32_t position = 0;
  while (position < n || stretches.empty()) {
    if (position > 0) position -= random.below(std::min(position, 70u) + 1);
    Stretch s{position, {}};
    const std::uint32_t take = random.below(3) ? n - position : 1 + random.below(n - position);
    for (std::uint32_t i = 0; i < take; ++i) s.tokens.push_back(static_cast<Token>(random.below(config.vocab_size)));
    position += take;
    stretches.push_back(s);
    if (stretches.size() == 3) break;
  }
}

std::uint64_t ModelCase::arena_bytes() const {
  std::uint64_t most = 0;
  for (const KernelTraits* traits : traits::kAll) {
    Plan plan;
    if (make_plan(plan, config, *traits, {max_seq, 4}) == Status::ok) most = std::max(most, plan.arena_bytes);
  }
  return most;
}

bool ModelCase::takes(const Kernels& kernels) const {
  return (kernels.traits.layouts >> static_cast<unsigned>(layout) & 1) != 0;
}

Words ModelCase::run(const Kernels& kernels, Random& how) const {
  Model model;
  Plan plan;
  if (open(model, {image.data(), image.size()}, kernels) != Status::ok) fail("an image does not open");
  if (how.below(16) == 0 && verify(model, kernels) != Status::ok) fail("an image does not verify");
  const std::uint32_t chunk = how.below(3) ? how.below(7) : how.below(80);
  if (make_plan(plan, model.config(), kernels.traits, {max_seq, chunk}) != Status::ok) fail("no plan");
  test::GuardedArena arena(plan.arena_bytes, plan.arena_align, test::Fill::random);
  Session session;
  if (create(session, model, plan, kernels, arena.span()) != Status::ok) fail("no session");
  const std::uint32_t threads = how.below(4) ? 1 : 2 + how.below(3);
  if (threads > 1) {
    Parallel parallel = pool(threads).parallel();
    if (how.below(2)) parallel.threshold = 0;
    session.set_parallel(parallel);
  }
  Words words;
  struct Seen {
    Words& words;
    const Kernels& kernels;
    std::size_t base;
  };
  const auto crc = [&](Span<const float> logits) { return kernels.crc32c(0, logits.data(), logits.size() * 4); };
  for (const Stretch& s : stretches) {
    if (s.position != session.position() && session.rewind(s.position) != Status::ok) fail("no rewind");
    std::size_t done = 0;
    const std::size_t base = words.size();
    words.resize(base + s.tokens.size(), kUnseen);
    while (done < s.tokens.size()) {
      const std::size_t left = s.tokens.size() - done;
      std::size_t n = how.below(2) ? left : 1 + how.below(static_cast<std::uint32_t>(left));
      Span<const float> logits;
      const Span<const Token> tokens(s.tokens.data() + done, n);
      Status status = Status::ok;
      switch (how.below(4)) {
        case 0:
          status = session.prefill(logits, tokens);
          words[base + done + n - 1] = crc(logits);
          break;
        case 1:
          n = 1;
          status = session.step(logits, s.tokens[done]);
          words[base + done] = crc(logits);
          break;
        default: {
          Seen seen{words, kernels, base + done - session.position()};
          status = session.evaluate(tokens, {[](void* context, std::uint32_t position, Span<const float> l) {
                                               auto& to = *static_cast<Seen*>(context);
                                               to.words[to.base + position] =
                                                   to.kernels.crc32c(0, l.data(), l.size() * 4);
                                             },
                                             &seen});
        }
      }
      if (status != Status::ok) fail(to_string(status));
      done += n;
    }
  }
  if (!arena.intact()) fail("a write outside the arena");
  return words;
}

Words ModelCase::oracle() const {
  spec::Decoder decoder(image.data(), image.size());
  Words words;
  for (const Stretch& s : stretches) {
    decoder.rewind(s.position);
    for (const Token token : s.tokens) {
      const std::vector<float> logits = decoder.step(token);
      words.push_back(spec::crc32c(0, logits.data(), logits.size() * 4));
    }
  }
  return words;
}

std::unique_ptr<Case> make_model(std::uint64_t seed) {
  return std::make_unique<ModelCase>(seed, false, true, Layout::packed);
}

}  // namespace heed::differential
