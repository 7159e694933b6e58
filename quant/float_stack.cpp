// SPDX-License-Identifier: Apache-2.0
// float_stack.cpp: the blocks, as the papers write them.
#include "quant/float_stack.hpp"

#include "quant/double_math.hpp"
#include "quant/float_math.hpp"
#include "runtime/numerics.hpp"

namespace heed::quant {

struct FloatStack::AttentionRoles {
  Site in, value_up_in;
  Role w_query, w_value_up, query_gain, query_norm_bias, after_gain, after_bias;
  Stage norm, query, gathered, change, after;
};

const FloatStack::AttentionRoles FloatStack::kSelf = {
    Site::attention_in,    Site::value_up_in,           Role::w_query,
    Role::w_value_up,      Role::query_gain,            Role::query_norm_bias,
    Role::attention_after_gain,  Role::attention_after_bias,  Stage::attention_norm,
    Stage::query,          Stage::gathered,             Stage::attention_change,
    Stage::after_attention};
const FloatStack::AttentionRoles FloatStack::kCross = {
    Site::cross_in,         Site::cross_value_up_in,     Role::cross_w_query,
    Role::cross_w_value_up, Role::cross_query_gain,      Role::cross_query_norm_bias,
    Role::cross_after_gain, Role::cross_after_bias,      Stage::cross_attention_norm,
    Stage::cross_query,     Stage::cross_gathered,       Stage::cross_attention_change,
    Stage::after_cross_attention};

FloatStack::FloatStack(const FloatModel& model, std::uint32_t stack, std::uint32_t positions, const Watchers& watchers)
    : model_(model), c_(model.config.stacks[stack]), stack_(stack), positions_(positions), watchers_(watchers),
      matrices_(model, stack) {
  if (c_.position_table && positions_ > c_.max_seq) positions_ = c_.max_seq;
  make_room(own_, positions_);
}

void FloatStack::make_room(Cache& cache, std::uint32_t positions) const {
  cache.stride = round_up(positions, kLanes);
  const std::size_t heads = std::size_t{c_.n_layers} * c_.n_kv_heads * cache.stride;
  cache.keys.assign(heads * c_.head_dim, 0.0f);
  cache.values.assign(heads * c_.value_dim(), 0.0f);
}

FloatStack::Vector FloatStack::multiply(Role role, std::uint32_t layer, const Vector& x) const {
  const StoredTensor& w = *model_.tensor(role, layer, stack_);
  const std::size_t n = x.size() / w.cols();
  Vector y(n * w.rows());
  matrices_.multiply(y.data(), role, layer, x.data(), n, 0, w.rows());
  return y;
}

// RMS norm: x / sqrt(mean(x^2) + epsilon). Layer norm: the same of x - mean(x).
void FloatStack::normalise(float* x, std::uint32_t n, Norm kind) const {
  if (kind == Norm::layer) {
    double sum = 0.0;
    for (std::uint32_t i = 0; i < n; ++i) sum += x[i];
    const auto mean = static_cast<float>(sum / static_cast<double>(n));
    for (std::uint32_t i = 0; i < n; ++i) x[i] -= mean;
  }
  const float square = dot(x, x, n) / static_cast<float>(n);
  const float factor = 1.0f / square_root(square + c_.norm_epsilon);
  for (std::uint32_t i = 0; i < n; ++i) x[i] *= factor;
}

void FloatStack::scale_and_shift(Vector& x, Role gain_role, Role bias_role, std::uint32_t layer) const {
  if (const float* gain = floats(gain_role, layer))
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= gain[i];
  if (const float* bias = floats(bias_role, layer))
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += bias[i];
}

void FloatStack::apply_norm(Vector& x, Role gain, Role bias, std::uint32_t layer) const {
  normalise(x.data(), static_cast<std::uint32_t>(x.size()), c_.norm);
  scale_and_shift(x, gain, bias, layer);
}

FloatStack::Vector FloatStack::enter(Site site, const Place& at, Vector x) const {
  const NormRoles norm = norm_before(c_, site);
  if (norm.present) normalise(x.data(), static_cast<std::uint32_t>(x.size()), c_.norm);
  see(site, at, x);
  if (norm.present) scale_and_shift(x, norm.gain, norm.bias, at.layer);
  return x;
}

void FloatStack::norm_heads(Vector& heads, Role gain_role, Role bias_role, std::uint32_t layer) const {
  if (c_.query_key_norm == HeadNorm::none) return;
  const float *gain = floats(gain_role, layer), *bias = floats(bias_role, layer);
  for (std::size_t first = 0; first < heads.size(); first += c_.head_dim) {
    normalise(&heads[first], c_.head_dim, c_.query_key_norm == HeadNorm::layer ? Norm::layer : Norm::rms);
    for (std::uint32_t d = 0; d < c_.head_dim; ++d) {
      heads[first + d] *= gain[d];
      if (bias) heads[first + d] += bias[d];
    }
  }
}

FloatStack::Rotation FloatStack::rotation(const std::vector<std::uint32_t>& phases, std::uint32_t position) const {
  Rotation r;
  for (const std::uint32_t phase : phases) {
    const SinCosDouble turned = sin_cos_double(position * phase);
    r.cosines.push_back(static_cast<float>(turned.cosine));
    r.sines.push_back(static_cast<float>(turned.sine));
  }
  return r;
}

void FloatStack::rotate(Vector& heads, const Rotation& by) const {
  const bool halves = c_.rotary_pairing == RotaryPairing::halves;
  const std::size_t pairs = by.cosines.size(), step = halves ? 1 : 2, other = halves ? pairs : 1;
  for (std::size_t first = 0; first < heads.size(); first += c_.head_dim) {
    float* head = &heads[first];
    for (std::size_t i = 0; i < pairs; ++i) {
      const float a = head[i * step], b = head[i * step + other];
      head[i * step] = a * by.cosines[i] - b * by.sines[i];
      head[i * step + other] = a * by.sines[i] + b * by.cosines[i];
    }
  }
}

void FloatStack::store(Cache& cache, std::uint32_t layer, std::uint32_t position, const Vector& key,
                       const Vector& value) const {
  for (std::uint32_t head = 0; head < c_.n_kv_heads; ++head) {
    for (std::uint32_t d = 0; d < c_.head_dim; ++d)
      cache.keys[row(cache, layer, head, d, c_.head_dim) + position] = key[std::size_t{head} * c_.head_dim + d];
    for (std::uint32_t d = 0; d < c_.value_dim(); ++d)
      cache.values[row(cache, layer, head, d, c_.value_dim()) + position] =
          value[std::size_t{head} * c_.value_dim() + d];
  }
}

void FloatStack::set_source(const std::vector<float>& rows) {
  const auto n = static_cast<std::uint32_t>(rows.size() / c_.d_source);
  make_room(source_, n);
  source_.n = n;
  for (std::uint32_t layer = 0; layer < c_.n_layers; ++layer) {
    for (std::uint32_t i = 0; i < n; ++i) {
      const float* s = &rows[std::size_t{i} * c_.d_source];
      const Vector input(s, s + c_.d_source);
      see(Site::source_in, {stack_, layer, i}, input);
      Vector key = multiply(Role::cross_w_key, layer, input);
      norm_heads(key, Role::cross_key_gain, Role::cross_key_norm_bias, layer);
      const Vector value = multiply(Role::cross_w_value_down, layer, input);
      see(HeadRole::cross_key, {stack_, layer, i}, key);
      see(HeadRole::cross_value, {stack_, layer, i}, value);
      store(source_, layer, i, key, value);
    }
  }
}

// The query of one position; its key and value go to the cache.
void FloatStack::self_keys(const Place& at, const Vector& input, Vector& query) {
  query = multiply(Role::w_query, at.layer, input);
  Vector key = multiply(Role::w_key, at.layer, input);
  const Vector value = multiply(Role::w_value_down, at.layer, input);
  show(Stage::query, at, query);
  show(Stage::key, at, key);
  show(Stage::value, at, value);
  norm_heads(query, Role::query_gain, Role::query_norm_bias, at.layer);
  norm_heads(key, Role::key_gain, Role::key_norm_bias, at.layer);
  if (c_.position == Position::rotary) {
    const bool local = c_.local_rotary && !c_.sees_all(at.layer);
    const Rotation by =
        rotation(local ? model_.local_rotary_phases[stack_] : model_.rotary_phases[stack_], at.position);
    rotate(query, by);
    rotate(key, by);
  }
  see(HeadRole::query, at, query);
  see(HeadRole::key, at, key);
  see(HeadRole::value, at, value);
  store(own_, at.layer, at.position, key, value);
}

FloatStack::Vector FloatStack::attend(const Cache& cache, const Place& at, const Vector& query, std::uint32_t begin,
                                      std::uint32_t end, bool cross) const {
  Vector gathered(c_.d_heads());
  Vector scores(cache.stride);
  const std::uint32_t padded = round_up(end, kLanes), n = end - begin;
  const float scale = cross ? c_.cross_scale : c_.attention_scale;
  const float* bias = cross ? nullptr : floats(Role::score_bias, 0);
  for (std::uint32_t head = 0; head < c_.n_heads; ++head) {
    const std::uint32_t kv_head = head / (c_.n_heads / c_.n_kv_heads);
    for (std::uint32_t p = 0; p < padded; ++p) scores[p] = 0.0f;
    for (std::uint32_t d = 0; d < c_.head_dim; ++d) {
      const float q = query[std::size_t{head} * c_.head_dim + d] * scale;
      const float* k = &cache.keys[row(cache, at.layer, kv_head, d, c_.head_dim)];
      for (std::uint32_t p = 0; p < padded; p += kLanes)
        for (std::uint32_t l = 0; l < kLanes; ++l) scores[p + l] += q * k[p + l];
    }
    for (std::uint32_t p = begin; bias && p < end; ++p) {
      const auto distance = static_cast<std::int64_t>(at.position) - p;
      if (c_.position == Position::alibi) {
        scores[p] -= bias[head] * static_cast<float>(distance < 0 ? -distance : distance);
      } else {
        const std::int64_t middle = c_.mask == Mask::two_way ? (c_.n_distances - 1) / 2 : 0;
        std::int64_t i = distance + middle;
        i = i < 0 ? 0 : i < c_.n_distances ? i : c_.n_distances - 1;
        scores[p] += bias[std::size_t{head} * c_.n_distances + static_cast<std::size_t>(i)];
      }
    }
    float* seen = scores.data() + begin;
    if (!cross) show(Stage::scores, at, seen, n, head);
    float max = seen[0];
    for (std::uint32_t p = 1; p < n; ++p) max = seen[p] > max ? seen[p] : max;
    double sum = 0.0;
    for (std::uint32_t p = 0; p < n; ++p) {
      const double e = exp_double(static_cast<double>(seen[p]) - max);
      sum += e;
      seen[p] = static_cast<float>(e);
    }
    const auto share = static_cast<float>(1.0 / sum);
    if (watchers_.stage && !cross) {
      Vector weights(seen, seen + n);
      for (float& w : weights) w *= share;
      show(Stage::weights, at, weights.data(), n, head);
    }
    const std::uint32_t dims = c_.value_dim();
    for (std::uint32_t d = 0; d < dims; ++d)
      gathered[std::size_t{head} * dims + d] =
          dot(&cache.values[row(cache, at.layer, kv_head, d, dims) + begin], seen, n) * share;
  }
  return gathered;
}

FloatStack::Vector FloatStack::attention_change(const AttentionRoles& roles, const Place& at,
                                                const Vector& gathered) const {
  show(roles.gathered, at, gathered);
  if (c_.value_map == ValueMap::factors) {
    see(roles.value_up_in, at, gathered);
    return multiply(roles.w_value_up, at.layer, gathered);
  }
  Vector sum(gathered.begin(), gathered.begin() + c_.d_model);
  for (std::size_t head = 1; head < c_.n_heads; ++head)
    for (std::size_t i = 0; i < c_.d_model; ++i) sum[i] += gathered[head * c_.d_model + i];
  return sum;
}

// w_down (F(w_gate h) * w_up h), or without a gate w_down F(w_up h)
FloatStack::Vector FloatStack::feed_forward_change(const Place& at, const Vector& input) const {
  Vector gate;
  if (c_.gated) {
    gate = multiply(Role::w_gate, at.layer, input);
    show(Stage::gate, at, gate);
  }
  Vector up = multiply(Role::w_up, at.layer, input);
  show(Stage::up, at, up);
  for (std::size_t i = 0; i < up.size(); ++i)
    up[i] = c_.gated ? activate(c_.activation, gate[i]) * up[i] : activate(c_.activation, up[i]);
  show(Stage::activated, at, up);
  see(Site::down_in, at, up);
  Vector change = multiply(Role::w_down, at.layer, up);
  show(Stage::ffn_change, at, change);
  return change;
}

void FloatStack::add(float* x, Vector change, Role after_gain, Role after_bias, std::uint32_t layer) const {
  if (c_.norm_placement == NormPlacement::both) apply_norm(change, after_gain, after_bias, layer);
  for (std::size_t i = 0; i < change.size(); ++i) x[i] += change[i];
  if (c_.norm_placement != NormPlacement::after) return;
  Vector sum(x, x + c_.d_model);
  apply_norm(sum, after_gain, after_bias, layer);
  for (std::size_t i = 0; i < sum.size(); ++i) x[i] = sum[i];
}

void FloatStack::forward(std::vector<float>& x, std::uint32_t first) {
  const auto n = static_cast<std::uint32_t>(x.size() / c_.d_model);
  std::vector<Vector> queries(n);
  for (std::uint32_t layer = 0; layer < c_.n_layers; ++layer) {
    const auto residual = [&](std::uint32_t i) { return &x[std::size_t{i} * c_.d_model]; };
    for (std::uint32_t i = 0; i < n; ++i) {
      const Place at{stack_, layer, first + i};
      const Vector input = enter(Site::attention_in, at, Vector(residual(i), residual(i) + c_.d_model));
      show(Stage::attention_norm, at, input);
      self_keys(at, input, queries[i]);
    }
    const std::uint32_t reach = c_.sees_all(layer) ? positions_ : c_.window;
    for (std::uint32_t i = 0; i < n; ++i) {
      const Place at{stack_, layer, first + i};
      const std::uint32_t p = at.position, all = c_.mask == Mask::causal ? p + 1 : first + n;
      const std::uint32_t begin = p < reach ? 0 : p - reach + 1, end = all - p < reach ? all : p + reach;
      float* r = residual(i);
      const Vector before(r, r + c_.d_model);
      const auto attention = [&](const AttentionRoles& roles, const Vector& gathered) {
        Vector change = attention_change(roles, at, gathered);
        show(roles.change, at, change);
        add(r, std::move(change), roles.after_gain, roles.after_bias, layer);
        show(roles.after, at, r, c_.d_model);
      };
      attention(kSelf, attend(own_, at, queries[i], begin, end, false));
      if (c_.cross_attention) {
        const Vector input = enter(Site::cross_in, at, Vector(r, r + c_.d_model));
        show(Stage::cross_attention_norm, at, input);
        Vector query = multiply(Role::cross_w_query, layer, input);
        show(Stage::cross_query, at, query);
        norm_heads(query, Role::cross_query_gain, Role::cross_query_norm_bias, layer);
        see(HeadRole::cross_query, at, query);
        attention(kCross, attend(source_, at, query, 0, source_.n, true));
      }
      const bool in_turn = c_.sublayers == Sublayers::in_turn;
      const Vector input = enter(Site::ffn_in, at, in_turn ? Vector(r, r + c_.d_model) : before);
      show(Stage::ffn_norm, at, input);
      add(r, feed_forward_change(at, input), Role::ffn_after_gain, Role::ffn_after_bias, layer);
      show(Stage::after_ffn, at, r, c_.d_model);
    }
  }
}

}  // namespace heed::quant
