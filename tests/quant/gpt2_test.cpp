// SPDX-License-Identifier: Apache-2.0
// gpt2_test.cpp: the GPT-2 family from a Hugging Face folder to the answer: the sorting model, whose every intermediate
// PyTorch has written down, and random models of the family's shapes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "quant/convert.hpp"
#include "quant/readers/safetensors.hpp"
#include "runtime/block.hpp"
#include "runtime/numerics.hpp"
#include "tests/golden/tiny.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/images.hpp"
#include "tests/support/run.hpp"
#include "tests/support/test_data.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::quant;

namespace {

// ---- The partials: tensors [batch, position, n], or [batch, head, position, n]
// ---------------------------------------

using Numbers = std::vector<float>;
constexpr std::uint32_t kBatch = 3, kPositions = 11, kHeads = 3;

struct Partial {
  std::vector<std::uint64_t> shape;
  Numbers x;
  bool by_head() const { return shape.size() == 4; }
  bool masked() const { return shape.size() == 4 && shape[2] == shape[3]; }  // only keys up to the position count
  std::size_t at(std::uint32_t b, std::uint32_t head, std::uint32_t t) const {
    const std::size_t n = shape.back();
    return ((by_head() ? b * kHeads + head : shape[0] == 1 ? 0 : b) * kPositions + t) * n;
  }
  // What a position's vector is: with heads, those of all heads side by side.
  Numbers row(std::uint32_t b, std::uint32_t t) const {
    Numbers result;
    const std::size_t n = masked() ? t + 1 : shape.back();
    for (std::uint32_t head = 0; head < (by_head() ? kHeads : 1); ++head)
      result.insert(result.end(), x.begin() + static_cast<std::ptrdiff_t>(at(b, head, t)),
                    x.begin() + static_cast<std::ptrdiff_t>(at(b, head, t) + n));
    return result;
  }
};

struct Partials {
  std::map<std::string, Partial> tensors;

