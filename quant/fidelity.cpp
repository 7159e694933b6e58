// SPDX-License-Identifier: Apache-2.0
// fidelity.cpp: the runtime on the probes, output by output.
#include "quant/fidelity.hpp"

#include <algorithm>

#include "quant/double_math.hpp"
#include "runtime/session.hpp"

namespace heed::quant {
namespace {

// Sums over outputs.
class Comparison {
 public:
  Comparison(const StackConfig& c) : logits_(c.output == Output::logits), text_(logits_ && c.use == Use::generate) {}

  void begin(const Probe& probe, std::size_t width) {
    probe_ = &probe;
    width_ = width;
    at_ = 0;
    ++result_.sequences;
    of_sequences_.push_back({});
  }
  // The int8 output that belongs to the next row of the probe.
  void take(Span<const float> row) {
    const std::size_t i = at_++;
    if (i >= probe_->n || row.size() != width_ || i < probe_->unscored) return;
    const Span<const float> exact{probe_->rows.data() + i * width_, width_};
    ++result_.outputs;
    compare_directions(exact, row);
    if (logits_) compare_logits(exact, row, i);
  }

  Fidelity result() {
    Fidelity r = result_;
    r.are_logits = logits_;
    r.is_text = text_;
    if (r.outputs == 0) return r;
    const auto n = static_cast<double>(r.outputs);
    r.loss /= n;
    r.float_loss /= n;
    r.kl /= n;
    r.agreement /= n;
    r.cosine = cosines_ / n;
    r.kl_error = standard_error(r.kl);
    return r;
  }

 private:
  // Of a mean. Outputs of one sequence resemble each other, so that it is the sequences that count, where there are enough.
  double standard_error(double mean) const {
    const auto n = static_cast<double>(result_.outputs), m = static_cast<double>(of_sequences_.size());
    double square = 0.0;
    if (of_sequences_.size() < 4) {
      square = n > 1.0 ? (squares_ - n * mean * mean) * n / (n - 1.0) : 0.0;
    } else {
      for (const SequenceSum& s : of_sequences_) square += (s.kl - mean * s.outputs) * (s.kl - mean * s.outputs);
      square *= m / (m - 1.0);
    }
    return square > 0.0 ? __builtin_sqrt(square) / n : 0.0;
  }
  void compare_directions(Span<const float> exact, Span<const float> row) {
    double both = 0.0, a = 0.0, b = 0.0;
    for (std::size_t k = 0; k < width_; ++k) {
      both += double{exact[k]} * row[k];
      a += double{exact[k]} * exact[k];
      b += double{row[k]} * row[k];
    }
    const double cosine = a > 0.0 && b > 0.0 ? both / __builtin_sqrt(a * b) : a > 0.0 || b > 0.0 ? 0.0 : 1.0;
    cosines_ += cosine;
    result_.least_cosine = std::min(result_.least_cosine, cosine);
  }
  void compare_logits(Span<const float> exact, Span<const float> row, std::size_t i) {
    softmax(p_, log_p_, exact);
    softmax(q_, log_q_, row);
    double kl = 0.0;
    for (std::size_t k = 0; k < width_; ++k) kl += p_[k] * (log_p_[k] - log_q_[k]);
    result_.kl += kl;
    squares_ += kl * kl;
    of_sequences_.back().kl += kl;
    of_sequences_.back().outputs += 1.0;
    const auto largest = [](Span<const float> x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    result_.agreement += largest(exact) == largest(row) ? 1.0 : 0.0;
    if (!text_) return;
    const std::uint32_t next = probe_->sequence.tokens[i + 1];
    result_.loss -= log_q_[next];
    result_.float_loss -= log_p_[next];
  }

  const bool logits_, text_;
  const Probe* probe_ = nullptr;
  std::size_t width_ = 0, at_ = 0;
  Fidelity result_;
  struct SequenceSum {
    double kl = 0.0, outputs = 0.0;
  };
  std::vector<SequenceSum> of_sequences_;
  double cosines_ = 0.0, squares_ = 0.0;
  std::vector<double> p_, log_p_, q_, log_q_;
};

// What the runtime reads of a sequence.
struct RuntimeSequence {
  explicit RuntimeSequence(const FloatSequence& s) : from(s), tokens(s.tokens.begin(), s.tokens.end()) {}
  Sequence view() const {
    return {{tokens.data(), tokens.size()}, {from.token_types.data(), from.token_types.size()},
            {from.vectors.data(), from.vectors.size()}};
  }
  const FloatSequence& from;
  std::vector<Token> tokens;
};

Error refused(Status status) { return status == Status::ok ? Error() : Error("the quantised model does not run: " + std::string(to_string(status))); }

Limits limits_for(const ModelConfig& config, const std::vector<Probe>& probes) {
  Limits limits;
  limits.max_seq = 1;
  limits.source_seq = config.n_stacks == 2 ? 1 : 0;
  for (const Probe& p : probes) {
    const bool text = config.main().use == Use::generate;
    limits.max_seq = std::max(limits.max_seq, text ? p.n : positions_of(config.main(), p.sequence));
    if (config.n_stacks == 2) limits.source_seq = std::max(limits.source_seq, positions_of(config.source(), p.source));
  }
  limits.max_seq = std::min(limits.max_seq, config.main().max_seq);
  limits.score_rows = 16;
  return limits;
}

}  // namespace

Error measure(Fidelity& result, const ModelConfig& config, const TensorSection& tensors, const std::vector<Probe>& probes,
              const Kernels& kernels) {
  result = Fidelity{};
  if (probes.empty()) return {};
  ImageBytes image;
  write_image(image, config, tensors, {}, kernels);
  Model model;
  if (Error error = refused(open(model, {image.data(), image.size()}, kernels))) return error;
  Plan plan;
  if (Error error = refused(make_plan(plan, config, kernels.traits, limits_for(config, probes)))) return error;
  ImageBytes arena(static_cast<std::size_t>(plan.arena_bytes));
  Session session;
  if (Error error = refused(create(session, model, plan, kernels,
                                   {reinterpret_cast<std::byte*>(arena.data()), arena.size()})))
    return error;
  Comparison comparison(config.main());
  const RowSink sink{[](void* context, std::uint32_t, Span<const float> row) {
                       static_cast<Comparison*>(context)->take(row);
                     },
                     &comparison};
  for (const Probe& p : probes) {
    comparison.begin(p, p.rows.size() / p.n);
    if (config.n_stacks == 2) {
      const RuntimeSequence source(p.source);
      if (Error error = refused(session.set_source(source.view()))) return error;
    }
    const RuntimeSequence sequence(p.sequence);
    Status status = Status::ok;
    if (config.main().use == Use::generate) {
      status = session.rewind(0);
      if (status == Status::ok) status = session.evaluate({sequence.tokens.data(), p.n}, sink);
    } else {
      status = session.encode(sequence.view(), sink);
    }
    if (Error error = refused(status)) return error;
  }
  result = comparison.result();
  return {};
}

}  // namespace heed::quant
