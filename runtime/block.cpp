// SPDX-License-Identifier: Apache-2.0
// block.cpp: the forward pass of one block; with attention.cpp beside it, the whole transformer.
#include "runtime/one_rounding.hpp"

#include "runtime/block.hpp"

#include "runtime/numerics.hpp"

namespace heed {

namespace {

template <class T>
void move(const T*& part, std::ptrdiff_t bytes) {
  part = reinterpret_cast<const T*>(reinterpret_cast<const std::uint8_t*>(part) + bytes);
}

template <class T>
void advance(const T*& part, std::ptrdiff_t bytes) {
  if (part) move(part, bytes);
}

constexpr Role kMatrices[] = {Role::w_query, Role::w_key,  Role::w_value_down, Role::w_value_up,
                              Role::w_gate,  Role::w_up,   Role::w_down};

// Once for each matrix of a layer, with its role.
template <class Visit>
void for_each_matrix(Stack& stack, Visit visit) {
  AttentionWeights& a = stack.attention().weights;
  FeedForwardWeights& f = stack.block.feed_forward;
  Tensor* const tensors[] = {&a.w_query, &a.w_key, &a.w_value_down, &a.w_value_up, &f.w_gate, &f.w_up, &f.w_down};
  for (int i = 0; i < 7; ++i) visit(kMatrices[i], *tensors[i]);
  if (!has_cross(*stack.config)) return;
  AttentionWeights& c = stack.cross().weights;
  Tensor* const cross[] = {&c.w_query, &c.w_key, &c.w_value_down, &c.w_value_up};
  for (int i = 0; i < 4; ++i) visit(of_cross(kMatrices[i]), *cross[i]);
}

bool has_normed_heads(const StackConfig& c) {
  return kBuiltFeatures.query_key_norm && c.query_key_norm != HeadNorm::none;
}

// Once for each norm of a layer, with the role of its gain; that of its bias is the one behind it.
template <class Visit>
void for_each_norm(Stack& stack, Visit visit) {
  const StackConfig& c = *stack.config;
  BlockWeights& b = stack.block;
  visit(Role::attention_gain, b.attention.before);
  visit(Role::ffn_gain, b.ffn.before);
  if (normed_after(c)) {
    visit(Role::attention_after_gain, b.attention.after);
    visit(Role::ffn_after_gain, b.ffn.after);
  }
  if (has_normed_heads(c)) {
    visit(Role::query_gain, stack.attention().weights.query_norm);
    visit(Role::key_gain, stack.attention().weights.key_norm);
  }
  if (!has_cross(c)) return;
  visit(Role::cross_gain, b.cross.before);
  if (normed_after(c)) visit(Role::cross_after_gain, b.cross.after);
  if (has_normed_heads(c)) {
    visit(Role::cross_query_gain, stack.cross().weights.query_norm);
    visit(Role::cross_key_gain, stack.cross().weights.key_norm);
  }
}

Role behind(Role gain) { return static_cast<Role>(static_cast<std::uint32_t>(gain) + 1); }

void first_offsets(AttentionWeights& a, const Stack& stack, const Model& model, Role role) {
  a.key_offsets = nullptr;
  a.key_offset_exponents = nullptr;
  if (!kBuiltFeatures.key_offset || !model.has(role, stack.index())) return;
  a.key_offsets = model.key_offset(0, 0, stack.index(), role).values;
  a.key_offset_exponents = reinterpret_cast<const std::int8_t*>(a.key_offsets + stack.config->d_key());
}

}  // namespace

void first_layer(Stack& stack, const Model& model) {
  const std::uint32_t s = stack.index();
  for_each_matrix(stack, [&](Role role, Tensor& t) { t = model.tensor(role, 0, s); });
  for_each_norm(stack, [&](Role gain, NormWeights& w) { w = norm_weights(model, gain, behind(gain), s); });
  // The norms of heads may be of another kind than the stack's.
  if (kBuiltFeatures.query_key_norm)
    for (AttentionLayer& a : stack.attentions)
      a.weights.query_norm.centred = a.weights.key_norm.centred = stack.config->query_key_norm == HeadNorm::layer;
  // Of one norm for two sublayers side by side.
  if (kBuiltFeatures.side_by_side && stack.config->sublayers == Sublayers::side_by_side)
    stack.block.ffn.before = stack.block.attention.before;
  AttentionWeights& attention = stack.attention().weights;
  attention.rotary_phases = model.phases(Role::rotary_phases, s);
  if (kBuiltFeatures.score_bias) attention.score_bias = model.score_bias(s);
  first_offsets(attention, stack, model, Role::key_offset);
  if (kBuiltFeatures.cross_attention) first_offsets(stack.cross().weights, stack, model, Role::cross_key_offset);
  const StackConfig& c = *stack.config;
  stack.layer_bytes = c.n_layers > 1 ? static_cast<std::ptrdiff_t>(model.layer_bytes(s)) : 0;
  stack.final_norm = norm_weights(model, Role::final_gain, Role::final_norm_bias, s);
  stack.unembedding = model.tensor(c.tied_unembedding ? Role::token_embedding : Role::unembedding, 0, s);
}

void advance_layers(Stack& stack, std::ptrdiff_t layers) {
  const std::ptrdiff_t bytes = layers * stack.layer_bytes;
  for_each_matrix(stack, [&](Role, Tensor& t) {
    if (!t.weights) return;
    move(t.weights, bytes);
    move(t.scales, bytes);
    if (kBuiltFeatures.biases) advance(t.bias, bytes);
    if (kBuiltFeatures.groups) advance(t.multipliers, bytes);
  });
  for_each_norm(stack, [&](Role, NormWeights& w) {
    advance(w.gain, bytes);
    if (kBuiltFeatures.layer_norm) advance(w.bias, bytes);
  });
  if (kBuiltFeatures.key_offset)
    for (AttentionLayer& a : stack.attentions) {
      advance(a.weights.key_offsets, bytes);
      advance(a.weights.key_offset_exponents, bytes);
    }
}

NormWeights norm_weights(const Model& model, Role gain, Role bias, std::uint32_t stack) {
  const StackConfig& c = model.config().stacks[kMaxStacks == 1 ? 0 : stack];
  return {model.floats(gain, 0, stack), kBuiltFeatures.layer_norm ? model.floats(bias, 0, stack) : nullptr, c.norm_epsilon,
          c.norm == Norm::layer};
}

namespace {

// A block while it moves n embeddings.
struct Pass {
  const Stack& stack;
  const StackConfig& c;
  const Kernels& k;
  const Parallel& parallel;
  float* x;  // [n, stride]
  std::uint32_t stride, first, n;

