// SPDX-License-Identifier: Apache-2.0
// model.hpp: a checked, zero-copy view of a model image (SPEC.md, part 1).
#pragma once
#include "runtime/config.hpp"
#include "runtime/kernels.hpp"
#include "runtime/span.hpp"

namespace heed {

// What a tensor is for. The directory has the globals before the layers, then each layer, then the globals behind, each
// part in ascending order of role.
enum class Role : std::uint8_t {
  token_embedding = 0,  // s8 [vocab_size, d_model]
  rotary_phases = 1,    // u32 [rotary_dims / 2]: turn per position, 2^32 = one turn
  attention_gain = 2,   // f32 [d_model]
  w_query = 3,          // s8 [n_heads * head_dim, d_model]
  w_key = 4,            // s8 [n_kv_heads * head_dim, d_model]
  w_value_down = 5,     // s8 [n_kv_heads * head_dim, d_model]
  w_value_up = 6,       // s8 [d_model, n_heads * head_dim], the heads' value_up matrices side by side
  key_offset = 7,       // s16 [n_kv_heads, head_dim], then s8 exponents [n_kv_heads]
  ffn_gain = 8,         // f32 [d_model]
  w_gate = 9,           // s8 [d_ff, d_model]
  w_up = 10,            // s8 [d_ff, d_model]
  w_down = 11,          // s8 [d_model, d_ff]
  final_gain = 12,      // f32 [d_model]
  unembedding = 13,     // s8 [vocab_size, d_model]
  position_embedding = 14,   // s8 [max_seq, d_model], before the layers
  attention_norm_bias = 15,  // f32 [d_model]
  ffn_norm_bias = 16,        // f32 [d_model]
  final_norm_bias = 17,      // f32 [d_model], behind the layers
};
inline constexpr int kRoleCount = 18;

enum class ElementType : std::uint8_t { s8 = 0, f32 = 1, u32 = 2, s16 = 3 };

enum class SectionKind : std::uint32_t { config = 1, directory = 2, tokenizer = 3, metadata = 4, tensors = 5 };

inline constexpr std::uint8_t kMagic[8] = {'h', 'e', 'e', 'd', '\r', '\n', 0x1A, '\n'};
inline constexpr std::uint32_t kFormatVersion = 1;
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
  std::uint8_t reserved0;
  std::uint16_t layer;     // 0 for globals
  std::uint16_t group;     // columns per group, 0 = one scale per row
  std::uint32_t rows, cols;
  std::uint32_t offset64;  // from the beginning of the tensor section, in units of 64 bytes
  std::uint32_t reserved[3];
};
static_assert(sizeof(TensorEntry) == 32, "the image holds these bytes");

// What a configuration says about directory entry `index`.
struct TensorSlot {
  Role role;
  ElementType type;
  std::uint16_t layer;
  std::uint32_t rows, cols, group;
  bool bias;
};

constexpr std::uint32_t role_bit(Role r, bool on = true) { return on ? 1u << static_cast<unsigned>(r) : 0u; }

// Bit (1 << role) for each tensor that every layer has, and for those outside the layers.
constexpr std::uint32_t layer_roles(const ModelConfig& c) {
  const bool norm_bias = (c.biases & kBiasNorm) != 0;
  return role_bit(Role::attention_gain, !(c.flags & kAttentionGainFolded)) | role_bit(Role::w_query) |
         role_bit(Role::w_key) | role_bit(Role::w_value_down) | role_bit(Role::w_value_up) |
         role_bit(Role::key_offset, c.flags & kKeyOffset) | role_bit(Role::ffn_gain, !(c.flags & kFfnGainFolded)) |
         role_bit(Role::w_gate, c.gated) | role_bit(Role::w_up) | role_bit(Role::w_down) |
         role_bit(Role::attention_norm_bias, norm_bias && !(c.flags & kAttentionGainFolded)) |
         role_bit(Role::ffn_norm_bias, norm_bias && !(c.flags & kFfnGainFolded));
}
constexpr std::uint32_t global_roles(const ModelConfig& c) {
  return role_bit(Role::token_embedding, c.input == Input::tokens) |
         role_bit(Role::rotary_phases, c.position == Position::rotary) |
         role_bit(Role::position_embedding, c.position == Position::learned) |
         role_bit(Role::final_gain, !(c.flags & kFinalGainFolded)) |
         role_bit(Role::unembedding, c.output == Output::logits && !c.tied_unembedding) |
         role_bit(Role::final_norm_bias, (c.biases & kBiasNorm) && !(c.flags & kFinalGainFolded));
}
// Globals that stand before the layers.
inline constexpr std::uint32_t kRolesBeforeLayers =
    role_bit(Role::token_embedding) | role_bit(Role::rotary_phases) | role_bit(Role::position_embedding);

