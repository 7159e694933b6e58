// SPDX-License-Identifier: Apache-2.0
// quantize.cpp: rows, groups, folded gains and biases, key offsets, and the measurements that choose between them.
#include "quant/quantize.hpp"

#include <algorithm>

#include "quant/folding.hpp"
#include "quant/row_blocks.hpp"

namespace heed::quant {
namespace {

// A separate gain costs a multiplication per element of each vector, so folding may lose this much accuracy.
constexpr double kFoldingMayCost = 1.25;
// A group that gains less than this over the next larger choice is not worth its bytes.
constexpr double kGroupMustGain = 0.8;

// A site of one layer on the calibration's inputs: what the float matrices make of them, and what int8 does, with one
// number of columns per group, gains folded or not.
class SiteInputs {
 public:
  // x [n, cols]
  SiteInputs(const float* x, std::uint32_t n, std::uint32_t cols, std::uint32_t group, const NormBefore& norm, bool fold,
             const Kernels& kernels)
      : n_(n),
        cols_(cols),
        group_(group),
        norm_(norm),
        fold_(fold),
        kernels_(kernels),
        columns_(std::size_t{n} * cols),
        memory_(static_cast<std::size_t>(activations_bytes(kernels.traits, cols, group, n)) + kernels.traits.slack),
        activations_(make_activations(memory_.data(), kernels.traits, cols, group, n)) {
    std::vector<float> row(cols);
    for (std::uint32_t i = 0; i < n; ++i) {
      for (std::uint32_t k = 0; k < cols; ++k) {
        const float v = x[std::size_t{i} * cols + k];
        columns_[std::size_t{k} * n + i] = v;
        row[k] = norm.gain && !fold ? v * norm.gain[k] : v;
        if (norm.bias && !fold) row[k] += norm.bias[k];
      }
      kernels.quantize_s8r_f32(activations_, i, row.data());
    }
  }

  // Adds the squares of the errors of a matrix's outputs.
  void add_errors(SquaredError& sum, const StoredTensor& matrix, const Parallel& parallel) const {
    std::vector<double> off(std::size_t{n_} * matrix.rows()), exact(off.size());  // [n, rows]
    const RowBlocks blocks(matrix);
    for_each_part(parallel, blocks.count(),
                  [&](std::uint32_t i) { multiply(off.data(), exact.data(), matrix.rows(), blocks.read(i)); });
    for (std::size_t i = 0; i < off.size(); ++i) {
      sum.error += off[i] * off[i];
      sum.reference += exact[i] * exact[i];
    }
  }

 private:
  void multiply(double* off, double* exact, std::size_t stride, const RowBlocks::Block& block) const {
    const QuantizedMatrix matrix = quantize_matrix(block.x, fold_ ? norm_.gain : nullptr, block.rows, cols_, group_);
    const Layout layout = kernels_.traits.preferred;
    ImageBytes packed(static_cast<std::size_t>(tensor_bytes(layout, block.rows, cols_, group_, false).total) +
                      kernels_.traits.slack);
    pack(packed.data(), matrix, layout);
    const std::uint32_t rows = padded_rows(layout, block.rows);
    std::vector<float> y(std::size_t{n_} * rows);
    kernels_.matmul_f32_s8r_s8c(y.data(), activations_, view(packed.data(), matrix, layout), {n_, 0, rows, rows, false});
    std::vector<double> sums(n_);
    for (std::uint32_t r = 0; r < block.rows; ++r) {
      const float* row = block.x + std::size_t{r} * cols_;
      const double shift = norm_.bias ? shift_of(row, norm_.bias, cols_) : 0.0;
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::uint32_t k = 0; k < cols_; ++k) {
        const double w = norm_.gain ? double{row[k]} * norm_.gain[k] : double{row[k]};
        const double* x = &columns_[std::size_t{k} * n_];
        for (std::uint32_t i = 0; i < n_; ++i) sums[i] += w * x[i];
      }
      for (std::uint32_t i = 0; i < n_; ++i) {
        const std::size_t at = i * stride + block.first + r;
        exact[at] = norm_.bias ? sums[i] + shift : sums[i];
        off[at] = y[std::size_t{i} * rows + r] + (fold_ ? shift : 0.0) - exact[at];
      }
    }
  }

