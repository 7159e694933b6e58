// SPDX-License-Identifier: Apache-2.0
// llama2c.cpp: two orders of the same tensors.
#include "quant/readers/llama2c.hpp"

#include <cstring>

#include "quant/readers/rotary_tables.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {
namespace {

constexpr std::uint32_t kVersionedMagic = 0x616B3432;  // "ak42"
constexpr std::size_t kHeaderBytes = 28, kVersionedHeaderBytes = 256;

struct Header {
  std::int32_t d_model, d_ff, n_layers, n_heads, n_kv_heads, vocab_size, max_seq;
};
static_assert(sizeof(Header) == kHeaderBytes, "the file holds these bytes");

template <class T>
T load(const std::uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Sizes that a Llama of this format can have; products of two of them cannot overflow 64 bits.
Error fill_config(StackConfig& c, const Header& h, bool tied) {
  const auto refuse = [](const char* what, std::int64_t value) {
    return Error("not a usable llama2.c checkpoint: " + std::string(what) + " is " + std::to_string(value));
  };
  if (h.d_model < 1 || h.d_model > 65536) return refuse("d_model", h.d_model);
  if (h.d_ff < 1 || h.d_ff > static_cast<std::int32_t>(kMaxCols)) return refuse("d_ff", h.d_ff);
  if (h.n_layers < 1 || h.n_layers > 4096) return refuse("n_layers", h.n_layers);
  if (h.n_heads < 1 || h.n_heads > 1024 || h.d_model % h.n_heads != 0) return refuse("n_heads", h.n_heads);
  if (h.n_kv_heads < 1 || h.n_kv_heads > h.n_heads || h.n_heads % h.n_kv_heads != 0)
    return refuse("n_kv_heads", h.n_kv_heads);
  const std::int32_t head_dim = h.d_model / h.n_heads;
  if (head_dim % 2 != 0 || head_dim > static_cast<std::int32_t>(kMaxHeadDim)) return refuse("head_dim", head_dim);
  if (h.vocab_size < 1 || h.vocab_size > 1 << 20) return refuse("vocab_size", h.vocab_size);
  if (h.max_seq < 1 || h.max_seq > 1 << 20) return refuse("the context", h.max_seq);
  c = StackConfig{};
  c.tied_unembedding = tied;
  c.d_model = static_cast<std::uint32_t>(h.d_model);
  c.d_ff = static_cast<std::uint32_t>(h.d_ff);
  c.n_layers = static_cast<std::uint32_t>(h.n_layers);
  c.n_heads = static_cast<std::uint32_t>(h.n_heads);
  c.n_kv_heads = static_cast<std::uint32_t>(h.n_kv_heads);
  c.head_dim = static_cast<std::uint32_t>(head_dim);
  c.vocab_size = c.n_outputs = static_cast<std::uint32_t>(h.vocab_size);
  c.max_seq = static_cast<std::uint32_t>(h.max_seq);
  c.rotary_dims = c.head_dim;
  c.attention_scale = 1.0f / square_root(static_cast<float>(c.head_dim));
  return {};
}

Error read_header(StackConfig& config, std::string& format, std::size_t& header_bytes,
                  Span<const std::uint8_t> bytes) {
  if (bytes.size() < kHeaderBytes) return Error("too short for a llama2.c checkpoint");
  if (load<std::uint32_t>(bytes.data()) != kVersionedMagic) {
    auto h = load<Header>(bytes.data());
    const bool tied = h.vocab_size > 0;
    if (h.vocab_size < 0 && h.vocab_size >= -(1 << 20)) h.vocab_size = -h.vocab_size;
    format = "llama2.c version 0";
    header_bytes = kHeaderBytes;
    return fill_config(config, h, tied);
  }
  if (bytes.size() < kVersionedHeaderBytes) return Error("too short for a versioned llama2.c checkpoint");
  const auto version = load<std::int32_t>(bytes.data() + 4);
  if (version == 2)
    return Error("llama2.c version 2 (int8 groups) is not read; export the model as version 0 or 1 (float32)");
  if (version != 1) return Error("unknown llama2.c version " + std::to_string(version));
  const std::uint8_t tied = bytes[36];
  if (tied > 1) return Error("not a usable llama2.c checkpoint: the shared classifier flag is " + std::to_string(tied));
  for (std::size_t i = 37; i < kVersionedHeaderBytes; ++i)
    if (bytes[i]) return Error("not a usable llama2.c checkpoint: its header's padding is not zero");
  format = "llama2.c version 1";
  header_bytes = kVersionedHeaderBytes;
  return fill_config(config, load<Header>(bytes.data() + 8), tied != 0);
}

// A run of tensors in the file: one role for all layers, or the cosines and sines.
struct Run {
  Role role;
  std::uint32_t layers;
  std::uint64_t floats_each;
  bool is_table;
};

std::vector<Run> runs_of(const StackConfig& c, bool versioned) {
  const std::uint64_t d = c.d_model, ff = c.d_ff, kv = c.d_key();
  const Run embedding{Role::token_embedding, 1, c.vocab_size * d, false};
  const Run attention_gain{Role::attention_gain, c.n_layers, d, false}, ffn_gain{Role::ffn_gain, c.n_layers, d, false};
  const Run w_query{Role::w_query, c.n_layers, d * d, false}, w_key{Role::w_key, c.n_layers, kv * d, false},
      w_value_down{Role::w_value_down, c.n_layers, kv * d, false},
      w_value_up{Role::w_value_up, c.n_layers, d * d, false};
  const Run w_gate{Role::w_gate, c.n_layers, ff * d, false}, w_down{Role::w_down, c.n_layers, d * ff, false},
      w_up{Role::w_up, c.n_layers, ff * d, false};
  const Run final_gain{Role::final_gain, 1, d, false};
  // The cosines and sines that old versions of run.c read.
  const Run tables{Role::rotary_phases, 2, std::uint64_t{c.max_seq} * (c.head_dim / 2), true};
  std::vector<Run> runs =
      versioned ? std::vector<Run>{attention_gain, ffn_gain, final_gain, embedding, w_query, w_key, w_value_down,
                                   w_value_up, w_gate, w_down, w_up}
                : std::vector<Run>{embedding, attention_gain, w_query, w_key, w_value_down, w_value_up, ffn_gain,
                                   w_gate, w_down, w_up, final_gain, tables};
  if (!c.tied_unembedding) runs.push_back({Role::unembedding, 1, c.vocab_size * d, false});
  return runs;
}

}  // namespace

bool is_llama2c(Span<const std::uint8_t> bytes) {
  if (bytes.size() >= 4 && load<std::uint32_t>(bytes.data()) == kVersionedMagic) return true;
  StackConfig config;
  std::string format;
  std::size_t header_bytes = 0;
  return !read_header(config, format, header_bytes, bytes);
}

Error read_llama2c(FloatModel& model, Span<const std::uint8_t> bytes, const ReadOptions& options) {
  std::size_t header_bytes = 0;
  if (Error error = read_header(model.config.main(), model.format, header_bytes, bytes)) return error;
  const std::vector<Run> runs = runs_of(model.config.main(), header_bytes == kVersionedHeaderBytes);

  // Each term is below 2^12 * 2^34 floats and there are 13, so the sum fits 64 bits.
  std::uint64_t expected = header_bytes;
  for (const Run& run : runs) expected += 4 * run.layers * run.floats_each;
  if (expected != bytes.size())
    return Error("a llama2.c checkpoint of these sizes has " + std::to_string(expected) + " bytes, the file has " +
                 std::to_string(bytes.size()));

  const std::uint8_t *at = bytes.data() + header_bytes, *tables = nullptr;
  for (const Run& run : runs) {
    for (std::uint32_t layer = 0; layer < run.layers; ++layer) {
      const auto n = static_cast<std::size_t>(4 * run.floats_each);
      if (run.is_table) {
        if (layer == 0) tables = at;
      } else {
        const TensorSlot slot = tensor_slot(model.config.main(), run.role, layer);
        StoredTensor tensor;
        if (Error error = StoredTensor::open(tensor, StoredType::f32, {at, n}, slot.rows, slot.cols)) return error;
        model.set(run.role, layer, std::move(tensor));
      }
      at += n;
    }
  }
  model.bos = 1;
  model.eos = 2;
  const StackConfig& c = model.config.main();
  model.rope_theta = options.rope_theta != 0.0 ? options.rope_theta : kUsualTheta;
  if (tables && options.rope_theta == 0.0) {
    const std::size_t table_bytes = 4 * std::size_t{c.max_seq} * (c.head_dim / 2);
    if (Error error = find_theta(model.rope_theta, tables, tables + table_bytes, c.max_seq, c.rotary_dims))
      return error;
  }
  model.rotary_phases[0] = rotary_phases(c.rotary_dims, model.rope_theta);
  return check(model);
}

Error read_llama2c(FloatModel& model, const ReadOptions& options) {
  return read_llama2c(model, model.files[0].bytes(), options);
}

}  // namespace heed::quant
