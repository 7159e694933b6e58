// SPDX-License-Identifier: Apache-2.0
// quantize_tensors.cpp: block by block, so that no matrix has to stand in memory.
#include "quant/quantize_tensors.hpp"

#include <algorithm>
#include <cstring>

#include "quant/folding.hpp"
#include "quant/row_blocks.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

double magnitude_of(double x) { return x < 0.0 ? -x : x; }

Span<const std::uint8_t> bytes_of(const void* data, std::size_t n) { return {static_cast<const std::uint8_t*>(data), n}; }

// One matrix on its way.
class MatrixStream {
 public:
  MatrixStream(const FloatModel& model, const StackConfig& c, const TensorEntry& e, Layout layout)
      : e_(e),
        layout_(layout),
        parallel_(model.parallel),
        // A shorter context has fewer position embeddings than the source.
        stored_(model.tensor(e.role, e.layer, e.stack)->row_slice(0, e.rows)),
        blocks_(stored_),
        folded_(folded_into(model, c, e.role, e.layer, e.stack)),
        own_bias_(model.bias(e.role, e.layer, e.stack)),
        scales_(e.rows),
        multipliers_(std::size_t{e.rows} * group_count(e.cols, e.group)),
        bias_(tensor_slot(c, e.role, e.layer).bias ? e.rows : 0),
        errors_(blocks_.count()) {}

  Error run(const Append& append) {
    // As many blocks as keep the threads busy while their rows lie together.
    const std::uint32_t few = 4 * std::max(parallel_.threads, 1u);
    const std::uint32_t step = layout_ == Layout::block64 ? blocks_.count() : few;
    for (std::uint32_t first = 0; first < blocks_.count(); first += step)
      if (Error error = put_blocks(append, first, std::min(step, blocks_.count() - first))) return error;
    const std::vector<std::uint8_t> rest = pack_rest(layout_, e_.cols, e_.group, scales_, multipliers_, bias_);
    return append(rest);
  }

  bool has_good_numbers() const {
    return std::all_of(scales_.begin(), scales_.end(), in_range) &&
           std::all_of(bias_.begin(), bias_.end(), [](float b) { return magnitude_of(b) <= double{kLargest}; });
  }
  SquaredError error() const {
    SquaredError sum;
    for (const SquaredError& block : errors_) sum += block;
    return sum;
  }

 private:
  Error put_blocks(const Append& append, std::uint32_t first, std::uint32_t n) {
    const std::uint32_t begin = first * blocks_.step(), end = std::min(begin + n * blocks_.step(), e_.rows);
    const std::size_t width = padded_cols(layout_, e_.cols);
    packed_.assign(padded_rows(layout_, end - begin) * width, 0);
    for_each_part(parallel_, n, [&](std::uint32_t i) { quantize_block(first + i, begin); });
    if (end == e_.rows) packed_.resize(tensor_bytes(layout_, e_.rows, e_.cols, 0, false).scales - begin * width);
    return append(packed_);
  }

  void quantize_block(std::uint32_t i, std::uint32_t chunk_begin) {
    const RowBlocks::Block block = blocks_.read(i);
    RowQuantizer quantizer(e_.cols, e_.group);
    const std::size_t groups = group_count(e_.cols, e_.group);
    std::vector<std::int8_t> q(std::size_t{block.rows} * e_.cols);
    for (std::uint32_t k = 0; k < block.rows; ++k) {
      const std::size_t row = std::size_t{block.first} + k;
      const float* x = block.x + std::size_t{k} * e_.cols;
      std::int8_t* to = &q[std::size_t{k} * e_.cols];
      std::uint8_t* multipliers = multipliers_.data() + row * groups;
      scales_[row] = quantizer.quantize(to, multipliers, x, folded_.gain);
      errors_[i] += quantizer.error(to, multipliers, scales_[row]);
      if (bias_.empty()) continue;
      const double shift = folded_.bias ? shift_of(x, folded_.bias, e_.cols) : 0.0;
      bias_[row] = snap(static_cast<float>(own_bias_.empty() ? shift : shift + own_bias_[row]));
    }
    const std::size_t offset = std::size_t{block.first - chunk_begin} * padded_cols(layout_, e_.cols);
    pack_rows(packed_.data() + (layout_ == Layout::block64 ? 0 : offset), q.data(), layout_, e_.rows, e_.cols, block.first,
              block.rows);
  }

