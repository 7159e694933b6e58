// SPDX-License-Identifier: Apache-2.0
// spec_image.cpp: the oracle's reader of images (SPEC.md, parts 1 and 4). It trusts them.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tests/reference/spec_model.hpp"

namespace spec {
namespace {

using std::int64_t;

template <class T>
T at(const std::uint8_t* p, std::size_t offset) {
  T x;
  std::memcpy(&x, p + offset, sizeof x);
  return x;
}

void require(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(what);
}

int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// ---- Part 4 -------------------------------------------------------------------------------------------------------
struct LayoutRule {
  int64_t rows, columns, row_block;
};
constexpr LayoutRule kLayouts[] = {{4, 4, 4}, {16, 8, 16}, {4, 8, 4}, {4, 16, 4}};

int64_t weight_index(int layout, int64_t R, int64_t C, int64_t r, int64_t c) {
  if (layout == 0) return r * C + c;
  if (layout == 1) return (r / 16 * (C / 4) + c / 4) * 64 + (r % 16) * 4 + c % 4;
  if (layout == 2) return (r / 4 * (C / 4) + c / 4) * 16 + (r % 4) * 4 + c % 4;
  const int64_t F = c / 64 * 64, B = std::min<int64_t>(64, C - F);
  return F * R + r * B + c % 64;
}

Matrix read_matrix(const std::uint8_t* data, int layout, int64_t rows, int64_t cols, int group, bool bias) {
  const LayoutRule& rule = kLayouts[layout];
  const int64_t R = up(rows, rule.rows), C = up(cols, rule.columns);
  Matrix m;
  m.rows = rows;
  m.cols = cols;
  m.group = group;
  const auto weight = [&](int64_t r, int64_t c) {
    return static_cast<std::int8_t>(data[weight_index(layout, R, C, r, c)]);
  };
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      int w = weight(r, c);
      if (layout == 2 && c % 2 == 1 && weight(r, c - 1) < 0) ++w;  // the borrow of 256 * odd + even
      m.weights.push_back(static_cast<std::int8_t>(w));
    }
  const std::uint8_t* p = data + up(R * C, 64);
  for (int64_t r = 0; r < rows; ++r) m.scales.push_back(at<float>(p, static_cast<std::size_t>(4 * r)));
  p += 4 * R;
  if (bias) {
    for (int64_t r = 0; r < rows; ++r) m.bias.push_back(at<float>(p, static_cast<std::size_t>(4 * r)));
    p += 4 * R;
  }
  const int64_t groups = group ? (cols + group - 1) / group : 0, block = rule.row_block;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < groups; ++g) m.multipliers.push_back(p[(r / block * groups + g) * block + r % block]);
  return m;
}

// 1.4: the bit of `biases` of each role that may have one.
int bias_bit(int role) {
  switch (role) {
    case kSelf + kWQuery: return 1;
    case kSelf + kWKey: return 2;
    case kSelf + kWValueDown: return 4;
    case kSelf + kWValueUp: return 8;
    case kSelf + kWGate:
    case kSelf + kWUp: return 16;
    case kSelf + kWDown: return 32;
    case kUnembedding: return 64;
    case kCross + kWQuery: return 256;
    case kCross + kWKey: return 512;
    case kCross + kWValueDown: return 1024;
    case kCross + kWValueUp: return 2048;
    case kInputProjection:
    case kConvolution1:
    case kConvolution2: return 4096;
    case kDense: return 8192;
    default: return 0;
  }
}

