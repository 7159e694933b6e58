// SPDX-License-Identifier: Apache-2.0
// model.cpp: opening and verifying an image. Rule numbers are those of SPEC.md, part 5.
#include "runtime/one_rounding.hpp"

#include "runtime/model.hpp"

#include "runtime/numerics.hpp"

namespace heed {
namespace {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "an image is little-endian and used in place"
#endif

template <class T>
T load(const std::uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

constexpr std::uint64_t round_up_64(std::uint64_t n) { return (n + 63) & ~std::uint64_t{63}; }

std::uint32_t header_crc(const std::uint8_t* image, std::uint32_t n_sections, const Kernels& kernels) {
  auto header = load<ImageHeader>(image);
  header.header_crc = 0;
  const std::uint32_t crc = kernels.crc32c(0, &header, sizeof header);
  return kernels.crc32c(crc, image + sizeof header, n_sections * sizeof(SectionEntry));
}

// By bits, so that no float mode changes what is refused.
bool all_in_range(const float* x, std::uint32_t n, bool may_be_zero_or_negative) {
  for (std::uint32_t i = 0; i < n; ++i) {
    const std::uint32_t u = may_be_zero_or_negative ? bits_of(x[i]) & 0x7FFFFFFFu : bits_of(x[i]);
    if (may_be_zero_or_negative && u == 0) continue;
    if (!in_range(float_of(u))) return false;
  }
  return true;
}

// V1 to V4: the numbers of one tensor that the runtime trusts.
Status check_values(const TensorSlot& slot, Layout layout, const std::uint8_t* data) {
  if (slot.type == ElementType::f32)
    return all_in_range(reinterpret_cast<const float*>(data), slot.cols, true) ? Status::ok : Status::bad_value;
  if (slot.type == ElementType::s16) {
    const auto* exponents = reinterpret_cast<const std::int8_t*>(data) + std::size_t{2} * slot.rows * slot.cols;
    const auto* values = reinterpret_cast<const std::int16_t*>(data);
    for (std::uint32_t i = 0; i < slot.rows; ++i)
      if (exponents[i] < -39 || exponents[i] > 41) return Status::bad_value;
    for (std::size_t i = 0; i < std::size_t{slot.rows} * slot.cols; ++i)
      if (values[i] == -32768) return Status::bad_value;
    return Status::ok;
  }
  if (slot.type != ElementType::s8) return Status::ok;
  const TensorBytes at = tensor_bytes(layout, slot.rows, slot.cols, slot.group, slot.bias);
  const std::uint32_t rows = padded_rows(layout, slot.rows);
  if (!all_in_range(reinterpret_cast<const float*>(data + at.scales), rows, false)) return Status::bad_value;
  if (slot.bias && !all_in_range(reinterpret_cast<const float*>(data + at.bias), rows, true)) return Status::bad_value;
  const std::uint8_t* multipliers = data + at.multipliers;
  const std::size_t n = std::size_t{rows} * group_count(slot.cols, slot.group);
  for (std::size_t i = 0; i < n; ++i)
    if (multipliers[i] < 1 || multipliers[i] > 15) return Status::bad_value;
  return Status::ok;
}

}  // namespace

TensorSlot tensor_slot(const ModelConfig& c, Role role, std::uint32_t layer) {
  TensorSlot s{role, ElementType::s8, static_cast<std::uint16_t>(layer), 1, c.d_model, 0, false};
  const auto matrix = [&](std::uint32_t rows, std::uint32_t cols, Site site, std::uint16_t bias) {
    s.rows = rows;
    s.cols = cols;
    s.group = c.group(site);
    s.bias = kBuiltFeatures.biases && (c.biases & bias) != 0;
  };
  switch (role) {
    case Role::token_embedding:
      matrix(c.vocab_size, c.d_model, Site::unembed_in, 0);
      if (!c.tied_unembedding) s.group = 0;
      break;
    case Role::position_embedding: s.rows = c.max_seq; break;
    case Role::unembedding: matrix(c.vocab_size, c.d_model, Site::unembed_in, kBiasHead); break;
    case Role::rotary_phases:
      s.type = ElementType::u32;
      s.cols = c.rotary_dims / 2;
      break;
    case Role::w_query: matrix(c.d_query(), c.d_model, Site::attention_in, kBiasQueryKeyValue); break;
    case Role::w_key:
    case Role::w_value_down: matrix(c.d_key_value(), c.d_model, Site::attention_in, kBiasQueryKeyValue); break;
    case Role::w_value_up: matrix(c.d_model, c.d_query(), Site::value_up_in, kBiasValueUp); break;
    case Role::key_offset:
      s.type = ElementType::s16;
      s.rows = c.n_kv_heads;
      s.cols = c.head_dim;
      break;
    case Role::w_gate:
    case Role::w_up: matrix(c.d_ff, c.d_model, Site::ffn_in, kBiasFfnIn); break;
    case Role::w_down: matrix(c.d_model, c.d_ff, Site::down_in, kBiasDown); break;
    case Role::attention_gain:
    case Role::ffn_gain:
    case Role::final_gain:
    case Role::attention_norm_bias:
    case Role::ffn_norm_bias:
    case Role::final_norm_bias: s.type = ElementType::f32; break;
  }
  return s;
}

std::uint64_t slot_bytes(const TensorSlot& s, Layout layout) {
  const std::uint64_t n = std::uint64_t{s.rows} * s.cols;
  switch (s.type) {
    case ElementType::s8: {
      // What fits no address space is only known to be too large.
      const std::uint64_t weights = std::uint64_t{padded_rows(layout, s.rows)} * padded_cols(layout, s.cols);
      return weights > SIZE_MAX / 2 ? weights : tensor_bytes(layout, s.rows, s.cols, s.group, s.bias).total;
    }
    case ElementType::s16: return round_up_64(2 * n + s.rows);
    default: return round_up_64(4 * n);
  }
}

Status open(Model& model, Span<const std::uint8_t> image, const Kernels& kernels) {
  const std::uint8_t* base = image.data();
  if (!base) return Status::bad_argument;
  if (reinterpret_cast<std::uintptr_t>(base) % kImageAlign) return Status::misaligned;
  // H1 to H6: header and section table.
  if (image.size() < sizeof(ImageHeader)) return Status::truncated;
  const auto header = load<ImageHeader>(base);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return Status::not_an_image;
  if (header.version != kFormatVersion) return Status::version_unsupported;
  if (header.total_bytes > image.size()) return Status::truncated;
  if (header.n_sections < 3 || header.n_sections > 16) return Status::bad_section;
  const auto total = static_cast<std::size_t>(header.total_bytes);
  std::size_t end = sizeof(ImageHeader) + header.n_sections * sizeof(SectionEntry);
  if (end > total) return Status::truncated;
  if (header_crc(base, header.n_sections, kernels) != header.header_crc) return Status::not_an_image;
  for (std::uint32_t r : header.reserved)
    if (r) return Status::bad_section;

  // S1 to S5: sections in ascending order of kind, behind each other with zeros between, to the last byte.
  model.tokenizer_ = model.metadata_ = {};
  model.image_ = image.subspan(0, total);
  model.sections_ = reinterpret_cast<const SectionEntry*>(base + sizeof(ImageHeader));
  model.n_sections_ = header.n_sections;
  Span<const std::uint8_t> config, directory, tensors;
  std::uint32_t kind_before = 0;
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    const SectionEntry& s = model.sections_[i];
    if (s.kind <= kind_before || s.kind > static_cast<std::uint32_t>(SectionKind::tensors) || s.reserved)
      return Status::bad_section;
    if (s.offset != round_up_64(end) || s.bytes == 0 || s.offset > total || s.bytes > total - s.offset)
      return Status::bad_section;
    const auto bytes = image.subspan(static_cast<std::size_t>(s.offset), static_cast<std::size_t>(s.bytes));
    for (; base + end != bytes.data(); ++end)
      if (base[end]) return Status::bad_section;
    end += bytes.size();
    kind_before = s.kind;
    switch (static_cast<SectionKind>(s.kind)) {
      case SectionKind::config: config = bytes; break;
      case SectionKind::directory: directory = bytes; break;
      case SectionKind::tokenizer: model.tokenizer_ = bytes; break;
      case SectionKind::metadata: model.metadata_ = bytes; break;
      case SectionKind::tensors: tensors = bytes; break;
    }
  }
  if (end != total) return Status::bad_section;
  if (config.empty() || directory.empty() || tensors.empty()) return Status::bad_section;

