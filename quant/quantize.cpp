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

Role gain_of(Site site) {
  return site == Site::attention_in ? Role::attention_gain : site == Site::ffn_in ? Role::ffn_gain : Role::final_gain;
}
bool has_gain(Site site) { return site == Site::attention_in || site == Site::ffn_in || site == Site::unembed_in; }
Role norm_bias_of(Site site) {
  return site == Site::attention_in ? Role::attention_norm_bias
         : site == Site::ffn_in     ? Role::ffn_norm_bias
                                    : Role::final_norm_bias;
}
// The bias of the matrices behind a norm, which a folded norm bias becomes a part of.
std::uint32_t matrix_bias(Site site) {
  return site == Site::attention_in ? (kBiasQuery | kBiasKey | kBiasValueDown) : site == Site::ffn_in ? kBiasFfnIn : kBiasUnembedding;
}
std::uint32_t folded_flag(Site site) {
  return site == Site::attention_in ? kAttentionGainFolded : site == Site::ffn_in ? kFfnGainFolded : kFinalGainFolded;
}

// Gain and bias of the norm before a matrix; null where there is none.
struct NormBefore {
  const float* gain = nullptr;
  const float* bias = nullptr;
};

NormBefore norm_before(const FloatModel& model, Site site, std::uint32_t layer) {
  if (!has_gain(site)) return {};
  return {model.floats(gain_of(site), layer), model.floats(norm_bias_of(site), layer)};
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
double site_error(const FloatModel& model, const Calibration& calibration, Site site, std::uint32_t group, bool fold,
                  const Kernels& kernels) {
  const StackConfig& c = model.config;
  const bool per_layer = site != Site::unembed_in;
  const std::uint32_t n = calibration.samples, layers = per_layer ? c.n_layers : 1;
  SquaredError sum;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    const NormBefore norm = norm_before(model, site, layer);
    const float* gain = norm.gain;
    for (const Role role : matrices_of(c, site)) {
      const TensorSlot slot = tensor_slot(c, role, layer);
      const float* x = calibration.inputs[static_cast<int>(site)].data() + std::size_t{layer} * n * slot.cols;
      const float* weights = model.floats(role, layer);

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

Error check_numbers(const QuantizedMatrix& matrix, Role role, std::uint32_t layer) {
  bool good = true;
  for (const float s : matrix.scales) good = good && in_range(s);
  for (const float b : matrix.bias) good = good && magnitude_of(b) <= double{kLargest};
  return good ? Error() : Error(describe(role, layer) + ": its numbers are too large for an image");
}

void put_key_offsets(TensorSection& tensors, const StackConfig& c, const Calibration& calibration) {
  std::vector<std::int16_t> values(c.d_key());
  std::vector<std::int8_t> exponents(c.n_kv_heads);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    for (std::uint32_t head = 0; head < c.n_kv_heads; ++head) {
      const std::size_t at = (std::size_t{layer} * c.n_kv_heads + head) * c.head_dim;
      exponents[head] =
          encode_key_offset(&values[std::size_t{head} * c.head_dim], &calibration.key_means[at], c.head_dim);
    }
    tensors.put_key_offset(layer, values, exponents);
  }
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
  const StackConfig& float_config = model.config;
  const Calibration calibration = calibrate(model);
  report = QuantizeReport{};
  report.calibration_tokens = static_cast<std::uint32_t>(calibration.tokens.size());

  StackConfig c = float_config;
  if (options.key_offset) c.flags |= kKeyOffset;
  for (int i = 0; i < kSiteCount; ++i) {
    const auto site = static_cast<Site>(i);
    if (matrices_of(c, site).empty()) continue;
    SiteReport& s = report.sites[i];
    const auto measure = [&](std::uint32_t group, bool fold) {
      return site_error(model, calibration, site, group, fold, kernels);
    };
    // The matrix of a tied unembedding also gives the embeddings, which have no norm before them.
    const bool foldable = has_gain(site) && !(site == Site::unembed_in && c.tied_unembedding);
    bool fold = false;
    s.row_error = measure(0, false);
    if (foldable) {
      const double folded = measure(0, true);
      fold = folded <= s.row_error * kFoldingMayCost;
      if (fold) s.row_error = folded;
    }
    if (fold) {
      c.flags |= folded_flag(site);
      if (c.biases & kBiasNorm) c.biases |= matrix_bias(site);
    }
    s.error = s.row_error;
    if (options.group) {
      s.group = *options.group;
      if (s.group) s.error = measure(s.group, fold);
    } else if (s.row_error > kRowErrorLimit) {
      for (const std::uint32_t group : {256u, 128u, 64u, 32u}) {
        const double error = measure(group, fold);
        if (error > s.error * kGroupMustGain) continue;
        s.error = error;
        s.group = group;
        if (error <= kRowErrorLimit) break;
      }
    }
    c.groups[i] = static_cast<std::uint16_t>(s.group);
  }
  if (check_config(c) != Status::ok) return Error("the quantised model is not one that an image can hold");

  result.config = c;
  result.tensors.emplace(c, layout);
  TensorSection& tensors = *result.tensors;
  SquaredError all;
  for (const TensorEntry& e : tensors.directory()) {
    TensorReport t{e.role, e.layer, tensors.bytes_of(e.role, e.layer), 0.0};
    const float* x = model.floats(e.role, e.layer);
    if (e.type == ElementType::s8) {
      NormBefore folded;
      for (int i = 0; i < kSiteCount; ++i) {
        const auto site = static_cast<Site>(i);
        if (!has_gain(site) || !(c.flags & folded_flag(site))) continue;
        for (const Role role : matrices_of(c, site))
          if (role == e.role) folded = norm_before(model, site, e.layer);
      }
      QuantizedMatrix matrix = quantize_matrix(x, folded.gain, e.rows, e.cols, e.group);
      if (tensor_slot(c, e.role, e.layer).bias)
        matrix.bias = folded_bias(x, model.bias(e.role, e.layer), folded.bias, e.rows, e.cols);
      if (Error error = check_numbers(matrix, e.role, e.layer)) return error;
      const SquaredError off = matrix_error(matrix, x, folded.gain);
      t.error = off.relative();
      all += off;
      tensors.put(e.role, e.layer, matrix);
    } else if (e.type == ElementType::f32) {
      tensors.put_floats(e.role, e.layer, storable(x, e.cols).data());
    } else if (e.type == ElementType::u32) {
      tensors.put_phases(model.rotary_phases);
    }
    report.tensors.push_back(t);
  }
  if (options.key_offset) put_key_offsets(tensors, c, calibration);
  report.matrix_error = all.relative();
  return {};
}

}  // namespace heed::quant
