// SPDX-License-Identifier: Apache-2.0
// session.cpp: what comes in becomes embeddings, the blocks move them, and outputs are made of them; position by position, or
// of a whole sequence at once.
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
  Limits limits;
  limits.max_seq = plan.max_seq;
  limits.chunk = plan.chunk;
  if (kGivesRowsTogether) limits.score_rows = plan.output_rows;
  if (kBuiltFeatures.cross_attention && model.config().n_stacks == 2) {
    limits.source_seq = plan.source.max_seq;
    if (plan.source.chunk > limits.chunk) limits.chunk = plan.source.chunk;
  }
  if (make_plan(expected, model.config(), kernels.traits, limits) != Status::ok)
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
  position_ = furthest_ = 0;
  kv_cache_ = kv_cache;
  logits_ = reinterpret_cast<float*>(logits);
  if (kBuiltFeatures.cross_attention && model.config().n_stacks == 2) place(stacks_[0], 0, plan_.source, kernels, scratch);
  place(main(), model.config().n_stacks - 1, plan_, kernels, scratch);
  return Status::ok;
}

void Session::place(Stack& stack, std::uint32_t index, const StackPlan& plan, const Kernels& kernels, std::byte* scratch) {
  const StackConfig& c = model_.config().stacks[kMaxStacks == 1 ? 0 : index];
  const auto at = [&](const Slice& s) { return scratch + static_cast<std::size_t>(s.offset); };
  const auto floats = [&](const Slice& s) { return reinterpret_cast<float*>(at(s)); };
  stack.config = &c;
  stack.place = index;
  stack.chunk = plan.chunk;

  AttentionLayer& a = stack.attention();
  AttentionConfig& ac = a.config;
  ac.d_model = c.d_model;
  ac.n_heads = c.n_heads;
  ac.n_kv_heads = c.n_kv_heads;
  ac.head_dim = c.head_dim;
  ac.max_seq = plan.max_seq;
  ac.rotary_dims = c.rotary_dims;
  ac.rotary_pairing = c.rotary_pairing;
  ac.scale = c.attention_scale;
  // A session may be created anew, so nothing may stay as it was.
  if (kBuiltFeatures.encode) ac.mask = c.mask;
  if (kBuiltFeatures.windows) ac.window = 0;  // each layer's own, in move_to_layer; none in cross-attention
  if (kBuiltFeatures.cross_attention) ac.d_source = 0;
  if (kBuiltFeatures.undivided_values) ac.value_map = c.value_map;
  if (kBuiltFeatures.query_key_norm) ac.query_key_norm = c.query_key_norm;
  if (kBuiltFeatures.score_bias) {
    ac.alibi = c.position == Position::alibi;
    ac.n_distances = c.n_distances;
  }
  a.scratch = attention_scratch(plan.attention, scratch, ac, plan.chunk);
  a.kernels = &kernels;
  a.tap = PatternTap{};
  if (kBuiltFeatures.cross_attention) {
    AttentionLayer& x = stack.cross();
    x.config = ac;
    x.config.d_source = c.d_source;
    x.config.max_seq = plan_.source.max_seq;
    x.config.scale = c.cross_scale;
    x.config.mask = Mask::causal;
    x.config.alibi = false;
    x.config.rotary_dims = x.config.n_distances = 0;
    x.cache = {cross_shape(c, plan_.source.max_seq, kernels.traits.alignment), kv_cache_};
    x.scratch = a.scratch;
    x.kernels = &kernels;
    x.tap = PatternTap{};
    x.index = c.n_layers;
    x.length = 0;
  }

  BlockScratch& b = stack.scratch;
  b.residual = floats(plan.residual);
  b.rotation = reinterpret_cast<std::int16_t*>(at(plan.rotation));
  b.activations = at(plan.activations);
  b.gate = floats(plan.gate);
  b.up = floats(plan.up);
  b.position = floats(plan.position);
  if (kBuiltFeatures.windows)
    b.local_rotation = c.local_rotary ? reinterpret_cast<std::int16_t*>(at(plan.local_rotation)) : b.rotation;
  if (kBuiltFeatures.side_by_side) b.kept = at(plan.kept);
  if (kBuiltFeatures.norm_after) b.change = floats(plan.change);
  if (kBuiltFeatures.convolutions) {
    b.frames = floats(plan.frames);
    b.convolved = floats(plan.convolved);
  }
  if (kBuiltFeatures.pooling) {
    b.pooled = floats(plan.pooled);
    b.heads = floats(plan.heads);
  }
  if (kBuiltFeatures.dense) b.dense = floats(plan.dense);
  b.residual_stride = float_row(c.d_model);
  b.ffn_stride = float_row(c.d_ff);

  first_layer(stack, model_);
  a.index = 0;
  if (kBuiltFeatures.windows) a.config.window = c.sees_all(0) ? 0 : c.window;
  a.cache = {kv_shape(c, plan, kernels.traits.alignment, 0), kv_cache_ + static_cast<std::size_t>(plan.cache.offset)};
}

