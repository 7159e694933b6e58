// SPDX-License-Identifier: Apache-2.0
// quantize_model.cpp: what is decided by running the whole model: passes, key offsets, groups where it is still far off; and
// how far it is in the end.
#include <algorithm>
#include <limits>

#include "quant/head_errors.hpp"
#include "quant/passes/choose.hpp"
#include "quant/quantize.hpp"

namespace heed::quant {
namespace {

constexpr std::uint64_t kChoosingSeed = 2, kReportSeed = 3;
// Of predictions of a next token. Whole vectors say as much in a fourth of the positions.
constexpr std::uint32_t kReportPositions = 4096, kLeastChoosingPositions = 1024, kFewerForEncoders = 4;
// Another key offset, or groups below kRowErrorLimit, must bring the distance below this part of what it was.
constexpr double kMustGain = 0.85;

// What parts cost on one thread, in nanoseconds per parameter: the float model at a position, its matrices decoded each time;
// a measurement of the sites, of which about three are made; the tensors; the int8 model at a position.
constexpr double kPositionCost = 0.5, kMeasureCost = 15.0, kTensorCost = 3.0, kInt8PositionCost = 0.1;

// So many positions that a float model takes seconds for them, or as many as say anything.
std::uint32_t affordable(const ModelConfig& config, std::uint64_t most) {
  constexpr std::uint64_t kMultiplyAdds = 20'000'000'000, kFewest = 64, kRows = 1u << 26;
  const std::uint64_t n = std::min(kMultiplyAdds / std::max<std::uint64_t>(parameter_count(config), 1),
                                   kRows / std::max(config.main().n_outputs, 1u));
  return static_cast<std::uint32_t>(std::min(std::max(n, kFewest), most));
}

std::uint32_t report_positions(const ModelConfig& config) {
  const bool text = config.main().use == Use::generate;
  return affordable(config, text ? kReportPositions : kReportPositions / kFewerForEncoders);
}
// Texts that decide are as long as the context at least once.
std::uint32_t choosing_positions(const ModelConfig& config) {
  if (config.main().use != Use::generate) return affordable(config, kLeastChoosingPositions / kFewerForEncoders);
  return affordable(config, std::max(std::min(config.main().max_seq, kLongestProbe), kLeastChoosingPositions));
}

// Costs in order: calibration, texts and trials that decide, the report.
struct Costs {
  double calibration = 0.0, choosing_texts = 0.0, trial = 0.0, trials = 0.0, report = 0.0;
  double all() const { return calibration + choosing_texts + trials * trial + report; }
};
Costs costs_of(const FloatModel& model, const QuantizeOptions& options) {
  Costs c;
  if (!options.measure) return c;
  c.calibration = kPositionCost * (parameter_count(model.config) > 50'000'000 ? 64 : 256);
  c.trial = kMeasureCost;
  c.trials = 1.0;
  if (!options.run_whole) return c;
  const double choosing = choosing_positions(model.config), report = report_positions(model.config);
  c.choosing_texts = kPositionCost * choosing;
  c.trial = kMeasureCost + kTensorCost + kInt8PositionCost * choosing;
  c.trials = 6.0 + static_cast<double>(passes_for(model.config).size());
  c.report = kTensorCost + (kPositionCost + kInt8PositionCost) * report;
  return c;
}

class Planner {
 public:
  Planner(QuantizeReport& report, const FloatModel& model, const QuantizeOptions& options, const Kernels& kernels)
      : report_(report),
        options_(options),
        kernels_(kernels),
        costs_(costs_of(model, options)),
        original_{model.borrowed(), {}},
        chosen_(options) {
    chosen_.progress = nullptr;
  }

  Error plan(QuantizePlan& plan, FloatModel& model) {
    std::vector<FloatSequence> deciding;
    for (std::size_t i = 0; i < options_.inputs.size(); i += 2) deciding.push_back(options_.inputs[i]);
    original_.seen = calibrate(original_.model, deciding, step(costs_.calibration));
    report_.measured = true;
    report_.calibration_positions = original_.seen.positions;
    report_.calibration_source_positions = original_.seen.source_positions;
    report_.calibration_given = original_.seen.given;
    report_.reported_elsewhere = options_.inputs.size() != 1;
    report_.key_offset = options_.key_offset ? KeyOffsetChoice::first_positions : KeyOffsetChoice::none;
    if (options_.run_whole)
      if (Error error = decide()) return error;
    SeenModel final = apply_passes(original_, passes_);
    for (const StackPass& p : passes_) report_.passes.push_back({p.pass->name, p.pass->does, p.stack});
    QuantizeOptions last = chosen_;
    last.progress = step(options_.run_whole ? 0.0 : costs_.trial);
    if (Error error = plan_seen(plan, report_.sites, final.model, &final.seen, last, kernels_)) return error;
    for (std::uint32_t stack = 0; stack < plan.config.n_stacks; ++stack)
      for (int i = 0; i < kHeadsCount; ++i)
        report_.head_errors[stack][i] = head_error(final.model.config.stacks[stack], final.seen.stacks[stack],
                                                   static_cast<HeadRole>(i), options_.key_offset);
    if (options_.run_whole) {
      const std::vector<Probe> probes = make_probes(original_.model, probe_options(kReportSeed, 1, report_positions(original_.model.config)));
      if (Error error = run(report_.fidelity, final.model, plan, probes)) return error;
    }
    if (!passes_.empty()) model.take_tensors(std::move(final.model));
    return {};
  }

 private:
  // The part of the progress that the next work of this cost has; said at once if it has no progress of its own.
  ShowProgress step(double cost) {
    const double from = done_ / costs_.all(), to = (done_ + cost) / costs_.all();
    done_ += cost;
    return part_of_progress(options_.progress, from, std::min(to, 1.0));
  }

