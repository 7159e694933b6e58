// SPDX-License-Identifier: Apache-2.0
// calibration.cpp: ancestral sampling from the float reference, or random inputs, with its own generator and a fixed seed.
#include "quant/calibration.hpp"

#include <algorithm>

#include "quant/double_math.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr std::uint64_t kLargeModel = 50'000'000;
constexpr std::uint32_t kFewestTexts = 4, kPooledPositions = 128;

// SplitMix64 (Steele, Lea and Flood, 2014).
class Generator {
 public:
  double uniform() {  // in [0, 1)
    state_ += 0x9E3779B97F4A7C15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1p-53;
  }
  // Box and Muller, 1958.
  float normal() {
    const double radius = __builtin_sqrt(-2.0 * log_double(1.0 - uniform()));
    return static_cast<float>(radius * sin_cos_double(static_cast<std::uint32_t>(uniform() * 4294967296.0)).cosine);
  }

 private:
  std::uint64_t state_ = kSeed;
};

std::uint32_t pick(const std::vector<double>& p, double u) {
  double sum = 0.0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    sum += p[i];
    if (u < sum) return static_cast<std::uint32_t>(i);
  }
  return static_cast<std::uint32_t>(p.size() - 1);
}

// Every so many of a site's vectors, one list per layer.
class Sampler {
 public:
  Sampler(const ModelConfig& config, std::uint32_t kept) : config_(config), kept_(kept) {
    for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack)
      for (auto& site : lists_[stack]) site.resize(config.stacks[stack].n_layers);
  }
  // Vectors that will come of a site, in each layer.
  void expect(std::uint32_t stack, Site site, std::uint32_t n) {
    every_[stack][static_cast<int>(site)] = round_up(std::max(n, 1u), kept_) / kept_;
  }
  void see(Site site, const Place& at, Span<const float> x) {
    const int s = static_cast<int>(site);
    List& list = lists_[at.stack][s][at.layer];
    const std::uint32_t every = every_[at.stack][s];
    if (list.seen++ % every != every - 1) return;
    list.x.insert(list.x.end(), x.begin(), x.end());
    ++list.n;
  }
  void give(Calibration& result) const {
    for (std::uint32_t stack = 0; stack < config_.n_stacks; ++stack) {
      for (int site = 0; site < kSiteCount; ++site) {
        SiteSamples& samples = result.stacks[stack].sites[site];
        samples.n = lists_[stack][site][0].n;
        for (const List& list : lists_[stack][site]) samples.x.insert(samples.x.end(), list.x.begin(), list.x.end());
      }
    }
  }

 private:
  struct List {
    std::uint32_t seen = 0, n = 0;
    std::vector<float> x;
  };
  const ModelConfig& config_;
  const std::uint32_t kept_;
  std::uint32_t every_[kMaxStacks][kSiteCount] = {};
  std::vector<List> lists_[kMaxStacks][kSiteCount];
};

// Positions of a stack's input that give `positions` of the stack.
std::uint32_t inputs_for(const StackConfig& c, std::uint32_t positions) {
  std::uint32_t n = positions > c.n_class_vectors ? positions - c.n_class_vectors : 1;
  if (c.input == Input::convolved) n *= c.strides[0] * (c.second_convolution ? c.strides[1] : 1u);
  return n;
}

FloatSequence random_sequence(const StackConfig& c, std::uint32_t n, Generator& generator) {
  FloatSequence s;
  if (c.input == Input::tokens) {
    for (std::uint32_t i = 0; i < n; ++i)
      s.tokens.push_back(static_cast<std::uint32_t>(generator.uniform() * c.vocab_size));
  } else {
    const std::size_t width = c.input_width();
    for (std::size_t i = 0; i < n * width; ++i) s.vectors.push_back(generator.normal());
  }
  return s;
}

bool is_pooled(const StackConfig& c, Site site) {
  return c.pooling != Pooling::every && (site == Site::unembed_in || site == Site::dense_in);
}

void add_keys(std::vector<double>& sums, const StackConfig& c, std::uint32_t positions,
              float (FloatStack::*key)(std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t) const,
              const FloatStack& stack) {
  sums.resize(std::size_t{c.n_layers} * c.d_key(), 0.0);
  double* sum = sums.data();
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer)
    for (std::uint32_t head = 0; head < c.n_kv_heads; ++head)
      for (std::uint32_t d = 0; d < c.head_dim; ++d, ++sum)
        for (std::uint32_t i = 0; i < positions; ++i) *sum += (stack.*key)(layer, head, d, i);
}

}  // namespace

