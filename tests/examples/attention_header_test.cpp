// SPDX-License-Identifier: Apache-2.0
// attention_header_test.cpp: an nn.MultiheadAttention in heed::Attention, by the steps of examples/models/README.md,
// which shows the lines between the two rulers. Weights and outputs are PyTorch's (tests/golden/torch), and `heed
// quantize-layer` wrote the header.
#include <algorithm>

#include "attention_grouped.h"
#include "tests/covering/cover_inputs.hpp"
#include "tests/support/catch.hpp"

// ---- shown
#include "attention_weights.h"  // what `heed quantize-layer` wrote
#include "platform/select.hpp"
#include "runtime/attention.hpp"

alignas(64) static std::byte arena[64 * 1024];  // memory.arena_bytes below is the exact need

// nn.MultiheadAttention(16, 2, kdim=12, vdim=20). change, queries [n, 16]; source [at most 66, 32]: what keys and what
// values are made of, side by side.
heed::Status attend(heed::Span<float> change, heed::Span<const float> queries, heed::Span<const float> source) {
  heed::AttentionConfig config;
  config.d_model = 16;                     // embed_dim
  config.n_heads = config.n_kv_heads = 2;  // num_heads
  config.head_dim = 16 / 2;
  config.max_seq = 66;
  config.d_source = 12 + 20;  // 0 for attention to one's own sequence, with config.mask two_way or causal
  heed::AttentionWeights weights;
  weights.w_query = attention_weights::w_query;
  weights.w_key = attention_weights::w_key;
  weights.w_value_down = attention_weights::w_value_down;
  weights.w_value_up = attention_weights::w_value_up;

  const heed::Kernels& kernels = heed::best_kernels();
  heed::AttentionMemory memory;
  heed::Attention layer;
  heed::Status status = heed::make_attention_plan(memory, config, kernels.traits);
  if (status == heed::Status::ok) status = heed::create(layer, config, weights, memory, kernels, arena);
  if (status == heed::Status::ok) status = layer.set_source(source);  // computes its keys and values once
  if (status == heed::Status::ok) status = layer.forward(change, queries);
  return status;
}
// ---- end of what is shown

namespace {

using namespace heed;

test::CoverCase golden_case() {
  std::vector<test::CoverCase> cases;
  REQUIRE(test::read_cover_cases(cases, HEED_SOURCE_DIR "/tests/golden/torch/attention.1.cross.inputs.json") == "");
  REQUIRE(cases.size() == 1);
  return cases[0];
}

}  // namespace

TEST_CASE("nn.MultiheadAttention by the steps of the document gives PyTorch's outputs", "[examples]") {
  const test::CoverCase c = golden_case();
  std::vector<float> change(c.input.vectors.size());
  REQUIRE(attend(change, c.input.vectors, c.source.vectors) == Status::ok);
  const std::vector<double> cosines = test::cosines(c, {change.data(), change.size()});
  REQUIRE_FALSE(cosines.empty());
  CHECK(*std::min_element(cosines.begin(), cosines.end()) >= 0.999);
}

TEST_CASE("attention wants one scale per row: weights with groups are refused", "[examples]") {
  AttentionConfig config;
  config.d_model = 16;
  config.n_heads = config.n_kv_heads = 2;
  config.head_dim = 8;
  config.max_seq = 66;
  config.d_source = 32;
  AttentionWeights weights;
  weights.w_query = attention_grouped::w_query;
  weights.w_key = attention_grouped::w_key;
  weights.w_value_down = attention_grouped::w_value_down;
  weights.w_value_up = attention_grouped::w_value_up;
  AttentionMemory memory;
  Attention layer;
  REQUIRE(make_attention_plan(memory, config, best_kernels().traits) == Status::ok);
  CHECK(create(layer, config, weights, memory, best_kernels(), arena) == Status::bad_argument);
}