// ---- 1.3 ----------------------------------------------------------------------------------------------------------
Config read_config(const std::uint8_t* p) {
  Config c{};
  int* const bytes[] = {&c.use,
                        &c.input,
                        &c.mask,
                        &c.cross_attention,
                        &c.norm,
                        &c.norm_placement,
                        &c.sublayers,
                        &c.input_norm,
                        &c.final_norm,
                        &c.position_table,
                        &c.position,
                        &c.rotary_pairing,
                        &c.query_key_norm,
                        &c.value_map,
                        &c.is_gated,
                        &c.activation,
                        &c.pooling,
                        &c.dense,
                        &c.dense_activation,
                        &c.dense_norm,
                        &c.output,
                        &c.tied_unembedding,
                        &c.unit_length,
                        &c.second_convolution,
                        &c.strides[0],
                        &c.strides[1],
                        &c.n_output_heads};
  for (int* const byte : bytes) *byte = *p++;
  p += 5;
  int64_t* const words[] = {&c.biases,        &c.flags,           &c.d_model,      &c.d_ff,         &c.n_layers,
                            &c.n_heads,       &c.n_kv_heads,      &c.head_dim,     &c.vocab_size,   &c.n_outputs,
                            &c.max_seq,       &c.window,          &c.global_every, &c.global_first, &c.n_sinks,
                            &c.rotary_dims,   &c.local_rotary,    &c.n_distances,  &c.d_input,      &c.d_source,
                            &c.n_token_types, &c.n_class_vectors, &c.d_dense};
  for (int64_t* const word : words) {
    *word = at<std::uint32_t>(p, 0);
    p += 4;
  }
  for (float* const x : {&c.norm_epsilon, &c.attention_scale, &c.cross_scale, &c.embedding_scale}) {
    *x = at<float>(p, 0);
    p += 4;
  }
  for (int& group : c.groups) {
    group = at<std::uint16_t>(p, 0);
    p += 2;
  }
  return c;
}

}  // namespace

// ---- Part 1 -------------------------------------------------------------------------------------------------------
Image::Image(const std::uint8_t* image, std::size_t bytes) {
  require(bytes >= 64 && std::memcmp(image, "heed\r\n\x1a\n", 8) == 0 && at<std::uint32_t>(image, 8) == 2,
          "no heed image of version 2");
  const std::uint8_t *directory = nullptr, *tensors = nullptr;
  std::size_t directory_bytes = 0;
  for (std::uint32_t n = 0; n < at<std::uint32_t>(image, 12); ++n) {
    const std::uint8_t* entry = image + 64 + 32 * n;
    const std::uint8_t* section = image + at<std::uint64_t>(entry, 8);
    const auto size = static_cast<std::size_t>(at<std::uint64_t>(entry, 16));
    require(crc32c(0, section, size) == at<std::uint32_t>(entry, 4), "a section's CRC");
    switch (at<std::uint32_t>(entry, 0)) {
      case 1:
        for (std::size_t stack = 0; stack < size / 256; ++stack) stacks.push_back(read_config(section + 256 * stack));
        break;
      case 2:
        directory = section;
        directory_bytes = size;
        break;
      case 5: tensors = section; break;
      default: break;
    }
  }
  require(!stacks.empty() && directory && tensors, "a section is missing");
  read_tensors(directory, directory_bytes, tensors);
}

void Image::read_tensors(const std::uint8_t* directory, std::size_t bytes, const std::uint8_t* section) {
  for (std::size_t n = 0; n < bytes / 32; ++n) {
    const std::uint8_t* e = directory + 32 * n;
    const int role = e[0], type = e[1], stack = e[3];
    if (role >= 128) continue;  // of readers to come
    const auto rows = at<std::uint32_t>(e, 8), cols = at<std::uint32_t>(e, 12);
    const std::uint8_t* data = section + std::size_t{64} * at<std::uint32_t>(e, 16);
    Tensor& t = tensors_[{stack, role, at<std::uint16_t>(e, 4)}];
    t.cols = cols;
    const Config& c = stacks.at(static_cast<std::size_t>(stack));
    const bool bias = (c.biases & (role == kTokenEmbedding && c.tied_unembedding ? 64 : bias_bit(role))) != 0;
    if (type == 0) t.matrix = read_matrix(data, e[2], rows, cols, at<std::uint16_t>(e, 6), bias);
    if (type == 1)
      for (std::size_t i = 0; i < cols; ++i) t.floats.push_back(at<float>(data, 4 * i));
    if (type == 2)
      for (std::size_t i = 0; i < cols; ++i) t.phases.push_back(at<std::uint32_t>(data, 4 * i));
    if (type == 3)
      for (std::size_t h = 0; h < rows; ++h) {
        Offset offset;
        for (std::size_t d = 0; d < cols; ++d) offset.values.push_back(at<std::int16_t>(data, 2 * (h * cols + d)));
        offset.exponent = static_cast<std::int8_t>(data[std::size_t{2} * rows * cols + h]);
        t.offsets.push_back(offset);
      }
    if (type == 5)
      for (std::size_t i = 0; i < std::size_t{rows} * cols; ++i) t.integers.push_back(at<std::int32_t>(data, 4 * i));
  }
}

const Tensor* Image::find(int stack, int role, int64_t layer) const {
  const auto found = tensors_.find({stack, role, layer});
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace spec
