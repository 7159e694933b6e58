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

constexpr std::uint64_t round_up_64(std::uint64_t n) { return (n + 63) & ~std::uint64_t{63}; }

// Of header and section table, with the field that holds it as 0.
std::uint32_t header_crc(const std::uint8_t* image, std::uint32_t n_sections, const Kernels& kernels) {
  constexpr std::size_t kField = offsetof(ImageHeader, header_crc), kBehind = kField + sizeof(std::uint32_t);
  constexpr std::uint32_t kZero = 0;
  std::uint32_t crc = kernels.crc32c(0, image, kField);
  crc = kernels.crc32c(crc, &kZero, sizeof kZero);
  return kernels.crc32c(crc, image + kBehind, sizeof(ImageHeader) - kBehind + n_sections * sizeof(SectionEntry));
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

// V1 to V4, V6, V7: the numbers of one tensor that the runtime trusts.
Status check_values(const StackConfig& c, const TensorSlot& slot, Layout layout, const std::uint8_t* data) {
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
  if (kBuiltFeatures.score_bias && slot.type == ElementType::s32) {
    // Slopes are not negative; a bias for each distance is either sign.
    const auto* bias = reinterpret_cast<const std::int32_t*>(data);
    const std::size_t n = std::size_t{slot.rows} * slot.cols;
    for (std::size_t i = 0; i < n; ++i)
      if (c.position == Position::alibi ? bias[i] < 0 : bias[i] < -kMaxScoreBias || bias[i] > kMaxScoreBias)
        return Status::bad_value;
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

TensorSlot tensor_slot(const StackConfig& c, Role role, std::uint32_t layer) {
  ElementType type = ElementType::s8;
  std::uint32_t rows = 1, cols = c.d_model, group = 0, biases = 0;
  const auto matrix = [&](std::uint32_t n_rows, std::uint32_t n_cols, Site site, std::uint32_t bias) {
    rows = n_rows;
    cols = n_cols;
    group = c.group(site);
    biases = bias;
  };
  const auto embeddings = [&](std::uint32_t n) { rows = n; };
  const auto vector = [&](ElementType t, std::uint32_t n) {
    type = t;
    cols = n;
  };
  // Cross-attention is self-attention but for where keys and values come from. A role that no stack of this build has comes to
  // nothing, and its case to no code.
  constexpr Features kHas = kBuiltFeatures;
  const bool cross = kHas.cross_attention && part_of(role) == Part::cross;
  const std::uint32_t d_source = cross ? c.d_source : c.d_model, shift = cross ? kCrossBiasShift : 0;
  const Site query_in = cross ? Site::cross_in : Site::attention_in, source_in = cross ? Site::source_in : Site::attention_in;
  switch (cross ? role_of(Part::layer, index_of(role)) : role) {
    case Role::token_embedding:
      if (c.tied_unembedding)
        matrix(c.vocab_size, c.d_model, Site::unembed_in, kBiasUnembedding);
      else
        embeddings(c.vocab_size);
      break;
    case Role::position_embedding:
      if (kHas.learned_positions) embeddings(c.max_seq);
      break;
    case Role::token_type_embedding:
      if (kHas.embedding_extras) embeddings(c.n_token_types);
      break;
    case Role::class_vectors:
      if (kHas.embedding_extras) embeddings(c.n_class_vectors);
      break;
    case Role::input_projection:
      if (kHas.vector_input) matrix(c.d_model, c.d_input, Site::input_in, kBiasInput);
      break;
    case Role::convolution_1:
      if (kHas.convolutions) matrix(c.d_model, 3 * c.d_input, Site::input_in, kBiasInput);
      break;
    case Role::convolution_2:
      if (kHas.convolutions) matrix(c.d_model, 3 * c.d_model, Site::convolution_in, kBiasInput);
      break;
    case Role::local_rotary_phases:
      if (!kHas.windows) break;
      [[fallthrough]];
    case Role::rotary_phases: vector(ElementType::u32, c.rotary_dims / 2); break;
    case Role::score_bias:
      if (!kHas.score_bias) break;
      vector(ElementType::s32, c.position == Position::alibi ? 1 : c.n_distances);
      rows = c.n_heads;
      break;
    case Role::w_query: matrix(c.d_query(), c.d_model, query_in, kBiasQuery << shift); break;
    case Role::w_key: matrix(c.d_key(), d_source, source_in, kBiasKey << shift); break;
    case Role::w_value_down: matrix(c.d_value(), d_source, source_in, kBiasValueDown << shift); break;
    case Role::w_value_up:
      matrix(c.d_model, c.d_heads(), cross ? Site::cross_value_up_in : Site::value_up_in, kBiasValueUp << shift);
      break;
    case Role::key_offset:
      vector(ElementType::s16, c.head_dim);
      rows = c.n_kv_heads;
      break;
    case Role::query_gain:
    case Role::query_norm_bias:
    case Role::key_gain:
    case Role::key_norm_bias:
      if (kHas.query_key_norm) vector(ElementType::f32, c.head_dim);
      break;
    case Role::w_gate:
    case Role::w_up: matrix(c.d_ff, c.d_model, Site::ffn_in, kBiasFfnIn); break;
    case Role::w_down: matrix(c.d_model, c.d_ff, Site::down_in, kBiasDown); break;
    case Role::dense:
      if (kHas.dense) matrix(c.d_dense, c.d_model, Site::dense_in, kBiasDense);
      break;
    case Role::dense_gain:
    case Role::dense_norm_bias:
      if (kHas.dense) vector(ElementType::f32, c.d_dense);
      break;
    case Role::unembedding:
      matrix((kHas.pooling ? c.n_output_heads : 1u) * c.n_outputs, c.d_output(), Site::unembed_in, kBiasUnembedding);
      break;
    default: type = ElementType::f32; break;
  }
  return {role, type, static_cast<std::uint16_t>(layer), rows, cols, group, kHas.biases && (c.biases & biases) != 0};
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
    default: return round_up_64(4 * n);  // f32, u32, s32
  }
}

Status open(Model& model, Span<const std::uint8_t> image, const Kernels& kernels) {
  const std::uint8_t* base = image.data();
  if (!base) return Status::bad_argument;
  if (reinterpret_cast<std::uintptr_t>(base) % kImageAlign) return Status::misaligned;
  // H1 to H6: header and section table.
  if (image.size() < sizeof(ImageHeader)) return Status::truncated;
  const auto& header = *reinterpret_cast<const ImageHeader*>(base);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return Status::not_an_image;
  if (header.version != kFormatVersion) return Status::version_unsupported;
  if (header.total_bytes > image.size()) return Status::truncated;
  if (header.n_sections < 3 || header.n_sections > kMaxSections) return Status::bad_section;
  const auto total = static_cast<std::size_t>(header.total_bytes);
  std::size_t end = sizeof(ImageHeader) + header.n_sections * sizeof(SectionEntry);
  if (end > total) return Status::truncated;
  if (header_crc(base, header.n_sections, kernels) != header.header_crc) return Status::not_an_image;
  for (std::uint32_t r : header.reserved)
    if (r) return Status::bad_section;

  // S1 to S5: sections in ascending order of kind, behind each other with zeros between, to the last byte.
  model.image_ = image.subspan(0, total);
  model.sections_ = reinterpret_cast<const SectionEntry*>(base + sizeof(ImageHeader));
  model.n_sections_ = header.n_sections;
  std::uint32_t kind_before = 0;
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    const SectionEntry& s = model.sections_[i];
    if (s.kind <= kind_before || (s.kind > kLastSectionKind && s.kind < kOptionalSection) || s.reserved)
      return Status::bad_section;
    for (; end % 64; ++end)
      if (end == total || base[end]) return Status::bad_section;
    if (s.offset != end || s.bytes == 0 || s.bytes > total - end) return Status::bad_section;
    end += static_cast<std::size_t>(s.bytes);
    kind_before = s.kind;
  }
  if (end != total) return Status::bad_section;
  const auto stacks = model.section(SectionKind::stacks), directory = model.section(SectionKind::directory),
             tensors = model.section(SectionKind::tensors);
  if (stacks.empty() || directory.empty() || tensors.empty()) return Status::bad_section;

  // C1 to C20: the description. A build without cross-attention sees the main stack of two, which asks for it.
  const bool two = stacks.size() == 2 * sizeof(StackConfig);
  if (!two && stacks.size() != sizeof(StackConfig)) return Status::bad_section;
  const std::uint32_t n_stacks = two && kMaxStacks == 2 ? 2 : 1;
  model.config_ = {reinterpret_cast<const StackConfig*>(stacks.end()) - n_stacks, n_stacks};
  const ConfigView& c = model.config_;
  if (const Status s = check_config(c); s != Status::ok) return s;
  if (two && n_stacks == 1) return Status::bad_config;  // of two, the main one would have asked for the other

  // D1 to D7: the directory is what the description implies, then tensors that nobody needs.
  model.directory_ = reinterpret_cast<const TensorEntry*>(directory.data());
  model.n_entries_ = static_cast<std::uint32_t>(directory.size() / sizeof(TensorEntry));
  model.tensors_ = tensors.data();
  if (directory.size() % sizeof(TensorEntry)) return Status::bad_tensor;
  // What an entry's 32 bits can say.
  if (std::uint64_t{tensors.size()} >> 38 != 0) return Status::bad_tensor;
  std::size_t at = 0;
  std::uint32_t index = 0;
  bool first_matrix = true;
  for (std::uint32_t stack = 0; stack < c.count(); ++stack) {
    const StackConfig& sc = c.stacks[stack];
    // Pass 0 is the part before the layers; then come the layers, their parts in turn, and the part behind.
    constexpr std::uint32_t kParts = kBuiltFeatures.cross_attention ? 2 : 1;
    for (std::uint32_t pass = 0; pass < kParts * sc.n_layers + 2; ++pass) {
      const bool inside = pass != 0 && pass <= kParts * sc.n_layers;
      const Part part = pass == 0                      ? Part::input
                        : !inside                      ? Part::output
                        : kParts == 2 && pass % 2 == 0 ? Part::cross
                                                       : Part::layer;
      for (std::uint32_t roles = roles_of(sc, part), i = 0; roles; roles >>= 1, ++i) {
        if (!(roles & 1u)) continue;
        if (index == model.n_entries_) return Status::bad_tensor;
        const TensorEntry& e = model.directory_[index++];
        const TensorSlot slot = tensor_slot(sc, role_of(part, i), inside ? (pass - 1) / kParts : 0);
        Layout layout = Layout::row;
        if (slot.type == ElementType::s8) {
          if (first_matrix) model.layout_ = e.layout;  // that of all
          first_matrix = false;
          layout = model.layout_;
          if (e.type == ElementType::s4) return Status::feature_not_built;
          if (static_cast<int>(layout) >= kLayoutCount) return Status::bad_tensor;
          // Before its length, which a build for one layout computes for that one only.
          if (layout != known_layout(layout)) return Status::layout_unsupported;
        }
        const std::uint64_t bytes = slot_bytes(slot, layout);
        const TensorEntry expected{slot.role, slot.type, layout, static_cast<std::uint8_t>(stack), slot.layer,
                             static_cast<std::uint16_t>(slot.group), slot.rows, slot.cols,
                             static_cast<std::uint32_t>(at / 64), static_cast<std::uint32_t>(bytes / 64), {}};
        if (std::memcmp(&e, &expected, sizeof e) != 0) return Status::bad_tensor;
        if (bytes > tensors.size() - at) return Status::bad_tensor;
        if (const Status s = check_values(sc, slot, layout, tensors.data() + at); s != Status::ok) return s;
        at += static_cast<std::size_t>(bytes);
      }
    }
  }
  for (; index < model.n_entries_; ++index) {
    const TensorEntry& e = model.directory_[index];
    if (static_cast<std::uint8_t>(e.role) < kOptionalRoles || e.offset64 != at / 64 || e.bytes64 > (tensors.size() - at) / 64)
      return Status::bad_tensor;
    at += std::size_t{e.bytes64} * 64;
  }
  return at == tensors.size() ? Status::ok : Status::bad_tensor;
}

// By the sections alone, because a refused model may have nothing else.
Needs needs_of(const Model& model) {
  Needs needs;
  const Span<const std::uint8_t> stacks = model.section(SectionKind::stacks);
  for (std::size_t at = 0; stacks.size() - at >= sizeof(StackConfig); at += sizeof(StackConfig))
    needs.add(*reinterpret_cast<const StackConfig*>(stacks.data() + at));
  const Span<const std::uint8_t> directory = model.section(SectionKind::directory);
  for (std::size_t at = 0; directory.size() - at >= sizeof(TensorEntry); at += sizeof(TensorEntry)) {
    const auto& e = *reinterpret_cast<const TensorEntry*>(directory.data() + at);
    if (e.type == ElementType::s4 && static_cast<std::uint8_t>(e.role) < kOptionalRoles) needs.four_bit_weights = true;
  }
  return needs;
}

// S6 and V5.
Status verify(const Model& model, const Kernels& kernels) {
  for (std::uint32_t i = 0; i < model.n_sections_; ++i) {
    const SectionEntry& s = model.sections_[i];
    const std::uint8_t* bytes = model.image_.data() + s.offset;
    if (kernels.crc32c(0, bytes, static_cast<std::size_t>(s.bytes)) != s.crc) return Status::bad_checksum;
  }
  for (std::uint32_t i = 0; i < model.n_entries_; ++i) {
    const TensorEntry& e = model.directory_[i];
    if (e.type != ElementType::s8 || static_cast<std::uint8_t>(e.role) >= kOptionalRoles) continue;
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

Span<const std::uint8_t> Model::section(SectionKind kind) const {
  for (std::uint32_t i = 0; i < n_sections_; ++i)
    if (sections_[i].kind == static_cast<std::uint32_t>(kind))
      return image_.subspan(static_cast<std::size_t>(sections_[i].offset), static_cast<std::size_t>(sections_[i].bytes));
  return {};
}

const TensorEntry* Model::find(Role role, std::uint32_t layer, std::uint32_t stack) const {
  for (const TensorEntry *e = directory_, *end = e + n_entries_; e != end; ++e)
    if (e->role == role && e->layer == layer && (kMaxStacks == 1 || e->stack == stack)) return e;
  return nullptr;
}

Span<const char> Model::class_name(std::uint32_t index) const {
  const Span<const std::uint8_t> all = classes();
  const auto* at = reinterpret_cast<const char*>(all.data());
  const char* const end = at + all.size();
  for (; at != end; ++at) {
    const char* const line = at;
    while (at != end && *at != '\n') ++at;
    if (index-- == 0) return {line, static_cast<std::size_t>(at - line)};
    if (at == end) break;
  }
  return {};
}

Tensor Model::tensor(Role role, std::uint32_t layer, std::uint32_t stack) const {
  Tensor t;
  const TensorEntry* const entry = find(role, layer, stack);
  if (!entry) return t;
  const TensorEntry& e = *entry;
  const std::uint8_t* base = tensors_ + std::size_t{e.offset64} * 64;
  const StackConfig& c = config_.stacks[kMaxStacks == 1 ? 0 : stack];
  const bool bias = kBuiltFeatures.biases && c.biases != 0 && tensor_slot(c, role, layer).bias;
  const TensorBytes at = tensor_bytes(e.layout, e.rows, e.cols, e.group, bias);
  t.weights = reinterpret_cast<const std::int8_t*>(base);
  t.scales = reinterpret_cast<const float*>(base + at.scales);
  if (bias) t.bias = reinterpret_cast<const float*>(base + at.bias);
  if (kBuiltFeatures.groups && e.group) t.multipliers = base + at.multipliers;
  t.rows = e.rows;
  t.cols = e.cols;
  t.group = kBuiltFeatures.groups ? e.group : 0;
  t.layout = known_layout(e.layout);
  return t;
}

KeyOffset Model::key_offset(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t stack, Role role) const {
  const void* base = data(find(role, layer, stack));
  const StackConfig& c = config_.stacks[kMaxStacks == 1 ? 0 : stack];
  const std::size_t n = std::size_t{c.n_kv_heads} * c.head_dim;
  return {static_cast<const std::int16_t*>(base) + std::size_t{kv_head} * c.head_dim,
          static_cast<const std::int8_t*>(base)[2 * n + kv_head]};
}

}  // namespace heed