  // A set of the same shapes, to be filled.
  Partials same_shapes() const {
    Partials other = *this;
    for (auto& [name, p] : other.tensors) p.x.assign(p.x.size(), NAN);
    return other;
  }
  // The vector of a position, or of one head there; q, k and v come whole and are cut into heads.
  void put(const std::string& name, std::uint32_t b, std::uint32_t t, Span<const float> x) {
    Partial& p = tensors.at(name);
    const std::size_t n = p.shape.back();
    for (std::uint32_t head = 0; head * n < x.size(); ++head)
      std::copy(x.begin() + head * n, x.begin() + (head + 1) * n,
                p.x.begin() + static_cast<std::ptrdiff_t>(p.at(b, head, t)));
  }
  void put_head(const std::string& name, std::uint32_t b, std::uint32_t head, std::uint32_t t, Span<const float> x) {
    Partial& p = tensors.at(name);
    std::copy(x.begin(), x.end(), p.x.begin() + static_cast<std::ptrdiff_t>(p.at(b, head, t)));
  }
};

struct Sort {
  FloatModel model;
  Partials partials;
  std::vector<std::uint32_t> tokens[kBatch];
  ImageBytes image;
  bool found = false;
};

Sort& sort_model() {
  static Sort sort;
  static bool tried = false;
  if (tried) return sort;
  tried = true;
  if (test::data_path("gpt_sort/gpt-nano-sort-model.json").empty()) return sort;
  const std::string folder = HEED_GPT_SORT;
  const Error error = read_model(sort.model, folder + "/model");
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  SourceFile file;
  SafeTensors tensors;
  REQUIRE_FALSE(file.open(folder + "/partials.safetensors"));
  REQUIRE_FALSE(tensors.open(file.bytes()));
  for (const SafeTensor& t : tensors.tensors()) {
    Partial p{t.shape, {}};
    REQUIRE_FALSE(read_floats(p.x, t));
    if (t.name != "idx") {
      sort.partials.tensors[t.name] = p;
      continue;
    }
    REQUIRE(p.x.size() == kBatch * kPositions);
    for (std::size_t i = 0; i < p.x.size(); ++i)
      sort.tokens[i / kPositions].push_back(static_cast<std::uint32_t>(p.x[i]));
  }
  ConvertReport report;
  REQUIRE_FALSE(convert(sort.image, report, folder + "/model", "", {}, kernels_portable));
  sort.found = true;
  return sort;
}

Numbers probabilities(Span<const float> logits) {
  std::vector<double> p, log_p;
  softmax(p, log_p, logits);
  return Numbers(p.begin(), p.end());
}

// ---- The float reference's side
// ---------------------------------------------------------------------------------------

Partials float_partials(const Sort& sort) {
  static const std::map<Stage, std::string> kFirstLayer = {{Stage::token_embedding, "tok_emb"},
                                                           {Stage::position_embedding, "pos_emb"},
                                                           {Stage::embedding, "x"},
                                                           {Stage::attention_norm, "ln1"},
                                                           {Stage::query, "q"},
                                                           {Stage::key, "k"},
                                                           {Stage::value, "v"},
                                                           {Stage::scores, "att"},
                                                           {Stage::weights, "attSm"},
                                                           {Stage::gathered, "y"},
                                                           {Stage::attention_change, "yProj"},
                                                           {Stage::after_attention, "attnResid"},
                                                           {Stage::ffn_norm, "ln2"},
                                                           {Stage::up, "fc"},
                                                           {Stage::activated, "gelu"},
                                                           {Stage::ffn_change, "mlp"},
                                                           {Stage::after_ffn, "mlpResid"},
                                                           {Stage::final_norm, "ln_f"},
                                                           {Stage::logits, "lm_head"}};
  Partials out = sort.partials.same_shapes();
  FloatReference reference(sort.model, kPositions);
  for (std::uint32_t b = 0; b < kBatch; ++b) {
    reference.restart();
    Numbers qkv;
    reference.watchers.stage = [&](Stage stage, const Place& at, std::uint32_t head, Span<const float> x) {
      const std::uint32_t t = at.position, layer = at.layer;
      if (stage == Stage::after_ffn) out.put("block" + std::to_string(layer), b, t, x);
      if (layer != 0) return;
      const std::string& name = kFirstLayer.at(stage);
      if (stage == Stage::scores || stage == Stage::weights) return out.put_head(name, b, head, t, x);
      out.put(name, b, t, x);
      if (stage == Stage::query) qkv.clear();
      if (stage == Stage::query || stage == Stage::key || stage == Stage::value)
        qkv.insert(qkv.end(), x.begin(), x.end());
      if (stage == Stage::value) out.put("qkv", b, t, qkv);
    };
    for (std::uint32_t t = 0; t < kPositions; ++t)
      out.put("probs", b, t, probabilities(reference.step(sort.tokens[b][t])));
  }
  return out;
}

// ---- heed's side: the same steps with the runtime's own parts, each looked at as it passes
// -----------------------------

class Int8Walk {
 public:
  Int8Walk(Partials& out, const Sort& sort) : out_(out), sort_(sort) {
    Limits limits;
    limits.chunk = n_;
    REQUIRE(make_plan(plan_, model_.config(), k_.traits, limits) == Status::ok);
    arena_ = std::make_unique<test::GuardedArena>(plan_.arena_bytes, plan_.arena_align, test::Fill::zeros);
  }

