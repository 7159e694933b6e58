// SPDX-License-Identifier: Apache-2.0
// spec_decoder.cpp: the oracle's reader of images (SPEC.md, parts 1 and 4) and the decoder of 2.10.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tests/reference/spec_oracle.hpp"

namespace spec {
namespace {

using D = Deviation;
using std::int64_t;

bool is(D d) { return broken == d; }

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

enum Site { kAttentionInput, kValueUpInput, kFfnInput, kDownInput, kUnembeddingInput };

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

// 1.3: the bias bit of each role that may have one.
int bias_bit(const Config& c, int role) {
  switch (role) {
    case 0: return c.tied ? 64 : 0;
    case 34: return 1;
    case 35: return 2;
    case 36: return 4;
    case 37: return 8;
    case 50:
    case 51: return 16;
    case 52: return 32;
    case 101: return 64;
    default: return 0;
  }
}

}  // namespace

// ---- Part 1 -------------------------------------------------------------------------------------------------------
Decoder::Decoder(const std::uint8_t* image, std::size_t bytes) {
  require(bytes >= 64 && std::memcmp(image, "heed\r\n\x1a\n", 8) == 0, "no heed image");
  const std::uint8_t *configuration = nullptr, *directory = nullptr, *tensors = nullptr;
  std::size_t directory_bytes = 0;
  for (std::uint32_t n = 0; n < at<std::uint32_t>(image, 12); ++n) {
    const std::uint8_t* entry = image + 64 + 32 * n;
    const std::uint8_t* section = image + at<std::uint64_t>(entry, 8);
    const auto size = static_cast<std::size_t>(at<std::uint64_t>(entry, 16));
    require(crc32c(0, section, size) == at<std::uint32_t>(entry, 4), "a section's CRC");
    switch (at<std::uint32_t>(entry, 0)) {
      case 1: configuration = section; break;
      case 2:
        directory = section;
        directory_bytes = size;
        break;
      case 5: tensors = section; break;
      default: break;
    }
  }
  require(configuration && directory && tensors, "a section is missing");
  const std::uint8_t* c = configuration;
  const auto word = [c](std::size_t offset) { return static_cast<int64_t>(at<std::uint32_t>(c, offset)); };
  config_.norm = c[4];
  config_.position_table = c[9];
  config_.position = c[10];
  config_.pairing = c[11];
  config_.gated = c[14];
  config_.activation = c[15];
  config_.tied = c[21];
  config_.biases = at<int>(c, 32);
  config_.flags = at<int>(c, 36);
  config_.d_model = word(40);
  config_.d_ff = word(44);
  config_.n_layers = word(48);
  config_.n_heads = word(52);
  config_.n_kv_heads = word(56);
  config_.head_dim = word(60);
  config_.vocab_size = word(64);
  config_.max_seq = word(72);
  config_.rotary_dims = word(92);
  config_.epsilon = at<float>(c, 124);
  config_.attention_scale = at<float>(c, 128);
  for (std::size_t i = 0; i < 5; ++i) config_.groups[i] = at<std::uint16_t>(c, 140 + 2 * i);
  read_tensors(directory, tensors, directory_bytes);
  caches_.resize(static_cast<std::size_t>(config_.n_layers * config_.n_kv_heads));
}

void Decoder::read_tensors(const std::uint8_t* directory, const std::uint8_t* section, std::size_t bytes) {
  for (std::size_t n = 0; n < bytes / 32; ++n) {
    const std::uint8_t* e = directory + 32 * n;
    const int role = e[0], type = e[1];
    const auto rows = at<std::uint32_t>(e, 8), cols = at<std::uint32_t>(e, 12);
    const std::uint8_t* data = section + std::size_t{64} * at<std::uint32_t>(e, 16);
    Tensor& t = tensors_[{role, at<std::uint16_t>(e, 4)}];
    if (type == 0)
      t.matrix = read_matrix(data, e[2], rows, cols, at<std::uint16_t>(e, 6), (config_.biases & bias_bit(config_, role)) != 0);
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
  }
}

const Decoder::Tensor* Decoder::find(int role, int64_t layer) const {
  const auto found = tensors_.find({role, layer});
  return found == tensors_.end() ? nullptr : &found->second;
}

const Floats* Decoder::floats(int role, int64_t layer) const {
  const Tensor* t = find(role, layer);
  return t ? &t->floats : nullptr;
}

// ---- 2.10 ---------------------------------------------------------------------------------------------------------
Activation Decoder::norm(const Floats& x, int gain_role, int bias_role, int64_t layer, int site) const {
  const int group = config_.groups[site];
  const Floats* gain = floats(gain_role, layer);
  if (config_.norm == 0) return rms_norm(x, gain, config_.epsilon, group);
  return layer_norm(x, gain, floats(bias_role, layer), config_.epsilon, group);
}

Floats Decoder::attend(int64_t layer, const Activation& h, const Rotation& rotation) {
  const Floats query = product(matrix(34, layer), h), key = product(matrix(35, layer), h),
               value = product(matrix(36, layer), h);
  const auto dim = static_cast<std::size_t>(config_.head_dim), heads = static_cast<std::size_t>(config_.n_heads),
             kv_heads = static_cast<std::size_t>(config_.n_kv_heads);
  const auto head_of = [&](const Floats& all, std::size_t head) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(head * dim);
    return Floats(first, first + static_cast<std::ptrdiff_t>(dim));
  };
  Cache* caches = &caches_[static_cast<std::size_t>(layer) * kv_heads];
  const Tensor* offsets = find(38, layer);
  for (std::size_t head = 0; head < kv_heads; ++head) {
    Cache& cache = caches[head];
    cache.keys.resize(position_);
    cache.values.resize(position_);
    cache.keys.push_back(make_key(head_of(key, head), rotation, offsets ? offsets->offsets[head] : Offset{}));
    cache.values.push_back(make_value(head_of(value, head)));
  }
  Floats all(heads * dim);
  for (std::size_t head = 0; head < heads; ++head) {
    const Cache& cache = caches[is(D::heads_are_interleaved) ? head % kv_heads : head / (heads / kv_heads)];
    std::size_t length = cache.keys.size();
    if (is(D::own_key_is_hidden) && length > 1) --length;
    const Activation q = make_query(head_of(query, head), rotation);
    Sums sums(dim);
    for (const auto& b : blocks_of(length)) attend_block(sums, q, cache, b.first, b.second, config_.attention_scale);
    const Floats out = finish(sums);
    for (std::size_t d = 0; d < dim; ++d)
      all[is(D::heads_lie_the_other_way) ? d * heads + head : head * dim + d] = out[d];
  }
  return all;
}