// To the next layer, or from any to the first.
void Session::move_to_layer(Stack& stack, std::uint32_t layer) {
  AttentionLayer& a = stack.attention();
  const StackConfig& c = *stack.config;
  const std::ptrdiff_t layers = static_cast<std::ptrdiff_t>(layer) - static_cast<std::ptrdiff_t>(a.index);
  if (layers == 0) return;
  advance_layers(stack, layers);
  a.index = layer;
  if (has_cross(c)) {
    AttentionLayer& x = stack.cross();
    x.cache.base += layers * static_cast<std::ptrdiff_t>(x.cache.head_bytes * c.n_kv_heads);
    x.index = c.n_layers + layer;
  }
  if (kBuiltFeatures.windows && c.window) {  // layers that see a window keep other shapes than those that see everything
    const StackPlan& plan = plan_of(stack);
    std::byte* const base = layer == 0 ? kv_cache_ + static_cast<std::size_t>(plan.cache.offset)
                                       : a.cache.base + a.cache.head_bytes * c.n_kv_heads;
    a.config.window = c.sees_all(layer) ? 0 : c.window;
    if (!encodes(c)) a.cache = {kv_shape(c, plan, a.kernels->traits.alignment, layer), base};
  } else if (!encodes(c)) {
    a.cache.base += layers * static_cast<std::ptrdiff_t>(a.cache.head_bytes * c.n_kv_heads);
  }
}

Status Session::check(Span<const Token> tokens) const {
  if (!kv_cache_ || tokens.empty() || !tokens.data()) return Status::bad_argument;
  const StackConfig& c = *main().config;
  if (encodes(c) || (has_cross(c) && main().cross().length == 0)) return Status::bad_argument;
  for (const Token t : tokens)
    if (t < 0 || static_cast<std::uint32_t>(t) >= c.vocab_size) return Status::bad_token;
  if (tokens.size() > plan_.max_seq - position_) return Status::context_full;
  return float_mode_is_default() ? Status::ok : Status::rounding_mode;
}

void Session::set_rotation(const Stack& stack, std::uint32_t first, std::uint32_t n) {
  const std::uint32_t pairs = stack.config->rotary_dims / 2;
  if (pairs) fill_rotation(stack.scratch.rotation, stack.attention().weights.rotary_phases, pairs, first, n);
  if (kBuiltFeatures.windows && stack.config->local_rotary)
    fill_rotation(stack.scratch.local_rotation, model_.phases(Role::local_rotary_phases, stack.index()), pairs, first, n);
}

