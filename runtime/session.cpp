// SPDX-License-Identifier: Apache-2.0
// session.cpp: tokens become embeddings, the blocks move them, the last one is unembedded.
#include "runtime/one_rounding.hpp"

#include "runtime/session.hpp"

#include "runtime/numerics.hpp"

namespace heed {

namespace {

Status check_block(Span<const std::byte> block, std::uint64_t bytes, std::uint32_t align) {
  if (!block.data()) return Status::bad_argument;
  if (reinterpret_cast<std::uintptr_t>(block.data()) % align) return Status::misaligned;
  return block.size() < bytes ? Status::arena_too_small : Status::ok;
}

// The plan again, from what it must have been made from: `plan` is the caller's memory and not believed.
Status plan_again(Plan& expected, const Model& model, const Plan& plan, const Kernels& kernels) {
  if (make_plan(expected, model.config(), kernels.traits, {plan.max_seq, plan.chunk}) != Status::ok)
    return Status::bad_argument;
  return plan.arena_bytes == expected.arena_bytes ? Status::ok : Status::bad_argument;
}

// Of blocks cut to what the plan asks for.
bool overlap(Span<const std::byte> a, const Slice& a_region, Span<const std::byte> b, const Slice& b_region) {
  const auto a_first = reinterpret_cast<std::uintptr_t>(a.data()), b_first = reinterpret_cast<std::uintptr_t>(b.data());
  return a_first < b_first ? b_first - a_first < a_region.bytes : a_first - b_first < b_region.bytes;
}

}  // namespace

Status check_region(const Plan& plan, Region region, Span<const std::byte> block) {
  return plan.arena_align ? check_block(block, plan.region(region).bytes, plan.arena_align) : Status::bad_argument;
}

Status create(Session& session, const Model& model, const Plan& plan, const Kernels& kernels, Span<std::byte> arena) {
  Plan expected;
  if (const Status s = plan_again(expected, model, plan, kernels); s != Status::ok) return s;
  if (const Status s = check_block(arena, expected.arena_bytes, expected.arena_align); s != Status::ok) return s;
  std::byte* const base = arena.data();
  return session.place(model, expected, kernels, base, base + static_cast<std::size_t>(expected.scratch.offset),
                       base + static_cast<std::size_t>(expected.logits.offset));
}

Status create(Session& session, const Model& model, const Plan& plan, const Kernels& kernels,
              const SessionMemory& memory) {
  Plan expected;
  if (const Status s = plan_again(expected, model, plan, kernels); s != Status::ok) return s;
  const Span<std::byte> blocks[kRegionCount] = {memory.kv_cache, memory.scratch, memory.logits};
  for (int i = 0; i < kRegionCount; ++i) {
    if (const Status s = check_region(expected, static_cast<Region>(i), blocks[i]); s != Status::ok) return s;
    for (int j = 0; j < i; ++j)
      if (overlap(blocks[i], expected.region(static_cast<Region>(i)), blocks[j],
                  expected.region(static_cast<Region>(j))))
        return Status::bad_argument;
  }
  return session.place(model, expected, kernels, memory.kv_cache.data(), memory.scratch.data(), memory.logits.data());
}

// `plan` is the expected one; the session is untouched unless everything fits.
Status Session::place(const Model& model, const Plan& plan, const Kernels& kernels, std::byte* kv_cache,
                      std::byte* scratch, std::byte* logits) {
  if (!((kernels.traits.layouts >> static_cast<unsigned>(model.layout())) & 1u)) return Status::layout_unsupported;
  if (!float_mode_is_default() || !products_are_rounded()) return Status::rounding_mode;

  // Part by part: an empty session to assign would take its own bytes of stack, and code.
  model_ = model;
  plan_ = plan;
  parallel_ = Parallel{};
  position_ = 0;
  const StackConfig& c = model_.config().main();
  const auto at = [&](const Slice& s) { return scratch + static_cast<std::size_t>(s.offset); };
  kv_cache_ = kv_cache;
  logits_ = reinterpret_cast<float*>(logits);
  position_row_ = reinterpret_cast<float*>(at(plan.position));

  AttentionLayer& a = attention_;
  a.config = {c.d_model, c.n_heads, c.n_kv_heads, c.head_dim, plan.max_seq, c.rotary_dims, c.rotary_pairing,
              c.attention_scale};
  a.cache = {{c.n_kv_heads, c.head_dim, plan.max_seq, kernels.traits.alignment}, kv_cache};
  first_layer(a.weights, block_, model);
  a.scratch = attention_scratch(plan.attention, scratch, c.n_heads, c.n_kv_heads, c.head_dim);
  a.kernels = &kernels;
  a.tap = PatternTap{};
  a.index = 0;

  BlockScratch& b = scratch_;
  b.residual = reinterpret_cast<float*>(at(plan.residual));
  b.rotation = reinterpret_cast<std::int16_t*>(at(plan.rotation));
  b.activations = at(plan.activations);
  b.gate = reinterpret_cast<float*>(at(plan.gate));
  b.up = reinterpret_cast<float*>(at(plan.up));
  b.residual_stride = float_row(c.d_model);
  b.ffn_stride = float_row(c.d_ff);
  return Status::ok;
}

Status Session::check(Span<const Token> tokens) const {
  if (!kv_cache_ || tokens.empty()) return Status::bad_argument;
  for (const Token t : tokens)
    if (t < 0 || static_cast<std::uint32_t>(t) >= model_.config().main().vocab_size) return Status::bad_token;
  if (tokens.size() > plan_.max_seq - position_) return Status::context_full;
  return float_mode_is_default() ? Status::ok : Status::rounding_mode;
}

void Session::move_to_layer(std::uint32_t layer) {
  const std::ptrdiff_t layers = static_cast<std::ptrdiff_t>(layer) - static_cast<std::ptrdiff_t>(attention_.index);
  if (layers == 0) return;
  advance_layer(attention_.weights, block_, layers * static_cast<std::ptrdiff_t>(model_.layer_bytes()));
  attention_.cache.base += layers * static_cast<std::ptrdiff_t>(attention_.cache.head_bytes * model_.config().main().n_kv_heads);
  attention_.index = layer;
}

// At most plan_.chunk tokens through all blocks.
void Session::forward(Span<const Token> tokens) {
  const StackConfig& c = model_.config().main();
  const auto n = static_cast<std::uint32_t>(tokens.size());
  const Tensor embedding = model_.tensor(Role::token_embedding, 0);
  for (std::uint32_t t = 0; t < n; ++t) {
    float* const x = scratch_.residual + std::size_t{t} * scratch_.residual_stride;
    attention_.kernels->embed_f32_s8c(x, embedding, static_cast<std::uint32_t>(tokens[t]));
    // Products add to padded rows too; what the arena held there could be a denormal or a signalling NaN.
    for (std::uint32_t c_pad = c.d_model; c_pad < scratch_.residual_stride; ++c_pad) x[c_pad] = 0.0f;
  }
  if (kBuiltFeatures.learned_positions && c.position_table) {
    const Tensor positions = model_.tensor(Role::position_embedding, 0);
    float* const row = position_row_;
    for (std::uint32_t t = 0; t < n; ++t) {
      attention_.kernels->embed_f32_s8c(row, positions, position_ + t);
      float* x = scratch_.residual + std::size_t{t} * scratch_.residual_stride;
      for (std::uint32_t i = 0; i < c.d_model; ++i) x[i] += row[i];
    }
  }
  if (c.rotary_dims)
    fill_rotation(scratch_.rotation, model_.rotary_phases(), c.rotary_dims / 2, position_, n);
  attention_.parallel = &parallel_;
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    move_to_layer(layer);
    block_forward(c, attention_, block_, scratch_, position_, n);
  }
  move_to_layer(0);
  position_ += n;
}