constexpr std::uint32_t count_bits(std::uint32_t v) {
  std::uint32_t n = 0;
  for (; v; v &= v - 1) ++n;
  return n;
}
constexpr std::uint32_t tensor_count(const ModelConfig& c) {
  return count_bits(global_roles(c)) + c.n_layers * count_bits(layer_roles(c));
}

// Directory index of a tensor that the configuration has, from its roles above.
constexpr std::uint32_t tensor_index(const ModelConfig& c, Role role, std::uint32_t layer) {
  const std::uint32_t globals = global_roles(c), layers = layer_roles(c);
  const std::uint32_t below = role_bit(role) - 1;
  const std::uint32_t before = globals & kRolesBeforeLayers;
  if (before & role_bit(role)) return count_bits(before & below);
  if (layers & role_bit(role)) return count_bits(before) + layer * count_bits(layers) + count_bits(layers & below);
  return count_bits(before) + c.n_layers * count_bits(layers) + count_bits(globals & ~kRolesBeforeLayers & below);
}

TensorSlot tensor_slot(const ModelConfig& c, Role role, std::uint32_t layer);

// Bytes of a tensor in the image, a multiple of 64.
std::uint64_t slot_bytes(const TensorSlot& slot, Layout layout);

// A view of an image; trivially copyable. The image must outlive it and stay unchanged.
class Model {
 public:
  const ModelConfig& config() const { return config_; }
  Span<const std::uint8_t> image() const { return image_; }
  // Empty when the image has no such section.
  Span<const std::uint8_t> tokenizer() const { return tokenizer_; }
  Span<const std::uint8_t> metadata() const { return metadata_; }

  Layout layout() const { return layout_; }
  const TensorEntry& entry(std::uint32_t index) const { return directory_[index]; }
  // Precondition of the four: the configuration has this role, layer < n_layers.
  Tensor tensor(Role role, std::uint32_t layer) const;
  const float* floats(Role role, std::uint32_t layer) const;
  const std::uint32_t* rotary_phases() const;
  KeyOffset key_offset(std::uint32_t layer, std::uint32_t kv_head) const;
  // From a tensor of one layer to that of the next, if there is more than one.
  std::size_t layer_bytes() const {
    return static_cast<std::size_t>(data(find(Role::w_query, 1)) - data(find(Role::w_query, 0)));
  }

  bool has(Role role) const { return (roles_ >> static_cast<unsigned>(role)) & 1u; }

 private:
  friend Status open(Model& model, Span<const std::uint8_t> image, const Kernels& kernels);
  friend Status verify(const Model& model, const Kernels& kernels);
  // Layers are alike, so a tensor of layer l lies l times as many entries, and as many bytes, behind that of layer 0.
  const TensorEntry& find(Role role, std::uint32_t layer) const {
    return directory_[first_[static_cast<int>(role)] + layer * entries_per_layer_];
  }
  const std::uint8_t* data(const TensorEntry& e) const { return tensors_ + std::size_t{e.offset64} * 64; }

  ModelConfig config_{};
  Span<const std::uint8_t> image_, tokenizer_, metadata_;
  const SectionEntry* sections_ = nullptr;
  std::uint32_t n_sections_ = 0;
  const TensorEntry* directory_ = nullptr;
  const std::uint8_t* tensors_ = nullptr;
  std::uint32_t roles_ = 0, entries_per_layer_ = 0;
  std::uint16_t first_[kRoleCount] = {};  // directory index of each role that the image has, in layer 0
  Layout layout_ = Layout::row;
};

// Checks the structure and every scale, gain and multiplier of `image` (SPEC.md, part 5), reading no weight and no
// token. The image must be 64-byte aligned; it may be flash, a mapped file or an array. `kernels` serves for the CRC
// of the header. A build for one core (HEED_SINGLE_LAYOUT) refuses matrices in another layout here, others when a session
// is created. On refusal `model` is unspecified, but for feature_not_built: model.config() is the image's then, so
// that required_features and is_carried can say what is missing.
Status open(Model& model, Span<const std::uint8_t> image, const Kernels& kernels);

// Checks every section's CRC and that no weight is outside -127..127. An image that is opened and not verified may
// give wrong numbers, never undefined behaviour.
Status verify(const Model& model, const Kernels& kernels);

}  // namespace heed
