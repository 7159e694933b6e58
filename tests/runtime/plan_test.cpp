// SPDX-License-Identifier: Apache-2.0
// plan_test.cpp: bytes are arithmetic, known to the compiler, for any target on any host, and pinned.
#include "runtime/plan.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "platform/tables.hpp"
#include "runtime/attention.hpp"
#include "tests/support/catch.hpp"

namespace {

using namespace heed;

// The configuration of stories260K.
constexpr StackConfig stories() {
  StackConfig c;
  c.d_model = 64;
  c.d_ff = 172;
  c.n_layers = 5;
  c.n_heads = 8;
  c.n_kv_heads = 4;
  c.head_dim = 8;
  c.vocab_size = c.n_outputs = 512;
  c.max_seq = 512;
  c.rotary_dims = 8;
  c.attention_scale = 0.35355338f;
  return c;
}

constexpr Plan planned(const StackConfig& c, const KernelTraits& traits, const Limits& limits = {}) {
  Plan plan;
  return make_plan(plan, c, traits, limits) == Status::ok ? plan : Plan{};
}

// The compiler knows: a board's budget can be a static_assert.
static_assert(planned(stories(), traits::kCortexM4).arena_bytes != 0, "");
static_assert(planned(stories(), traits::kCortexM3, {64, 1}).arena_bytes < 64 * 1024, "");
static_assert(planned(stories(), traits::kCortexM4, {256, 4}).max_seq == 256, "");
static_assert(planned(stories(), traits::kCortexM55).region(Region::scratch).bytes <= 16 * 1024, "");

struct Pinned {
  const KernelTraits& traits;
  std::uint64_t whole, small;  // the model's context; 64 positions, one token at a time
};

// Changes here are changes of every user's memory: they belong in the changelog.
constexpr Pinned kPinned[] = {
    {traits::kPortable, 336384, 30800}, {traits::kSse2, 336400, 30816},       {traits::kAvx2, 337472, 31040},
    {traits::kAvxVnni, 337472, 31040},  {traits::kAvx512Vnni, 337472, 31040}, {traits::kNeon, 336400, 30816},
    {traits::kDotprod, 336400, 30816},  {traits::kI8mm, 336416, 30832},       {traits::kCortexM0, 224544, 30792},
    {traits::kCortexM3, 225248, 30968}, {traits::kCortexM4, 225264, 30984},   {traits::kCortexM55, 224560, 30808},
    {traits::kPortableRow, 224544, 30792},
};

// Slices that live at the same time.
std::vector<Slice> living(const Plan& p, bool attention) {
  std::vector<Slice> s = {p.residual, p.rotation, p.position, p.activations};
  if (attention) {
    const AttentionPlan& a = p.attention;
    s.insert(s.end(), {a.query, a.key, a.value, a.queries, a.numerators, a.denominators, a.references});
  } else {
    s.insert(s.end(), {p.gate, p.up});
  }
  return s;
}

// The same of the whole block.
std::vector<Slice> living_in_block(const Plan& p, bool attention) {
  std::vector<Slice> s = living(p, attention);
  for (Slice& slice : s) slice.offset += p.scratch.offset;
  s.insert(s.end(), {p.kv_cache, p.logits});
  return s;
}

void check_slices(std::vector<Slice> slices, std::uint64_t arena_bytes, std::uint32_t align, std::uint32_t slack) {
  std::uint64_t end = 0;
  std::sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  for (const Slice& s : slices) {
    CHECK(s.offset % align == 0);
    CHECK(s.offset >= end);
    end = s.offset + s.bytes;
  }
  CHECK(end + slack <= arena_bytes);
}

}  // namespace

TEST_CASE("arena bytes of the golden configuration are pinned for every table", "[plan]") {
  CHECK(sizeof kPinned / sizeof kPinned[0] == sizeof traits::kAll / sizeof traits::kAll[0]);
  for (const Pinned& p : kPinned) {
    INFO(p.traits.name);
    CHECK(planned(stories(), p.traits).arena_bytes == p.whole);
    CHECK(planned(stories(), p.traits, {64, 1}).arena_bytes == p.small);
  }
}

