// SPDX-License-Identifier: Apache-2.0
// model.hpp: a checked, zero-copy view of a model image (SPEC.md, part 1).
#pragma once
#include "runtime/config_check.hpp"
#include "runtime/kernels.hpp"
#include "runtime/span.hpp"

namespace heed {

// Where in a stack a tensor belongs.
enum class Part : std::uint8_t {
  input = 0,   // before the layers
  layer = 1,   // of each layer: self-attention and feed-forward layer
  cross = 2,   // of each layer: cross-attention
  output = 3,  // behind the layers
};
inline constexpr int kPartCount = 4;

// What a tensor is for: part << 5 | index. The directory has the stacks one after the other, and of each the part before
// the layers, then for each layer its two parts, then the part behind, each in ascending order of role. Cross-attention's
// roles have the indices of self-attention's.
enum class Role : std::uint8_t {
  token_embedding = 0,        // s8 [vocab_size, d_model]
  position_embedding = 1,     // s8 [max_seq, d_model]
  token_type_embedding = 2,   // s8 [n_token_types, d_model]
  class_vectors = 3,          // s8 [n_class_vectors, d_model]
  input_projection = 4,       // s8 [d_model, d_input]
  convolution_1 = 5,          // s8 [d_model, 3 d_input]: the frame before, the frame itself, the one behind
  convolution_2 = 6,          // s8 [d_model, 3 d_model]
  input_gain = 7,             // f32 [d_model]
  input_norm_bias = 8,        // f32 [d_model]
  rotary_phases = 9,          // u32 [rotary_dims / 2]: turn per position, 2^32 = one turn
  local_rotary_phases = 10,   // the same of windowed layers
  score_bias = 11,            // s32 [n_heads, 1] slopes, or [n_heads, n_distances]

  attention_gain = 32,        // f32 [d_model], of the norm before
  attention_norm_bias = 33,   // f32 [d_model]
  w_query = 34,               // s8 [n_heads * head_dim, d_model]
  w_key = 35,                 // s8 [n_kv_heads * head_dim, d_model]
  w_value_down = 36,          // s8 [n_kv_heads * value_dim, d_model]
  w_value_up = 37,            // s8 [d_model, n_heads * head_dim], the heads' value_up matrices side by side
  key_offset = 38,            // s16 [n_kv_heads, head_dim], then s8 exponents [n_kv_heads]
  query_gain = 39,            // f32 [head_dim], of the norm of each head
  query_norm_bias = 40,       // f32 [head_dim]
  key_gain = 41,              // f32 [head_dim]
  key_norm_bias = 42,         // f32 [head_dim]
  attention_after_gain = 43,  // f32 [d_model], of the norm behind
  attention_after_bias = 44,  // f32 [d_model]
  ffn_gain = 48,              // f32 [d_model]
  ffn_norm_bias = 49,         // f32 [d_model]
  w_gate = 50,                // s8 [d_ff, d_model]
  w_up = 51,                  // s8 [d_ff, d_model]
  w_down = 52,                // s8 [d_model, d_ff]
  ffn_after_gain = 53,        // f32 [d_model]
  ffn_after_bias = 54,        // f32 [d_model]

  cross_gain = 64,            // as in self-attention
  cross_norm_bias = 65,
  cross_w_query = 66,
  cross_w_key = 67,           // s8 [n_kv_heads * head_dim, d_source]
  cross_w_value_down = 68,    // s8 [n_kv_heads * value_dim, d_source]
  cross_w_value_up = 69,
  cross_key_offset = 70,
  cross_query_gain = 71,
  cross_query_norm_bias = 72,
  cross_key_gain = 73,
  cross_key_norm_bias = 74,
  cross_after_gain = 75,
  cross_after_bias = 76,