  const TensorEntry& e_;
  const Layout layout_;
  const Parallel& parallel_;
  const StoredTensor stored_;
  const RowBlocks blocks_;
  const NormBefore folded_;
  const Span<const float> own_bias_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> multipliers_;
  std::vector<float> bias_;
  std::vector<SquaredError> errors_;  // of each block, so that no thread's order matters
  std::vector<std::uint8_t> packed_;
};

// Gains and biases that the image can hold: what is too small to matter counts as zero.
std::vector<float> storable(const float* x, std::uint32_t n) {
  std::vector<float> result(x, x + n);
  for (float& v : result) v = snap(v);
  return result;
}

std::vector<std::uint8_t> key_offsets(const StackConfig& c, const double* means) {
  std::vector<std::int16_t> values(c.d_key());
  std::vector<std::int8_t> exponents(c.n_kv_heads);
  for (std::size_t head = 0; head < c.n_kv_heads; ++head)
    exponents[head] = encode_key_offset(&values[head * c.head_dim], means + head * c.head_dim, c.head_dim);
  std::vector<std::uint8_t> bytes(2 * values.size() + exponents.size());
  std::memcpy(bytes.data(), values.data(), 2 * values.size());
  std::memcpy(bytes.data() + 2 * values.size(), exponents.data(), exponents.size());
  return bytes;
}

// Tensors that are no matrices; without their padding.
std::vector<std::uint8_t> small_tensor(const FloatModel& model, const QuantizePlan& plan, const TensorEntry& e) {
  const StackConfig& c = plan.config.stacks[e.stack];
  const auto copied = [](const auto& x) {
    const auto bytes = bytes_of(x.data(), x.size() * sizeof x[0]);
    return std::vector<std::uint8_t>(bytes.begin(), bytes.end());
  };
  const float* x = model.floats(e.role, e.layer, e.stack);
  switch (e.type) {
    case ElementType::f32: return copied(storable(x, e.cols));
    case ElementType::u32:
      return copied(e.role == Role::rotary_phases ? model.rotary_phases[e.stack] : model.local_rotary_phases[e.stack]);
    case ElementType::s32:
      return copied(c.position == Position::alibi ? slopes_as_integers(x, c.n_heads)
                                                  : biases_as_integers(x, std::size_t{e.rows} * e.cols));
    case ElementType::s16: {
      const std::vector<double>& means =
          e.role == Role::key_offset ? plan.key_means[e.stack] : plan.cross_key_means[e.stack];
      return key_offsets(c, &means[std::size_t{e.layer} * c.d_key()]);
    }
    case ElementType::s8:
    case ElementType::s4: break;
  }
  return {};
}

}  // namespace

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

Error quantize_tensors(const Append& append, std::vector<TensorReport>& report, double& matrix_error,
                       const FloatModel& model, const QuantizePlan& plan, Layout layout,
                       const ShowProgress& progress) {
  const TensorDirectory directory(plan.config, layout);
  SquaredError all;
  std::uint64_t bytes_done = 0;
  report.clear();
  for (const TensorEntry& e : directory.entries()) {
    TensorReport t{e.role, e.layer, e.stack, std::uint64_t{e.bytes64} * 64, 0.0};
    if (e.type == ElementType::s8) {
      MatrixStream matrix(model, plan.config.stacks[e.stack], e, layout);
      if (Error error = matrix.run(append)) return error;
      if (!matrix.has_good_numbers())
        return Error(describe(model.config, e.role, e.layer, e.stack) + ": its numbers are too large for an image");
      t.error = matrix.error().relative();
      all += matrix.error();
    } else {
      std::vector<std::uint8_t> bytes = small_tensor(model, plan, e);
      bytes.resize(static_cast<std::size_t>(t.bytes));
      if (Error error = append(bytes)) return error;
    }
    bytes_done += t.bytes;
    if (progress) progress(static_cast<double>(bytes_done) / static_cast<double>(directory.section_bytes()));
    report.push_back(t);
  }
  matrix_error = all.relative();
  return {};
}

}  // namespace heed::quant