  // Logits [n, 16].
  Numbers run(std::uint32_t b) {
    b_ = b;
    embed();
    Stack stack;
    stack.config = &c_;
    AttentionLayer& a = stack.attention();
    a.config.d_model = c_.d_model;
    a.config.n_heads = c_.n_heads;
    a.config.n_kv_heads = c_.n_kv_heads;
    a.config.head_dim = c_.head_dim;
    a.config.max_seq = plan_.max_seq;
    a.config.scale = c_.attention_scale;
    a.cache = {kv_shape(a.config, plan_.chunk, k_.traits.alignment), in_region(Region::kv_cache, {})};
    a.scratch = attention_scratch(plan_.attention, in_region(Region::scratch, {}), a.config, plan_.chunk);
    const Parallel alone;
    a.kernels = &k_;
    a.parallel = &alone;
    a.tap = {[](void* self, std::uint32_t layer, std::uint32_t head, std::uint32_t position, std::uint32_t,
                Span<const float> w) {
               auto& walk = *static_cast<Int8Walk*>(self);
               if (layer == 0) walk.out_.put_head("attSm", walk.b_, head, position, w);
             },
             this};
    first_layer(stack, model_);
    for (std::uint32_t layer = 0; layer < c_.n_layers; ++layer) {
      a.index = layer;
      if (layer) advance_layers(stack, 1);
      attention(a, layer);
      a.cache.base += a.cache.shape.layer_bytes();
      feed_forward(layer);
      put("block" + std::to_string(layer), x_, c_.d_model);
    }
    const Activations in = norm("ln_f", Role::final_gain, Role::final_norm_bias, Site::unembed_in, 0, true);
    const Numbers logits = product(in, Role::unembedding, 0);
    put("lm_head", logits, c_.vocab_size);
    for (std::uint32_t t = 0; t < n_; ++t)
      out_.put("probs", b_, t, probabilities({logits.data() + t * stride(c_.vocab_size), c_.vocab_size}));
    return logits;
  }

 private:
  Model opened() const {
    Model model;
    REQUIRE(open(model, {sort_.image.data(), sort_.image.size()}, k_) == Status::ok);
    return model;
  }
  static std::size_t stride(std::uint32_t n) { return float_row(n); }

  // A buffer of rows for each position into a partial.
  void put(const std::string& name, const Numbers& rows, std::uint32_t n) {
    for (std::uint32_t t = 0; t < n_; ++t) out_.put(name, b_, t, {rows.data() + t * stride(n), n});
  }

  void embed() {
    x_.assign(n_ * stride(c_.d_model), 0.0f);
    Numbers token(stride(c_.d_model)), position(stride(c_.d_model));
    for (std::uint32_t t = 0; t < n_; ++t) {
      k_.embed_f32_s8c(token.data(), model_.tensor(Role::token_embedding, 0), sort_.tokens[b_][t]);
      k_.embed_f32_s8c(position.data(), model_.tensor(Role::position_embedding, 0), t);
      for (std::uint32_t i = 0; i < c_.d_model; ++i) x_[t * stride(c_.d_model) + i] = token[i] + position[i];
      out_.put("tok_emb", b_, t, {token.data(), c_.d_model});
      out_.put("pos_emb", b_, t, {position.data(), c_.d_model});
    }
    put("x", x_, c_.d_model);
  }

  std::byte* in_region(Region region, const Slice& slice) {
    return arena_->span().data() + static_cast<std::size_t>(plan_.region(region).offset + slice.offset);
  }

  Activations activations(std::uint32_t cols, Site site) {
    return make_activations(in_region(Region::scratch, plan_.activations), k_.traits, cols,
                            c_.group(site), n_);
  }

  // What the quantised numbers of a position stand for.
  static Numbers values(const Activations& a, std::uint32_t t) {
    Numbers x(a.cols);
    for (std::uint32_t i = 0; i < a.cols; ++i) {
      const int exponent = a.groups ? a.exponents[t * a.groups + i / a.group] : 0;
      x[i] = std::ldexp(static_cast<float>(a.values[t * a.value_stride + i]) * a.scales[t], exponent);
    }
    return x;
  }

