// SPDX-License-Identifier: Apache-2.0
// quantize.cpp: rows, groups, folded gains and biases, key offsets, and the measurements that choose between them.
#include "quant/quantize.hpp"

#include "quant/double_math.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

// A separate gain costs a multiplication per element of each vector, so folding may lose this much accuracy.
constexpr double kFoldingMayCost = 1.25;
// A group that gains less than this over the next larger choice is not worth its bytes.
constexpr double kGroupMustGain = 0.8;

double magnitude_of(double x) { return x < 0.0 ? -x : x; }

double gained(const float* weights, const float* gain, std::size_t row, std::uint32_t cols, std::uint32_t c) {
  const double w = weights[row * cols + c];
  return gain ? w * gain[c] : w;
}

// The bias bits of the matrices behind a norm, which a folded norm bias becomes a part of.
std::uint32_t matrix_bias(Site site) {
  switch (site) {
    case Site::attention_in: return kBiasQuery | kBiasKey | kBiasValueDown;
    case Site::ffn_in: return kBiasFfnIn;
    case Site::unembed_in: return kBiasUnembedding;
    case Site::cross_in: return kBiasCrossQuery;
    case Site::dense_in: return kBiasDense;
    default: return 0;
  }
}
std::uint32_t folded_flag(Role gain) {
  switch (gain) {
    case Role::attention_gain: return kAttentionGainFolded;
    case Role::cross_gain: return kCrossGainFolded;
    case Role::ffn_gain: return kFfnGainFolded;
    default: return kFinalGainFolded;
  }
}
// The matrix of a tied unembedding also gives the embeddings, which have no norm before them.
bool is_foldable(const StackConfig& c, Site site) {
  return norm_before(c, site).present && !(site == Site::unembed_in && c.tied_unembedding);
}

// Gain and bias of the norm before a matrix; null where there is none.
struct NormBefore {
  const float* gain = nullptr;
  const float* bias = nullptr;
};

NormBefore norm_weights(const FloatModel& model, std::uint32_t stack, Site site, std::uint32_t layer) {
  const NormRoles norm = norm_before(model.config.stacks[stack], site);
  if (!norm.present) return {};
  if (!is_per_layer(site)) layer = 0;
  return {model.floats(norm.gain, layer, stack), model.floats(norm.bias, layer, stack)};
}

// W * bias of the norm, row by row.
std::vector<double> shifted_by(const float* weights, const float* norm_bias, std::uint32_t rows, std::uint32_t cols) {
  std::vector<double> shift(rows, 0.0);
  for (std::size_t r = 0; r < rows && norm_bias; ++r)
    for (std::uint32_t k = 0; k < cols; ++k) shift[r] += double{weights[r * cols + k]} * norm_bias[k];
  return shift;
}

