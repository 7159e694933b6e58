// SPDX-License-Identifier: Apache-2.0
// session.cpp: tokens become embeddings, the blocks move them, the last one is unembedded.
#include "runtime/session.hpp"

#include "runtime/numerics.hpp"

namespace heed {

Status create(Session& session, const Model& model, const Plan& plan, const Kernels& kernels,
              Span<std::byte> arena) {
  Plan expected;
  const ModelConfig& c = model.config();
  if (make_plan(expected, c, kernels.traits, {plan.max_seq, plan.chunk}) != Status::ok) return Status::bad_argument;
  if (plan.arena_bytes != expected.arena_bytes || !arena.data()) return Status::bad_argument;
  if (reinterpret_cast<std::uintptr_t>(arena.data()) % expected.arena_align) return Status::misaligned;
  if (arena.size() < expected.arena_bytes) return Status::arena_too_small;
  if (!((kernels.traits.layouts >> static_cast<unsigned>(model.layout())) & 1u)) return Status::layout_unsupported;
  if (!float_mode_is_default()) return Status::rounding_mode;

  session = Session{};
  session.model_ = model;
  session.plan_ = expected;
  session.arena_ = arena.data();
  const auto at = [&](const Slice& s) { return arena.data() + static_cast<std::size_t>(s.offset); };

  AttentionLayer& a = session.attention_;
  a.config = {c.d_model, c.n_heads, c.n_kv_heads, c.head_dim, expected.max_seq, c.rotary_dims, c.rotary_pairing,
              c.attention_scale};
  a.cache.shape = {c.n_kv_heads, c.head_dim, expected.max_seq, kernels.traits.alignment};
  a.scratch = attention_scratch(expected.attention, arena.data(), c.n_heads, c.n_kv_heads, c.head_dim);
  a.kernels = &kernels;

  BlockScratch& b = session.scratch_;
  b.residual = reinterpret_cast<float*>(at(expected.residual));
  b.rotation = reinterpret_cast<std::int16_t*>(at(expected.rotation));
  b.activations = at(expected.activations);
  b.gate = reinterpret_cast<float*>(at(expected.gate));
  b.up = reinterpret_cast<float*>(at(expected.up));
  b.residual_stride = float_row(c.d_model);
  b.ffn_stride = float_row(c.d_ff);
  return Status::ok;
}

Status Session::check(Span<const Token> tokens) const {
  if (!arena_ || tokens.empty()) return Status::bad_argument;
  for (const Token t : tokens)
    if (t < 0 || static_cast<std::uint32_t>(t) >= model_.config().vocab_size) return Status::bad_token;
  return tokens.size() > plan_.max_seq - position_ ? Status::context_full : Status::ok;
}

// At most plan_.chunk tokens through all blocks.
void Session::forward(Span<const Token> tokens) {
  const ModelConfig& c = model_.config();
  const auto n = static_cast<std::uint32_t>(tokens.size());
  const Tensor embedding = model_.tensor(Role::token_embedding, 0);
  for (std::uint32_t t = 0; t < n; ++t) {
    float* const x = scratch_.residual + std::size_t{t} * scratch_.residual_stride;
    attention_.kernels->embed_f32_s8c(x, embedding, static_cast<std::uint32_t>(tokens[t]));
    // Products add to padded rows too; what the arena held there could be a denormal or a signalling NaN.
    for (std::uint32_t c_pad = c.d_model; c_pad < scratch_.residual_stride; ++c_pad) x[c_pad] = 0.0f;
  }
  if (kBuiltFeatures.learned_positions && c.position == Position::learned) {
    const Tensor positions = model_.tensor(Role::position_embedding, 0);
    auto* row = reinterpret_cast<float*>(arena_ + static_cast<std::size_t>(plan_.position.offset));
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
    attention_.index = layer;
    attention_.weights = attention_weights(model_, layer);
    attention_.cache.base = arena_ + static_cast<std::size_t>(plan_.kv_cache.offset + attention_.cache.shape.layer_bytes() * layer);
    block_forward(model_, attention_, scratch_, position_, n);
  }
  position_ += n;
}

Span<const float> Session::unembed(std::uint32_t token_of_chunk) {
  const ModelConfig& c = model_.config();
  const Kernels& k = *attention_.kernels;
  const Activations last = make_activations(scratch_.activations, k.traits, c.d_model, c.group(Site::unembed_in), 1);
  const NormWeights norm = norm_weights(model_, Role::final_gain, Role::final_norm_bias, 0);
  k.norm_s8r_f32(last, 0, scratch_.residual + std::size_t{token_of_chunk} * scratch_.residual_stride, norm);
  const Tensor unembedding = model_.tensor(c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0);
  auto* logits = reinterpret_cast<float*>(arena_ + static_cast<std::size_t>(plan_.logits.offset));
  matmul_parallel(k, parallel_, logits, 0, false, last, unembedding, 1);
  return {logits, c.vocab_size};
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