Floats Decoder::step(std::int32_t token) {
  const Config& c = config_;
  const bool ungated = !c.gated;
  Floats x = embedding(matrix(0), static_cast<std::size_t>(token));
  if (c.position_table && !is(D::learned_position_is_left_out)) {
    std::size_t row = position_;
    if (is(D::learned_position_is_next) && static_cast<int64_t>(row) + 1 < c.max_seq) ++row;
    const Floats p = embedding(matrix(1), row);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = x[i] + p[i];
  }
  Rotation rotation;
  rotation.pairing = c.pairing;
  if (c.position == 1)
    for (const std::uint32_t turn : find(9)->phases) {
      const std::uint32_t phase =
          turn * static_cast<std::uint32_t>(position_ + (is(D::position_starts_at_one) ? 1 : 0));
      rotation.cosine_sine.push_back({cosine(phase), sine(phase)});
    }
  for (int64_t n = 0; n < c.n_layers; ++n) {
    const Floats before = x;
    const Floats heads = attend(n, norm(x, 32, 33, n, kAttentionInput), rotation);
    add_product(x, matrix(37, n), quantise(block_float(heads), c.groups[kValueUpInput]));
    const int site = is(D::sites_share_groups) && c.groups[kFfnInput] ? kAttentionInput : kFfnInput;
    const Activation h = norm(is(D::attention_is_parallel) ? before : x, 48, 49, n, site);
    const Floats up = product(matrix(51, n), h), gate = ungated ? up : product(matrix(50, n), h);
    if (is(D::residual_is_left_out)) x.assign(x.size(), 0.0f);
    add_product(x, matrix(52, n), gated(gate, ungated ? nullptr : &up, c.activation, c.groups[kDownInput]));
  }
  ++position_;
  const Activation last = is(D::final_norm_is_left_out) ? quantise(block_float(x), c.groups[kUnembeddingInput])
                                                        : norm(x, 96, 97, 0, kUnembeddingInput);
  return product(matrix(c.tied ? 0 : 101), last);
}

void Decoder::rewind(std::size_t position) { position_ = position; }

}  // namespace spec