Span<const float> Session::unembed(std::uint32_t token_of_chunk) {
  const StackConfig& c = model_.config().main();
  const Kernels& k = *attention_.kernels;
  const Activations last = make_activations(scratch_.activations, k.traits, c.d_model, c.group(Site::unembed_in), 1);
  const NormWeights norm = norm_weights(model_, Role::final_gain, Role::final_norm_bias, 0);
  k.norm_s8r_f32(last, 0, scratch_.residual + std::size_t{token_of_chunk} * scratch_.residual_stride, norm);
  const Tensor unembedding = model_.tensor(c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0);
  const Product logits{logits_, &unembedding, 0};
  matmul_parallel(k, parallel_, &logits, 1, false, last, 1);
  return {logits_, c.vocab_size};
}

Status Session::prefill(Span<const float>& logits, Span<const Token> prompt) {
  if (const Status s = check(prompt); s != Status::ok) return s;
  std::size_t n = 0;
  for (std::size_t done = 0; done < prompt.size(); done += n) {
    n = prompt.size() - done < plan_.chunk ? prompt.size() - done : plan_.chunk;
    forward(prompt.subspan(done, n));
  }
  logits = unembed(static_cast<std::uint32_t>(n) - 1);
  return Status::ok;
}

Status Session::step(Span<const float>& logits, Token token) { return prefill(logits, {&token, 1}); }

Status Session::evaluate(Span<const Token> tokens, const LogitsSink& sink) {
  if (!sink.take) return Status::bad_argument;
  if (const Status s = check(tokens); s != Status::ok) return s;
  for (std::size_t done = 0; done < tokens.size();) {
    const std::size_t n = tokens.size() - done < plan_.chunk ? tokens.size() - done : plan_.chunk;
    const std::uint32_t first = position_;
    forward(tokens.subspan(done, n));
    for (std::uint32_t t = 0; t < n; ++t) sink.take(sink.context, first + t, unembed(t));
    done += n;
  }
  return Status::ok;
}

Status Session::rewind(std::uint32_t position) {
  if (position > position_) return Status::bad_argument;
  position_ = position;
  return Status::ok;
}

}  // namespace heed
