// SPDX-License-Identifier: Apache-2.0
// image_v1.cpp: the records of version 1, and where their contents stand in version 2.
#include "quant/image_v1.hpp"

#include <cstring>

namespace heed::quant {
namespace {

// Header and section table are those of version 2 but for the number. A decoder, from tokens to logits, was all that
// any runtime of version 1 ran, so all else is refused.
struct ConfigV1 {
  std::uint8_t architecture, input, output, norm, norm_placement, activation, gated, position, rotary_pairing, mask,
      tied_unembedding, reserved0;
  std::uint16_t biases, flags;
  std::uint32_t d_model, d_ff, n_layers, n_encoder_layers, n_heads, n_kv_heads, head_dim, vocab_size, max_seq, window,
      n_sinks, d_input, rotary_dims;
  float norm_epsilon, attention_scale, embedding_scale;
  std::uint16_t groups[5];
  std::uint16_t reserved1;
  std::uint32_t reserved2[9];
};
static_assert(sizeof(ConfigV1) == 128, "the image holds these bytes");

struct EntryV1 {
  std::uint8_t role;
  ElementType type;
  Layout layout;
  std::uint8_t reserved0;
  std::uint16_t layer, group;
  std::uint32_t rows, cols, offset64, reserved[3];
};
static_assert(sizeof(EntryV1) == 32, "the image holds these bytes");

constexpr std::uint32_t kSectionsV1 = 5;
enum : std::uint8_t { kNoPositions = 0, kLearned = 1, kRotary = 3 };  // position

// In the order of version 1's numbers.
constexpr Role kRoles[] = {
    Role::token_embedding, Role::rotary_phases, Role::attention_gain, Role::w_query,
    Role::w_key,           Role::w_value_down,  Role::w_value_up,     Role::key_offset,
    Role::ffn_gain,        Role::w_gate,        Role::w_up,           Role::w_down,
    Role::final_gain,      Role::unembedding,   Role::position_embedding,
    Role::attention_norm_bias,                  Role::ffn_norm_bias,  Role::final_norm_bias};
// In the order of version 1's directory: before the layers, of a layer, behind them.
constexpr std::uint8_t kBefore[] = {0, 1, 14};
constexpr std::uint8_t kOfLayer[] = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16};
constexpr std::uint8_t kBehind[] = {12, 13, 17};

template <class T>
T load(const std::uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

Error contradiction(const char* what) { return Error(std::string("an image of version 1 whose ") + what + " contradict version 1"); }

// Bits of version 1 and what they are now.
struct Bit {
  std::uint32_t old_bit, new_bits;
};
std::uint32_t translated(std::uint32_t bits, std::initializer_list<Bit> table) {
  std::uint32_t result = 0;
  for (const Bit& b : table)
    if (bits & b.old_bit) result |= b.new_bits;
  return result;
}

Error translate(StackConfig& c, const ConfigV1& v1) {
  for (const std::uint32_t r : v1.reserved2)
    if (r) return contradiction("reserved fields");
  const bool known = v1.norm <= 1 && v1.activation <= 3 && v1.gated <= 1 && v1.rotary_pairing <= 1 &&
                     v1.tied_unembedding <= 1 && v1.biases < 64 && v1.flags < 16 && !v1.reserved0 && !v1.reserved1;
  const bool carried = !v1.architecture && !v1.input && !v1.output && !v1.norm_placement && !v1.mask &&
                       !v1.n_encoder_layers && !v1.window && !v1.n_sinks && !v1.d_input &&
                       bits_of(v1.embedding_scale) == bits_of(1.0f) && !(v1.tied_unembedding && (v1.biases & 16)) &&
                       (v1.position == kNoPositions || v1.position == kLearned || v1.position == kRotary);
  if (!known || !carried) return contradiction("settings");
  c = StackConfig{};
  c.norm = static_cast<Norm>(v1.norm);
  c.activation = static_cast<Activation>(v1.activation);
  c.gated = v1.gated;
  c.position = v1.position == kRotary ? Position::rotary : Position::none;
  c.position_table = v1.position == kLearned;
  // Without rotary positions the pairing meant nothing.
  if (v1.position == kRotary) c.rotary_pairing = static_cast<RotaryPairing>(v1.rotary_pairing);
  c.tied_unembedding = v1.tied_unembedding;
  c.biases = translated(v1.biases, {{1, kBiasQuery | kBiasKey | kBiasValueDown}, {2, kBiasValueUp}, {4, kBiasFfnIn},
                                    {8, kBiasDown}, {16, kBiasUnembedding}, {32, kBiasNorm}});
  c.flags = translated(v1.flags, {{1, kAttentionGainFolded}, {2, kFfnGainFolded}, {4, kFinalGainFolded}, {8, kKeyOffset}});
  c.d_model = v1.d_model;
  c.d_ff = v1.d_ff;
  c.n_layers = v1.n_layers;
  c.n_heads = v1.n_heads;
  c.n_kv_heads = v1.n_kv_heads;
  c.head_dim = v1.head_dim;
  c.vocab_size = c.n_outputs = v1.vocab_size;
  c.max_seq = v1.max_seq;
  c.rotary_dims = v1.rotary_dims;
  c.norm_epsilon = v1.norm_epsilon;
  c.attention_scale = v1.attention_scale;
  for (int i = 0; i < 5; ++i) c.groups[i] = v1.groups[i];
  return check_config(c) == Status::ok ? Error() : contradiction("sizes");
}

// Walks version 1's directory and puts each tensor where version 2 has it.
Error move_tensors(TensorSection& result, const StackConfig& c, Span<const std::uint8_t> directory,
                   Span<const std::uint8_t> tensors) {
  const StackTensors there(c, 0);
  if (directory.size() != there.count * sizeof(EntryV1)) return contradiction("tensors");
  std::size_t index = 0, at = 0;
  Error error;
  const auto move = [&](std::uint8_t role_v1, std::uint32_t layer) {
    const Role role = kRoles[role_v1];
    if (error || !there.has(role)) return;
    const TensorSlot slot = tensor_slot(c, role, layer);
    const EntryV1 expected{role_v1, slot.type, slot.type == ElementType::s8 ? result.layout() : Layout::row, 0,
                           slot.layer, static_cast<std::uint16_t>(slot.group), slot.rows, slot.cols,
                           static_cast<std::uint32_t>(at / kImageAlign), {}};
    const std::uint64_t bytes = result.bytes_of(role, layer);
    if (std::memcmp(directory.data() + index++ * sizeof expected, &expected, sizeof expected) != 0 ||
        bytes > tensors.size() - at) {
      error = contradiction("tensors");
      return;
    }
    result.put_bytes(role, layer, tensors.data() + at);
    at += static_cast<std::size_t>(bytes);
  };
  for (const std::uint8_t role : kBefore) move(role, 0);
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer)
    for (const std::uint8_t role : kOfLayer) move(role, layer);
  for (const std::uint8_t role : kBehind) move(role, 0);
  return !error && at != tensors.size() ? contradiction("tensors") : error;
}

}  // namespace