  // Quantises in a layout that runs here, and runs.
  Error run(Fidelity& fidelity, const FloatModel& model, const QuantizePlan& plan, const std::vector<Probe>& probes) const {
    QuantizedModel quantized;
    std::vector<TensorReport> tensors;
    double matrix_error = 0.0;
    if (Error error = quantize_planned(quantized, tensors, matrix_error, model, plan, kernels_.traits.preferred)) return error;
    return measure(fidelity, quantized.config, *quantized.tensors, probes, kernels_);
  }
  Error try_out(Fidelity& fidelity, const SeenModel& m, const QuantizeOptions& options) {
    QuantizeOptions trial = options;
    trial.progress = step(costs_.trial);
    QuantizePlan plan;
    SiteReport sites[kMaxStacks][kSiteCount];
    if (Error error = plan_seen(plan, sites, m.model, &m.seen, trial, kernels_)) return error;
    return run(fidelity, m.model, plan, probes_);
  }

  ProbeOptions probe_options(std::uint64_t seed, std::uint32_t first, std::uint32_t positions) const {
    ProbeOptions o;
    o.seed = seed;
    o.positions = positions;
    o.inputs = &options_.inputs;
    o.first_input = options_.inputs.size() > 1 ? first : 0;
    return o;
  }

  Error decide() {
    ChannelStatistics keys;
    probes_ = make_probes(original_.model, probe_options(kChoosingSeed, 0, choosing_positions(original_.model.config)), &keys);
    step(costs_.choosing_texts);
    if (probes_.empty()) return {};
    keep_whole_means(keys);
    QuantizeOptions rows = chosen_;
    rows.group = options_.group.value_or(0);
    if (Error error = try_out(report_.decided_before, original_, rows)) return error;
    passes_ = choose_passes(original_, report_.decided_before.distance(), [&](const SeenModel& m) {
      Fidelity f;
      const bool fits = !try_out(f, m, rows);  // else its numbers are too large for an image
      return fits ? f.distance() : std::numeric_limits<double>::infinity();
    });
    if (Error error = try_out(report_.decided, apply_passes(original_, passes_), chosen_)) return error;
    if (Error error = choose_key_offset()) return error;
    return choose_groups();
  }

  void keep_whole_means(const ChannelStatistics& keys) {
    const StackConfig& c = original_.model.config.main();
    std::vector<double>& means = main_seen(original_).whole_key_means;
    for (std::uint32_t layer = 0; layer < c.n_layers && keys.has(layer); ++layer)
      for (std::uint32_t i = 0; i < c.d_key(); ++i) means.push_back(keys.mean(layer, i));
  }
  static StackCalibration& main_seen(SeenModel& m) { return m.seen.stacks[m.model.config.n_stacks - 1]; }

  // Means over texts as long as the context, or half way to those, in the place of those over its first positions. A rotated
  // mean moves on with its position, so what serves far keys serves near ones less.
  Error choose_key_offset() {
    const std::vector<double> first = main_seen(original_).key_means, whole = main_seen(original_).whole_key_means;
    if (!options_.key_offset || whole.size() != first.size()) return {};
    std::vector<double> best = first;
    for (const double part : {0.5, 1.0}) {
      std::vector<double>& means = main_seen(original_).key_means;
      for (std::size_t i = 0; i < first.size(); ++i) means[i] = first[i] + part * (whole[i] - first[i]);
      Fidelity f;
      if (Error error = try_out(f, apply_passes(original_, passes_), chosen_)) return error;
      if (!(f.distance() < kMustGain * report_.decided.distance())) continue;
      report_.decided = f;
      report_.key_offset = part == 1.0 ? KeyOffsetChoice::whole_context : KeyOffsetChoice::half_way;
      best = means;
    }
    main_seen(original_).key_means = best;
    return {};
  }

  // A model that is still far off gets groups where rows lose less than the usual limit.
  Error choose_groups() {
    if (options_.group || report_.decided.distance() <= kFarFromFloat) return {};
    QuantizeOptions more = chosen_;
    more.row_error_limit = std::min(chosen_.row_error_limit, kFineRowErrorLimit);
    Fidelity fine;
    if (Error error = try_out(fine, apply_passes(original_, passes_), more)) return error;
    if (!(fine.distance() < kMustGain * report_.decided.distance())) return {};
    report_.decided = fine;
    chosen_ = more;
    return {};
  }

  QuantizeReport& report_;
  const QuantizeOptions& options_;
  const Kernels& kernels_;
  const Costs costs_;
  double done_ = 0.0;
  SeenModel original_;
  QuantizeOptions chosen_;
  std::vector<StackPass> passes_;
  std::vector<Probe> probes_;
};

}  // namespace

double planning_share(const FloatModel& model, const QuantizeOptions& options) {
  const double planning = costs_of(model, options).all();
  return planning / (planning + kTensorCost);
}

Error plan_quantization(QuantizePlan& plan, QuantizeReport& report, FloatModel& model, const QuantizeOptions& options,
                        const Kernels& kernels) {
  report = QuantizeReport{};
  if (!options.measure) return plan_seen(plan, report.sites, model, nullptr, options, kernels);
  return Planner(report, model, options, kernels).plan(plan, model);
}

Error quantize_model(QuantizedModel& result, QuantizeReport& report, const FloatModel& model, Layout layout,
                     const QuantizeOptions& options, const Kernels& kernels) {
  FloatModel rewritten = model.borrowed();
  QuantizePlan plan;
  if (Error error = plan_quantization(plan, report, rewritten, options, kernels)) return error;
  return quantize_planned(result, report.tensors, report.matrix_error, rewritten, plan, layout);
}

}  // namespace heed::quant
