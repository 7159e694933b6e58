// SPDX-License-Identifier: Apache-2.0
// calibration.cpp: ancestral sampling from the float reference, with its own generator and a fixed seed.
#include "quant/calibration.hpp"

namespace heed::quant {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr std::uint64_t kLargeModel = 50'000'000;
constexpr std::uint32_t kTextsWithoutBos = 4;

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

}  // namespace

Calibration calibrate(const FloatModel& model) {
  const StackConfig& c = model.config;
  const bool large = parameter_count(c) > kLargeModel, has_bos = model.bos < c.vocab_size;
  const std::uint32_t wanted = large ? 64 : 256, positions = c.max_seq < wanted ? c.max_seq : wanted;
  std::uint32_t texts = has_bos ? 1 : (wanted + positions - 1) / positions;
  if (!has_bos && texts < kTextsWithoutBos) texts = kTextsWithoutBos;
  const std::uint32_t total = texts * positions, every = round_up(total, large ? 4 : 16) / (large ? 4 : 16);

  Calibration result;
  FloatReference reference(model, positions);
  // Sites come layer by layer within a position, so one list per layer keeps them apart.
  std::vector<std::vector<float>> seen[kSiteCount];
  for (auto& site : seen) site.resize(c.n_layers);
  reference.watch = [&](Site site, std::uint32_t layer, Span<const float> x) {
    if ((result.tokens.size() - 1) % every != every - 1) return;
    auto& list = seen[static_cast<int>(site)][layer];
    list.insert(list.end(), x.begin(), x.end());
  };

  Generator generator;
  std::vector<double> p, log_p;
  result.key_means.assign(std::size_t{c.n_layers} * c.d_key(), 0.0);
  for (std::uint32_t text = 0; text < texts; ++text) {
    reference.restart();
    auto token = has_bos ? model.bos : static_cast<std::uint32_t>(std::uint64_t{text} * c.vocab_size / texts);
    for (std::uint32_t i = 0; i < positions; ++i) {
      result.tokens.push_back(token);
      softmax(p, log_p, reference.step(token));
      token = pick(p, generator.uniform());
    }
    double* sum = result.key_means.data();
    for (std::uint32_t layer = 0; layer < c.n_layers; ++layer)
      for (std::uint32_t head = 0; head < c.n_kv_heads; ++head)
        for (std::uint32_t d = 0; d < c.head_dim; ++d, ++sum)
          for (std::uint32_t i = 0; i < positions; ++i) *sum += reference.key(layer, head, d, i);
  }
  for (double& mean : result.key_means) mean /= total;
  result.samples = total / every;
  for (int site = 0; site < kSiteCount; ++site)
    for (const auto& list : seen[site]) result.inputs[site].insert(result.inputs[site].end(), list.begin(), list.end());
  return result;
}

}  // namespace heed::quant
