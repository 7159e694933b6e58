// SPDX-License-Identifier: Apache-2.0
// attention.cpp: queries against the int8 KV cache, as runtime/attention.cpp calls the kernels: decoding over a long
// context, a causal prompt, one block of keys for every head size; and what a new position costs to store.
#include "runtime/kv_cache.hpp"
#include "tests/bench/benchmarks.hpp"

namespace heed::bench {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr Rotation kNoRotation = {nullptr, 0, false};

// Some heads with a cache of keys and values, and room for a chunk of queries of each, whose values and results are
// float.
class Heads {
 public:
  Heads(const Kernels& k, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t keys, std::uint32_t chunk)
      : k_(k),
        heads_(heads),
        head_dim_(head_dim),
        chunk_(chunk),
        shape_{heads, head_dim, keys, k.traits.alignment},
        cache_(shape_.layer_bytes()),
        queries_(activations_bytes(k.traits, head_dim, 0, chunk)),
        numerators_(std::uint64_t{4} * chunk * head_dim),
        denominators_(std::uint64_t{4} * chunk),
        references_(std::uint64_t{4} * chunk),
        x_(random_floats(std::size_t{head_dim} * 64)),
        out_(std::uint64_t{4} * keys * heads * head_dim) {
    for (std::uint32_t h = 0; h < heads; ++h)
      for (std::uint32_t i = 0; i < keys; ++i) {
        const KvBlock block = this->block(h, i / kBlockKeys);
        k.store_key(block, i % kBlockKeys, x(i), kNoRotation, {nullptr, 0});
        k.store_value(block, i % kBlockKeys, x(i + 17));
      }
  }

  KvBlock block(std::uint32_t head, std::uint32_t index) {
    return KvCache{shape_, cache_.at<std::byte>()}.block(head, index);
  }
  const float* x(std::uint32_t i) const { return x_.data() + std::size_t{i % 64} * head_dim_; }

  // The queries of positions [first, first + n) of every head, against all keys up to their own: quantised, attended,
  // finished.
  void attend(std::uint32_t first, std::uint32_t n) {
    const Activations queries = make_activations(queries_.at<void>(), k_.traits, head_dim_, 0, chunk_);
    const AttentionSums sums = {numerators_.at<float>(), denominators_.at<float>(), references_.at<std::int32_t>()};
    const float factor = kLog2E / 8.0f;
    for (std::uint32_t h = 0; h < heads_; ++h) {
      for (std::uint32_t t = 0; t < n; ++t) {
        k_.query_s8r_f32(queries, t, x(first + t + h), kNoRotation);
        sums.denominators[t] = 0.0f;
        sums.references[t] = -(1 << 24);
      }
      for (std::size_t i = 0; i < std::size_t{n} * head_dim_; ++i) sums.numerators[i] = 0.0f;
      for (std::uint32_t b = 0; b <= (first + n - 1) / kBlockKeys; ++b) {
        const std::uint32_t start = b * kBlockKeys;
        const std::uint32_t t = start > first ? start - first : 0, seen = first + t + 1 - start;
        k_.attend_block(sums, {queries, t, n - t, 1, seen < kBlockKeys ? seen : kBlockKeys, kBlockKeys, factor},
                        block(h, b), nullptr, nullptr);
      }
      for (std::uint32_t t = 0; t < n; ++t)
        k_.attend_finish(out_.at<float>() + (std::size_t{first + t} * heads_ + h) * head_dim_,
                         sums.numerators + std::size_t{t} * head_dim_, sums.denominators[t], head_dim_);
    }
    benchmark::ClobberMemory();
  }

  std::uint64_t cache_bytes() const { return shape_.layer_bytes(); }

 private:
  const Kernels& k_;
  std::uint32_t heads_, head_dim_, chunk_;
  KvShape shape_;
  Memory cache_, queries_, numerators_, denominators_, references_;
  std::vector<float> x_;
  Memory out_;
};

// sizes: heads, head_dim, keys. One query of each head.
void decode(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::uint32_t heads = sizes[0], head_dim = sizes[1], keys = sizes[2];
  Heads memory(k, heads, head_dim, keys, 1);
  const Stopwatch stopwatch;
  for (auto _ : state) memory.attend(keys - 1, 1);
  report(state, k, stopwatch, {2.0 * heads * keys * head_dim, double(memory.cache_bytes()), 0});
}

// sizes: heads, head_dim, tokens. A causal prompt in chunks; multiply-adds are those of visible pairs.
void prefill(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::uint32_t heads = sizes[0], head_dim = sizes[1], tokens = sizes[2], chunk = k.traits.default_chunk;
  Heads memory(k, heads, head_dim, tokens, chunk);
  const Stopwatch stopwatch;
  for (auto _ : state)
    for (std::uint32_t first = 0; first < tokens; first += chunk)
      memory.attend(first, tokens - first < chunk ? tokens - first : chunk);
  report(state, k, stopwatch, {double(heads) * tokens * (tokens + 1) * head_dim, double(memory.cache_bytes()), 0});
}

// sizes: head_dim. A position's key, with or without rotation, and its value.
void store(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::uint32_t head_dim = sizes[0];
  Heads memory(k, 1, head_dim, kBlockKeys, 1);
  const std::vector<std::int16_t> turn(head_dim, 23170);  // an eighth: both cosine and sine
  const Rotation rotation = {turn.data(), static_cast<std::uint16_t>(head_dim / 2), false};
  std::uint32_t slot = 0;
  const Stopwatch stopwatch;
  for (auto _ : state) {
    k.store_key(memory.block(0, 0), slot, memory.x(slot), rotation, {nullptr, 0});
    k.store_value(memory.block(0, 0), slot, memory.x(slot + 1));
    slot = (slot + 1) % kBlockKeys;
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {0.0, 8.0 * head_dim, 0});
}

// sizes: head_dim. A query, rotated and quantised.
void query(benchmark::State& state, const Kernels& k, std::vector<std::uint32_t> sizes) {
  const std::uint32_t head_dim = sizes[0];
  const std::vector<std::int16_t> turn(head_dim, 23170);
  const Rotation rotation = {turn.data(), static_cast<std::uint16_t>(head_dim / 2), false};
  Memory vectors(activations_bytes(k.traits, head_dim, 0, 1));
  const Activations a = make_activations(vectors.at<void>(), k.traits, head_dim, 0, 1);
  const std::vector<float> x = random_floats(head_dim);
  const Stopwatch stopwatch;
  for (auto _ : state) {
    k.query_s8r_f32(a, 0, x.data(), rotation);
    benchmark::ClobberMemory();
  }
  report(state, k, stopwatch, {0.0, 4.0 * head_dim, 0});
}

}  // namespace

void add_attention(const Kernels& k) {
  for (const std::uint32_t head_dim : {8u, 13u, 16u, 31u, 32u, 48u, 64u, 80u, 96u, 128u, 192u, 255u, 256u}) {
    add(k, "attend_decode", decode, {1, head_dim, 1024});
    add(k, "attend_prefill", prefill, {1, head_dim, 256});
    add(k, "store", store, {head_dim});
    add(k, "query", query, {head_dim});
  }
  add(k, "attend_decode", decode, {12, 64, 512});
  add(k, "attend_decode", decode, {12, 64, 4096});
  add(k, "attend_prefill", prefill, {12, 64, 512});
}

}  // namespace heed::bench
