// SPDX-License-Identifier: Apache-2.0
// quantize_model.cpp: what is decided by running the whole model: passes, key offsets, groups where it is still far off.
#include "quant/head_errors.hpp"
#include "quant/passes/choose.hpp"
#include "quant/quantize.hpp"

#include <algorithm>
#include <limits>

namespace heed::quant {
namespace {

constexpr std::uint64_t kChoosingSeed = 2, kReportSeed = 3;
// A key offset of the whole context, or groups below kRowErrorLimit, must bring the distance below this part of what it was.
constexpr double kMustGain = 0.85;

// So many positions that a float model takes seconds for them, or as many as say anything.
std::uint32_t affordable(const ModelConfig& config, std::uint64_t most) {
  constexpr std::uint64_t kMultiplyAdds = 20'000'000'000, kFewest = 64, kRows = 1u << 26;
  const std::uint64_t n = std::min(kMultiplyAdds / std::max<std::uint64_t>(parameter_count(config), 1),
                                   kRows / std::max(config.main().n_outputs, 1u));
  return static_cast<std::uint32_t>(std::min(std::max(n, kFewest), most));
}

class Quantizer {
 public:
  Quantizer(QuantizeReport& report, const FloatModel& model, const QuantizeOptions& options, const Kernels& kernels)
      : report_(report), options_(options), kernels_(kernels), original_{model.borrowed(), {}} {}

  Error run(QuantizedModel& result, Layout layout) {
    std::vector<FloatSequence> deciding;
    for (std::size_t i = 0; i < options_.inputs.size(); i += 2) deciding.push_back(options_.inputs[i]);
    original_.seen = calibrate(original_.model, deciding);
    report_.calibration_positions = original_.seen.positions;
    report_.calibration_given = original_.seen.given;
    report_.measured_elsewhere = options_.inputs.size() != 1;
    chosen_ = options_;
    report_.key_offset = options_.key_offset ? KeyOffsetChoice::first_positions : KeyOffsetChoice::none;
    if (options_.measure)
      if (Error error = decide()) return error;
    const SeenModel final = apply_passes(original_, passes_);
    for (const StackPass& p : passes_) report_.passes.push_back({p.pass->name, p.pass->does, p.stack});
    if (Error error = quantize_seen(result, report_, final.model, final.seen, layout, chosen_, kernels_)) return error;
    for (std::uint32_t stack = 0; stack < final.model.config.n_stacks; ++stack)
      for (int i = 0; i < kHeadsCount; ++i)
        report_.head_errors[stack][i] = head_error(final.model.config.stacks[stack], final.seen.stacks[stack],
                                                   static_cast<HeadRole>(i), options_.key_offset);
    return options_.measure ? measure_report(final, result, layout) : Error();
  }

 private:
  // Quantises in a layout that runs here, and measures.
  Error measure_whole(Fidelity& fidelity, const SeenModel& m, const QuantizeOptions& options,
                      const std::vector<Probe>& probes) const {
    QuantizedModel quantized;
    QuantizeReport ignored;
    if (Error error = quantize_seen(quantized, ignored, m.model, m.seen, kernels_.traits.preferred, options, kernels_))
      return error;
    return measure(fidelity, quantized.config, *quantized.tensors, probes, kernels_);
  }

  ProbeOptions probe_options(std::uint64_t seed, std::uint32_t first, std::uint64_t most) const {
    ProbeOptions o;
    o.seed = seed;
    o.positions = affordable(original_.model.config, most);
    o.inputs = &options_.inputs;
    o.first_input = options_.inputs.size() > 1 ? first : 0;
    return o;
  }