// Outputs of one site on the calibration's inputs, int8 against float, over all layers. The matrices' own biases are
// exact on both sides and left out.
double site_error(const FloatModel& model, std::uint32_t stack, const StackCalibration& calibration, Site site,
                  std::uint32_t group, bool fold, const Kernels& kernels) {
  const StackConfig& c = model.config.stacks[stack];
  const SiteSamples& samples = calibration.sites[static_cast<int>(site)];
  const std::uint32_t n = samples.n, layers = is_per_layer(site) ? c.n_layers : 1;
  SquaredError sum;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    const NormBefore norm = norm_weights(model, stack, site, layer);
    const float* gain = norm.gain;
    for (const Role role : matrices_of(c, site)) {
      const TensorSlot slot = tensor_slot(c, role, layer);
      const float* x = samples.x.data() + std::size_t{layer} * n * slot.cols;
      const float* weights = model.floats(role, layer, stack);

      ImageBytes memory(static_cast<std::size_t>(activations_bytes(kernels.traits, slot.cols, group, n)) +
                        kernels.traits.slack);
      const Activations inputs = make_activations(memory.data(), kernels.traits, slot.cols, group, n);
      std::vector<float> gained_x(slot.cols);
      for (std::uint32_t i = 0; i < n; ++i) {
        for (std::uint32_t k = 0; k < slot.cols; ++k) {
          const float v = x[std::size_t{i} * slot.cols + k];
          gained_x[k] = gain && !fold ? v * gain[k] : v;
          if (norm.bias && !fold) gained_x[k] += norm.bias[k];
        }
        kernels.quantize_s8r_f32(inputs, i, gained_x.data());
      }
      const QuantizedMatrix matrix = quantize_matrix(weights, fold ? gain : nullptr, slot.rows, slot.cols, group);
      const Layout layout = kernels.traits.preferred;
      ImageBytes packed(static_cast<std::size_t>(tensor_bytes(layout, slot.rows, slot.cols, group, false).total) +
                        kernels.traits.slack);
      pack(packed.data(), matrix, layout);
      const std::uint32_t rows = padded_rows(layout, slot.rows);
      std::vector<float> y(std::size_t{n} * rows);
      kernels.matmul_f32_s8r_s8c(y.data(), inputs, view(packed.data(), matrix, layout), {n, 0, rows, rows, false});

      const std::vector<double> shift = shifted_by(weights, norm.bias, slot.rows, slot.cols);
      for (std::uint32_t i = 0; i < n; ++i) {
        for (std::uint32_t r = 0; r < slot.rows; ++r) {
          double exact = 0.0;
          for (std::uint32_t k = 0; k < slot.cols; ++k)
            exact += gained(weights, gain, r, slot.cols, k) * x[std::size_t{i} * slot.cols + k];
          if (norm.bias) exact += shift[r];
          const double off = y[std::size_t{i} * rows + r] + (fold ? shift[r] : 0.0) - exact;
          sum.error += off * off;
          sum.reference += exact * exact;
        }
      }
    }
  }
  return sum.relative();
}

// Gains and biases that the image can hold: what is too small to matter counts as zero.
std::vector<float> storable(const float* x, std::uint32_t n) {
  std::vector<float> result(x, x + n);
  for (float& v : result) v = snap(v);
  return result;
}

// The matrix's bias in the image: its own, and the norm's where that is folded.
std::vector<float> folded_bias(const float* weights, const float* own, const float* norm_bias, std::uint32_t rows,
                               std::uint32_t cols) {
  std::vector<double> sum = shifted_by(weights, norm_bias, rows, cols);
  std::vector<float> result(rows);
  for (std::uint32_t r = 0; r < rows; ++r) result[r] = snap(static_cast<float>(own ? sum[r] + own[r] : sum[r]));
  return result;
}

Error check_numbers(const QuantizedMatrix& matrix, const std::string& name) {
  bool good = true;
  for (const float s : matrix.scales) good = good && in_range(s);
  for (const float b : matrix.bias) good = good && magnitude_of(b) <= double{kLargest};
  return good ? Error() : Error(name + ": its numbers are too large for an image");
}

void put_key_offsets(TensorSection& tensors, const StackConfig& c, const std::vector<double>& means, Role role,
                     std::uint32_t stack) {
  std::vector<std::int16_t> values(c.d_key());
  std::vector<std::int8_t> exponents(c.n_kv_heads);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    for (std::uint32_t head = 0; head < c.n_kv_heads; ++head) {
      const std::size_t at = (std::size_t{layer} * c.n_kv_heads + head) * c.head_dim;
      exponents[head] = encode_key_offset(&values[std::size_t{head} * c.head_dim], &means[at], c.head_dim);
    }
    tensors.put_key_offset(layer, values, exponents, role, stack);
  }
}

