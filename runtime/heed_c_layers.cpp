// SPDX-License-Identifier: Apache-2.0
// heed_c_layers.cpp: the layers of heed.h in terms of layers.hpp and attention.hpp: views, null checks, and nothing else.
#include "runtime/one_rounding.hpp"

#include "runtime/heed_c.hpp"
#include "runtime/layers.hpp"

namespace heed {
namespace {

enum class LayerKind : std::uint32_t { none = 0, linear, feed_forward, attention };

struct LayerPlan {
  LayerKind kind;
  union {
    LinearMemory linear;
    FeedForwardMemory feed_forward;
    AttentionMemory attention;
  };
};

// A layer, and the widths of its rows, which it keeps to itself; `d_in` is 0 before it is created.
template <class Layer>
struct Sized {
  Layer layer;
  std::uint32_t d_in, d_out, d_source;
};

static_assert(fits<LayerPlan, heed_layer_plan>() && fits<Sized<Linear>, heed_linear>() &&
              fits<Sized<FeedForward>, heed_feed_forward>() && fits<Sized<Attention>, heed_attention>());
static_assert(HEED_LAYOUT_ROW == static_cast<std::uint32_t>(Layout::row) &&
              HEED_LAYOUT_PACKED == static_cast<std::uint32_t>(Layout::packed) &&
              HEED_LAYOUT_PAIR == static_cast<std::uint32_t>(Layout::pair) &&
              HEED_LAYOUT_BLOCK64 == static_cast<std::uint32_t>(Layout::block64));
static_assert(HEED_ACTIVATION_RELU == static_cast<std::uint32_t>(Activation::relu) &&
              HEED_ACTIVATION_GELU_TANH == static_cast<std::uint32_t>(Activation::gelu_tanh) &&
              HEED_ACTIVATION_GELU_ERF == static_cast<std::uint32_t>(Activation::gelu_erf) &&
              HEED_ACTIVATION_SILU == static_cast<std::uint32_t>(Activation::silu) &&
              HEED_ACTIVATION_GELU_QUICK == static_cast<std::uint32_t>(Activation::gelu_quick) &&
              HEED_ACTIVATION_TANH == static_cast<std::uint32_t>(Activation::tanh) &&
              HEED_ACTIVATION_NONE == static_cast<std::uint32_t>(Activation::none));

// clang-format off
LayerPlan& of(heed_layer_plan* p) { return *reinterpret_cast<LayerPlan*>(p); }
const LayerPlan& of(const heed_layer_plan* p) { return *reinterpret_cast<const LayerPlan*>(p); }
Sized<Linear>& of(heed_linear* l) { return *reinterpret_cast<Sized<Linear>*>(l); }
Sized<FeedForward>& of(heed_feed_forward* l) { return *reinterpret_cast<Sized<FeedForward>*>(l); }
Sized<Attention>& of(heed_attention* a) { return *reinterpret_cast<Sized<Attention>*>(a); }
const Sized<Attention>& of(const heed_attention* a) { return *reinterpret_cast<const Sized<Attention>*>(a); }
template <class C> bool created(C* layer) { return layer && of(layer).d_in; }
// clang-format on

bool is_layout(std::uint32_t layout) {
  return layout < static_cast<std::uint32_t>(kLayoutCount) &&
         known_layout(static_cast<Layout>(layout)) == static_cast<Layout>(layout);
}

// Numbers that are none of an enumeration's must not become one by being cut short.
Status activation_of(Activation& activation, std::uint32_t number) {
  if (number > HEED_ACTIVATION_NONE) return Status::bad_config;
  activation = static_cast<Activation>(number);
  return Status::ok;
}

// Null is no matrix.
Status tensor_of(Tensor& tensor, const heed_tensor* in) {
  tensor = {};
  if (!in) return Status::ok;
  if (!all_zero(in->reserved, sizeof in->reserved) || in->layout >= static_cast<std::uint32_t>(kLayoutCount) ||
      in->group > 0xFFFF)
    return Status::bad_argument;
  tensor.weights = in->weights;
  tensor.scales = in->scales;
  tensor.bias = in->bias;
  tensor.multipliers = in->multipliers;
  tensor.rows = in->rows;
  tensor.cols = in->cols;
  tensor.group = static_cast<std::uint16_t>(in->group);
  tensor.layout = static_cast<Layout>(in->layout);
  return Status::ok;
}

// n rows of d floats, unless they are more bytes than there can be.
template <class Float>
Status rows_of(Span<Float>& rows, Float* data, std::size_t n, std::uint32_t d) {
  if (!data || d == 0 || n > SIZE_MAX / sizeof(float) / d) return Status::bad_argument;
  rows = {data, n * d};
  return Status::ok;
}

template <class Layer>
Status forward(Sized<Layer>& sized, float* out, const float* in, std::size_t n) {
  Span<float> to;
  Span<const float> from;
  if (const Status s = rows_of(to, out, n, sized.d_out); s != Status::ok) return s;
  if (const Status s = rows_of(from, in, n, sized.d_in); s != Status::ok) return s;
  return sized.layer.forward(to, from);
}

Status config_of(LinearConfig& c, const heed_linear_config& in) {
  if (!all_zero(in.reserved, sizeof in.reserved)) return Status::bad_argument;
  c.d_in = in.d_in;
  c.d_out = in.d_out;
  c.group = in.group;
  return activation_of(c.activation, in.activation);
}

Status config_of(FeedForwardConfig& c, const heed_feed_forward_config& in) {
  if (!all_zero(in.reserved, sizeof in.reserved) || in.gated > 1) return Status::bad_argument;
  c.d_model = in.d_model;
  c.d_ff = in.d_ff;
  c.gated = in.gated != 0;
  c.group_in = in.group_in;
  c.group_down = in.group_down;
  return activation_of(c.activation, in.activation);
}

Status config_of(AttentionConfig& c, const heed_attention_config& in) {
  if (!all_zero(in.reserved, sizeof in.reserved)) return Status::bad_argument;
  if (in.rotary_halves > 1 || in.two_way > 1 || in.undivided_values > 1 || in.alibi > 1 || in.query_key_norm > 2)
    return Status::bad_config;
  c.d_model = in.d_model;
  c.n_heads = in.n_heads;
  c.n_kv_heads = in.n_kv_heads;
  c.head_dim = in.head_dim;
  c.max_seq = in.max_seq;
  c.rotary_dims = in.rotary_dims;
  c.rotary_pairing = in.rotary_halves ? RotaryPairing::halves : RotaryPairing::adjacent;
  c.scale = in.scale;
  c.mask = in.two_way ? Mask::two_way : Mask::causal;
  c.window = in.window;
  c.d_source = in.d_source;
  c.value_map = in.undivided_values ? ValueMap::undivided : ValueMap::factors;
  c.query_key_norm = static_cast<HeadNorm>(in.query_key_norm);
  if (bits_of(in.norm_epsilon) != 0) c.norm_epsilon = in.norm_epsilon;
  c.alibi = in.alibi != 0;
  c.n_distances = in.n_distances;
  return Status::ok;
}

Status weights_of(AttentionWeights& w, const heed_attention_weights& in) {
  if (!all_zero(in.reserved, sizeof in.reserved)) return Status::bad_argument;
  const struct {
    Tensor* tensor;
    const heed_tensor* in;
  } matrices[] = {{&w.w_query, &in.w_query}, {&w.w_key, &in.w_key}, {&w.w_value_down, &in.w_value_down},
                  {&w.w_value_up, &in.w_value_up}};
  for (const auto& m : matrices)
    if (const Status s = tensor_of(*m.tensor, m.in); s != Status::ok) return s;
  w.rotary_phases = in.rotary_phases;
  w.key_offsets = in.key_offsets;
  w.key_offset_exponents = in.key_offset_exponents;
  w.query_norm.gain = in.query_gain;
  w.query_norm.bias = in.query_bias;
  w.key_norm.gain = in.key_gain;
  w.key_norm.bias = in.key_bias;
  w.score_bias = in.score_bias;
  return Status::ok;
}

}  // namespace
}  // namespace heed

