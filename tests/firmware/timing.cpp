// SPDX-License-Identifier: Apache-2.0
// timing.cpp: firmware whose marked regions timing.py counts, to make and to check the formula of `heed plan`. Prints
// one line per region, in order. Words of the command line:
//   ops SEED       each operation of the kernel table, on many shapes: "NAME NUMBERS..."
//   steps N SEED LAST   Session::step at N positions, 0 to LAST (or the model's last), of the model that the emulator
//                  loaded to the start of BULK: "step POSITION"
#include <initializer_list>

#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "runtime/numerics.hpp"
#include "runtime/runtime.hpp"
#include "tests/icount/icount_mark.hpp"

namespace io = heed::semihosting;
extern "C" const std::uint8_t heed_bulk_start[];  // nothing of this program lies there

namespace heed {
namespace {

// The compiler is not to know which table this is.
const Kernels& any_table() {
  const Kernels* table = &best_kernels();
  __asm__("" : "+r"(table));
  return *table;
}
const Kernels& table = any_table();
constexpr std::uint32_t kMost = 512;  // columns of a vector
constexpr std::uint32_t kMostRows = 512;
alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[3 * 1024 * 1024];
alignas(64) unsigned char activation_memory[4 * kMost], query_memory[8 * 1024];
alignas(64) std::int8_t weights[kMostRows * kMost + 64];
alignas(64) std::int8_t block_memory[kv_block_bytes(kBlockKeys, 128, 128) + 16];
float row_scales[kMostRows], biases[kMostRows], x[2 * kMost], y[8 * kMost], gain[kMost];
std::int16_t turn[2 * kMost], offset_values[kMost];
std::uint32_t phases[kMost];

std::uint32_t state = 1;
std::uint32_t random_bits() {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state >> 8;
}
float random_float() { return (static_cast<float>(random_bits()) - 8388608.0f) * (1.0f / 4194304.0f); }

// Values that the runtime would meet: of different sizes, none in a special range.
void shuffle() {
  for (float& v : x) v = random_float();
  for (float& v : y) v = random_float();
}

template <class Work>
void count(const char* name, std::uint32_t a, std::uint32_t b, std::uint32_t c, Work work) {
  io::put_text(name);
  for (const std::uint32_t n : {a, b, c}) {
    io::put_text(" ");
    io::put_decimal(n);
  }
  io::put_text("\n");
  icount::start_region();
  work();
  icount::stop_region();
}

constexpr std::uint32_t kColumns[] = {8, 16, 20, 32, 48, 64, 96, 100, 128, 172, 192, 256, 288, 352, 400, 512};

void count_vectors() {
  for (const std::uint32_t n : kColumns) {
    shuffle();
    const Activations a = make_activations(activation_memory, table.traits, n, 0, 1);
    Tensor t;
    t.weights = weights;
    t.scales = row_scales;
    t.rows = kMostRows;
    t.cols = n;
    t.layout = table.traits.preferred;
    count("embed", n, 0, 0, [&] { table.embed_f32_s8c(y, t, 5); });
    count("quantise", n, 0, 0, [&] { table.quantize_s8r_f32(a, 0, x); });
    count("norm", n, 0, 0, [&] { table.norm_s8r_f32(a, 0, x, {nullptr, nullptr, 1e-5f, false}); });
    count("norm_gain", n, 0, 0, [&] { table.norm_s8r_f32(a, 0, x, {gain, nullptr, 1e-5f, false}); });
    if (kBuiltFeatures.layer_norm) {
      count("layer_norm", n, 0, 0, [&] { table.norm_s8r_f32(a, 0, x, {nullptr, nullptr, 1e-5f, true}); });
      count("layer_norm_gain", n, 0, 0, [&] { table.norm_s8r_f32(a, 0, x, {gain, gain, 1e-5f, true}); });
    }
    for (const std::uint32_t with_up : {1u, 0u}) {
      shuffle();
      count("gate", n, with_up, 0, [&] { table.gate_s8r_f32(a, 0, y, with_up ? x : nullptr, kSigmoid); });
    }
  }
}

void count_products() {
  for (const std::uint32_t rows : {4u, 8u, 20u, 48u, 64u, 96u, 128u, 172u, 256u, 512u})
    for (const std::uint32_t cols : kColumns)
      for (const std::uint32_t kind : {0u, 1u, 2u}) {  // written, added, with a bias
        Tensor t;
        t.weights = weights;
        t.scales = row_scales;
        t.bias = kind == 2 ? biases : nullptr;
        t.rows = rows;
        t.cols = cols;
        t.layout = table.traits.preferred;
        shuffle();
        const Activations a = make_activations(activation_memory, table.traits, cols, 0, 1);
        table.quantize_s8r_f32(a, 0, x);
        count("product", rows, cols, kind, [&] {
          table.matmul_f32_s8r_s8c(y, a, t, {1, 0, padded_rows(t.layout, rows), kMost, kind == 1});
        });
      }
}

KvBlock key_block(std::uint32_t head_dim) { return make_kv_block(block_memory, kBlockKeys, head_dim, head_dim); }

void count_heads() {
  static float denominators[8];
  static std::int32_t references[8];
  for (const std::uint32_t d : {4u, 8u, 16u, 32u, 48u, 64u, 96u, 128u}) {
    const KvBlock b = key_block(d);
    for (const std::uint32_t rotates : {0u, 1u}) {
      const Rotation r{rotates ? turn : nullptr, static_cast<std::uint16_t>(rotates ? d / 2 : 0), false};
      for (std::uint32_t slot = 0; slot < kBlockKeys; ++slot) {
        shuffle();
        if (slot != 0 && slot != 7 && slot != 40) {
          table.store_key(b, slot, x, r, {});
          table.store_value(b, slot, x + d);
          continue;
        }
        for (const bool has_offset : {false, true})
          if (!has_offset || kBuiltFeatures.key_offset)
            count("key", d, rotates, has_offset, [&] {
              table.store_key(b, slot, x, r, {has_offset ? offset_values : nullptr, 0});
            });
        count("value", d, slot, 0, [&] { table.store_value(b, slot, x + d); });
        const Activations q = make_activations(query_memory, table.traits, d, 0, 1);
        count("query", d, rotates, 0, [&] { table.query_s8r_f32(q, 0, x, r); });
      }
    }
    for (const std::uint32_t n : {1u, 2u, 3u, 4u}) {
      const Activations q = make_activations(query_memory, table.traits, d, 0, n);
      shuffle();
      for (std::uint32_t i = 0; i < n; ++i) table.query_s8r_f32(q, i, x + i * 16, {});
      for (std::uint32_t visible = 1; visible <= kBlockKeys; ++visible) {
        for (std::uint32_t i = 0; i < n; ++i) {
          denominators[i] = 0.0f;
          references[i] = -(1 << 24);
        }
        for (std::uint32_t i = 0; i < n * d; ++i) y[i] = 0.0f;
        for (const char* name : {"attend_first", "attend_more"}) {
          count(name, d, n, visible, [&] {
            table.attend_block({y, denominators, references}, {q, 0, n, n, visible, kBlockKeys, 0.25f}, b, nullptr,
                               nullptr);
          });
          // What the next block is added to came from keys that were larger or smaller.
          for (std::uint32_t i = 0; i < n; ++i) references[i] += static_cast<std::int32_t>(random_bits() % 17) - 8;
        }
      }
    }
    count("finish", d, 0, 0, [&] { table.attend_finish(x, y, denominators[0], d); });
    for (const std::uint32_t position : {0u, 77u, 500u})
      count("turn", d / 2, 0, 0, [&] { fill_rotation(turn, phases, d / 2, position, 1); });
  }
}

bool count_steps(std::uint32_t n, std::uint32_t seed, std::uint32_t last) {
  Model model;
  Session session;
  Plan plan;
  std::uint64_t image_bytes = 0;  // in the header
  __builtin_memcpy(&image_bytes, heed_bulk_start + 16, sizeof image_bytes);
  if (open(model, {heed_bulk_start, static_cast<std::size_t>(image_bytes)}, table) != Status::ok ||
      make_plan(plan, model.config(), table.traits) != Status::ok ||
      create(session, model, plan, table, g_arena) != Status::ok)
    return false;
  state = seed;
  Span<const float> logits;
  std::uint32_t next = 0;
  if (last >= session.max_seq()) last = session.max_seq() - 1;
  for (std::uint32_t position = 0; position <= last; ++position) {
    const auto token = static_cast<Token>(random_bits() % model.config().main().vocab_size);
    Status status = Status::ok;
    if (position != next * last / (n - 1)) {
      status = session.step(logits, token);
    } else {
      ++next;
      count("step", position, 0, 0, [&] { status = session.step(logits, token); });
    }
    if (status != Status::ok) return false;
  }
  return true;
}

}  // namespace
}  // namespace heed

int main() {
  using namespace heed;
  static char line[256];
  char* words[8];
  const int n_words = io::command_line(words, 8, line, sizeof line);
  const auto number = [&](int i) {
    std::uint32_t n = 0;
    for (const char* c = words[i]; *c >= '0' && *c <= '9'; ++c) n = n * 10 + static_cast<std::uint32_t>(*c - '0');
    return n;
  };
  const bool ops = n_words == 3 && words[1][0] == 'o';
  if (ops) state = number(2);
  for (float& v : gain) v = 1.25f + random_float() * 0.25f;
  for (float& v : row_scales) v = 0.01f;
  for (float& v : biases) v = random_float();
  for (std::int8_t& v : weights) v = static_cast<std::int8_t>(static_cast<std::int32_t>(random_bits() % 255) - 127);
  for (std::int16_t& v : offset_values) v = static_cast<std::int16_t>(random_bits() % 20000);
  for (std::uint32_t& v : phases) v = random_bits() << 4;
  fill_rotation(turn, phases, kMost / 2, 3, 1);
  if (ops) {
    count_vectors();
    count_products();
    count_heads();
    return 0;
  }
  return n_words == 5 && count_steps(number(2), number(3), number(4)) ? 0 : 1;
}