  final_gain = 96,            // f32 [d_model]
  final_norm_bias = 97,       // f32 [d_model]
  dense = 98,                 // s8 [d_dense, d_model]
  dense_gain = 99,            // f32 [d_dense]
  dense_norm_bias = 100,      // f32 [d_dense]
  unembedding = 101,          // s8 [n_output_heads * n_outputs, d_output]
};
// Roles from here on are of tensors that a reader may skip; there are none so far.
inline constexpr std::uint8_t kOptionalRoles = 0x80;

constexpr std::uint32_t index_of(Role r) { return static_cast<std::uint32_t>(r) & 31u; }
constexpr Part part_of(Role r) { return static_cast<Part>(static_cast<std::uint32_t>(r) >> 5); }
constexpr Role role_of(Part part, std::uint32_t index) {
  return static_cast<Role>(static_cast<std::uint32_t>(part) << 5 | index);
}
constexpr bool is_per_layer(Role r) { return part_of(r) == Part::layer || part_of(r) == Part::cross; }
// The same thing of cross-attention as `r` of self-attention.
constexpr Role of_cross(Role r) { return role_of(Part::cross, index_of(r)); }

constexpr bool is_norm_bias(Role r) {
  switch (r) {
    case Role::input_norm_bias:
    case Role::attention_norm_bias:
    case Role::query_norm_bias:
    case Role::key_norm_bias:
    case Role::attention_after_bias:
    case Role::ffn_norm_bias:
    case Role::ffn_after_bias:
    case Role::cross_norm_bias:
    case Role::cross_query_norm_bias:
    case Role::cross_key_norm_bias:
    case Role::cross_after_bias:
    case Role::final_norm_bias:
    case Role::dense_norm_bias: return true;
    default: return false;
  }
}

enum class ElementType : std::uint8_t {
  s8 = 0,   // a matrix
  f32 = 1,  // a vector
  u32 = 2,  // a vector
  s16 = 3,  // rows with exponents
  s4 = 4,   // a matrix; no build of this version carries it
  s32 = 5,  // rows
};

enum class SectionKind : std::uint32_t {
  stacks = 1,            // [1 or 2] StackConfig
  directory = 2,         // TensorEntry
  tokenizer = 3,         // of the main stack's tokens
  metadata = 4,
  tensors = 5,
  source_tokenizer = 6,  // of the first of two stacks, where its tokens are others
  classes = 7,           // names of the outputs
  generation = 8,        // first, suppressed and ending tokens
};
inline constexpr std::uint32_t kLastSectionKind = 8;
inline constexpr std::uint32_t kOptionalSection = 0x80000000;  // a reader skips such a kind if it does not know it
inline constexpr std::uint32_t kMaxSections = 32;

inline constexpr std::uint8_t kMagic[8] = {'h', 'e', 'e', 'd', '\r', '\n', 0x1A, '\n'};
inline constexpr std::uint32_t kFormatVersion = 2;
inline constexpr std::uint32_t kImageAlign = 64;

struct ImageHeader {
  std::uint8_t magic[8];
  std::uint32_t version;
  std::uint32_t n_sections;
  std::uint64_t total_bytes;
  std::uint32_t header_crc;  // CRC-32C of header and section table, this field as 0
  std::uint32_t reserved[9];
};
static_assert(sizeof(ImageHeader) == 64, "the image holds these bytes");

struct SectionEntry {
  std::uint32_t kind;
  std::uint32_t crc;       // CRC-32C of the section's bytes
  std::uint64_t offset;    // from the beginning of the image, multiple of 64
  std::uint64_t bytes;
  std::uint64_t reserved;
};
static_assert(sizeof(SectionEntry) == 32, "the image holds these bytes");

struct TensorEntry {
  Role role;
  ElementType type;
  Layout layout;           // 0 unless s8
  std::uint8_t stack;
  std::uint16_t layer;     // 0 outside the layers
  std::uint16_t group;     // columns per group, 0 = one scale per row
  std::uint32_t rows, cols;
  std::uint32_t offset64;  // from the beginning of the tensor section, in units of 64 bytes
  std::uint32_t bytes64;   // the same of its length
  std::uint32_t reserved[2];
};
static_assert(sizeof(TensorEntry) == 32, "the image holds these bytes");

// What a stack's description says about a tensor.
struct TensorSlot {
  Role role;
  ElementType type;
  std::uint16_t layer;
  std::uint32_t rows, cols, group;
  bool bias;
};

constexpr std::uint32_t role_bit(Role r, bool on = true) { return on ? 1u << index_of(r) : 0u; }

// Bit (1 << index) for each tensor that a part of the stack has.
constexpr std::uint32_t roles_of(const StackConfig& c, Part part) {
  const bool norm_bias = kBuiltFeatures.layer_norm && c.norm == Norm::layer && (c.biases & kBiasNorm);
  const auto norm = [norm_bias](bool there, Role gain, Role bias) {
    return role_bit(gain, there) | role_bit(bias, there && norm_bias);
  };
  const bool before = normed_before(c), after = normed_after(c);
  switch (part) {
    case Part::input: {
      const bool extras = kBuiltFeatures.embedding_extras;
      return role_bit(Role::token_embedding, reads_tokens(c)) |
             role_bit(Role::position_embedding, kBuiltFeatures.learned_positions && c.position_table) |
             role_bit(Role::token_type_embedding, extras && c.n_token_types) |
             role_bit(Role::class_vectors, extras && c.n_class_vectors) | role_bit(Role::input_projection, is_projected(c)) |
             role_bit(Role::convolution_1, is_convolved(c)) |
             role_bit(Role::convolution_2, is_convolved(c) && c.second_convolution) |
             norm(extras && c.input_norm, Role::input_gain, Role::input_norm_bias) |
             role_bit(Role::rotary_phases, c.position == Position::rotary) |
             role_bit(Role::local_rotary_phases, kBuiltFeatures.windows && c.local_rotary) |
             role_bit(Role::score_bias, has_score_bias(c));
    }
    case Part::layer:
    case Part::cross: {
      const bool cross = part == Part::cross;
      if (cross && !has_cross(c)) return 0;
      const bool heads_normed = kBuiltFeatures.query_key_norm && c.query_key_norm != HeadNorm::none;
      const bool head_bias = heads_normed && c.query_key_norm == HeadNorm::layer && (c.biases & kBiasNorm);
      const std::uint32_t attention =
          norm(before && !(c.flags & (cross ? kCrossGainFolded : kAttentionGainFolded)), Role::attention_gain,
               Role::attention_norm_bias) |
          role_bit(Role::w_query) | role_bit(Role::w_key) | role_bit(Role::w_value_down) |
          role_bit(Role::w_value_up, !is_undivided(c)) |
          role_bit(Role::key_offset, c.flags & (cross ? kCrossKeyOffset : kKeyOffset)) |
          role_bit(Role::query_gain, heads_normed) | role_bit(Role::key_gain, heads_normed) |
          role_bit(Role::query_norm_bias, head_bias) | role_bit(Role::key_norm_bias, head_bias) |
          norm(after, Role::attention_after_gain, Role::attention_after_bias);
      if (cross) return attention;
      const bool own_norm = !kBuiltFeatures.side_by_side || c.sublayers != Sublayers::side_by_side;
      return attention | norm(before && own_norm && !(c.flags & kFfnGainFolded), Role::ffn_gain, Role::ffn_norm_bias) |
             role_bit(Role::w_gate, c.gated) | role_bit(Role::w_up) | role_bit(Role::w_down) |
             norm(after, Role::ffn_after_gain, Role::ffn_after_bias);
    }
    case Part::output: break;
  }
  const bool dense = has_dense(c);
  return norm(has_final_norm(c) && !(c.flags & kFinalGainFolded), Role::final_gain, Role::final_norm_bias) |
         role_bit(Role::dense, dense) | norm(dense && c.dense_norm, Role::dense_gain, Role::dense_norm_bias) |
         role_bit(Role::unembedding, gives_logits(c) && !c.tied_unembedding);
}

constexpr std::uint32_t count_bits(std::uint32_t v) {
  std::uint32_t n = 0;
  for (; v; v &= v - 1) ++n;
  return n;
}

// Which tensors a stack has, and where a writer of images puts them in the directory.
struct StackTensors {
  std::uint32_t roles[kPartCount] = {};  // roles_of
  std::uint32_t first[kPartCount] = {};  // index of each part's first entry, of layer 0
  std::uint32_t per_layer = 0;           // entries of a layer
  std::uint32_t count = 0;               // of all entries