using namespace heed;

extern "C" {

// ---- Matrices and plans ----------------------------------------------------------------------------------------

std::uint32_t heed_kernels_layout(const heed_kernels* kernels) {
  return kernels ? static_cast<std::uint32_t>(of(kernels).traits.preferred) : 0;
}

std::uint32_t heed_padded_rows(std::uint32_t layout, std::uint32_t rows) {
  return is_layout(layout) ? padded_rows(static_cast<Layout>(layout), rows) : 0;
}

std::uint32_t heed_padded_cols(std::uint32_t layout, std::uint32_t cols) {
  return is_layout(layout) ? padded_cols(static_cast<Layout>(layout), cols) : 0;
}

heed_status heed_set_weight(std::int8_t* weights, std::uint32_t layout, std::uint32_t rows, std::uint32_t cols,
                            std::uint32_t r, std::uint32_t c, std::int32_t weight) {
  if (!weights || !is_layout(layout) || r >= rows || c >= cols || weight < -127 || weight > 127)
    return HEED_BAD_ARGUMENT;
  set_weight(weights, static_cast<Layout>(layout), rows, cols, r, c, weight);
  return HEED_OK;
}

std::uint64_t heed_layer_plan_arena_bytes(const heed_layer_plan* plan) {
  if (!plan) return 0;
  switch (of(plan).kind) {
    case LayerKind::linear: return of(plan).linear.arena_bytes;
    case LayerKind::feed_forward: return of(plan).feed_forward.arena_bytes;
    case LayerKind::attention: return of(plan).attention.arena_bytes;
    case LayerKind::none: break;
  }
  return 0;
}

std::uint32_t heed_layer_plan_arena_align(const heed_layer_plan* plan) {
  if (!plan) return 0;
  switch (of(plan).kind) {
    case LayerKind::linear: return of(plan).linear.arena_align;
    case LayerKind::feed_forward: return of(plan).feed_forward.arena_align;
    case LayerKind::attention: return of(plan).attention.arena_align;
    case LayerKind::none: break;
  }
  return 0;
}

std::uint32_t heed_layer_plan_chunk(const heed_layer_plan* plan) {
  if (!plan) return 0;
  switch (of(plan).kind) {
    case LayerKind::linear: return of(plan).linear.chunk;
    case LayerKind::feed_forward: return of(plan).feed_forward.chunk;
    case LayerKind::attention: return of(plan).attention.chunk;
    case LayerKind::none: break;
  }
  return 0;
}

// ---- A matrix alone --------------------------------------------------------------------------------------------

heed_status heed_linear_plan(heed_layer_plan* plan, const heed_linear_config* config, const heed_kernels* kernels,
                             std::uint32_t chunk) {
  if (!plan) return HEED_BAD_ARGUMENT;
  if (!config || !kernels) return finish(plan, Status::bad_argument);
  LinearConfig c;
  Status status = config_of(c, *config);
  of(plan).kind = LayerKind::linear;
  if (status == Status::ok) status = make_linear_plan(of(plan).linear, c, of(kernels).traits, chunk);
  return finish(plan, status);
}

heed_status heed_linear_create(heed_linear* linear, const heed_linear_config* config, const heed_tensor* weights,
                               const heed_layer_plan* plan, const heed_kernels* kernels, void* arena,
                               std::size_t arena_bytes) {
  if (!linear) return HEED_BAD_ARGUMENT;
  if (!config || !weights || !plan || of(plan).kind != LayerKind::linear || !kernels)
    return finish(linear, Status::bad_argument);
  LinearConfig c;
  Tensor w;
  Status status = config_of(c, *config);
  if (status == Status::ok) status = tensor_of(w, weights);
  Sized<Linear>& sized = of(linear);
  if (status == Status::ok)
    status = create(sized.layer, c, w, of(plan).linear, of(kernels), memory(arena, arena_bytes));
  sized.d_in = c.d_in;
  sized.d_out = c.d_out;
  return finish(linear, status);
}

heed_status heed_linear_forward(heed_linear* linear, float* out, const float* in, std::size_t n) {
  return created(linear) ? for_c(forward(of(linear), out, in, n)) : HEED_BAD_ARGUMENT;
}

heed_status heed_linear_set_parallel(heed_linear* linear, const heed_parallel* parallel) {
  return created(linear) ? lend(of(linear).layer, parallel) : HEED_BAD_ARGUMENT;
}

// ---- A feed-forward layer --------------------------------------------------------------------------------------

heed_status heed_feed_forward_plan(heed_layer_plan* plan, const heed_feed_forward_config* config,
                                   const heed_kernels* kernels, std::uint32_t chunk) {
  if (!plan) return HEED_BAD_ARGUMENT;
  if (!config || !kernels) return finish(plan, Status::bad_argument);
  FeedForwardConfig c;
  Status status = config_of(c, *config);
  of(plan).kind = LayerKind::feed_forward;
  if (status == Status::ok) status = make_feed_forward_plan(of(plan).feed_forward, c, of(kernels).traits, chunk);
  return finish(plan, status);
}

heed_status heed_feed_forward_create(heed_feed_forward* layer, const heed_feed_forward_config* config,
                                     const heed_tensor* w_gate, const heed_tensor* w_up, const heed_tensor* w_down,
                                     const heed_layer_plan* plan, const heed_kernels* kernels, void* arena,
                                     std::size_t arena_bytes) {
  if (!layer) return HEED_BAD_ARGUMENT;
  if (!config || !w_up || !w_down || !plan || of(plan).kind != LayerKind::feed_forward || !kernels)
    return finish(layer, Status::bad_argument);
  FeedForwardConfig c;
  FeedForwardWeights w;
  Status status = config_of(c, *config);
  if (status == Status::ok) status = tensor_of(w.w_gate, w_gate);
  if (status == Status::ok) status = tensor_of(w.w_up, w_up);
  if (status == Status::ok) status = tensor_of(w.w_down, w_down);
  Sized<FeedForward>& sized = of(layer);
  if (status == Status::ok)
    status = create(sized.layer, c, w, of(plan).feed_forward, of(kernels), memory(arena, arena_bytes));
  sized.d_in = sized.d_out = c.d_model;
  return finish(layer, status);
}

heed_status heed_feed_forward_forward(heed_feed_forward* layer, float* change, const float* x, std::size_t n) {
  return created(layer) ? for_c(forward(of(layer), change, x, n)) : HEED_BAD_ARGUMENT;
}

heed_status heed_feed_forward_set_parallel(heed_feed_forward* layer, const heed_parallel* parallel) {
  return created(layer) ? lend(of(layer).layer, parallel) : HEED_BAD_ARGUMENT;
}

// ---- Attention -------------------------------------------------------------------------------------------------

heed_status heed_attention_plan(heed_layer_plan* plan, const heed_attention_config* config,
                                const heed_kernels* kernels, std::uint32_t chunk) {
  if (!plan) return HEED_BAD_ARGUMENT;
  if (!config || !kernels) return finish(plan, Status::bad_argument);
  AttentionConfig c;
  Status status = config_of(c, *config);
  of(plan).kind = LayerKind::attention;
  if (status == Status::ok) status = make_attention_plan(of(plan).attention, c, of(kernels).traits, chunk);
  return finish(plan, status);
}

heed_status heed_attention_create(heed_attention* attention, const heed_attention_config* config,
                                  const heed_attention_weights* weights, const heed_layer_plan* plan,
                                  const heed_kernels* kernels, void* arena, std::size_t arena_bytes) {
  if (!attention) return HEED_BAD_ARGUMENT;
  if (!config || !weights || !plan || of(plan).kind != LayerKind::attention || !kernels)
    return finish(attention, Status::bad_argument);
  AttentionConfig c;
  AttentionWeights w;
  Status status = config_of(c, *config);
  if (status == Status::ok) status = weights_of(w, *weights);
  Sized<Attention>& sized = of(attention);
  if (status == Status::ok)
    status = create(sized.layer, c, w, of(plan).attention, of(kernels), memory(arena, arena_bytes));
  sized.d_in = sized.d_out = c.d_model;
  sized.d_source = c.d_source;
  return finish(attention, status);
}

heed_status heed_attention_forward(heed_attention* attention, float* change, const float* x, std::size_t n) {
  return created(attention) ? for_c(forward(of(attention), change, x, n)) : HEED_BAD_ARGUMENT;
}

heed_status heed_attention_set_source(heed_attention* attention, const float* vectors, std::size_t n) {
  if (!created(attention)) return HEED_BAD_ARGUMENT;
  Span<const float> source;
  const Status status = rows_of(source, vectors, n, of(attention).d_source);
  return for_c(status == Status::ok ? of(attention).layer.set_source(source) : status);
}

std::uint32_t heed_attention_position(const heed_attention* attention) {
  return created(attention) ? of(attention).layer.position() : 0;
}

heed_status heed_attention_rewind(heed_attention* attention, std::uint32_t position) {
  return created(attention) ? for_c(of(attention).layer.rewind(position)) : HEED_BAD_ARGUMENT;
}

heed_status heed_attention_set_parallel(heed_attention* attention, const heed_parallel* parallel) {
  return created(attention) ? lend(of(attention).layer, parallel) : HEED_BAD_ARGUMENT;
}

// ---- Between layers --------------------------------------------------------------------------------------------

heed_status heed_norm(float* out, const float* in, std::size_t n, std::uint32_t d, std::uint32_t layer,
                      const float* gain, const float* bias, float epsilon, const heed_kernels* kernels) {
  Span<float> to;
  Span<const float> from;
  if (!kernels || layer > 1) return HEED_BAD_ARGUMENT;
  if (const Status s = rows_of(to, out, n, d); s != Status::ok) return for_c(s);
  if (const Status s = rows_of(from, in, n, d); s != Status::ok) return for_c(s);
  return for_c(norm(to, from, d, {gain, bias, epsilon, layer == 1}, of(kernels)));
}

heed_status heed_activate(float* x, std::size_t n, std::uint32_t d, std::uint32_t activation) {
  Span<float> rows;
  Activation a;
  if (activation_of(a, activation) != Status::ok) return HEED_BAD_ARGUMENT;
  const Status status = rows_of(rows, x, n, d);
  return for_c(status == Status::ok ? activate(rows, d, a) : status);
}

heed_status heed_mean(float* out, const float* rows, std::size_t n, std::uint32_t d) {
  Span<const float> from;
  if (!out) return HEED_BAD_ARGUMENT;
  const Status status = rows_of(from, rows, n, d);
  return for_c(status == Status::ok ? mean({out, d}, from) : status);
}

heed_status heed_add(float* x, const float* change, std::size_t n) {
  Span<float> to;
  Span<const float> from;
  if (const Status s = rows_of(to, x, n, 1); s != Status::ok) return for_c(s);
  if (const Status s = rows_of(from, change, n, 1); s != Status::ok) return for_c(s);
  return for_c(add(to, from));
}

}  // extern "C"