// Chooses groups, and which norms are folded into what stands behind them, by what either costs.
void choose_sites(StackConfig& c, SiteReport* sites, const FloatModel& model, std::uint32_t stack,
                  const StackCalibration& calibration, const QuantizeOptions& options, const Kernels& kernels) {
  const StackConfig& float_config = model.config.stacks[stack];
  const auto measure = [&](Site site, std::uint32_t group, bool fold) {
    return site_error(model, stack, calibration, site, group, fold, kernels);
  };
  double folded_error[kSiteCount] = {};
  // Bits of the sites whose matrices read a norm that may not be folded. A norm that two sites read is folded for both.
  std::uint32_t kept_gains = 0;
  for (int i = 0; i < kSiteCount; ++i) {
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
    if (!s.used) continue;
    const NormRoles norm = norm_before(float_config, site);
    const bool fold = norm.present && !(kept_gains & folded_flag(norm.gain));
    if (fold) {
      s.row_error = folded_error[i];
      c.flags |= folded_flag(norm.gain);
      if (norm_weights(model, stack, site, 0).bias) c.biases |= matrix_bias(site);
    }
    s.error = s.row_error;
    if (options.group) {
      s.group = *options.group;
      if (s.group) s.error = measure(site, s.group, fold);
    } else if (s.row_error > kRowErrorLimit) {
      for (const std::uint32_t group : {256u, 128u, 64u, 32u}) {
        const double error = measure(site, group, fold);
        if (error > s.error * kGroupMustGain) continue;
        s.error = error;
        s.group = group;
        if (error <= kRowErrorLimit) break;
      }
    }
    c.groups[i] = static_cast<std::uint16_t>(s.group);
  }
}

// The norm that is folded into a matrix of the quantised stack.
NormBefore folded_into(const FloatModel& model, const StackConfig& c, Role role, std::uint32_t layer,
                       std::uint32_t stack) {
  for (int i = 0; i < kSiteCount; ++i) {
    const auto site = static_cast<Site>(i);
    const NormRoles norm = norm_before(c, site);
    if (!norm.present || !(c.flags & folded_flag(norm.gain))) continue;
    for (const Role reader : matrices_of(c, site))
      if (reader == role) return norm_weights(model, stack, site, layer);
  }
  return {};
}

Error put_tensor(TensorSection& tensors, TensorReport& report, SquaredError& all, const FloatModel& model,
                 const StackConfig& c, const TensorEntry& e) {
  const float* x = model.floats(e.role, e.layer, e.stack);
  switch (e.type) {
    case ElementType::s8: {
      const NormBefore folded = folded_into(model, c, e.role, e.layer, e.stack);
      QuantizedMatrix matrix = quantize_matrix(x, folded.gain, e.rows, e.cols, e.group);
      if (tensor_slot(c, e.role, e.layer).bias)
        matrix.bias = folded_bias(x, model.bias(e.role, e.layer, e.stack), folded.bias, e.rows, e.cols);
      if (Error error = check_numbers(matrix, describe(model.config, e.role, e.layer, e.stack))) return error;
      const SquaredError off = matrix_error(matrix, x, folded.gain);
      report.error = off.relative();
      all += off;
      tensors.put(e.role, e.layer, matrix, e.stack);
      break;
    }
    case ElementType::f32: tensors.put_floats(e.role, e.layer, storable(x, e.cols).data(), e.stack); break;
    case ElementType::u32:
      tensors.put_phases(e.role == Role::rotary_phases ? model.rotary_phases[e.stack]
                                                       : model.local_rotary_phases[e.stack],
                         e.role, e.stack);
      break;
    case ElementType::s32:
      tensors.put_score_bias(c.position == Position::alibi ? slopes_as_integers(x, c.n_heads)
                                                           : biases_as_integers(x, std::size_t{e.rows} * e.cols),
                             e.stack);
      break;
    case ElementType::s16:  // key offsets: behind all others, from the calibration
    case ElementType::s4: break;
  }
  return {};
}

}  // namespace

double SquaredError::relative() const { return reference > 0.0 ? __builtin_sqrt(error / reference) : 0.0; }