// At most plan_.chunk tokens through all blocks.
void Session::forward(Span<const Token> tokens) {
  Stack& stack = main();
  const auto n = static_cast<std::uint32_t>(tokens.size());
  stack.attention().parallel = stack.cross().parallel = &parallel_;
  embed(stack, model_, stack.scratch.residual, {tokens, {}, {}}, 0, position_, n);
  set_rotation(stack, position_, n);
  for (std::uint32_t layer = 0; layer < stack.config->n_layers; ++layer) {
    move_to_layer(stack, layer);
    block_forward(stack, stack.scratch.residual, position_, n, AttentionStep::both);
  }
  move_to_layer(stack, 0);
  position_ += n;
  if (furthest_ < position_) furthest_ = position_;
}

Status Session::prefill(Span<const float>& logits, Span<const Token> prompt) {
  if (const Status s = check(prompt); s != Status::ok) return s;
  std::size_t n = 0;
  for (std::size_t done = 0; done < prompt.size(); done += n) {
    n = prompt.size() - done < plan_.chunk ? prompt.size() - done : plan_.chunk;
    forward(prompt.subspan(done, n));
  }
  const Stack& stack = main();
  give_rows(stack, model_, logits_, 0, stack.scratch.residual + (n - 1) * stack.scratch.residual_stride, 1);
  logits = output(0);
  return Status::ok;
}

Status Session::step(Span<const float>& logits, Token token) { return prefill(logits, {&token, 1}); }

namespace {

// The outputs of n positions from `first`, as many together as there are rows for.
template <class Output>
void hand_out(const Stack& stack, const Model& model, const Plan& plan, float* dst, const float* x, std::uint32_t first,
              std::uint32_t n, const RowSink& sink, Output output) {
  for (std::uint32_t done = 0; done < n;) {
    std::uint32_t rows = 1;
    if (kGivesRowsTogether) rows = n - done < plan.output_rows ? n - done : plan.output_rows;
    give_rows(stack, model, dst, plan.output_stride, x + std::size_t{done} * stack.scratch.residual_stride, rows);
    for (std::uint32_t r = 0; r < rows; ++r) sink.take(sink.context, first + done + r, output(r));
    done += rows;
  }
}

}  // namespace

Status Session::evaluate(Span<const Token> tokens, const RowSink& sink) {
  if (!sink.take) return Status::bad_argument;
  if (const Status s = check(tokens); s != Status::ok) return s;
  for (std::size_t done = 0; done < tokens.size();) {
    const std::size_t n = tokens.size() - done < plan_.chunk ? tokens.size() - done : plan_.chunk;
    const std::uint32_t first = position_;
    forward(tokens.subspan(done, n));
    hand_out(main(), model_, plan_, logits_, main().scratch.residual, first, static_cast<std::uint32_t>(n), sink,
             [this](std::uint32_t r) { return output(r); });
    done += n;
  }
  return Status::ok;
}

Status Session::rewind(std::uint32_t position) {
  if (position > position_) return Status::bad_argument;
  if (kBuiltFeatures.windows && kv_cache_) {
    const StackConfig& c = *main().config;
    for (std::uint32_t layer = 0; c.window && layer < 2 && layer < c.n_layers; ++layer)  // one of two has the window
      if (!keeps_before(kv_shape(c, plan_, plan_.arena_align, layer), c.window, position, furthest_)) return Status::bad_argument;
  }
  position_ = position;
  if (position == 0) furthest_ = 0;
  return Status::ok;
}

// ---- Whole sequences -----------------------------------------------------------------------------------------

Status Session::check(const Stack& stack, std::uint32_t& positions, const Sequence& input) const {
  if (const Status s = check_sequence(positions, *stack.config, input, plan_of(stack).max_seq); s != Status::ok) return s;
  return float_mode_is_default() ? Status::ok : Status::rounding_mode;
}