  // C1 to C12: the configuration.
  if (config.size() != sizeof(ModelConfig)) return Status::bad_section;
  std::memcpy(&model.config_, config.data(), sizeof(ModelConfig));
  const ModelConfig& c = model.config_;
  if (const Status s = check_config(c); s != Status::ok) return s;

  // D1 to D6: the directory is exactly what the configuration implies.
  const std::uint32_t globals = global_roles(c), layers = layer_roles(c);
  model.roles_ = globals | layers;
  model.entries_per_layer_ = count_bits(layers);
  if (directory.size() != (count_bits(globals) + c.n_layers * model.entries_per_layer_) * sizeof(TensorEntry))
    return Status::bad_tensor;
  model.directory_ = reinterpret_cast<const TensorEntry*>(directory.data());
  model.tensors_ = tensors.data();
  std::size_t at = 0;
  std::uint32_t index = 0;
  bool first_matrix = true;
  // Walks roles in directory order: globals before the layers, the layers, globals behind.
  for (std::uint32_t pass = 0; pass < c.n_layers + 2; ++pass) {
    const bool inside = pass >= 1 && pass <= c.n_layers;
    const std::uint32_t roles = pass == 0   ? globals & kRolesBeforeLayers
                                : inside    ? layers
                                            : globals & ~kRolesBeforeLayers;
    for (std::uint32_t role = 0; role < kRoleCount; ++role) {
      if (!((roles >> role) & 1u)) continue;
      if (pass <= 1 || !inside) model.first_[role] = static_cast<std::uint16_t>(index);
      const TensorEntry& e = model.directory_[index++];
      const TensorSlot slot = tensor_slot(c, static_cast<Role>(role), inside ? pass - 1 : 0);
      Layout layout = Layout::row;
      if (slot.type == ElementType::s8) {
        if (first_matrix) model.layout_ = e.layout;  // that of all
        first_matrix = false;
        layout = model.layout_;
      }
      const TensorEntry expected{slot.role, slot.type, layout,     0, slot.layer, static_cast<std::uint16_t>(slot.group),
                                 slot.rows, slot.cols, e.offset64, {}};
      if (std::memcmp(&e, &expected, sizeof e) != 0 || static_cast<int>(layout) >= kLayoutCount || e.offset64 != at / 64)
        return Status::bad_tensor;
      if (slot.type == ElementType::s8 && layout != known_layout(layout)) return Status::layout_unsupported;
      const std::uint64_t bytes = slot_bytes(slot, layout);
      if (bytes > tensors.size() - at) return Status::bad_tensor;
      if (const Status s = check_values(slot, layout, tensors.data() + at); s != Status::ok) return s;
      at += static_cast<std::size_t>(bytes);
    }
  }
  return at == tensors.size() ? Status::ok : Status::bad_tensor;
}

// S6 and V5.
Status verify(const Model& model, const Kernels& kernels) {
  for (std::uint32_t i = 0; i < model.n_sections_; ++i) {
    const SectionEntry& s = model.sections_[i];
    const std::uint8_t* bytes = model.image_.data() + s.offset;
    if (kernels.crc32c(0, bytes, static_cast<std::size_t>(s.bytes)) != s.crc) return Status::bad_checksum;
  }
  const std::uint32_t count = tensor_count(model.config_);
  for (std::uint32_t i = 0; i < count; ++i) {
    const TensorEntry& e = model.directory_[i];
    if (e.type != ElementType::s8) continue;
    const std::uint8_t* w = model.tensors_ + std::size_t{e.offset64} * 64;
    const std::size_t n = std::size_t{padded_rows(e.layout, e.rows)} * padded_cols(e.layout, e.cols);
    if (known_layout(e.layout) != Layout::pair) {
      if (std::memchr(w, 0x80, n)) return Status::bad_value;
      continue;
    }
    for (std::size_t k = 0; k < n; ++k) {
      // An odd byte of -128 stands for -127 beside a negative even one, and one of 127 would stand for 128.
      const bool borrowed = (k & 1) && w[k - 1] >= 128;
      if (borrowed ? w[k] == 0x7F : w[k] == 0x80) return Status::bad_value;
    }
  }
  return Status::ok;
}

Tensor Model::tensor(Role role, std::uint32_t layer) const {
  const TensorEntry& e = find(role, layer);
  const std::uint8_t* base = data(e);
  const bool bias = kBuiltFeatures.biases && config_.biases != 0 && tensor_slot(config_, role, layer).bias;
  const TensorBytes at = tensor_bytes(e.layout, e.rows, e.cols, e.group, bias);
  Tensor t;
  t.weights = reinterpret_cast<const std::int8_t*>(base);
  t.scales = reinterpret_cast<const float*>(base + at.scales);
  if (bias) t.bias = reinterpret_cast<const float*>(base + at.bias);
  if (e.group) t.multipliers = base + at.multipliers;
  t.rows = e.rows;
  t.cols = e.cols;
  t.group = e.group;
  t.layout = e.layout;
  return t;
}

const float* Model::floats(Role role, std::uint32_t layer) const {
  return reinterpret_cast<const float*>(data(find(role, layer)));
}

const std::uint32_t* Model::rotary_phases() const {
  return reinterpret_cast<const std::uint32_t*>(data(find(Role::rotary_phases, 0)));
}

KeyOffset Model::key_offset(std::uint32_t layer, std::uint32_t kv_head) const {
  const std::uint8_t* base = data(find(Role::key_offset, layer));
  const std::size_t n = std::size_t{config_.n_kv_heads} * config_.head_dim;
  return {reinterpret_cast<const std::int16_t*>(base) + std::size_t{kv_head} * config_.head_dim,
          reinterpret_cast<const std::int8_t*>(base)[2 * n + kv_head]};
}

}  // namespace heed