TEST_CASE("what lives at the same time does not overlap and is aligned", "[plan]") {
  std::vector<StackConfig> configs = {stories()};
  for (const std::uint32_t width : {1u, 15u, 17u, 33u, 100u}) {
    StackConfig c = stories();
    c.d_model = width;
    c.d_ff = width * 3 + 1;
    c.n_heads = 3;
    c.n_kv_heads = 1;
    c.head_dim = width;
    c.rotary_dims = width > 1 ? 2 : 0;
    if (width == 1) c.head_dim = c.rotary_dims = 2;
    c.max_seq = width * 7;
    c.vocab_size = c.n_outputs = width + 2;
    c.groups[static_cast<int>(Site::down_in)] = 32;
    configs.push_back(c);
  }
  for (const KernelTraits* traits : traits::kAll) {
    for (const StackConfig& c : configs) {
      for (const Limits& limits : {Limits{}, Limits{1, 1}, Limits{0, 5}}) {
        INFO(traits->name << ", width " << c.d_model << ", chunk " << limits.chunk);
        const Plan p = planned(c, *traits, limits);
        REQUIRE(p.arena_bytes != 0);
        check_slices(living_in_block(p, true), p.arena_bytes, p.arena_align, traits->slack);
        check_slices(living_in_block(p, false), p.arena_bytes, p.arena_align, traits->slack);
        check_slices(living(p, true), p.region(Region::scratch).bytes, p.arena_align, traits->slack);
        check_slices(living(p, false), p.region(Region::scratch).bytes, p.arena_align, traits->slack);
        std::uint64_t total = 0;
        for (const Region r : {Region::kv_cache, Region::scratch, Region::logits}) {
          CHECK(p.region(r).offset == total);
          total += p.region(r).bytes - traits->slack;
        }
        CHECK(p.arena_bytes == total + traits->slack);
        CHECK(p.arena_align == traits->alignment);
        CHECK(p.max_seq == (limits.max_seq ? limits.max_seq : c.max_seq));
        CHECK(p.chunk <= p.max_seq);
        CHECK(p.residual.bytes >= std::uint64_t{4} * p.chunk * c.d_model);
        CHECK(p.logits.bytes >= std::uint64_t{4} * c.vocab_size);
        const KvShape kv{c.n_kv_heads, c.head_dim, p.max_seq, traits->alignment};
        CHECK(p.kv_cache.bytes == kv.layer_bytes() * c.n_layers);
      }
    }
  }
}

TEST_CASE("blocks of the cache lie behind each other and hold every position", "[plan]") {
  std::vector<std::byte> memory(1 << 20);
  for (const std::uint32_t max_seq : {1u, 15u, 16u, 17u, 63u, 64u, 65u, 127u, 128u, 130u, 192u}) {
    for (const std::uint32_t head_dim : {1u, 3u, 8u, 20u, 64u}) {
      for (const std::uint32_t align : {8u, 16u, 64u}) {
        INFO(max_seq << " positions, head of " << head_dim << ", alignment " << align);
        const KvShape shape{3, head_dim, max_seq, align};
        REQUIRE(shape.layer_bytes() <= memory.size());
        const KvCache cache{shape, memory.data()};
        const std::byte* end = memory.data();
        std::uint32_t positions = 0;
        for (std::uint32_t head = 0; head < 3; ++head) {
          for (std::uint32_t b = 0; b < shape.blocks(); ++b) {
            const KvBlock block = cache.block(head, b);
            const auto* first = reinterpret_cast<const std::byte*>(block.keys);
            CHECK(first >= end);
            CHECK(static_cast<std::size_t>(first - memory.data()) % align == 0);
            CHECK(block.capacity % kKeyGranule == 0);
            CHECK(block.capacity <= kBlockKeys);
            end = first + kv_block_bytes(block.capacity, head_dim, head_dim);
            CHECK(reinterpret_cast<const std::byte*>(block.value_exponent_maxima + block.capacity) == end);
            if (head == 0) positions += block.capacity;
          }
        }
        CHECK(positions >= max_seq);
        CHECK(positions < max_seq + kKeyGranule);
        CHECK(static_cast<std::uint64_t>(end - memory.data()) <= shape.layer_bytes());
      }
    }
  }
}