  Pass(const Stack& s, float* embeddings, std::uint32_t from, std::uint32_t count)
      : stack(s), c(*s.config), k(*s.attention().kernels), parallel(*s.attention().parallel), x(embeddings),
        stride(s.scratch.residual_stride), first(from), n(count) {}

  // f(t) for every token, on all threads.
  template <class F>
  void for_each_token(std::uint32_t width, F f) const {
    for_each_range(parallel, n, std::uint64_t{n} * width * kElementWork, [&](std::uint32_t t, std::uint32_t end) {
      for (; t < end; ++t) f(t);
    });
  }

  // What a sublayer reads: the norm of x, or x itself. A folded gain is part of the weights behind the norm.
  Activations enter(const SublayerNorms& norms, Site site, void* memory) const {
    const Activations a = make_activations(memory, k.traits, c.d_model, c.group(site), n);
    for_each_token(c.d_model, [&](std::uint32_t t) {
      const float* const row = x + std::size_t{t} * stride;
      if (normed_before(c))
        k.norm_s8r_f32(a, t, row, norms.before);
      else
        k.quantize_s8r_f32(a, t, row);
    });
    return a;
  }

  // Where a sublayer's change goes: with norms on both sides not to x yet.
  bool adds_to_x() const { return !kBuiltFeatures.norm_after || c.norm_placement != NormPlacement::both; }
  float* change() const { return adds_to_x() ? x : stack.scratch.change; }

  // The norm behind it.
  void leave(const SublayerNorms& norms) const {
    if (!normed_after(c)) return;
    for_each_token(c.d_model, [&](std::uint32_t t) {
      float *const row = x + std::size_t{t} * stride, *const y = change() + std::size_t{t} * stride;
      k.norm_f32_f32(y, y, c.d_model, norms.after);
      if (!adds_to_x())
        for (std::uint32_t i = 0; i < c.d_model; ++i) row[i] += y[i];
    });
  }

  // x += attention(norm(x)), or x = norm(x + attention(x)), or x += norm(attention(norm(x)))
  void attend(const AttentionLayer& layer, const SublayerNorms& norms, const Activations& in, AttentionStep step) const {
    const bool local = kBuiltFeatures.windows && layer.config.window;
    attention_forward(layer, step, change(), stride, adds_to_x(), in,
                      local ? stack.scratch.local_rotation : stack.scratch.rotation, first, n, stack.scratch.activations);
    leave(norms);
  }

  // The same of w_down * (F(w_gate * x) * (w_up * x)), or without a gate of w_down * F(w_up * x)
  void feed_forward(const Activations& in) const {
    const BlockScratch& scratch = stack.scratch;
    const BlockWeights& w = stack.block;
    const FeedForwardLayer layer{&w.feed_forward, c.gated != 0, c.activation, scratch.gate, scratch.up, scratch.ffn_stride,
                                 &k, &parallel};
    heed::feed_forward(layer, change(), stride, adds_to_x(), in, n, scratch.activations);
    leave(w.ffn);
  }
};

}  // namespace

void block_forward(const Stack& stack, float* x, std::uint32_t first, std::uint32_t n, AttentionStep step) {
  const Pass pass(stack, x, first, n);
  const BlockWeights& w = stack.block;
  void *const memory = stack.scratch.activations, *const kept = stack.scratch.kept;
  if (is_side_by_side(*stack.config)) {  // both read what x was
    const bool one_norm = stack.config->sublayers == Sublayers::side_by_side;
    const Activations ffn_in = pass.enter(w.ffn, Site::ffn_in, kept);
    pass.attend(stack.attention(), w.attention, one_norm ? ffn_in : pass.enter(w.attention, Site::attention_in, memory), step);
    return pass.feed_forward(ffn_in);
  }
  pass.attend(stack.attention(), w.attention, pass.enter(w.attention, Site::attention_in, memory), step);
  if (has_cross(*stack.config))
    pass.attend(stack.cross(), w.cross, pass.enter(w.cross, Site::cross_in, memory), AttentionStep::attend);
  pass.feed_forward(pass.enter(w.ffn, Site::ffn_in, memory));
}

void block_store(const Stack& stack, const float* x, std::uint32_t first, std::uint32_t n) {
  const Pass pass(stack, const_cast<float*>(x), first, n);
  const Activations in = pass.enter(stack.block.attention, Site::attention_in, stack.scratch.activations);
  const bool local = kBuiltFeatures.windows && stack.attention().config.window;
  attention_forward(stack.attention(), AttentionStep::store, nullptr, 0, false, in,
                    local ? stack.scratch.local_rotation : stack.scratch.rotation, first, n, nullptr);
}

}  // namespace heed