// Layer by layer, so that only one layer's keys and values are in memory; the embeddings [n, residual_stride].
float* Session::run_encoder(Stack& stack, const Sequence& input, std::uint32_t n) {
  const StackConfig& c = *stack.config;
  const StackPlan& plan = plan_of(stack);
  const std::uint32_t stride = stack.scratch.residual_stride;
  auto* const x = reinterpret_cast<float*>(kv_cache_ + static_cast<std::size_t>(plan.sequence.offset));
  stack.attention().parallel = stack.cross().parallel = &parallel_;
  // f(x, first, n) for each chunk.
  const auto in_chunks = [&](auto f) {
    for (std::uint32_t first = 0; first < n; first += plan.chunk)
      f(x + std::size_t{first} * stride, first, n - first < plan.chunk ? n - first : plan.chunk);
  };
  const std::uint32_t classes = kBuiltFeatures.embedding_extras ? c.n_class_vectors : 0;
  in_chunks([&](float* rows, std::uint32_t first, std::uint32_t m) {
    embed(stack, model_, rows, input, first > classes ? first - classes : 0, first, m);
  });
  stack.attention().length = n;
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    move_to_layer(stack, layer);
    const bool two_way = sees_both_ways(c);
    if (two_way)
      in_chunks([&](const float* rows, std::uint32_t first, std::uint32_t m) {
        set_rotation(stack, first, m);
        block_store(stack, rows, first, m);
      });
    in_chunks([&](float* rows, std::uint32_t first, std::uint32_t m) {
      set_rotation(stack, first, m);
      block_forward(stack, rows, first, m, two_way ? AttentionStep::attend : AttentionStep::both);
    });
  }
  move_to_layer(stack, 0);
  return x;
}

Status Session::encode(const Sequence& input, const RowSink& sink) {
  if (!kBuiltFeatures.encode) return Status::feature_not_built;
  if (!kv_cache_ || !sink.take) return Status::bad_argument;
  Stack& stack = main();
  const StackConfig& c = *stack.config;
  if (!encodes(c) || (has_cross(c) && stack.cross().length == 0)) return Status::bad_argument;
  std::uint32_t n = 0;
  if (const Status s = check(stack, n, input); s != Status::ok) return s;
  const float* const x = run_encoder(stack, input, n);
  if (is_pooled(c)) {
    give_pooled(stack, model_, logits_, x, n);
    sink.take(sink.context, 0, output(0));
  } else {
    hand_out(stack, model_, plan_, logits_, x, 0, n, sink, [this](std::uint32_t r) { return output(r); });
  }
  return Status::ok;
}

Status Session::encode(Span<const float>& row, const Sequence& input) {
  if (kv_cache_ && !is_pooled(*main().config)) return Status::bad_argument;
  const RowSink sink{[](void* to, std::uint32_t, Span<const float> output) { *static_cast<Span<const float>*>(to) = output; },
                     &row};
  return encode(input, sink);
}

Status Session::set_source(const Sequence& source) {
  if (!kBuiltFeatures.cross_attention) return Status::feature_not_built;
  if (!kv_cache_ || model_.config().n_stacks != 2) return Status::bad_argument;
  Stack &from = stacks_[0], &to = main();
  std::uint32_t n = 0;
  if (const Status s = check(from, n, source); s != Status::ok) return s;
  float* const x = run_encoder(from, source, n);
  give_source(from, model_, x, n);

  to.cross().parallel = &parallel_;
  const Kernels& k = *kernels();
  const std::uint32_t chunk = to.chunk, stride = from.scratch.residual_stride;
  for (std::uint32_t first = 0; first < n; first += chunk) {
    const std::uint32_t m = n - first < chunk ? n - first : chunk;
    const Activations in = make_activations(to.scratch.activations, k.traits, to.config->d_source,
                                            to.config->group(Site::source_in), m);
    for (std::uint32_t t = 0; t < m; ++t) k.quantize_s8r_f32(in, t, x + std::size_t{first + t} * stride);
    for (std::uint32_t layer = 0; layer < to.config->n_layers; ++layer) {
      move_to_layer(to, layer);
      attention_forward(to.cross(), AttentionStep::store, nullptr, 0, false, in, nullptr, first, m, nullptr);
    }
    move_to_layer(to, 0);
  }
  to.cross().length = n;
  position_ = furthest_ = 0;
  return Status::ok;
}

}  // namespace heed