  const std::uint32_t n_, cols_, group_;
  const NormBefore norm_;
  const bool fold_;
  const Kernels& kernels_;
  std::vector<double> columns_;  // [cols, n]
  ImageBytes memory_;
  const Activations activations_;
};

// Outputs of one site on the calibration's inputs, int8 against float, over all layers. The matrices' own biases are
// exact on both sides and left out.
double site_error(const FloatModel& model, std::uint32_t stack, const StackCalibration& calibration, Site site,
                  std::uint32_t group, bool fold, const Kernels& kernels) {
  const StackConfig& c = model.config.stacks[stack];
  const SiteSamples& samples = calibration.sites[static_cast<int>(site)];
  const std::uint32_t layers = is_per_layer(site) ? c.n_layers : 1;
  const std::vector<Role> roles = matrices_of(c, site);
  SquaredError sum;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    const std::uint32_t cols = tensor_slot(c, roles[0], layer).cols;
    const float* x = samples.x.data() + std::size_t{layer} * samples.n * cols;
    const SiteInputs inputs(x, samples.n, cols, group, norm_weights(model, stack, site, layer), fold, kernels);
    for (const Role role : roles) {
      const StoredTensor& matrix = *model.tensor(role, layer, stack);
      inputs.add_errors(sum, matrix.row_slice(0, tensor_slot(c, role, layer).rows), model.parallel);
    }
  }
  return sum.relative();
}

// Folds the norm before a site unless it is among the kept ones; whether it did.
bool fold(StackConfig& c, const FloatModel& model, std::uint32_t stack, Site site, std::uint32_t kept_gains) {
  const std::uint32_t flag = folded_flag(norm_before(model.config.stacks[stack], site).gain);
  if (kept_gains & flag) return false;
  c.flags |= flag;
  if (norm_weights(model, stack, site, 0).bias) c.biases |= matrix_bias(site);
  return true;
}

// Without measurements: the groups that were asked for or none, and every norm folded that may be.
void choose_by_rule(StackConfig& c, SiteReport* sites, const FloatModel& model, std::uint32_t stack,
                    const QuantizeOptions& options) {
  const StackConfig& float_config = model.config.stacks[stack];
  std::uint32_t kept_gains = 0;
  for (int i = 0; i < kSiteCount; ++i) {
    const auto site = static_cast<Site>(i);
    sites[i].used = !matrices_of(float_config, site).empty();
    if (sites[i].used && norm_before(float_config, site).present && !is_foldable(float_config, site))
      kept_gains |= folded_flag(norm_before(float_config, site).gain);
  }
  for (int i = 0; i < kSiteCount; ++i) {
    if (!sites[i].used) continue;
    sites[i].group = options.group.value_or(0);
    c.groups[i] = static_cast<std::uint16_t>(sites[i].group);
    const auto site = static_cast<Site>(i);
    if (norm_before(float_config, site).present) fold(c, model, stack, site, kept_gains);
  }
}