  constexpr StackTensors() = default;
  // `from`: entries that stand before the stack's.
  constexpr StackTensors(const StackConfig& c, std::uint32_t from) {
    roles[0] = roles_of(c, Part::input);
    roles[1] = roles_of(c, Part::layer);
    roles[2] = roles_of(c, Part::cross);
    roles[3] = roles_of(c, Part::output);
    const std::uint32_t self = count_bits(roles[1]);
    per_layer = self + count_bits(roles[2]);
    first[0] = from;
    first[1] = from + count_bits(roles[0]);
    first[2] = first[1] + self;
    first[3] = first[1] + c.n_layers * per_layer;
    count = first[3] - from + count_bits(roles[3]);
  }
  constexpr std::uint32_t of(Part part) const { return roles[static_cast<int>(part)]; }
  constexpr bool has(Role r) const { return (of(part_of(r)) & role_bit(r)) != 0; }
  // Precondition: has(r); layer < n_layers, 0 outside the layers.
  constexpr std::uint32_t index(Role r, std::uint32_t layer) const {
    return first[static_cast<int>(part_of(r))] + layer * per_layer + count_bits(of(part_of(r)) & (role_bit(r) - 1));
  }
};

TensorSlot tensor_slot(const StackConfig& c, Role role, std::uint32_t layer);

// Calls visit(TensorSlot) for each tensor of a stack, in the order of the directory.
template <class Visit>
void for_each_slot(const StackConfig& c, Visit visit) {
  const StackTensors tensors(c, 0);
  const auto visit_part = [&](Part part, std::uint32_t layer) {
    for (std::uint32_t index = 0; index < 32; ++index)
      if ((tensors.of(part) >> index) & 1u) visit(tensor_slot(c, role_of(part, index), layer));
  };
  visit_part(Part::input, 0);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    visit_part(Part::layer, layer);
    visit_part(Part::cross, layer);
  }
  visit_part(Part::output, 0);
}