  Error decide() {
    ChannelStatistics keys;
    const std::uint32_t context = std::min(original_.model.config.main().max_seq, kLongestProbe);
    probes_ = make_probes(original_.model, probe_options(kChoosingSeed, 0, std::max(context, 1024u)), &keys);
    if (probes_.empty()) return {};
    keep_whole_means(keys);
    QuantizeOptions rows = options_;
    rows.group = options_.group.value_or(0);
    if (Error error = measure_whole(report_.chosen_before, original_, rows, probes_)) return error;
    const Distance distance = [&](const SeenModel& m) {
      Fidelity f;
      const bool fits = !measure_whole(f, m, rows, probes_);  // else its numbers are too large for an image
      return fits ? f.distance() : std::numeric_limits<double>::infinity();
    };
    passes_ = choose_passes(original_, report_.chosen_before.distance(), distance);
    SeenModel rewritten = apply_passes(original_, passes_);
    if (Error error = measure_whole(report_.chosen, rewritten, chosen_, probes_)) return error;
    if (Error error = choose_key_offset(rewritten)) return error;
    return choose_groups();
  }

  void keep_whole_means(const ChannelStatistics& keys) {
    const StackConfig& c = original_.model.config.main();
    std::vector<double>& means = original_.seen.stacks[original_.model.config.n_stacks - 1].whole_key_means;
    for (std::uint32_t layer = 0; layer < c.n_layers && keys.has(layer); ++layer)
      for (std::uint32_t i = 0; i < c.d_key(); ++i) means.push_back(keys.mean(layer, i));
  }

  // Means over texts as long as the context, or half way to those, in the place of those over its first positions. A rotated
  // mean moves on with its position, so what serves far keys serves near ones less.
  Error choose_key_offset(SeenModel& rewritten) {
    const std::uint32_t last = rewritten.model.config.n_stacks - 1;
    std::vector<double>& means = rewritten.seen.stacks[last].key_means;
    const std::vector<double> first = means, whole = rewritten.seen.stacks[last].whole_key_means;
    if (!options_.key_offset || whole.size() != first.size()) return {};
    for (const double part : {0.5, 1.0}) {
      for (std::size_t i = 0; i < first.size(); ++i) means[i] = first[i] + part * (whole[i] - first[i]);
      Fidelity f;
      if (Error error = measure_whole(f, rewritten, chosen_, probes_)) return error;
      if (!(f.distance() < kMustGain * report_.chosen.distance())) continue;
      report_.chosen = f;
      report_.key_offset = part == 1.0 ? KeyOffsetChoice::whole_context : KeyOffsetChoice::half_way;
      StackCalibration& original = original_.seen.stacks[last];
      for (std::size_t i = 0; i < first.size(); ++i)
        original.key_means[i] += part * (original.whole_key_means[i] - original.key_means[i]);
    }
    return {};
  }

  // A model that is still far off gets groups where rows lose less than the usual limit.
  Error choose_groups() {
    if (options_.group || report_.chosen.distance() <= kFarFromFloat) return {};
    QuantizeOptions more = chosen_;
    more.row_error_limit = std::min(chosen_.row_error_limit, kFineRowErrorLimit);
    Fidelity fine;
    if (Error error = measure_whole(fine, apply_passes(original_, passes_), more, probes_)) return error;
    if (!(fine.distance() < kMustGain * report_.chosen.distance())) return {};
    report_.chosen = fine;
    chosen_ = more;
    return {};
  }

  Error measure_report(const SeenModel& final, const QuantizedModel& result, Layout layout) const {
    const std::vector<Probe> probes = make_probes(original_.model, probe_options(kReportSeed, 1, 4096));
    if (layout == kernels_.traits.preferred)
      return measure(report_.measured, result.config, *result.tensors, probes, kernels_);
    return measure_whole(report_.measured, final, chosen_, probes);
  }

  QuantizeReport& report_;
  const QuantizeOptions& options_;
  const Kernels& kernels_;
  SeenModel original_;
  QuantizeOptions chosen_;
  std::vector<StackPass> passes_;
  std::vector<Probe> probes_;
};

}  // namespace

Error quantize_model(QuantizedModel& result, QuantizeReport& report, const FloatModel& model, Layout layout,
                     const QuantizeOptions& options, const Kernels& kernels) {
  report = QuantizeReport{};
  return Quantizer(report, model, options, kernels).run(result, layout);
}

}  // namespace heed::quant