// Chooses groups, and which norms are folded into what stands behind them, by what either costs.
void choose_sites(StackConfig& c, SiteReport* sites, const FloatModel& model, std::uint32_t stack,
                  const StackCalibration& calibration, const QuantizeOptions& options, const Kernels& kernels,
                  const ShowProgress& progress) {
  const StackConfig& float_config = model.config.stacks[stack];
  const auto measure = [&](Site site, std::uint32_t group, bool fold) {
    return site_error(model, stack, calibration, site, group, fold, kernels);
  };
  double folded_error[kSiteCount] = {};
  // Bits of the sites whose matrices read a norm that may not be folded. A norm that two sites read is folded for both.
  std::uint32_t kept_gains = 0;
  for (int i = 0; i < kSiteCount; ++i) {
    if (progress) progress(0.5 * i / kSiteCount);
    const auto site = static_cast<Site>(i);
    sites[i].used = !matrices_of(float_config, site).empty();
    if (!sites[i].used) continue;
    sites[i].row_error = measure(site, 0, false);
    if (!norm_before(float_config, site).present) continue;
    folded_error[i] = is_foldable(float_config, site) ? measure(site, 0, true) : 0.0;
    if (!is_foldable(float_config, site) || !(folded_error[i] <= sites[i].row_error * kFoldingMayCost))
      kept_gains |= folded_flag(norm_before(float_config, site).gain);
  }
  for (int i = 0; i < kSiteCount; ++i) {
    const auto site = static_cast<Site>(i);
    SiteReport& s = sites[i];
    if (progress) progress(0.5 + 0.5 * i / kSiteCount);
    if (!s.used) continue;
    const bool folded = norm_before(float_config, site).present && fold(c, model, stack, site, kept_gains);
    if (folded) s.row_error = folded_error[i];
    s.error = s.row_error;
    if (options.group) {
      s.group = *options.group;
      if (s.group) s.error = measure(site, s.group, folded);
    } else if (s.row_error > options.row_error_limit) {
      for (const std::uint32_t group : {256u, 128u, 64u, 32u}) {
        const double error = measure(site, group, folded);
        if (error > s.error * kGroupMustGain) continue;
        s.error = error;
        s.group = group;
        if (error <= options.row_error_limit) break;
      }
    }
    c.groups[i] = static_cast<std::uint16_t>(s.group);
  }
}

}  // namespace

QuantizedMatrix quantize_matrix(const float* weights, const float* gain, std::uint32_t rows, std::uint32_t cols,
                                std::uint32_t group) {
  QuantizedMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.group = group;
  m.weights.resize(std::size_t{rows} * cols);
  m.scales.resize(rows);
  const std::size_t groups = group_count(cols, group);
  m.multipliers.resize(rows * groups);
  RowQuantizer quantizer(cols, group);
  for (std::size_t r = 0; r < rows; ++r)
    m.scales[r] = quantizer.quantize(&m.weights[r * cols], m.multipliers.data() + r * groups, weights + r * cols, gain);
  return m;
}

SquaredError matrix_error(const QuantizedMatrix& m, const float* weights, const float* gain) {
  SquaredError sum;
  for (std::uint32_t r = 0; r < m.rows; ++r) {
    for (std::uint32_t c = 0; c < m.cols; ++c) {
      const double w = weights[std::size_t{r} * m.cols + c], exact = gain ? w * gain[c] : w, off = m.value(r, c) - exact;
      sum.error += off * off;
      sum.reference += exact * exact;
    }
  }
  return sum;
}

Error plan_seen(QuantizePlan& plan, SiteReport (&sites)[kMaxStacks][kSiteCount], const FloatModel& model,
                const Calibration* seen, const QuantizeOptions& options, const Kernels& kernels) {
  plan.config = model.config;
  for (std::uint32_t stack = 0; stack < plan.config.n_stacks; ++stack) {
    StackConfig& c = plan.config.stacks[stack];
    for (SiteReport& site : sites[stack]) site = SiteReport{};
    if (!seen) {
      choose_by_rule(c, sites[stack], model, stack, options);
      continue;
    }
    const StackCalibration& of_stack = seen->stacks[stack];
    if (options.key_offset) c.flags |= kKeyOffset | (c.cross_attention ? kCrossKeyOffset : 0u);
    const double n = plan.config.n_stacks;
    choose_sites(c, sites[stack], model, stack, of_stack, options, kernels,
                 part_of_progress(options.progress, stack / n, (stack + 1) / n));
    plan.key_means[stack] = of_stack.key_means;
    plan.cross_key_means[stack] = of_stack.cross_key_means;
  }
  return check_config(plan.config) == Status::ok ? Error() : Error("the quantised model is not one that an image can hold");
}

Error quantize_planned(QuantizedModel& result, std::vector<TensorReport>& report, double& matrix_error,
                       const FloatModel& model, const QuantizePlan& plan, Layout layout) {
  result.config = plan.config;
  result.tensors.emplace(plan.config, layout);
  std::size_t at = 0;
  const Append append = [&](Span<const std::uint8_t> bytes) {
    result.tensors->put_section_bytes(at, bytes);
    at += bytes.size();
    return Error();
  };
  return quantize_tensors(append, report, matrix_error, model, plan, layout);
}

}  // namespace heed::quant