  // Behind a folded norm, gain and bias are put back so that it is the same vector as PyTorch's.
  Activations norm(const std::string& name, Role gain, Role bias, Site site, std::uint32_t layer, bool seen) {
    const Activations a = activations(c_.d_model, site);
    const NormWeights weights{model_.floats(gain, layer), model_.floats(bias, layer), c_.norm_epsilon, c_.norm == Norm::layer};
    for (std::uint32_t t = 0; t < n_; ++t) {
      k_.norm_s8r_f32(a, t, x_.data() + t * stride(c_.d_model), weights);
      Numbers v = values(a, t);
      if (!weights.gain)
        for (std::uint32_t i = 0; i < c_.d_model; ++i)
          v[i] = v[i] * sort_.model.floats(gain, layer)[i] + sort_.model.floats(bias, layer)[i];
      if (seen) out_.put(name, b_, t, v);
    }
    return a;
  }

  Numbers product(const Activations& a, Role role, std::uint32_t layer) {
    const Tensor w = model_.tensor(role, layer);
    Numbers y(n_ * stride(w.rows));
    k_.matmul_f32_s8r_s8c(y.data(), a, w,
                          {n_, 0, padded_rows(w.layout, w.rows), static_cast<std::uint32_t>(stride(w.rows)), false});
    return y;
  }

  void put_scores(const AttentionLayer& a) {
    const Activations queries = make_activations(a.scratch.queries, k_.traits, c_.head_dim, 0, n_ * c_.n_heads);
    for (std::uint32_t head = 0; head < c_.n_heads; ++head) {
      const KvBlock block = a.cache.block(head, 0);
      for (std::uint32_t t = 0; t < n_; ++t) {
        const Numbers q = values(queries, head * n_ + t);
        Numbers scores(t + 1, 0.0f);
        for (std::uint32_t s = 0; s <= t; ++s) {
          for (std::uint32_t d = 0; d < c_.head_dim; ++d) {
            float key =
                std::ldexp(static_cast<float>(block.keys[s * round_up(c_.head_dim, 4) + d] * block.key_mantissas[s]),
                           block.key_exponents[s]);
            // The offset moves all scores of a query alike.
            if (a.weights.key_offsets)
              key += std::ldexp(static_cast<float>(a.weights.key_offsets[head * c_.head_dim + d]),
                                a.weights.key_offset_exponents[head] - 15);
            scores[s] += q[d] * key * c_.attention_scale;
          }
        }
        out_.put_head("att", b_, head, t, scores);
      }
    }
  }

  void attention(const AttentionLayer& a, std::uint32_t layer) {
    const bool seen = layer == 0;
    const Activations in =
        norm("ln1", Role::attention_gain, Role::attention_norm_bias, Site::attention_in, layer, seen);
    if (seen) {
      const Numbers q = product(in, Role::w_query, 0), k = product(in, Role::w_key, 0),
                    v = product(in, Role::w_value_down, 0);
      put("q", q, c_.d_query());
      put("k", k, c_.d_query());
      put("v", v, c_.d_query());
      for (std::uint32_t t = 0; t < n_; ++t) {
        Numbers all;
        for (const Numbers* part : {&q, &k, &v}) {
          const auto first = part->begin() + static_cast<std::ptrdiff_t>(t * stride(c_.d_query()));
          all.insert(all.end(), first, first + c_.d_query());
        }
        out_.put("qkv", b_, t, all);
      }
    }
    Numbers before = x_;
    attention_forward(a, AttentionStep::both, x_.data(), static_cast<std::uint32_t>(stride(c_.d_model)), true, in, nullptr, 0, n_,
                      in_region(Region::scratch, plan_.activations));
    if (!seen) return;
    put_scores(a);
    put("y", Numbers(a.scratch.query, a.scratch.query + n_ * a.scratch.query_stride), c_.d_query());
    for (std::size_t i = 0; i < x_.size(); ++i) before[i] = x_[i] - before[i];
    put("yProj", before, c_.d_model);
    put("attnResid", x_, c_.d_model);
  }

