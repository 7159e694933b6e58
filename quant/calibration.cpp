// SPDX-License-Identifier: Apache-2.0
// calibration.cpp: ancestral sampling from the float reference, or random inputs, with its own generator and a fixed seed.
#include "quant/calibration.hpp"

#include <algorithm>

#include "quant/generator.hpp"
#include "quant/probes.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr std::uint64_t kLargeModel = 50'000'000;
constexpr std::uint32_t kFewestTexts = 4, kPooledPositions = 128;

// Every so many of the vectors of a site, or of heads, one list per layer.
class Sampler {
 public:
  Sampler(const ModelConfig& config, std::uint32_t kept) : config_(config), kept_(kept) {
    for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack)
      for (auto& lists : lists_[stack]) lists.resize(config.stacks[stack].n_layers);
  }
  // Vectors that will come of a site, or of heads, in each layer.
  void expect(std::uint32_t stack, Site site, std::uint32_t n) { expect(stack, index(site), n); }
  void expect(std::uint32_t stack, HeadRole heads, std::uint32_t n) { expect(stack, index(heads), n); }
  void see(Site site, const Place& at, Span<const float> x) { see(index(site), at, x); }
  void see(HeadRole heads, const Place& at, Span<const float> x) { see(index(heads), at, x); }
  void give(Calibration& result) const {
    for (std::uint32_t stack = 0; stack < config_.n_stacks; ++stack) {
      StackCalibration& c = result.stacks[stack];
      for (int i = 0; i < kKinds; ++i) {
        SiteSamples& samples = i < kSiteCount ? c.sites[i] : c.heads_seen[i - kSiteCount];
        samples.n = lists_[stack][i][0].n;
        for (const List& list : lists_[stack][i]) samples.x.insert(samples.x.end(), list.x.begin(), list.x.end());
      }
    }
  }

 private:
  struct List {
    std::uint32_t seen = 0, n = 0;
    std::vector<float> x;
  };
  static constexpr int kKinds = kSiteCount + kHeadsCount;
  static int index(Site site) { return static_cast<int>(site); }
  static int index(HeadRole heads) { return kSiteCount + static_cast<int>(heads); }
  void expect(std::uint32_t stack, int kind, std::uint32_t n) {
    every_[stack][kind] = round_up(std::max(n, 1u), kept_) / kept_;
  }
  void see(int kind, const Place& at, Span<const float> x) {
    List& list = lists_[at.stack][kind][at.layer];
    const std::uint32_t every = every_[at.stack][kind];
    if (list.seen++ % every != every - 1) return;
    list.x.insert(list.x.end(), x.begin(), x.end());
    ++list.n;
  }

  const ModelConfig& config_;
  const std::uint32_t kept_;
  std::uint32_t every_[kMaxStacks][kKinds] = {};
  std::vector<List> lists_[kMaxStacks][kKinds];
};

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

Calibration calibrate(const FloatModel& model, const std::vector<FloatSequence>& inputs, const ShowProgress& progress) {
  const ModelConfig& config = model.config;
  const StackConfig &c = config.main(), &source = config.source();
  const bool large = parameter_count(config) > kLargeModel, two = config.n_stacks == 2;
  const bool generate = c.use == Use::generate, begins = generate && (model.bos < c.vocab_size);
  const std::uint32_t wanted = large ? 64 : 256, kept = large ? 4 : 16;

  Calibration result;
  // Sequences that the first stack can read, whatever their length.
  std::vector<FloatSequence> given;
  std::uint32_t longest = 0;
  for (const FloatSequence& s : inputs) {
    const std::uint32_t n = positions_of(source, s);
    if (n == 0 || n > source.max_seq) continue;
    given.push_back(s);
    longest = std::max(longest, n);
  }
  result.given = !given.empty();

  std::uint32_t positions = std::min(c.max_seq, wanted), texts = 0;
  const bool reads_texts = generate && !two && !given.empty();
  if (reads_texts) {
    positions = longest;
    for (std::size_t n = 0; texts < given.size() && n < wanted; ++texts) n += given[texts].tokens.size();
  } else if (generate && !two) {
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
  for (int i = 0; i < kHeadsCount; ++i) {
    const auto heads = static_cast<HeadRole>(i);
    const bool of_source = heads == HeadRole::cross_key || heads == HeadRole::cross_value;
    sampler.expect(config.n_stacks - 1, heads, texts * (of_source ? source_positions : positions));
    if (two) sampler.expect(0, heads, texts * source_positions);
  }
  reference.watchers.site = [&](Site site, const Place& at, Span<const float> x) {
    sampler.see(site, at, x);
    if (site == Site::down_in) result.stacks[at.stack].inner.see(at.layer, x);
  };
  reference.watchers.heads = [&](HeadRole heads, const Place& at, Span<const float> x) {
    sampler.see(heads, at, x);
    result.stacks[at.stack].heads[static_cast<int>(heads)].see(at.layer, x);
  };

  Generator generator(kSeed);
  std::vector<double> p, log_p;
  StackCalibration& main = result.stacks[config.n_stacks - 1];
  for (std::uint32_t text = 0; text < texts; ++text) {
    const auto show = [&](double share) {
      if (progress) progress((text + share) / texts);
    };
    if (two) {
      const bool fits = reference.set_source(
          given.empty() ? random_sequence(source, inputs_for(source, source_positions), generator) : given[text]);
      if (!fits) continue;
      result.source_positions += reference.main_stack().source_positions();
      add_keys(main.cross_key_means, c, reference.main_stack().source_positions(), &FloatStack::source_key,
               reference.main_stack());
    }
    std::uint32_t n = positions;
    if (reads_texts) {
      reference.restart();
      n = static_cast<std::uint32_t>(given[text].tokens.size());
      for (const std::uint32_t token : given[text].tokens) {
        result.tokens.push_back(token);
        reference.step(token);
      }
    } else if (generate) {
      reference.restart();
      auto token = begins ? model.bos : static_cast<std::uint32_t>(std::uint64_t{text} * c.vocab_size / texts);
      for (std::uint32_t i = 0; i < positions; ++i) {
        result.tokens.push_back(token);
        softmax(p, log_p, reference.step(token));
        const std::vector<std::uint32_t>& first = model.generation.first;
        token = i + 1 < first.size() ? first[i + 1] : generator.pick(p);
        show(static_cast<double>(i + 1) / positions);
      }
    } else {
      const FloatSequence made_up = random_sequence(c, inputs_for(c, positions), generator);
      const FloatSequence& sequence = !two && !given.empty() ? given[text] : made_up;
      n = positions_of(c, sequence);
      reference.encode(sequence);
    }
    result.positions += n;
    show(1.0);
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
