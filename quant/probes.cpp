// SPDX-License-Identifier: Apache-2.0
// probes.cpp: texts from the float model, or inputs.
#include "quant/probes.hpp"

#include <algorithm>
#include <numeric>

#include "quant/generator.hpp"

namespace heed::quant {
namespace {

// A sequence that is pooled has one output, and takes so many times the positions that others may.
constexpr std::uint32_t kPooledPositions = 128, kPooledWeight = 4, kMostSequences = 256;
constexpr std::uint64_t kCacheFloats = 1u << 26;

bool ends(const FloatModel& model, std::uint32_t token) {
  const std::vector<std::uint32_t>& endings = model.generation.endings;
  return token == model.eos || std::find(endings.begin(), endings.end(), token) != endings.end();
}

class Maker {
 public:
  Maker(const FloatModel& model, const ProbeOptions& options, ChannelStatistics* keys)
      : model_(model),
        c_(model.config.main()),
        options_(options),
        two_(model.config.n_stacks == 2),
        generator_(options.seed),
        reference_(model, longest(), two_ ? source_length() : 0) {
    if (!keys) return;
    const std::uint32_t main = model.config.n_stacks - 1;
    reference_.watchers.heads = [keys, main](HeadRole heads, const Place& at, Span<const float> x) {
      if (heads == HeadRole::key && at.stack == main) keys->see(at.layer, x);
    };
  }

  std::vector<Probe> make() {
    std::vector<Probe> probes;
    const bool pools = c_.pooling != Pooling::every;
    std::uint32_t done = 0;
    while (done < options_.positions && probes.size() < kMostSequences) {
      const FloatSequence* given = next_input();
      if (is_given() && !given) break;
      Probe p;
      if (two_) {
        p.source = given ? *given : random_sequence(model_.config.source(), source_inputs(), generator_);
        if (!reference_.set_source(p.source)) continue;
      }
      if (c_.use == Use::encode)
        encode(p, two_ ? nullptr : given);
      else if (given && !two_)
        read(p, *given);
      else
        write(p, static_cast<std::uint32_t>(probes.size()), options_.positions - done);
      if (p.n == 0) continue;
      done += pools ? std::max(1u, positions_of(c_, p.sequence) / kPooledWeight) : p.n;
      if (two_) done += reference_.main_stack().source_positions();
      probes.push_back(std::move(p));
    }
    return probes;
  }

 private:
  bool is_given() const { return options_.inputs && !options_.inputs->empty(); }
  // Every second input, not in their order but so that any number of them lies all over the list: a text need not be of one kind.
  const FloatSequence* next_input() {
    if (!is_given() || options_.first_input >= options_.inputs->size()) return nullptr;
    const std::size_t n = (options_.inputs->size() - options_.first_input + 1) / 2;
    if (taken_ == n) return nullptr;
    std::size_t step = n * 5 / 8 + 1;
    while (std::gcd(step, n) != 1) ++step;
    return &(*options_.inputs)[options_.first_input + 2 * (taken_++ * step % n)];
  }
  std::uint32_t longest() const {
    std::uint64_t n = std::min({c_.max_seq, kLongestProbe, std::max(options_.positions, 1u)});
    if (c_.use == Use::encode || is_given()) n = std::min(c_.max_seq, kLongestProbe);
    // Keys and values of many small layers may take far more memory than the model.
    const std::uint64_t floats = std::uint64_t{c_.n_layers} * (c_.d_key() + c_.d_value());
    if (c_.use == Use::generate) n = std::min(n, std::max<std::uint64_t>(kCacheFloats / floats, 64));
    return static_cast<std::uint32_t>(n);
  }
  std::uint32_t source_length() const { return std::min(model_.config.source().max_seq, kLongestProbe); }
  std::uint32_t source_inputs() const {
    const StackConfig& source = model_.config.source();
    return inputs_for(source, std::min(source.max_seq, kPooledPositions));
  }

  void put(Probe& p, Span<const float> row) {
    p.rows.insert(p.rows.end(), row.begin(), row.end());
    p.n = static_cast<std::uint32_t>(p.rows.size() / reference_.width());
  }
  void encode(Probe& p, const FloatSequence* given) {
    p.sequence = given ? *given : random_sequence(c_, inputs_for(c_, std::min(c_.max_seq, kPooledPositions)), generator_);
    put(p, reference_.encode(p.sequence));
  }
  // A text that somebody gave: each token predicts the next one.
  void read(Probe& p, const FloatSequence& given) {
    reference_.restart();
    p.sequence.tokens = given.tokens;
    p.unscored = first_scored();
    for (std::size_t i = 0; i + 1 < given.tokens.size() && i < longest(); ++i) put(p, reference_.step(given.tokens[i]));
    p.sequence.tokens.resize(p.n + (p.n ? 1u : 0u));
  }
  void write(Probe& p, std::uint32_t text, std::uint32_t left) {
    const bool begins = model_.bos < c_.vocab_size;
    const std::vector<std::uint32_t>& first = model_.generation.first;
    reference_.restart();
    p.unscored = first_scored();
    std::uint32_t token = !first.empty() ? first[0] : begins ? model_.bos : (text * 7919u) % c_.vocab_size;
    p.sequence.tokens = {token};
    while (p.n < std::min(longest(), std::max(left, 1u))) {
      const Span<const float> logits = reference_.step(token);
      put(p, logits);
      softmax(probabilities_, log_probabilities_, logits);
      const std::size_t i = p.sequence.tokens.size();
      const bool forced = i < first.size();
      token = forced ? first[i] : generator_.pick(probabilities_);
      p.sequence.tokens.push_back(token);
      if (!forced && ends(model_, token)) break;
    }
  }
  std::uint32_t first_scored() const {
    const std::size_t n = model_.generation.first.size();
    return n > 1 ? static_cast<std::uint32_t>(n - 1) : 0;
  }

  const FloatModel& model_;
  const StackConfig& c_;
  const ProbeOptions& options_;
  const bool two_;
  Generator generator_;
  FloatReference reference_;
  std::size_t taken_ = 0;
  std::vector<double> probabilities_, log_probabilities_;
};

}  // namespace

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

std::vector<Probe> make_probes(const FloatModel& model, const ProbeOptions& options, ChannelStatistics* keys) {
  return Maker(model, options, keys).make();
}

}  // namespace heed::quant