  void feed_forward(std::uint32_t layer) {
    const bool seen = layer == 0;
    const Activations in = norm("ln2", Role::ffn_gain, Role::ffn_norm_bias, Site::ffn_in, layer, seen);
    Numbers up = product(in, Role::w_up, layer);
    if (seen) put("fc", up, c_.d_ff);
    const Activations a = activations(c_.d_ff, Site::down_in);
    for (std::uint32_t t = 0; t < n_; ++t) {
      k_.gate_s8r_f32(a, t, up.data() + t * stride(c_.d_ff), nullptr, kGeluTanh);
      if (seen) out_.put("gelu", b_, t, values(a, t));
    }
    const Numbers change = product(a, Role::w_down, layer);
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] += change[i];
    if (!seen) return;
    put("mlp", change, c_.d_model);
    put("mlpResid", x_, c_.d_model);
  }

  Partials& out_;
  const Sort& sort_;
  const Kernels& k_ = kernels_portable;
  Model model_ = opened();
  Plan plan_;
  std::unique_ptr<test::GuardedArena> arena_;
  const StackConfig& c_ = model_.config().main();
  const std::uint32_t n_ = kPositions;
  std::uint32_t b_ = 0;
  Numbers x_;  // [n, padded d_model], the residual stream
};

// ---- Comparisons
// ------------------------------------------------------------------------------------------------------

double cosine(const Numbers& a, const Numbers& b) {
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

// Calls visit(name, batch, position, theirs, ours) for every position of every tensor, masked entries left out.
void for_each_row(const Partials& theirs, const Partials& ours,
                  const std::function<void(const std::string&, const Numbers&, const Numbers&)>& visit) {
  for (const auto& [name, p] : theirs.tensors)
    for (std::uint32_t b = 0; b < p.shape[0]; ++b)
      for (std::uint32_t t = 0; t < kPositions; ++t) visit(name, p.row(b, t), ours.tensors.at(name).row(b, t));
}

// Six letters, then six generated ones.
using Letters = std::vector<std::uint32_t>;

template <class Step>
Letters answer(const Letters& question, Step step) {
  Span<const float> logits;
  for (const std::uint32_t letter : question) logits = step(letter);
  Letters result;
  while (true) {
    std::uint32_t best = 0;
    for (std::uint32_t i = 1; i < 3; ++i) best = logits[i] > logits[best] ? i : best;
    result.push_back(best);
    if (result.size() == 6) return result;
    logits = step(best);
  }
}

}  // namespace

TEST_CASE("gpt_sort: all of PyTorch's intermediates within 1e-4 of the float reference", "[data]") {
  const Sort& sort = sort_model();
  if (!sort.found) return;
  std::set<std::string> names;
  for (const auto& [name, p] : sort.partials.tensors) names.insert(name);
  CHECK(names == std::set<std::string>{"att",  "attSm",   "attnResid", "block0",  "block1", "block2",
                                       "fc",   "gelu",    "k",         "lm_head", "ln1",    "ln2",
                                       "ln_f", "mlp",     "mlpResid",  "pos_emb", "probs",  "q",
                                       "qkv",  "tok_emb", "v",         "x",       "y",      "yProj"});
  const Partials ours = float_partials(sort);
  double worst = 0.0;
  std::size_t count = 0;
  for_each_row(sort.partials, ours, [&](const std::string& name, const Numbers& a, const Numbers& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double off = std::fabs(double{a[i]} - b[i]);
      INFO(name << ": " << b[i] << ", not " << a[i]);
      REQUIRE(off <= 1e-4);
      worst = std::fmax(worst, off);
      ++count;
    }
  });
  std::printf("gpt_sort: float reference against PyTorch: %zu numbers, the furthest %.2g apart\n", count, worst);
}

