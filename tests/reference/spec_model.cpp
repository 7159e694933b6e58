// SPDX-License-Identifier: Apache-2.0
// spec_model.cpp: SPEC.md 2.0, and what 2.7 says of the keys that a query sees.
#include "tests/reference/spec_model.hpp"

#include <algorithm>
#include <cmath>

namespace spec {
namespace {

using D = Deviation;
using std::int64_t;

bool is(D d) { return broken == d; }

enum Site {
  kAttentionIn,
  kValueUpIn,
  kFfnIn,
  kDownIn,
  kUnembedIn,
  kCrossIn,
  kCrossValueUpIn,
  kSourceIn,
  kInputIn,
  kConvolutionIn,
  kDenseIn
};
enum { kTokens, kVectors, kProjected, kConvolved };  // input
enum { kBefore, kAfter, kBoth };                     // norm_placement
enum { kInTurn, kSideBySide, kTwoNorms };            // sublayers
enum { kNoPosition, kRotary, kAlibi, kRelative };    // position
enum { kEvery, kFirst, kMean, kLast };               // pooling

Floats sum(const Floats& a, const Floats& b) {
  Floats y(a.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = a[i] + b[i];
  return y;
}

Floats times(const Floats& x, float f) {
  Floats y(x.size());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = x[i] * f;
  return y;
}

float snapped(float x) { return std::fabs(x) < std::ldexp(1.0f, -40) ? 0.0f : x; }

Floats snapped(Floats x) {
  for (float& v : x) v = snapped(v);
  return x;
}

Floats taken(Floats x) {
  const float large = std::ldexp(1.0f, 40);
  for (float& v : x) {
    if (v != v && !is(D::input_nan_goes_on)) v = 0.0f;
    if (std::fabs(v) > large && !is(D::input_has_no_end)) v = std::copysign(large, v);
    if (!is(D::input_keeps_small)) v = snapped(v);
  }
  return x;
}

Floats unit_length(const Floats& y) {
  const Activation a = quantise(block_float(y), 0);
  int64_t squares = 0;
  for (const int64_t q : a.q) squares += q * q;
  if (squares == 0) return Floats(y.size(), 0.0f);
  float square = (a.scale * a.scale) * static_cast<float>(squares);
  if (is(D::length_of_floats)) {
    square = 0.0f;
    for (const float v : y) square = square + v * v;
  }
  Floats unit(y.size());
  for (std::size_t i = 0; i < y.size(); ++i)
    unit[i] = is(D::length_divides) ? y[i] / std::sqrt(square) : y[i] * (1.0f / std::sqrt(square));
  return is(D::length_keeps_small) ? unit : snapped(unit);
}

}  // namespace

Stack::Stack(const Image& image, int index)
    : image_(image), index_(index), config_(image.stacks[static_cast<std::size_t>(index)]) {
  keys_.resize(static_cast<std::size_t>(config_.n_layers));
  for (Keys& k : keys_) {
    k.self.resize(static_cast<std::size_t>(config_.n_kv_heads));
    k.cross.resize(static_cast<std::size_t>(config_.n_kv_heads));
  }
}

const Floats* Stack::floats(int role, int64_t layer) const {
  const Tensor* t = find(role, layer);
  return t ? &t->floats : nullptr;
}

// ---- Norms and sites ----------------------------------------------------------------------------------------------
Activation Stack::quantised(const Floats& x, int site) const { return quantise(block_float(x), config_.groups[site]); }

Activation Stack::norm_at(const Floats& x, int gain, int bias, int64_t layer, int site) const {
  const int group = config_.groups[site];
  if (config_.norm == 0) return rms_norm(x, floats(gain, layer), config_.norm_epsilon, group);
  return layer_norm(x, floats(gain, layer), floats(bias, layer), config_.norm_epsilon, group);
}

Floats Stack::normed_by(const Floats& x, int gain, int bias, int64_t layer) const {
  return norm_as_floats(x, floats(gain, layer), floats(bias, layer), config_.norm_epsilon, config_.norm == 1);
}

// ---- Input --------------------------------------------------------------------------------------------------------
Stack::Vectors Stack::convolved(const Vectors& frames, int role, int stride, int site) const {
  const auto n = static_cast<int64_t>(frames.size());
  const int64_t out = is(D::convolution_drops_the_rest) ? std::max<int64_t>(1, n / stride) : (n - 1) / stride + 1;
  Vectors h;
  for (int64_t t = 0; t < out; ++t) {
    Floats u;
    const int64_t m = stride * t + (is(D::convolution_begins_inside) ? 1 : 0);
    int64_t neighbours[3] = {m - 1, m, m + 1};
    if (is(D::convolution_looks_back)) std::swap(neighbours[0], neighbours[2]);
    for (const int64_t c : neighbours) {
      const bool absent = c < 0 || c >= n;
      const Floats& frame = frames[static_cast<std::size_t>(std::max<int64_t>(0, std::min(c, n - 1)))];
      if (absent && !is(D::convolution_repeats_the_edge))
        u.insert(u.end(), frame.size(), 0.0f);
      else
        u.insert(u.end(), frame.begin(), frame.end());
    }
    h.push_back(activated(product(matrix(role), quantised(u, site)), config_.activation));
  }
  return h;
}

Stack::Vectors Stack::input(const Sequence& sequence, std::size_t first) const {
  const Config& c = config_;
  Vectors x;
  if (c.input == kTokens) {
    for (std::size_t i = 0; i < sequence.tokens.size(); ++i) {
      Floats row = embedding(matrix(kTokenEmbedding), static_cast<std::size_t>(sequence.tokens[i]));
      const bool late = is(D::embedding_scale_comes_last);
      if (!late && !is(D::embedding_scale_is_left_out)) row = times(row, c.embedding_scale);
      if (c.n_token_types != 0 && !is(D::token_types_are_left_out)) {
        const int type = sequence.types.empty() ? 0 : sequence.types[i];
        row = sum(row, embedding(matrix(kTokenTypeEmbedding), static_cast<std::size_t>(type)));
      }
      if (late) row = times(row, c.embedding_scale);
      x.push_back(row);
    }
  }
  if (c.input == kVectors)
    for (const Floats& v : sequence.vectors) x.push_back(taken(v));
  if (c.input == kProjected)
    for (const Floats& v : sequence.vectors) x.push_back(product(matrix(kInputProjection), quantised(v, kInputIn)));
  if (c.input == kConvolved) {
    x = convolved(sequence.vectors, kConvolution1, c.strides[0], kInputIn);
    if (c.second_convolution) x = convolved(x, kConvolution2, c.strides[1], kConvolutionIn);
  }
  Vectors classes;
  for (int64_t p = 0; p < c.n_class_vectors; ++p)
    classes.push_back(embedding(matrix(kClassVectors), static_cast<std::size_t>(p)));
  if (is(D::class_vectors_stand_behind))
    x.insert(x.end(), classes.begin(), classes.end());
  else
    x.insert(x.begin(), classes.begin(), classes.end());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto normed_input = [&](const Floats& v) {
      return c.input_norm && !is(D::input_norm_is_left_out) ? normed_by(v, kInputGain, kInputNormBias, 0) : v;
    };
    if (is(D::input_norm_comes_first)) x[i] = normed_input(x[i]);
    if (c.position_table && !is(D::learned_position_is_left_out)) {
      std::size_t row = first + i;
      if (is(D::learned_position_is_next) && static_cast<int64_t>(row) + 1 < c.max_seq) ++row;
      if (is(D::class_vectors_have_no_position)) row = row < classes.size() ? 0 : row - classes.size();
      x[i] = sum(x[i], embedding(matrix(kPositionEmbedding), row));
    }
    if (!is(D::input_norm_comes_first)) x[i] = normed_input(x[i]);
  }
  return x;
}

// ---- 2.7: keys and queries ----------------------------------------------------------------------------------------
bool Stack::sees_all(int64_t layer) const {
  const Config& c = config_;
  if (c.window == 0) return true;
  if (is(D::global_layers_are_left_out)) return false;
  if (is(D::global_layers_count_from_one)) ++layer;
  return c.global_every > 0 && layer % c.global_every == c.global_first;
}

Rotation Stack::rotation_of(int64_t layer, std::size_t position) const {
  Rotation rotation;
  rotation.pairing = config_.rotary_pairing;
  if (config_.position != kRotary) return rotation;
  bool local = config_.local_rotary && !sees_all(layer);
  if (is(D::local_phases_are_left_out)) local = false;
  if (is(D::local_phases_are_everywhere) && config_.local_rotary) local = true;
  for (const std::uint32_t turn : find(local ? kLocalRotaryPhases : kRotaryPhases)->phases) {
    const std::uint32_t phase = turn * static_cast<std::uint32_t>(position + (is(D::position_starts_at_one) ? 1 : 0));
    rotation.cosine_sine.push_back({cosine(phase), sine(phase)});
  }
  return rotation;
}

Floats Stack::head_of(const Floats& all, std::size_t head, std::size_t dim) const {
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(head * dim);
  return Floats(first, first + static_cast<std::ptrdiff_t>(dim));
}

Floats Stack::normed_head(const Floats& x, int gain, int bias, int64_t layer) const {
  if (config_.query_key_norm == 0 || is(D::head_norm_is_left_out)) return x;
  const bool layer_kind = is(D::head_norm_is_the_stacks) ? config_.norm == 1 : config_.query_key_norm == 2;
  return norm_as_floats(x, floats(gain, layer), floats(bias, layer), config_.norm_epsilon, layer_kind);
}

void Stack::keep(const Attention& a, const Activation& y, std::size_t position) {
  const auto dim = static_cast<std::size_t>(config_.head_dim),
             value_dim = static_cast<std::size_t>(config_.value_dim());
  const Floats key = product(matrix(a.base + kWKey, a.layer), y),
               value = product(matrix(a.base + kWValueDown, a.layer), y);
  const Tensor* offsets = find(a.base + kKeyOffset, a.layer);
  const Rotation rotation =
      a.is_cross() && !is(D::cross_attention_is_turned) ? Rotation{} : rotation_of(a.layer, position);
  for (std::size_t head = 0; head < a.caches->size(); ++head) {
    Cache& cache = (*a.caches)[head];
    cache.keys.resize(position);
    cache.values.resize(position);
    const Floats k = normed_head(head_of(key, head, dim), a.base + kKeyGain, a.base + kKeyNormBias, a.layer);
    cache.keys.push_back(make_key(k, rotation, offsets ? offsets->offsets[head] : Offset{}));
    cache.values.push_back(make_value(head_of(value, head, value_dim)));
  }
}

// What the sublayer gives of the query at `position`, n keys being known.
Floats Stack::attend(const Attention& a, const Activation& y, std::size_t position, std::size_t n) const {
  const Config& c = config_;
  const Floats query = product(matrix(a.base + kWQuery, a.layer), y);
  const auto dim = static_cast<std::size_t>(c.head_dim), value_dim = static_cast<std::size_t>(c.value_dim()),
             heads = static_cast<std::size_t>(c.n_heads), kv_heads = static_cast<std::size_t>(c.n_kv_heads);
  const Rotation rotation =
      a.is_cross() && !is(D::cross_attention_is_turned) ? Rotation{} : rotation_of(a.layer, position);

  std::size_t first_seen = 0, end_seen = n;
  const auto p = static_cast<int64_t>(position);
  const bool causal = c.mask == 0;
  if (causal && (!a.is_cross() || is(D::cross_attention_is_causal))) end_seen = std::min(n, position + 1);
  if (!a.is_cross() && !sees_all(a.layer)) {
    const int64_t reach = c.window - 1 + (is(D::window_is_one_more) ? 1 : 0);
    if (!is(D::window_is_left_out)) first_seen = static_cast<std::size_t>(std::max<int64_t>(0, p - reach));
    if (!is(D::window_looks_back_only))
      end_seen = std::min<std::size_t>(end_seen, static_cast<std::size_t>(p + reach) + 1);
  }
  if (is(D::own_key_is_hidden) && !a.is_cross() && end_seen == position + 1 && end_seen > first_seen + 1) --end_seen;

  const Tensor* table = a.is_cross() ? nullptr : find(kScoreBias);
  const bool biased = table && (c.position == kAlibi || c.position == kRelative);
  const auto bias_of = [&](std::size_t head, std::size_t j) -> int64_t {
    const int64_t ahead = p - static_cast<int64_t>(j);
    if (is(D::biases_share_a_head)) head = 0;
    if (c.position == kAlibi)
      return alibi_bias(table->integers[head], is(D::alibi_is_signed) ? ahead : std::abs(ahead));
    return table
        ->integers[head * static_cast<std::size_t>(table->cols) + relative_distance(ahead, c.n_distances, c.mask == 1)];
  };
  float scale = a.is_cross() ? c.cross_scale : c.attention_scale;
  if (is(D::scales_are_shared)) scale = c.attention_scale;

  std::vector<Floats> outputs;
  for (std::size_t head = 0; head < heads; ++head) {
    const Cache& cache = (*a.caches)[is(D::heads_are_interleaved) ? head % kv_heads : head / (heads / kv_heads)];
    const Floats q = normed_head(head_of(query, head, dim), a.base + kQueryGain, a.base + kQueryNormBias, a.layer);
    const Activation quantised_query = make_query(q, rotation);
    Sums sums(value_dim);
    for (const auto& block : blocks_of(end_seen)) {
      if (block.second <= first_seen) continue;
      Sight sight{first_seen, {}};
      for (std::size_t j = 0; j < block.second && biased; ++j) sight.biases.push_back(bias_of(head, j));
      attend_block(sums, quantised_query, cache, block.first, block.second, scale, sight);
    }
    outputs.push_back(finish(sums));
  }
  if (c.value_map == 1) {
    Floats change = outputs[0];
    for (std::size_t head = 1; head < heads; ++head) change = sum(change, outputs[head]);
    return change;
  }
  Floats all(heads * dim);
  for (std::size_t head = 0; head < heads; ++head)
    for (std::size_t d = 0; d < dim; ++d)
      all[is(D::heads_lie_the_other_way) ? d * heads + head : head * dim + d] = outputs[head][d];
  const int site = a.is_cross() ? kCrossValueUpIn : kValueUpIn;
  return product(matrix(a.base + kWValueUp, a.layer), quantised(all, site));
}

Floats Stack::feed_forward(int64_t layer, const Activation& y) const {
  const Floats up = product(matrix(kSelf + kWUp, layer), y),
               gate = config_.is_gated ? product(matrix(kSelf + kWGate, layer), y) : up;
  return product(matrix(kSelf + kWDown, layer),
                 gated(gate, config_.is_gated ? &up : nullptr, config_.activation, config_.groups[kDownIn]));
}

// ---- Blocks -------------------------------------------------------------------------------------------------------
Activation Stack::sublayer_input(const Floats& x, int gain, int bias, int64_t layer, int site) const {
  return config_.norm_placement == kAfter ? quantised(x, site) : norm_at(x, gain, bias, layer, site);
}

// x moved by a sublayer's change.
Floats Stack::changed(const Floats& x, const Floats& change, int after_gain, int after_bias, int64_t layer) const {
  const auto after = [&](const Floats& v) { return normed_by(v, after_gain, after_bias, layer); };
  switch (config_.norm_placement) {
    case kAfter: return is(D::after_norms_the_change) ? sum(x, after(change)) : after(sum(x, change));
    case kBoth: return is(D::both_norms_the_sum) ? after(sum(x, change)) : sum(x, after(change));
    default: return sum(x, change);
  }
}

void Stack::layer_forward(int64_t layer, Vectors& x, std::size_t first) {
  Keys& keys = keys_[static_cast<std::size_t>(layer)];
  const Attention self{kSelf, layer, &keys.self}, cross{kCross, layer, &keys.cross};
  const std::size_t n = x.size();
  // What a sublayer makes of each position's vector.
  const auto attention_of = [&](const Attention& a) {
    const int site = a.is_cross() ? kCrossIn : kAttentionIn;
    std::vector<Activation> y;
    for (const Floats& v : x) y.push_back(sublayer_input(v, a.base + kGain, a.base + kNormBias, layer, site));
    if (!a.is_cross())
      for (std::size_t i = 0; i < n; ++i) keep(a, y[i], first + i);
    Vectors changes;
    const std::size_t known = a.is_cross() ? keys.cross[0].keys.size() : first + n;
    for (std::size_t i = 0; i < n; ++i) changes.push_back(attend(a, y[i], first + i, known));
    return changes;
  };
  const auto feed_forward_of = [&](const Vectors& from) {
    const bool one_norm =
        config_.sublayers == kSideBySide || (config_.sublayers == kTwoNorms && is(D::two_norms_are_one));
    int site = one_norm ? kAttentionIn : kFfnIn;
    if (is(D::sites_share_groups) && config_.groups[kFfnIn]) site = kAttentionIn;
    Vectors changes;
    for (const Floats& v : from)
      changes.push_back(
          feed_forward(layer, sublayer_input(v, one_norm ? kSelf + kGain : kSelf + kFfnGain,
                                             one_norm ? kSelf + kNormBias : kSelf + kFfnNormBias, layer, site)));
    return changes;
  };
  const auto move = [&](const Vectors& changes, int gain, int bias) {
    if (see_changes) see_changes(gain == kSelf + kFfnAfterGain ? kFfnGain : gain - kAfterGain, layer, changes);
    for (std::size_t i = 0; i < n; ++i) x[i] = changed(x[i], changes[i], gain, bias, layer);
  };
  const auto cross_attention = [&] {
    if (config_.cross_attention) move(attention_of(cross), kCross + kAfterGain, kCross + kAfterBias);
  };

  if (is(D::cross_attention_comes_first)) cross_attention();
  const Vectors before = x, changes = attention_of(self);
  if (config_.sublayers != kInTurn && is(D::changes_are_added_first)) {
    const Vectors more = feed_forward_of(before);
    const auto after = [&](const Floats& v, int gain, int bias) {
      return config_.norm_placement == kBoth ? normed_by(v, gain, bias, layer) : v;
    };
    for (std::size_t i = 0; i < n; ++i)
      x[i] = sum(x[i], sum(after(changes[i], kSelf + kAfterGain, kSelf + kAfterBias),
                           after(more[i], kSelf + kFfnAfterGain, kSelf + kFfnAfterBias)));
    return;
  }
  move(changes, kSelf + kAfterGain, kSelf + kAfterBias);
  if (!is(D::cross_attention_comes_first) && !is(D::cross_attention_comes_last)) cross_attention();
  const bool side_by_side = (config_.sublayers != kInTurn) != (is(D::order_of_sublayers) && !config_.cross_attention);
  const Vectors moves = feed_forward_of(side_by_side ? before : x);
  if (is(D::residual_is_left_out))
    for (Floats& v : x) v.assign(v.size(), 0.0f);
  move(moves, kSelf + kFfnAfterGain, kSelf + kFfnAfterBias);
  if (is(D::cross_attention_comes_last)) cross_attention();
}

// ---- Output -------------------------------------------------------------------------------------------------------
Floats Stack::pooled_mean(const Vectors& x) const {
  const bool early = config_.final_norm && !is(D::mean_comes_before_norm);
  const auto vector_of = [&](std::size_t i) { return early ? normed_by(x[i], kFinalGain, kFinalNormBias, 0) : x[i]; };
  const std::size_t first =
      is(D::mean_without_class_vectors) && x.size() > static_cast<std::size_t>(config_.n_class_vectors)
          ? static_cast<std::size_t>(config_.n_class_vectors)
          : 0;
  Floats y = vector_of(first);
  for (std::size_t i = first + 1; i < x.size(); ++i) y = sum(y, vector_of(i));
  const auto n = static_cast<float>(x.size() - first);
  for (float& v : y) v = is(D::mean_is_divided) ? v / n : v * (1.0f / n);
  if (!is(D::mean_keeps_small)) y = snapped(y);
  return config_.final_norm && !early ? normed_by(y, kFinalGain, kFinalNormBias, 0) : y;
}

// A row from one vector behind the blocks, or from the mean of all.
Floats Stack::output(const Floats& x, std::size_t head, bool is_mean) const {
  const Config& c = config_;
  // y and the norm that it still gets: quantised for a product, as floats otherwise.
  Floats y = x;
  int gain = kFinalGain, bias = kFinalNormBias;
  bool pending = c.final_norm && !is_mean && !is(D::final_norm_is_left_out);
  const auto as_floats = [&] { return pending ? normed_by(y, gain, bias, 0) : y; };
  const auto as_activation = [&](int site) {
    if (pending && is(D::norm_goes_through_floats)) return quantised(as_floats(), site);
    return pending ? norm_at(y, gain, bias, 0, site) : quantised(y, site);
  };
  if (c.dense) {
    y = activated(product(matrix(kDense), as_activation(kDenseIn)), c.dense_activation);
    gain = kDenseGain;
    bias = kDenseNormBias;
    pending = c.dense_norm && !is(D::dense_norm_is_left_out);
  }
  if (c.output == 1) return c.unit_length ? unit_length(as_floats()) : as_floats();
  const Floats logits = product(matrix(c.tied_unembedding ? kTokenEmbedding : kUnembedding), as_activation(kUnembedIn));
  if (c.n_output_heads == 1) return logits;
  return head_of(logits, is(D::output_heads_share_rows) ? 0 : head, static_cast<std::size_t>(c.n_outputs));
}

Stack::Vectors Stack::outputs(const Vectors& x) const {
  const Config& c = config_;
  if (c.pooling == kMean) return {output(pooled_mean(x), 0, true)};
  if (c.pooling == kEvery) {
    Vectors rows;
    for (const Floats& v : x) rows.push_back(output(v, 0, false));
    return rows;
  }
  const bool last = (c.pooling == kLast) != is(D::first_is_last);
  if (c.n_output_heads == 1) return {output(last ? x.back() : x.front(), 0, false)};
  Floats y = output(x[0], 0, false);
  const auto k = static_cast<std::size_t>(c.n_output_heads);
  for (std::size_t head = 1; head < k; ++head)
    y = sum(y, output(x[is(D::output_heads_share_a_position) ? 0 : head], head, false));
  for (float& v : y) v = is(D::logits_are_divided) ? v / static_cast<float>(k) : v * (1.0f / static_cast<float>(k));
  return {y};
}

Stack::Vectors Stack::forward(const Sequence& sequence, std::size_t first) {
  Vectors x = input(sequence, first);
  for (int64_t layer = 0; layer < config_.n_layers; ++layer) layer_forward(layer, x, first);
  return outputs(x);
}

void Stack::read_source(const Vectors& source) {
  for (int64_t layer = 0; layer < config_.n_layers; ++layer) {
    const Attention cross{kCross, layer, &keys_[static_cast<std::size_t>(layer)].cross};
    for (std::size_t p = 0; p < source.size(); ++p) keep(cross, quantised(source[p], kSourceIn), p);
  }
}

// ---- Models -------------------------------------------------------------------------------------------------------
Model::Model(const std::uint8_t* image, std::size_t bytes) : image_(image, bytes) {
  for (std::size_t i = 0; i < image_.stacks.size(); ++i) stacks_.emplace_back(image_, static_cast<int>(i));
}

void Model::set_source(const Sequence& source) {
  stacks_.back().read_source(stacks_.front().forward(source, 0));
  position_ = 0;
}

Floats Model::step(std::int32_t token) {
  Sequence one;
  one.tokens.push_back(token);
  return stacks_.back().forward(one, position_++)[0];
}

}  // namespace spec
