// SPDX-License-Identifier: Apache-2.0
// value_maps.cpp: firmware whose marked regions value_maps.py counts: an attention layer with the value maps of its heads in
// both forms, over a whole two-way sequence. Prints one line "FORM D_MODEL N_HEADS HEAD_DIM POSITIONS COST" per region, in order,
// COST being what the converter thinks of it.
#include <initializer_list>

#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "quant/value_map_cost.hpp"
#include "runtime/attention.hpp"
#include "tests/icount/icount_mark.hpp"

namespace io = heed::semihosting;

namespace heed {
namespace {

constexpr std::uint32_t kMostModel = 96, kMostHeads = 2, kMostPositions = 128, kMostRows = kMostHeads * kMostModel;

alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[384 * 1024];
alignas(64) std::int8_t weights[kMostRows * kMostRows];
alignas(64) float row_scales[kMostRows], x[kMostPositions * kMostModel];

std::uint32_t state = 1;
std::uint32_t random_bits() {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state >> 8;
}

Tensor matrix(std::uint32_t rows, std::uint32_t cols, Layout layout) {
  Tensor t;
  t.weights = weights;
  t.scales = row_scales;
  t.rows = rows;
  t.cols = cols;
  t.layout = layout;
  return t;
}

void put(const AttentionConfig& c) {
  StackConfig stack;
  stack.mask = c.mask;
  stack.n_layers = 1;
  stack.d_model = c.d_model;
  stack.n_heads = stack.n_kv_heads = c.n_heads;
  stack.head_dim = c.head_dim;
  stack.max_seq = c.max_seq;
  const quant::ValueMapCost cost = quant::value_map_cost(stack, 0);
  const bool undivided = c.value_map == ValueMap::undivided;
  io::put_text(undivided ? "undivided" : "factors");
  for (const std::uint32_t n : {c.d_model, c.n_heads, c.head_dim, c.max_seq,
                                static_cast<std::uint32_t>(undivided ? cost.undivided : cost.factors)}) {
    io::put_text(" ");
    io::put_decimal(n);
  }
  io::put_text("\n");
}

bool count(ValueMap form, std::uint32_t d_model, std::uint32_t n_heads, std::uint32_t head_dim, std::uint32_t positions) {
  const Kernels& kernels = best_kernels();
  AttentionConfig c;
  c.d_model = d_model;
  c.n_heads = c.n_kv_heads = n_heads;
  c.head_dim = head_dim;
  c.max_seq = positions;
  c.mask = Mask::two_way;
  c.value_map = form;
  const Layout layout = kernels.traits.preferred;
  const std::uint32_t d_heads = n_heads * head_dim;
  AttentionWeights w;
  w.w_query = matrix(d_heads, d_model, layout);
  w.w_key = matrix(d_heads, d_model, layout);
  w.w_value_down = matrix(form == ValueMap::factors ? d_heads : n_heads * d_model, d_model, layout);
  if (form == ValueMap::factors) w.w_value_up = matrix(d_model, d_heads, layout);
  AttentionMemory plan;
  Attention layer;
  if (make_attention_plan(plan, c, kernels.traits) != Status::ok ||
      create(layer, c, w, plan, kernels, {g_arena, sizeof g_arena}) != Status::ok)
    return false;
  for (float& v : x) v = (static_cast<float>(random_bits()) - 8388608.0f) * (1.0f / 4194304.0f);
  const Span<float> all{x, std::size_t{positions} * d_model};
  put(c);
  icount::start_region();
  const Status status = layer.forward(all, {all.data(), all.size()});
  icount::stop_region();
  return status == Status::ok;
}

bool count_all() {
  for (std::int8_t& v : weights) v = static_cast<std::int8_t>(static_cast<std::int32_t>(random_bits() % 255) - 127);
  for (float& v : row_scales) v = 0.001f;
  for (const std::uint32_t d_model : {32u, 64u, 96u})
    for (const std::uint32_t n_heads : {1u, 2u})
      for (const std::uint32_t eighths : {4u, 5u, 6u, 7u, 8u, 10u})  // head_dim, in eighths of d_model
        for (const std::uint32_t positions : {8u, 32u, 64u, 128u})
          for (const ValueMap form : {ValueMap::factors, ValueMap::undivided})
            if (eighths * d_model / 8 <= kMostModel && !count(form, d_model, n_heads, eighths * d_model / 8, positions)) return false;
  return true;
}

}  // namespace
}  // namespace heed

int main() { return heed::count_all() ? 0 : 1; }