TEST_CASE("gpt_sort: every int8 intermediate at a cosine of 0.999 or better to PyTorch's", "[data]") {
  const Sort& sort = sort_model();
  if (!sort.found) return;
  Partials ours = sort.partials.same_shapes();
  Int8Walk walk(ours, sort);
  for (std::uint32_t b = 0; b < kBatch; ++b) {
    const Numbers logits = walk.run(b);
    // What was looked at is what a session does.
    test::Running session(kernels_portable, {sort.image.data(), sort.image.size()});
    for (std::uint32_t t = 0; t < kPositions; ++t) {
      Span<const float> expected;
      REQUIRE(session.session.step(expected, static_cast<Token>(sort.tokens[b][t])) == Status::ok);
      for (std::uint32_t i = 0; i < 3; ++i) REQUIRE(bits_of(logits[t * 16 + i]) == bits_of(expected[i]));
    }
  }
  std::map<std::string, double> worst;
  for_each_row(sort.partials, ours, [&](const std::string& name, const Numbers& a, const Numbers& b) {
    const double c = cosine(a, b);
    REQUIRE(c == c);
    const auto found = worst.emplace(name, c).first;
    found->second = std::fmin(found->second, c);
  });
  std::string line;
  for (const auto& [name, c] : worst) {
    char text[64];
    std::snprintf(text, sizeof text, " %s %.5f", name.c_str(), c);
    line += text;
    INFO(name);
    CHECK(c >= 0.999);
  }
  std::printf("gpt_sort: lowest int8 cosine of a position:%s\n", line.c_str());
}

TEST_CASE("gpt_sort: of 729 answers at least 726 are the float model's, on every table", "[data]") {
  const Sort& sort = sort_model();
  if (!sort.found) return;
  const std::vector<const Kernels*> tables = test::runnable_kernels();
  std::vector<std::unique_ptr<test::Running>> sessions;
  for (const Kernels* k : tables)
    sessions.push_back(
        std::make_unique<test::Running>(*k, Span<const std::uint8_t>{sort.image.data(), sort.image.size()}));
  FloatReference reference(sort.model, kPositions);
  int agree = 0, right = 0, right_float = 0;
  for (std::uint32_t n = 0; n < 729; ++n) {
    Letters question, sorted;
    for (std::uint32_t i = 0, rest = n; i < 6; ++i, rest /= 3) question.push_back(rest % 3);
    sorted = question;
    std::sort(sorted.begin(), sorted.end());
    reference.restart();
    const Letters expected = answer(question, [&](std::uint32_t letter) { return reference.step(letter); });
    Letters first;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      REQUIRE(sessions[i]->session.rewind(0) == Status::ok);
      const Letters got = answer(question, [&](std::uint32_t letter) {
        Span<const float> logits;
        REQUIRE(sessions[i]->session.step(logits, static_cast<Token>(letter)) == Status::ok);
        return logits;
      });
      if (i == 0) first = got;
      REQUIRE(got == first);
    }
    agree += first == expected;
    right += first == sorted;
    right_float += expected == sorted;
  }
  std::printf("gpt_sort: %d of 729 answers agree; sorted: int8 %d, float %d\n", agree, right, right_float);
  CHECK(agree >= 726);
}

// ---- Random models of the family
// --------------------------------------------------------------------------------------