QuantizedMatrix quantize_matrix(const float* weights, const float* gain, std::uint32_t rows, std::uint32_t cols,
                                std::uint32_t group) {
  QuantizedMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.group = group;
  m.weights.resize(std::size_t{rows} * cols);
  m.scales.resize(rows);
  const std::uint32_t groups = group_count(cols, group);
  m.multipliers.assign(std::size_t{rows} * groups, 1);
  const double steps = group ? 127.0 * 15.0 : 127.0;
  for (std::size_t r = 0; r < rows; ++r) {
    double max = 0.0;
    for (std::uint32_t c = 0; c < cols; ++c) {
      const double a = magnitude_of(gained(weights, gain, r, cols, c));
      max = a > max ? a : max;
    }
    const auto scale = static_cast<float>(max / steps);
    m.scales[r] = scale;
    if (!(scale >= kSmallest)) {
      m.scales[r] = 1.0f;  // and zero weights
      continue;
    }
    const std::uint32_t width = group ? group : cols;
    for (std::uint32_t first = 0; first < cols; first += width) {
      const std::uint32_t last = cols - first < width ? cols : first + width;
      double step = scale;
      if (group) {
        double group_max = 0.0;
        for (std::uint32_t c = first; c < last; ++c) {
          const double a = magnitude_of(gained(weights, gain, r, cols, c));
          group_max = a > group_max ? a : group_max;
        }
        // Half a step of slack: the largest weight then still rounds to 127.
        std::uint8_t multiplier = 1;
        while (multiplier < 15 && group_max > 127.5 * multiplier * scale) ++multiplier;
        m.multipliers[r * groups + first / group] = multiplier;
        step = multiplier * step;
      }
      for (std::uint32_t c = first; c < last; ++c) {
        double q = round_even(gained(weights, gain, r, cols, c) / step);
        q = q > 127.0 ? 127.0 : q;
        q = q < -127.0 ? -127.0 : q;
        m.weights[r * cols + c] = static_cast<std::int8_t>(q);
      }
    }
  }
  return m;
}

SquaredError matrix_error(const QuantizedMatrix& m, const float* weights, const float* gain) {
  SquaredError sum;
  for (std::uint32_t r = 0; r < m.rows; ++r) {
    for (std::uint32_t c = 0; c < m.cols; ++c) {
      const double exact = gained(weights, gain, r, m.cols, c), off = m.value(r, c) - exact;
      sum.error += off * off;
      sum.reference += exact * exact;
    }
  }
  return sum;
}

std::int8_t encode_key_offset(std::int16_t* values, const double* means, std::uint32_t head_dim) {
  std::uint32_t max_bits = 0;
  for (std::uint32_t d = 0; d < head_dim; ++d) {
    const std::uint32_t bits = magnitude_bits(static_cast<float>(means[d]));
    max_bits = bits > max_bits ? bits : max_bits;
  }
  const BlockFloat b = block_float(max_bits);
  for (std::uint32_t d = 0; d < head_dim; ++d)
    values[d] = static_cast<std::int16_t>(b.zero ? 0 : to_s16(static_cast<float>(means[d]), b.to_s16_scale));
  return static_cast<std::int8_t>(b.exponent);
}

Error quantize_model(QuantizedModel& result, QuantizeReport& report, const FloatModel& model, Layout layout,
                     const QuantizeOptions& options, const Kernels& kernels) {
  const Calibration calibration = calibrate(model, options.inputs);
  report = QuantizeReport{};
  report.calibration_positions = calibration.positions;
  report.calibration_source_positions = calibration.source_positions;
  report.calibration_given = calibration.given;

  ModelConfig& config = result.config = model.config;
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack) {
    StackConfig& c = config.stacks[stack];
    if (options.key_offset) c.flags |= kKeyOffset | (c.cross_attention ? kCrossKeyOffset : 0u);
    choose_sites(c, report.sites[stack], model, stack, calibration.stacks[stack], options, kernels);
  }
  if (check_config(config) != Status::ok) return Error("the quantised model is not one that an image can hold");

  result.tensors.emplace(config, layout);
  TensorSection& tensors = *result.tensors;
  SquaredError all;
  for (const TensorEntry& e : tensors.directory()) {
    TensorReport t{e.role, e.layer, e.stack, tensors.bytes_of(e.role, e.layer, e.stack), 0.0};
    if (Error error = put_tensor(tensors, t, all, model, config.stacks[e.stack], e)) return error;
    report.tensors.push_back(t);
  }
  for (std::uint32_t stack = 0; stack < config.n_stacks; ++stack) {
    const StackConfig& c = config.stacks[stack];
    const StackCalibration& means = calibration.stacks[stack];
    if (c.flags & kKeyOffset) put_key_offsets(tensors, c, means.key_means, Role::key_offset, stack);
    if (c.flags & kCrossKeyOffset) put_key_offsets(tensors, c, means.cross_key_means, Role::cross_key_offset, stack);
  }
  report.matrix_error = all.relative();
  return {};
}

}  // namespace heed::quant