TEST_CASE("limits that cannot be kept are refused", "[plan]") {
  Plan p;
  CHECK(make_plan(p, stories(), traits::kPortable, {513, 0}) == Status::context_too_long);
  CHECK(make_plan(p, stories(), traits::kPortable, {512, 0}) == Status::ok);
  CHECK(make_plan(p, stories(), traits::kPortable, {0, 4097}) == Status::bad_argument);
  CHECK(make_plan(p, stories(), traits::kPortable, {0, 4096}) == Status::ok);
  CHECK(p.chunk == 512);
  CHECK(make_plan(p, StackConfig{}, traits::kPortable) == Status::bad_config);
  StackConfig c = stories();
  c.n_sinks = 4;
  CHECK(make_plan(p, c, traits::kPortable) == Status::feature_not_built);
}

TEST_CASE("the largest configuration overflows nothing", "[plan]") {
  StackConfig c = stories();
  c.d_model = 65536;
  c.d_ff = 131072;
  c.n_layers = 4096;
  c.n_heads = c.n_kv_heads = 512;
  c.head_dim = c.rotary_dims = 256;
  c.vocab_size = c.n_outputs = 1u << 20;
  c.max_seq = 1u << 20;
  for (const KernelTraits* traits : traits::kAll) {
    INFO(traits->name);
    Plan p;
    REQUIRE(make_plan(p, c, *traits, {0, 4096}) == Status::ok);
    // Keys and values alone: 4096 layers * 2^20 positions * 512 heads * (2 * 256 + 5) bytes.
    CHECK(p.kv_cache.bytes == (std::uint64_t{4096} << 20) * 512 * 517);
    CHECK(p.arena_bytes > p.kv_cache.bytes);
    check_slices(living_in_block(p, true), p.arena_bytes, p.arena_align, traits->slack);
    check_slices(living_in_block(p, false), p.arena_bytes, p.arena_align, traits->slack);
  }
}

TEST_CASE("attention alone has a plan too", "[plan]") {
  AttentionConfig c;
  c.d_model = 33;
  c.n_heads = 6;
  c.n_kv_heads = 2;
  c.head_dim = 5;
  c.max_seq = 70;
  c.rotary_dims = 4;
  for (const KernelTraits* traits : traits::kAll) {
    INFO(traits->name);
    AttentionMemory m;
    REQUIRE(make_attention_plan(m, c, *traits, 7) == Status::ok);
    const AttentionPlan& a = m.buffers;
    check_slices({m.kv_cache, m.rotation, m.activations, m.change, a.query, a.key, a.value, a.queries, a.numerators,
                  a.denominators, a.references},
                 m.arena_bytes, m.arena_align, traits->slack);
  }
  AttentionMemory m;
  const auto refused = [&](auto change) {
    AttentionConfig bad = c;
    change(bad);
    return make_attention_plan(m, bad, traits::kPortable) == Status::bad_config;
  };
  CHECK(refused([](AttentionConfig& b) { b.d_model = 0; }));
  CHECK(refused([](AttentionConfig& b) { b.d_model = 65537; }));
  CHECK(refused([](AttentionConfig& b) { b.head_dim = 0; }));
  CHECK(refused([](AttentionConfig& b) { b.head_dim = 257; }));
  CHECK(refused([](AttentionConfig& b) { b.n_heads = 1025; }));
  CHECK(refused([](AttentionConfig& b) { b.n_kv_heads = 4; }));
  CHECK(refused([](AttentionConfig& b) { b.n_kv_heads = 0; }));
  CHECK(refused([](AttentionConfig& b) { b.max_seq = 0; }));
  CHECK(refused([](AttentionConfig& b) { b.max_seq = (1u << 20) + 1; }));
  CHECK(refused([](AttentionConfig& b) { b.rotary_dims = 3; }));
  CHECK(refused([](AttentionConfig& b) { b.rotary_dims = 6; }));
  CHECK(refused([](AttentionConfig& b) { b.scale = 1e-20f; }));
  CHECK(refused([](AttentionConfig& b) { b.scale = -1.0f; }));
  CHECK(make_attention_plan(m, c, traits::kPortable, 4097) == Status::bad_argument);
}