namespace {

StackConfig family_config(bool tied) {
  StackConfig c = test::llama_config(48, 80, 2, 4, 2, 12, 30, 40);
  c.norm = Norm::layer;
  c.position = Position::none;
  c.position_table = 1;
  c.rotary_dims = 0;
  c.activation = Activation::gelu_tanh;
  c.gated = 0;
  c.attention_scale = 0.28867513f;
  c.tied_unembedding = tied;
  c.biases = (kBiasQuery | kBiasKey | kBiasValueDown) | kBiasValueUp | kBiasFfnIn | kBiasDown | kBiasNorm;
  return c;
}

// numbered_model with weights of a trained model's size and small biases. With `odd_gain` not 1, odd channels of the
// embeddings are small, though nothing that int8 would lose (a row's step is 1/128), and the gains bring them back.
FloatModel family_model(const StackConfig& config, std::uint32_t seed, float odd_gain = 1.0f) {
  FloatModel model = golden::numbered_model(config, seed);
  golden::Numbers numbers(seed + 1000);
  const auto visit = [&](Role role, std::uint32_t layer) {
    const TensorSlot slot = tensor_slot(config, role, layer);
    if (slot.type == ElementType::u32) return;
    std::vector<float> x(model.floats(role, layer), model.floats(role, layer) + std::size_t{slot.rows} * slot.cols);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const bool odd = i % slot.cols % 2 == 1;
      const bool embedding = role == Role::token_embedding || role == Role::position_embedding;
      if (is_norm_bias(role))
        x[i] = 0.3f * numbers.next();
      else if (slot.type == ElementType::f32 && odd)
        x[i] *= odd_gain;
      else if (embedding && odd_gain != 1.0f)
        x[i] = i % slot.cols == 0 ? 0.9921875f : odd ? std::floor(4.0f * x[i]) / 128.0f : std::fmax(x[i], -0.9921875f);
      else if (slot.type == ElementType::s8 && !embedding)
        x[i] *= 0.3f;
    }
    model.own(role, layer, std::move(x));
    if (!slot.bias) return;
    std::vector<float> bias(slot.rows);
    for (float& b : bias) b = 0.3f * numbers.next();
    model.set_bias(role, layer, std::move(bias));
  };
  for (const golden::NumberedTensor& t : golden::numbered_tensors(config)) visit(t.role, t.layer);
  return model;
}

// Quantised, opened, and the lowest cosine of the logits over a few positions. `config`: as in the image.
double lowest_cosine(StackConfig& config, const FloatModel& model, const QuantizeOptions& options) {
  const Error wrong = check(model);
  INFO(wrong.sentence());
  REQUIRE_FALSE(wrong);
  QuantizedModel quantized;
  QuantizeReport report;
  const Error error = quantize_model(quantized, report, model, Layout::packed, options, kernels_portable);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  ImageBytes image;
  write_image(image, quantized.config, *quantized.tensors, {}, {}, kernels_portable);
  test::Running running(kernels_portable, {image.data(), image.size()});
  REQUIRE(verify(running.model, kernels_portable) == Status::ok);
  config = quantized.config.main();
  FloatReference reference(model, 20);
  double lowest = 1.0;
  for (std::uint32_t t = 0; t < 20; ++t) {
    const std::uint32_t token = t * 7 % model.config.main().vocab_size;
    Span<const float> logits;
    REQUIRE(running.session.step(logits, static_cast<Token>(token)) == Status::ok);
    const Span<const float> expected = reference.step(token);
    lowest =
        std::fmin(lowest, cosine(Numbers(expected.begin(), expected.end()), Numbers(logits.begin(), logits.end())));
  }
  return lowest;
}

}  // namespace

TEST_CASE("GPT-2-like models: norm biases are folded into biases, tied or not, and the logits stay") {
  constexpr std::uint32_t kInLayers = kAttentionGainFolded | kFfnGainFolded;
  for (const bool tied : {true, false}) {
    StackConfig c;
    CHECK(lowest_cosine(c, family_model(family_config(tied), 5), {}) > 0.998);
    CHECK((c.flags & kInLayers) == kInLayers);
    CHECK(((c.flags & kFinalGainFolded) != 0) == !tied);
    CHECK(((c.biases & kBiasUnembedding) != 0) == !tied);  // the folded norm's, which the float model does not have
    // No bias of its own to fold into.
    StackConfig bare = family_config(tied);
    bare.biases = kBiasNorm;
    CHECK(lowest_cosine(c, family_model(bare, 6), {}) > 0.998);
    CHECK((c.biases & ((kBiasQuery | kBiasKey | kBiasValueDown) | kBiasFfnIn)) == ((kBiasQuery | kBiasKey | kBiasValueDown) | kBiasFfnIn));
    CHECK((c.biases & (kBiasValueUp | kBiasDown)) == 0);
  }
}