Calibration calibrate(const FloatModel& model, const std::vector<FloatSequence>& inputs) {
  const ModelConfig& config = model.config;
  const StackConfig &c = config.main(), &source = config.source();
  const bool large = parameter_count(config) > kLargeModel, two = config.n_stacks == 2;
  const bool generate = c.use == Use::generate, begins = generate && (model.bos < c.vocab_size);
  const std::uint32_t wanted = large ? 64 : 256, kept = large ? 4 : 16;

  Calibration result;
  // Sequences that the first stack can read, whatever their length.
  std::vector<FloatSequence> given;
  std::uint32_t longest = 0;
  if (two || !generate) {
    for (const FloatSequence& s : inputs) {
      const std::uint32_t n = positions_of(source, s);
      if (n == 0 || n > source.max_seq) continue;
      given.push_back(s);
      longest = std::max(longest, n);
    }
  }
  result.given = !given.empty();

  std::uint32_t positions = std::min(c.max_seq, wanted), texts = 0;
  if (generate && !two) {
    texts = begins ? 1 : (wanted + positions - 1) / positions;
    if (!begins && texts < kFewestTexts) texts = kFewestTexts;
  } else {
    if (two) positions = std::min(c.max_seq, wanted / kFewestTexts);
    if (c.pooling != Pooling::every) positions = std::min(c.max_seq, kPooledPositions);
    texts = c.pooling != Pooling::every ? kept : std::max(kFewestTexts, (wanted + positions - 1) / positions);
    if (!given.empty()) texts = std::min(static_cast<std::uint32_t>(given.size()), 4 * kept);
    if (!given.empty() && !two) positions = longest;
  }
  const std::uint32_t source_positions =
      !two ? 0 : !given.empty() ? longest : std::min(source.max_seq, wanted / kFewestTexts);

  FloatReference reference(model, positions, source_positions);
  Sampler sampler(config, kept);
  for (int i = 0; i < kSiteCount; ++i) {
    const auto site = static_cast<Site>(i);
    const bool of_source = site == Site::source_in;
    sampler.expect(config.n_stacks - 1, site,
                   is_pooled(c, site) ? texts : texts * (of_source ? source_positions : positions));
    if (two) sampler.expect(0, site, texts * source_positions);
  }
  reference.watchers.site = [&](Site site, const Place& at, Span<const float> x) { sampler.see(site, at, x); };

  Generator generator;
  std::vector<double> p, log_p;
  StackCalibration& main = result.stacks[config.n_stacks - 1];
  for (std::uint32_t text = 0; text < texts; ++text) {
    if (two) {
      const bool fits = reference.set_source(
          given.empty() ? random_sequence(source, inputs_for(source, source_positions), generator) : given[text]);
      if (!fits) continue;
      result.source_positions += reference.main_stack().source_positions();
      add_keys(main.cross_key_means, c, reference.main_stack().source_positions(), &FloatStack::source_key,
               reference.main_stack());
    }
    std::uint32_t n = positions;
    if (generate) {
      reference.restart();
      auto token = begins ? model.bos : static_cast<std::uint32_t>(std::uint64_t{text} * c.vocab_size / texts);
      for (std::uint32_t i = 0; i < positions; ++i) {
        result.tokens.push_back(token);
        softmax(p, log_p, reference.step(token));
        const std::vector<std::uint32_t>& first = model.generation.first;
        token = i + 1 < first.size() ? first[i + 1] : pick(p, generator.uniform());
      }
    } else {
      const FloatSequence made_up = random_sequence(c, inputs_for(c, positions), generator);
      const FloatSequence& sequence = !two && !given.empty() ? given[text] : made_up;
      n = positions_of(c, sequence);
      reference.encode(sequence);
    }
    result.positions += n;
    add_keys(main.key_means, c, n, &FloatStack::key, reference.main_stack());
    if (two)
      add_keys(result.stacks[0].key_means, source, reference.main_stack().source_positions(), &FloatStack::key,
               *reference.source_stack());
  }
  for (double& mean : main.key_means) mean /= result.positions;
  for (double& mean : main.cross_key_means) mean /= result.source_positions;
  if (two)
    for (double& mean : result.stacks[0].key_means) mean /= result.source_positions;
  sampler.give(result);
  return result;
}

}  // namespace heed::quant