bool is_image_v1(Span<const std::uint8_t> bytes) {
  if (bytes.size() < sizeof(ImageHeader)) return false;
  const auto header = load<ImageHeader>(bytes.data());
  return std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 && header.version == 1;
}

Error upgrade_image_v1(ImageBytes& image, Span<const std::uint8_t> bytes, const Kernels& kernels) {
  auto header = load<ImageHeader>(bytes.data());
  const std::size_t table_end = sizeof header + std::size_t{header.n_sections} * sizeof(SectionEntry);
  if (header.n_sections > kSectionsV1 || header.total_bytes > bytes.size() || table_end > header.total_bytes)
    return Error(to_string(Status::truncated));
  const std::uint32_t signed_with = header.header_crc;
  header.header_crc = 0;
  const std::uint8_t* const table = bytes.data() + sizeof header;
  if (kernels.crc32c(kernels.crc32c(0, &header, sizeof header), table, table_end - sizeof header) != signed_with)
    return Error(to_string(Status::not_an_image));
  Span<const std::uint8_t> sections[kSectionsV1 + 1];
  for (std::uint32_t i = 0; i < header.n_sections; ++i) {
    const auto s = load<SectionEntry>(table + i * sizeof(SectionEntry));
    if (s.kind < 1 || s.kind > kSectionsV1 || s.offset > header.total_bytes || s.bytes > header.total_bytes - s.offset ||
        !sections[s.kind].empty())
      return Error(to_string(Status::bad_section));
    sections[s.kind] = bytes.subspan(static_cast<std::size_t>(s.offset), static_cast<std::size_t>(s.bytes));
    if (kernels.crc32c(0, sections[s.kind].data(), sections[s.kind].size()) != s.crc)
      return Error(to_string(Status::bad_checksum));
  }
  const auto section = [&](SectionKind kind) { return sections[static_cast<int>(kind)]; };
  const auto config = section(SectionKind::stacks), directory = section(SectionKind::directory);  // kind 1 held it then
  if (config.size() != sizeof(ConfigV1) || directory.size() < sizeof(EntryV1)) return Error(to_string(Status::bad_section));
  StackConfig c;
  if (Error error = translate(c, load<ConfigV1>(config.data()))) return error;
  const auto layout = load<EntryV1>(directory.data()).layout;  // of the token embedding, and so of all matrices
  if (static_cast<int>(layout) >= kLayoutCount) return contradiction("layouts");
  // What the directory could not hold is not made room for.
  if (std::uint64_t{StackTensors(c, 0).count} * sizeof(EntryV1) != directory.size()) return contradiction("tensors");
  std::uint64_t tensor_bytes = 0;
  for_each_slot(c, [&](const TensorSlot& slot) { tensor_bytes += slot_bytes(slot, layout); });
  if (tensor_bytes != section(SectionKind::tensors).size()) return contradiction("tensors");
  TensorSection tensors(c, layout);
  if (Error error = move_tensors(tensors, c, directory, section(SectionKind::tensors))) return error;
  write_image(image, c, tensors, section(SectionKind::tokenizer), section(SectionKind::metadata), kernels);
  return {};
}

}  // namespace heed::quant