// Bytes of a tensor in the image, a multiple of 64.
std::uint64_t slot_bytes(const TensorSlot& slot, Layout layout);

// A view of an image; trivially copyable. The image must outlive it and stay unchanged.
class Model {
 public:
  // In the image.
  const ConfigView& config() const { return config_; }
  Span<const std::uint8_t> image() const { return image_; }
  // Empty when the image has no such section.
  Span<const std::uint8_t> section(SectionKind kind) const;
  Span<const std::uint8_t> tokenizer() const { return section(SectionKind::tokenizer); }
  Span<const std::uint8_t> metadata() const { return section(SectionKind::metadata); }
  Span<const std::uint8_t> classes() const { return section(SectionKind::classes); }
  // The line of `classes` that names output `index`; empty where there is none.
  Span<const char> class_name(std::uint32_t index) const;
  Span<const std::uint8_t> generation() const { return section(SectionKind::generation); }
  // Of the first of two stacks: its own, or the one of both.
  Span<const std::uint8_t> source_tokenizer() const {
    const Span<const std::uint8_t> own = section(SectionKind::source_tokenizer);
    return own.empty() ? tokenizer() : own;
  }

  Layout layout() const { return layout_; }
  // Entries of the directory, those that were skipped included.
  std::uint32_t n_entries() const { return n_entries_; }
  const TensorEntry& entry(std::uint32_t index) const { return directory_[index]; }
  // Looked for in the directory, so not for inner loops. Outside the layers, layer is 0.
  bool has(Role role, std::uint32_t stack = 0) const { return find(role, 0, stack) != nullptr; }
  // Null where the image has no such tensor.
  const float* floats(Role role, std::uint32_t layer, std::uint32_t stack = 0) const {
    return static_cast<const float*>(data(find(role, layer, stack)));
  }
  const std::uint32_t* phases(Role role, std::uint32_t stack = 0) const {
    return static_cast<const std::uint32_t*>(data(find(role, 0, stack)));
  }
  const std::uint32_t* rotary_phases() const { return phases(Role::rotary_phases); }
  const std::int32_t* score_bias(std::uint32_t stack = 0) const {
    return static_cast<const std::int32_t*>(data(find(Role::score_bias, 0, stack)));
  }
  // Empty where the image has no such tensor; layer < n_layers.
  Tensor tensor(Role role, std::uint32_t layer, std::uint32_t stack = 0) const;
  // Precondition: the stack has the role in layer 0; layer < n_layers.
  KeyOffset key_offset(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t stack = 0,
                       Role role = Role::key_offset) const;
  // From a tensor of one layer to that of the next, which there must be.
  std::size_t layer_bytes(std::uint32_t stack = 0) const {
    return std::size_t{find(Role::w_query, 1, stack)->offset64 - find(Role::w_query, 0, stack)->offset64} * 64;
  }

 private:
  friend Status open(Model& model, Span<const std::uint8_t> image, const Kernels& kernels);
  friend Status verify(const Model& model, const Kernels& kernels);
  const TensorEntry* find(Role role, std::uint32_t layer, std::uint32_t stack) const;
  const void* data(const TensorEntry* e) const { return e ? tensors_ + std::size_t{e->offset64} * 64 : nullptr; }

  ConfigView config_;
  Span<const std::uint8_t> image_;
  const SectionEntry* sections_ = nullptr;
  std::uint32_t n_sections_ = 0, n_entries_ = 0;
  const TensorEntry* directory_ = nullptr;
  const std::uint8_t* tensors_ = nullptr;
  Layout layout_ = Layout::row;
};

// Checks the structure and every scale, gain and multiplier of `image` (SPEC.md, part 5), reading no weight and no
// token. The image must be 64-byte aligned; it may be flash, a mapped file or an array. `kernels` serves for the CRC
// of the header. A build for one core (HEED_SINGLE_LAYOUT) refuses matrices in another layout here, others when a session
// is created. On refusal `model` is unspecified, but for feature_not_built: needs_of(model) says what is missing then.
Status open(Model& model, Span<const std::uint8_t> image, const Kernels& kernels);

// What an image needs that was opened, or refused with feature_not_built: of both of two stacks, also in a build that holds
// one, and of its matrices.
Needs needs_of(const Model& model);

// Checks every section's CRC and that no weight is outside -127..127. An image that is opened and not verified may
// give wrong numbers, never undefined behaviour.
Status verify(const Model& model, const Kernels& kernels);

}  // namespace heed
