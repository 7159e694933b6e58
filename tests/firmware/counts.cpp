// SPDX-License-Identifier: Apache-2.0
// counts.cpp: firmware whose marked regions the plugin of tests/icount counts: each kernel through the firmware's table
// on the shapes that are published, and single tokens of the model. Prints one line "NAME WORK" per region, in order.
// What is multiplied is random; counts hardly depend on it (DESIGN.md, Bounded time).
#include <cstring>
#include <initializer_list>

#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "runtime/numerics.hpp"
#include "runtime/runtime.hpp"
#include "tests/icount/icount_mark.hpp"

namespace io = heed::semihosting;
extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace heed {
namespace {

// The compiler is not to know which table this is.
const Kernels& any_table() {
  const Kernels* table = &best_kernels();
  __asm__("" : "+r"(table));
  return *table;
}
const Kernels& table = any_table();

alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[256 * 1024];
alignas(64) unsigned char activation_memory[64 * 2 * 384], query_memory[64 * 256];
alignas(64) std::int8_t weights[288 * 320];
float row_scales[320], x[64 * 288], y[64 * 320], gain[288];
std::uint8_t multipliers[288 * 8];

std::uint32_t state = 1;
std::uint32_t random_bits() {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

void put(const char* name, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t work) {
  io::put_text(name);
  const char* separator = " ";
  for (const std::uint32_t n : {a, b, c}) {
    if (n == 0) continue;
    io::put_text(separator);
    io::put_decimal(n);
    separator = "x";
  }
  io::put_text(" ");
  io::put_decimal(work);
  io::put_text("\n");
}

Tensor matrix(std::uint32_t rows, std::uint32_t cols, std::uint16_t group) {
  Tensor t;
  t.weights = weights;
  t.scales = row_scales;
  t.multipliers = group ? multipliers : nullptr;
  t.rows = rows;
  t.cols = cols;
  t.group = group;
  t.layout = table.traits.preferred;
  return t;
}

// With the preparation of the activations if there are several tokens.
void count_product(const char* name, std::uint32_t n, std::uint32_t rows, std::uint32_t cols, std::uint16_t group) {
  const Tensor t = matrix(rows, cols, group);
  const Activations a = make_activations(activation_memory, table.traits, cols, group, n);
  for (std::uint32_t i = 0; i < n; ++i) table.quantize_s8r_f32(a, i, x + i * cols);
  put(name, n == 1 ? 0 : n, rows, cols, n * rows * cols);
  icount::start_region();
  if (n > 1)
    for (std::uint32_t i = 0; i < n; ++i) table.quantize_s8r_f32(a, i, x + i * cols);
  table.matmul_f32_s8r_s8c(y, a, t, {n, 0, padded_rows(t.layout, rows), 320, false});
  icount::stop_region();
}

constexpr std::uint32_t kHeadDim = 32;
alignas(16) std::int8_t block_memory[kv_block_bytes(kBlockKeys, 2 * kHeadDim, 2 * kHeadDim) + 16];

KvBlock key_block(std::uint32_t head_dim) { return make_kv_block(block_memory, kBlockKeys, head_dim, head_dim); }

// The scores of 64 keys and their softmax, without values: what the tap asks for.
void count_scores(std::uint32_t head_dim) {
  const KvBlock b = key_block(head_dim);
  const Activations q = make_activations(query_memory, table.traits, head_dim, 0, 1);
  std::uint16_t key_weights[kBlockKeys];
  std::int32_t reference = 0;
  table.query_s8r_f32(q, 0, x, {});
  for (std::uint32_t i = 0; i < kBlockKeys; ++i) {
    table.store_key(b, i, x + i * head_dim, {}, {});
    table.store_value(b, i, x + i * head_dim);
  }
  put("scores", kBlockKeys, head_dim, 0, kBlockKeys * head_dim);
  icount::start_region();
  table.attend_block({nullptr, nullptr, nullptr}, {q, 0, 1, 1, kBlockKeys, kBlockKeys, 0.25f}, b, key_weights, &reference);
  icount::stop_region();
}

// Which keys the 64 tokens of a head see, and how.
struct Mask {
  const char* name;
  std::uint32_t first;  // keys that the first token sees, each later one a key more
  std::uint32_t window = kBlockKeys;
  bool biased = false;
};
constexpr Mask kAllKeys = {"head", kBlockKeys}, kCausal = {"head-causal", 1}, kWindow = {"head-window32", 1, 32},
               kBiased = {"head-biased", kBlockKeys, kBlockKeys, true};

// One head of 64 tokens, from int8 queries, keys and values to its output.
void count_head(const Mask& mask, std::uint32_t head_dim) {
  const bool prepared_apart = mask.first == kAllKeys.first && !mask.biased;
  const KvBlock b = key_block(head_dim);
  const Activations q = make_activations(query_memory, table.traits, head_dim, 0, kBlockKeys);
  float* const numerators = y;
  static float denominators[kBlockKeys];
  static std::int32_t references[kBlockKeys];
  // Floats to int8: the preparation, counted alone.
  if (prepared_apart) {
    put("head-prepare", kBlockKeys, head_dim, 0, kBlockKeys);
    icount::start_region();
  }
  for (std::uint32_t i = 0; i < kBlockKeys; ++i) {
    table.store_key(b, i, x + i * head_dim, {}, {});
    table.store_value(b, i, x + (kBlockKeys + i) * head_dim);
    table.query_s8r_f32(q, i, x + (2 * kBlockKeys + i) * head_dim, {});
  }
  if (prepared_apart) icount::stop_region();
  for (std::uint32_t i = 0; i < kBlockKeys; ++i) {
    denominators[i] = 0.0f;
    references[i] = -(1 << 24);
  }
  std::memset(numerators, 0, kBlockKeys * head_dim * sizeof(float));
  static std::int32_t biases[2 * kBlockKeys];  // by distance from a key to a token behind it
  for (std::uint32_t i = 0; i < 2 * kBlockKeys; ++i) biases[i] = -32 * static_cast<std::int32_t>(i);
  BlockQueries queries{q, 0, kBlockKeys, 1, mask.first, kBlockKeys, 0.25f};
  if (mask.window < kBlockKeys) queries.hidden = 1 - static_cast<std::int32_t>(mask.window);
  if (mask.biased) queries.bias = biases + kBlockKeys;
  queries.keys_differ = mask.window < kBlockKeys || mask.biased;
  std::uint32_t seen = 0;
  for (std::uint32_t i = 0; i < kBlockKeys; ++i) {
    const std::uint32_t visible = mask.first + i < kBlockKeys ? mask.first + i : kBlockKeys;
    seen += visible < mask.window ? visible : mask.window;
  }
  put(mask.name, kBlockKeys, head_dim, 0, seen);
  icount::start_region();
  table.attend_block({numerators, denominators, references}, queries, b, nullptr, nullptr);
  for (std::uint32_t i = 0; i < kBlockKeys; ++i)
    table.attend_finish(numerators + i * head_dim, numerators + i * head_dim, denominators[i], head_dim);
  icount::stop_region();
}

void count_rows(std::uint32_t n) {
  const Activations a = make_activations(activation_memory, table.traits, n, 0, 1);
  put("quantise", n, 0, 0, n);
  icount::start_region();
  table.quantize_s8r_f32(a, 0, x);
  icount::stop_region();
  put("norm", n, 0, 0, n);
  icount::start_region();
  table.norm_s8r_f32(a, 0, x, {nullptr, nullptr, 1e-5f, false});
  icount::stop_region();
  put("norm-gain", n, 0, 0, n);
  icount::start_region();
  table.norm_s8r_f32(a, 0, x, {gain, nullptr, 1e-5f, false});
  icount::stop_region();
  if (kBuiltFeatures.layer_norm) {
    put("layer-norm", n, 0, 0, n);
    icount::start_region();
    table.norm_s8r_f32(a, 0, x, {gain, gain, 1e-5f, true});
    icount::stop_region();
  }
  if (kNormsToFloats) {
    put("norm-to-floats", n, 0, 0, n);
    icount::start_region();
    table.norm_f32_f32(y, x, n, {gain, nullptr, 1e-5f, false});
    icount::stop_region();
  }
  std::memcpy(y, x, n * sizeof(float));
  put("gate", n, 0, 0, n);
  icount::start_region();
  table.gate_s8r_f32(a, 0, y, x + n, kSigmoid);
  icount::stop_region();
}

bool count_tokens() {
  Model model;
  Session session;
  Plan plan;
  const auto image_bytes = static_cast<std::size_t>(heed_model_image_end - heed_model_image);
  if (open(model, {heed_model_image, image_bytes}, table) != Status::ok ||
      make_plan(plan, model.config(), table.traits) != Status::ok ||
      create(session, model, plan, table, g_arena) != Status::ok)
    return false;
  Span<const float> logits;
  for (std::uint32_t position = 0; position < session.max_seq() && position <= 256; ++position) {
    const Token token = static_cast<Token>(1 + position % (model.config().main().vocab_size - 1));
    const bool counted = position % 16 == 0;
    if (counted) {
      put("token", position + 1, 0, 0, position + 1);
      icount::start_region();
    }
    if (session.step(logits, token) != Status::ok) return false;
    if (counted) icount::stop_region();
  }
  return true;
}

}  // namespace
}  // namespace heed

int main() {
  using namespace heed;
  for (float& v : x) v = (static_cast<float>(random_bits() >> 8) - 8388608.0f) * (1.0f / 8388608.0f);
  for (float& v : gain) v = 1.25f;
  for (float& v : row_scales) v = 0.01f;
  for (std::uint8_t& v : multipliers) v = static_cast<std::uint8_t>(1 + (random_bits() >> 8) % 15);
  for (std::int8_t& v : weights) v = static_cast<std::int8_t>(static_cast<std::int32_t>((random_bits() >> 8) % 255) - 127);
  // Two widths each: the difference is nothing but multiply-adds (dot_instruction.py).
  count_product("matvec", 1, 64, 128, 0);
  count_product("matvec", 1, 64, 64, 0);
  if (kBuiltFeatures.pattern_tap) {
    count_scores(2 * kHeadDim);
    count_scores(kHeadDim);
  }
  count_product("matvec", 1, 172, 64, 0);
  count_product("matvec", 1, 64, 172, 0);
  count_product("matvec", 1, 288, 288, 0);
  if (kBuiltFeatures.groups) count_product("matvec-g64", 1, 288, 256, 64);
  count_product("matmul", 64, 288, 288, 0);
  if (kBuiltFeatures.groups) count_product("matmul-g64", 64, 288, 256, 64);
  count_head(kAllKeys, kHeadDim);
  count_head(kAllKeys, 2 * kHeadDim);  // the difference is what the dimensions cost, the rest the softmax
  count_head(kCausal, kHeadDim);
  if (kBuiltFeatures.windows) count_head(kWindow, kHeadDim);
  if (kBuiltFeatures.score_bias) count_head(kBiased, kHeadDim);
  count_rows(64);
  count_rows(256);
  return count_tokens() ? 0 : 1;
}