TEST_CASE("GPT-2-like models: where folding costs accuracy, gain and bias of the norm stay tensors") {
  for (const bool tied : {true, false}) {
    StackConfig config = family_config(tied);
    config.n_layers = 1;
    config.biases = kBiasNorm;
    StackConfig c;
    CHECK(lowest_cosine(c, family_model(config, 7, 30.0f), {0u, true}) > 0.98);
    CHECK((c.flags & kAttentionGainFolded) == 0);
    CHECK((c.biases & (kBiasQuery | kBiasKey | kBiasValueDown)) == 0);
    CHECK(StackTensors(c, 0).has(Role::attention_norm_bias));
  }
}

TEST_CASE("every activation, gated or not, with groups and without, learned, rotary or no positions") {
  for (const Activation activation :
       {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf, Activation::silu}) {
    for (const bool gated : {false, true}) {
      StackConfig config = family_config(false);
      config.activation = activation;
      config.gated = gated;
      config.norm = gated ? Norm::rms : Norm::layer;
      config.biases = gated ? kBiasFfnIn | kBiasUnembedding : 255u;
      config.position = gated && activation != Activation::silu ? Position::rotary : Position::none;
      config.position_table = !gated;
      config.rotary_dims = config.position == Position::rotary ? 12 : 0;
      StackConfig c;
      QuantizeOptions options;
      if (activation != Activation::relu) options.group = gated ? 32u : 0u;
      INFO(static_cast<int>(activation) << " gated " << gated);
      CHECK(lowest_cosine(c, family_model(config, 8, 1.0f), options) > 0.998);
    }
  }
}

TEST_CASE("a model without BOS calibrates on several texts that begin with tokens spread over its vocabulary") {
  StackConfig config = family_config(false);
  config.max_seq = 11;
  FloatModel model = family_model(config, 9);
  model.bos = kNoSourceToken;
  const Calibration few = calibrate(model);
  CHECK(few.tokens.size() == 24 * 11);
  std::set<std::uint32_t> starts;
  for (std::size_t i = 0; i < few.tokens.size(); i += 11) starts.insert(few.tokens[i]);
  CHECK(starts.size() == 24);
  const SiteSamples& down_in = few.stacks[0].sites[static_cast<int>(Site::down_in)];
  CHECK(down_in.x.size() == 2u * down_in.n * 80);
  CHECK(down_in.n >= 8);
  model.bos = 1;
  CHECK(calibrate(model).tokens.size() == 11);
}

TEST_CASE("numbers of biases that no image can hold are refused, missing ones as well") {
  FloatModel model = family_model(family_config(false), 10);
  model.set_bias(Role::w_down, 1, std::vector<float>(48, NAN));
  CHECK(check(model).sentence() == "the bias of w_down of layer 1: number 0 is not finite or above 2^40");
  model.set_bias(Role::w_down, 1, {});
  CHECK(check(model).sentence() == "the bias of w_down of layer 1 is missing");
  model.set_bias(Role::w_down, 1, std::vector<float>(48, 1e-20f));  // as good as zero
  CHECK_FALSE(check(model));
  model.set(Role::position_embedding, 0, {});
  CHECK(check(model).sentence() == "position_embedding is missing");
  model = family_model(family_config(false), 10);
  model.own(Role::ffn_norm_bias, 0, std::vector<float>(48, 1e12f));
  QuantizedModel result;
  QuantizeReport report;
  const Error error = quantize_model(result, report, model, Layout::row, {0u, true}, kernels_portable);
  CHECK(error.sentence().find("too large for an image") != std::string::npos);
}
