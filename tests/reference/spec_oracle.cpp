// SPDX-License-Identifier: Apache-2.0
// spec_oracle.cpp: section by section in SPEC.md's order. is(rule) asks whether that rule is the one to break.
#include "tests/reference/spec_oracle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spec {

Deviation broken = Deviation::none;

const DeviationText& text_of(Deviation d) {
  static const DeviationText texts[] = {{"", "none", "as SPEC.md says"},
#define SPEC_TEXT(section, name, meaning) {section, #name, meaning},
                                        SPEC_DEVIATIONS(SPEC_TEXT)
#undef SPEC_TEXT
  };
  return texts[static_cast<int>(d)];
}

namespace {

using D = Deviation;
using std::int64_t;

bool is(D d) { return broken == d; }

// ---- 2.1 ----------------------------------------------------------------------------------------------------------
const float kSmall = std::ldexp(1.0f, -40), kLarge = std::ldexp(1.0f, 40);
const float kLog2E = 1.44269504f;

float power(int e) { return std::ldexp(1.0f, e); }
bool nan(float x) { return x != x; }

float to_float(int64_t i) {
  const float x = static_cast<float>(i);
  if (!is(D::integers_are_cut_to_floats)) return x;
  const bool further = i < 0 ? static_cast<int64_t>(x) < i : static_cast<int64_t>(x) > i;
  return further ? std::nextafter(x, 0.0f) : x;
}

// x * y + z with two roundings, or where a rule says so with one.
float multiply_add(float x, float y, float z, D fused) {
  if (is(fused)) return std::fma(x, y, z);
  const float product = x * y;
  return product + z;
}

float snap(float x) {
  if (is(D::snap_is_left_out)) return x;
  const bool small = is(D::snap_takes_the_border) ? std::fabs(x) <= kSmall : std::fabs(x) < kSmall;
  if (!small) return x;
  return is(D::snap_keeps_the_sign) ? std::copysign(0.0f, x) : 0.0f;
}

int64_t round_even(float x) { return static_cast<int64_t>(std::nearbyint(x)); }

// Any shift; by 63 or more only the sign is left.
int64_t right(int64_t x, int64_t n) { return x >> std::min<int64_t>(n, 63); }

int bit_length(int64_t x) {
  int n = 0;
  for (; x > 0; x >>= 1) ++n;
  return n;
}

int64_t largest(const Integers& s) {
  int64_t m = 0;
  for (const int64_t x : s) m = std::max(m, std::abs(x));
  return m;
}

}  // namespace

// ---- 2.2 ----------------------------------------------------------------------------------------------------------
Block block_float(const Floats& x) {
  float m = 0.0f;
  for (const float v : x) {
    if (nan(v) && is(D::nan_counts_as_largest)) m = std::numeric_limits<float>::infinity();
    if (!nan(v)) m = std::max(m, std::fabs(v));
  }
  Block b;
  b.s.assign(x.size(), 0);
  const bool zero = is(D::zero_takes_the_border) ? m <= kSmall : is(D::zero_has_no_border) ? m == 0.0f : m < kSmall;
  if (zero) return b;
  if (std::isinf(m))
    b.e = is(D::exponent_has_no_end) ? 129 : 41;
  else
    std::frexp(m, &b.e);
  if (is(D::exponent_of_powers) && m == power(b.e - 1)) --b.e;
  if (m > kLarge && !is(D::exponent_has_no_end)) b.e = 41;
  const float high = is(D::s16_reaches_32768) ? 32768.0f : 32767.0f;
  const float low = is(D::s16_reaches_minus_32768) ? -32768.0f : -32767.0f;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (nan(x[i])) {
      b.s[i] = is(D::nan_is_largest) ? 32767 : 0;
      continue;
    }
    const float y = std::max(low, std::min(high, x[i] * power(15 - b.e)));
    b.s[i] = is(D::s16_rounds_away) ? std::lround(y)
             : is(D::s16_is_cut)    ? static_cast<int64_t>(std::floor(y))
                                    : round_even(y);
  }
  b.M = largest(b.s);
  return b;
}

// ---- 2.3 ----------------------------------------------------------------------------------------------------------
namespace {

Activation zero_activation(std::size_t n) {
  Activation a;
  a.q.assign(n, 0);
  a.p.assign(n, 0);
  a.scale = is(D::zero_scale_is_one) ? 1.0f : 0.0f;
  return a;
}

int64_t rounded_shift(int64_t x, int64_t half, int n) {
  if (is(D::q_is_cut)) half = 0;
  return is(D::q_rounds_to_zero) ? (x + half) / (int64_t{1} << n) : (x + half) >> n;
}

int64_t exponent_of_group(const int64_t* s, std::size_t n, int64_t M) {
  int64_t M_g = 0;
  for (std::size_t i = 0; i < n; ++i)
    M_g = std::max(M_g, is(D::group_magnitude_wraps) && s[i] == -32768 ? s[i] : std::abs(s[i]));
  const int64_t none = is(D::group_exponent_ends_at_two) ? 2 : is(D::group_beyond_maximum_is_zero) && M_g > M ? 0 : 3;
  for (int64_t p = 0; p < none; ++p) {
    const int64_t scaled = M_g * (int64_t{1} << (3 - p));
    if (is(D::group_exponent_is_strict) ? scaled < M : scaled <= M) return p;
  }
  return none;
}

// The final scale of a norm or an activation; the rules that leave its limits out.
Activation limited(Activation a, float f, D no_low, D no_high) {
  a.scale = a.scale * f;
  const float low = power(-50);
  if ((is(D::scale_takes_the_border) ? a.scale <= low : a.scale < low) && !is(no_low)) {
    a.scale = 0.0f;
    if (is(D::small_scale_clears_q)) a.q.assign(a.q.size(), 0);
  }
  if (a.scale > kLarge && !is(no_high)) a.scale = kLarge;
  return a;
}
Activation limited_norm(const Activation& a, float f) {
  return limited(a, f, D::norm_scale_below_2_50, D::norm_scale_above_2_40);
}

}  // namespace

Activation quantise(const Block& b, int group) {
  Activation a = zero_activation(b.s.size());
  if (b.M == 0) return a;
  const int64_t R = (127 * (int64_t{1} << 22) + (is(D::reciprocal_is_cut) ? 0 : b.M / 2)) / b.M;
  const float ratio = is(D::scale_is_divided) ? to_float(b.M) / 127.0f : to_float(b.M) * (1.0f / 127.0f);
  a.scale = ratio * power(b.e - 15);
  if (group == 0) {
    for (std::size_t i = 0; i < b.s.size(); ++i) a.q[i] = rounded_shift(b.s[i] * R, 1 << 21, 22);
    return a;
  }
  if (!is(D::group_scale_is_whole)) a.scale = a.scale * 0.125f;
  for (std::size_t first = 0; first < b.s.size(); first += static_cast<std::size_t>(group)) {
    const std::size_t n = std::min(static_cast<std::size_t>(group), b.s.size() - first);
    const int64_t p = exponent_of_group(b.s.data() + first, n, b.M);
    for (std::size_t i = first; i < first + n; ++i) {
      a.p[i] = p;
      a.q[i] = rounded_shift(b.s[i] * R, int64_t{1} << (is(D::group_rounding_is_fixed) ? 18 : 18 + p),
                             static_cast<int>(19 + p));
    }
  }
  return a;
}

// ---- 2.4 ----------------------------------------------------------------------------------------------------------
namespace {

float norm_factor(const Activation& a, float epsilon) {
  int64_t squares = 0;
  for (std::size_t i = 0; i < a.q.size(); ++i) squares += a.q[i] * a.q[i];
  const float s = a.scale, n = to_float(static_cast<int64_t>(a.q.size())), sum = to_float(squares);
  const float square = is(D::mean_square_order) ? s * (s * sum) : (s * s) * sum;
  const float mean = is(D::mean_square_is_divided) ? square / n : square * (1.0f / n);
  if (is(D::epsilon_is_outside)) return 1.0f / (std::sqrt(mean) + epsilon);
  if (is(D::root_of_reciprocal)) return std::sqrt(1.0f / (mean + epsilon));
  if (is(D::root_in_double)) return static_cast<float>(1.0 / std::sqrt(static_cast<double>(mean + epsilon)));
  return 1.0f / std::sqrt(mean + epsilon);
}

// s and M brought to 15 bits; L places to the left.
int to_15_bits(Block& b, const Integers& from, int64_t magnitude, bool rounds_to_zero, bool rounds) {
  const int L = 15 - bit_length(magnitude);
  b.s = from;
  for (int64_t& x : b.s) {
    if (L >= 0)
      x = x * (int64_t{1} << L);
    else if (rounds_to_zero)
      x = x / (int64_t{1} << -L);
    else
      x = (x + (rounds ? int64_t{1} << (-L - 1) : 0)) >> -L;
  }
  b.M = L >= 0 ? magnitude << L : magnitude >> -L;
  return L;
}

}  // namespace

Activation rms_norm(const Floats& x, const Floats* gain, float epsilon, int group) {
  const Block b = block_float(x);
  if (b.M == 0 && !is(D::zero_goes_on)) return zero_activation(x.size());
  float f = norm_factor(quantise(b, 0), epsilon);
  if (group && is(D::mean_square_of_groups)) {
    Activation whole = quantise(b, group);
    for (std::size_t i = 0; i < whole.q.size(); ++i) whole.q[i] = whole.q[i] * (int64_t{1} << whole.p[i]);
    f = norm_factor(whole, epsilon);
  }
  if (!gain) return limited_norm(quantise(b, group), f);
  Floats y(x.size());
  const bool early = is(D::factor_comes_before_gain);
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * (early ? (*gain)[i] * f : (*gain)[i]);
  return limited_norm(quantise(block_float(y), group), early ? 1.0f : f);
}

namespace {

// c_i with M and e - L, and f; c.M = 0 where no element differs from the mean.
struct Centred {
  Block c;
  float f = 0.0f;
};

Centred centre(const Floats& x, float epsilon) {
  const auto n = static_cast<int64_t>(x.size());
  const Block b = block_float(x);
  int64_t sum = 0;
  for (const int64_t s : b.s) sum += s;
  const int64_t twice = 2 * sum + (is(D::mean_is_cut) ? 0 : n);
  int64_t mean = twice / (2 * n);
  if (twice % (2 * n) < 0 && !is(D::mean_rounds_to_zero)) --mean;
  Integers from(b.s.size(), 0);
  for (std::size_t i = 0; i < from.size() && b.M != 0; ++i) from[i] = b.s[i] - mean;
  Centred centred;
  const int64_t C = largest(from);
  if (C == 0) return centred;
  Block& c = centred.c;
  const int L = to_15_bits(c, from, C, is(D::centred_rounds_to_zero), false);
  if (is(D::centred_maximum_of_c)) c.M = largest(c.s);
  c.e = is(D::centred_exponent_stays) ? b.e : b.e - L;
  centred.f = norm_factor(quantise(c, 0), epsilon);
  return centred;
}

Floats with_gain_and_bias(const Centred& centred, const Floats* gain, const Floats* bias) {
  const float unit = power(centred.c.e - 15) * centred.f;
  Floats y(centred.c.s.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const float g = gain ? (*gain)[i] : 1.0f, ci = to_float(centred.c.s[i]), h = bias ? (*bias)[i] : 0.0f;
    const float normed = ci * unit;
    if (is(D::gain_comes_first) && gain)
      y[i] = ci * (g * unit) + h;
    else if (is(D::bias_comes_before_gain))
      y[i] = (normed + h) * g;
    else if (bias)
      y[i] =
          gain ? multiply_add(normed, g, h, D::norm_bias_is_fused) : multiply_add(ci, unit, h, D::norm_bias_is_fused);
    else
      y[i] = gain ? normed * g : normed;
  }
  return y;
}

}  // namespace

Floats layer_norm_floats(const Floats& x, const Floats* gain, const Floats* bias, float epsilon) {
  const Centred centred = centre(x, epsilon);
  return centred.c.M == 0 ? Floats{} : with_gain_and_bias(centred, gain, bias);
}

Activation layer_norm(const Floats& x, const Floats* gain, const Floats* bias, float epsilon, int group) {
  const Centred centred = centre(x, epsilon);
  if (centred.c.M == 0) {
    if (!bias || is(D::constant_vector_loses_bias)) return zero_activation(x.size());
    return quantise(block_float(*bias), group);
  }
  if (!gain && !bias) return limited_norm(quantise(centred.c, group), centred.f);
  return quantise(block_float(with_gain_and_bias(centred, gain, bias)), group);
}

Floats norm_as_floats(const Floats& x, const Floats* gain, const Floats* bias, float epsilon, bool centred) {
  Floats y(x.size(), 0.0f);
  const Block b = block_float(x);
  if (centred) {
    const Centred c = centre(x, epsilon);
    if (c.c.M != 0)
      y = with_gain_and_bias(c, gain, bias);
    else if (bias && !is(D::constant_vector_loses_bias))
      y = *bias;
  } else if (b.M != 0) {
    const Activation q = quantise(b, 0);
    const float f = norm_factor(q, epsilon);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const float xi = is(D::float_norm_is_of_q) ? to_float(q.q[i]) * q.scale : x[i];
      if (!gain)
        y[i] = xi * f;
      else if (is(D::float_norm_factor_on_gain))
        y[i] = xi * ((*gain)[i] * f);
      else
        y[i] = (xi * f) * (*gain)[i];
    }
  }
  for (float& v : y) {
    if (nan(v))
      v = is(D::float_norm_keeps_nan) ? v : 0.0f;
    else if (!is(D::float_norm_keeps_small))
      v = snap(v);
  }
  return y;
}

// ---- 2.5 ----------------------------------------------------------------------------------------------------------
namespace {

enum { kRelu, kGeluTanh, kGeluErf, kSilu, kGeluQuick, kTanh, kNone };

const Integers& factor_table(int activation) {
  static const std::vector<Integers> tables = [] {
    std::vector<Integers> t(6, Integers(257));
    for (int j = 0; j <= 256; ++j) {
      const double a = j / 16.0, root = std::sqrt(2.0 / 3.14159265358979323846);
      t[kGeluQuick][j] = std::lround(32767 / (1 + std::exp(-1.702 * a)));
      t[kTanh][j] = std::lround(32767 * std::tanh(a));
      t[kRelu][j] = 32767;
      t[kGeluTanh][j] = std::lround(32767 * (1 + std::tanh(root * (a + 0.044715 * a * a * a))) / 2);
      t[kGeluErf][j] = std::lround(32767 * (1 + std::erf(a / std::sqrt(2.0))) / 2);
      t[kSilu][j] = std::lround(32767 / (1 + std::exp(-a)));
    }
    return t;
  }();
  if (is(D::gelus_are_exchanged) && (activation == kGeluTanh || activation == kGeluErf))
    activation = kGeluTanh + kGeluErf - activation;
  if (is(D::gelu_quick_is_silu) && activation == kGeluQuick) activation = kSilu;
  return tables[static_cast<std::size_t>(activation)];
}

// f of |a| * 2^(e - 15), before the sign of a takes part.
int64_t interpolated(const Integers& S, int64_t a, int e) {
  const int left = e - 3;
  int64_t t = std::abs(a);
  if (left >= 0)
    t = t << std::min(left, 16);
  else
    t = right(t + (is(D::gate_is_rounded) && left > -31 ? int64_t{1} << (-left - 1) : 0), -left);
  t = is(D::gate_wraps) ? t & 65535 : std::min<int64_t>(t, 65535);
  const auto j = static_cast<std::size_t>(t >> 8);
  const int64_t r = t & 255;
  if (is(D::factor_is_a_step)) return S[j];
  return S[j] + (((S[j + 1] - S[j]) * r + (is(D::factor_is_cut) ? 0 : 128)) >> 8);
}

}  // namespace

std::int64_t activated(std::int64_t a, int e, int activation) {
  if (is(D::relu_is_exact) && activation == kRelu) return std::max<int64_t>(a, 0);
  int64_t f = interpolated(factor_table(activation), a, e);
  if (a < 0 && !is(D::negative_factor_is_equal)) f = (is(D::negative_factor_from_32768) ? 32768 : 32767) - f;
  return (a * f + (is(D::gate_product_is_cut) ? 0 : 1 << 14)) >> 15;
}

Activation gated(const Floats& gate, const Floats* up, int activation, int group) {
  if (up && is(D::gate_and_up_are_exchanged)) {
    const Floats& other = *up;
    broken = D::none;
    const Activation exchanged = gated(other, &gate, activation, group);
    broken = D::gate_and_up_are_exchanged;
    return exchanged;
  }
  const Block a = block_float(gate), b = up ? block_float(*up) : Block{};
  if (a.M == 0 || (up && b.M == 0)) return zero_activation(gate.size());
  Integers h(gate.size());
  for (std::size_t i = 0; i < h.size(); ++i) {
    h[i] = activated(a.s[i], a.e, activation);
    if (up) h[i] = h[i] * b.s[i];
  }
  const int64_t H = largest(h);
  if (H == 0) return zero_activation(gate.size());
  Block s;
  const int L = to_15_bits(s, h, H, is(D::gate_rounds_to_zero), is(D::gate_shift_is_rounded));
  if (is(D::gate_maximum_of_s)) s.M = largest(s.s);
  s.e = up ? a.e + b.e - 15 - L : a.e - L - (is(D::ungated_exponent) ? 1 : 0);
  return limited(quantise(s, group), 1.0f, D::gate_scale_below_2_50, D::gate_scale_above_2_40);
}

Floats activated(const Floats& x, int activation) {
  if (activation == kNone && !is(D::none_is_rounded)) return x;
  const Block b = block_float(x);
  Floats y(x.size(), 0.0f);
  for (std::size_t i = 0; i < x.size() && b.M != 0; ++i) {
    const int64_t a = b.s[i];
    if (activation == kTanh) {
      const int64_t f = interpolated(factor_table(kTanh), a, b.e);
      y[i] = to_float(a < 0 && !is(D::tanh_is_even) ? -f : f) * power(-15);
    } else {
      y[i] = to_float(activation == kNone ? a : activated(a, b.e, activation)) *
             power(b.e - (is(D::activated_exponent) ? 16 : 15));
    }
  }
  return y;
}

// ---- 2.6 ----------------------------------------------------------------------------------------------------------
namespace {

int64_t power_weight(int64_t k) {
  struct Tables {
    int64_t a[16], b[16], exact[256];
  };
  static const Tables t = [] {
    Tables made;
    for (int i = 0; i < 16; ++i) {
      made.a[i] = std::lround(32640 * std::exp2(-i / 16.0));
      made.b[i] = std::lround(32767 * std::exp2(-i / 256.0));
    }
    for (int i = 0; i < 256; ++i) made.exact[i] = std::lround(32639 * std::exp2(-i / 256.0));
    return made;
  }();
  if (is(D::power_is_exact)) return t.exact[k];
  const int64_t b = is(D::peak_is_32640) && (k & 15) == 0 ? 32768 : t.b[k & 15];
  return (t.a[k >> 4] * b + (is(D::weight_of_power_is_cut) ? 0 : 1 << 14)) >> 15;
}

}  // namespace

// ---- 2.7 ----------------------------------------------------------------------------------------------------------
std::int64_t sine(std::uint32_t phase) {
  static const Integers W = [] {
    Integers w;
    for (int k = 0; k <= 129; ++k) w.push_back(std::lround(32767 * std::sin(3.14159265358979323846 / 2 * k / 128)));
    return w;
  }();
  const std::uint32_t quadrant = phase >> 30;
  std::uint32_t u = phase & ((1u << 30) - 1);
  if (quadrant & 1) u = (1u << 30) - u;
  const std::uint32_t k = u >> 23;
  const int64_t r = (u >> 11) & 4095;
  int64_t v = W[k];
  if (!is(D::sine_is_a_step)) v += ((W[k + 1] - W[k]) * r + (is(D::sine_is_cut) ? 0 : 2048)) >> 12;
  if (is(D::sine_peak) && k == 128) v = 32768;
  return quadrant >= 2 ? -v : v;
}

std::int64_t cosine(std::uint32_t phase) { return sine(phase + (1u << 30)); }

namespace {

Block rotate(const Block& b, const Rotation& rotation) {
  const std::size_t pairs = rotation.cosine_sine.size();
  if (pairs == 0) return b;
  Block out = b;
  for (std::size_t i = 2 * pairs; i < b.s.size(); ++i) {
    const int64_t x = b.s[i];
    out.s[i] = is(D::rest_is_cut) ? x >> 1 : is(D::rest_rounds_away) && x < 0 ? -((-x + 1) >> 1) : (x + 1) >> 1;
  }
  const bool halves = (rotation.pairing == 1) != is(D::pairings_are_exchanged);
  const int64_t half = is(D::rotation_is_cut) ? 0 : 1 << 15;
  for (std::size_t i = 0; i < pairs; ++i) {
    const std::size_t first = halves ? i : 2 * i, second = halves ? i + pairs : 2 * i + 1;
    const int64_t x = b.s[first], y = b.s[second], c = rotation.cosine_sine[i].first;
    const int64_t s = is(D::rotation_turns_back) ? -rotation.cosine_sine[i].second : rotation.cosine_sine[i].second;
    out.s[first] = (x * c - y * s + half) >> 16;
    out.s[second] = (x * s + y * c + half) >> 16;
  }
  out.e = b.e + 1;
  out.M = largest(out.s);
  return out;
}

Block subtract(const Block& b, bool was_zero, bool turned, const Offset& offset) {
  if (was_zero && is(D::zero_key_ignores_offset)) return b;
  const int e = was_zero ? (turned && is(D::zero_key_is_turned) ? -38 : -39) : b.e;
  Block out = b;
  out.e = std::max(e, offset.exponent) + (is(D::offset_exponent_is_maximum) ? 0 : 1);
  for (std::size_t i = 0; i < b.s.size(); ++i) {
    const int n = out.e - offset.exponent;
    const int64_t half = is(D::offset_is_rounded) && n > 0 && n < 31 ? int64_t{1} << (n - 1) : 0;
    const int64_t o = right(offset.values[i] + half, n), k = right(b.s[i], out.e - e);
    out.s[i] = is(D::offset_is_added) ? k + o : k - o;
  }
  out.M = largest(out.s);
  return out;
}

void normalise(Block& b) {
  if (b.M == 0) return;
  int n = 15 - bit_length(b.M);
  if (n > 0 && is(D::head_keeps_small_maximum)) --n;
  if (n < 0) return;  // of a broken rule alone
  for (int64_t& x : b.s) x = x * (int64_t{1} << n);
  b.M = b.M << n;
  b.e -= n;
}

}  // namespace

Activation make_query(const Floats& x, const Rotation& rotation) {
  Block b = rotate(block_float(x), rotation);
  normalise(b);
  return quantise(b, 0);
}

Key make_key(const Floats& x, const Rotation& rotation, const Offset& offset) {
  Block b = block_float(x);
  const bool was_zero = b.M == 0;
  b = rotate(b, rotation);
  if (!offset.values.empty()) b = subtract(b, was_zero, !rotation.cosine_sine.empty(), offset);
  normalise(b);
  Key key;
  key.q.assign(x.size(), 0);
  key.m = 128;
  key.k = is(D::zero_key_exponent) ? -80 : -54;
  if (b.M == 0) return key;
  key.m = is(D::key_mantissa_is_cut) ? b.M / 127 : (b.M + 126) / 127;
  key.k = b.e - 15;
  int64_t R = (1 << 22) / key.m;
  if (key.m > (is(D::key_mantissa_ends_at_254) ? 254 : 255) && !is(D::key_has_one_mantissa)) {
    key.m = is(D::key_second_mantissa_is_cut) ? b.M / 254 : (b.M + 253) / 254;
    key.k = b.e - 14;
    R = (1 << 21) / key.m;
  }
  if (is(D::key_takes_r_of_queries)) R = (127 * (int64_t{1} << 22) + b.M / 2) / b.M;
  for (std::size_t d = 0; d < x.size(); ++d) key.q[d] = (b.s[d] * R + (is(D::key_is_cut) ? 0 : 1 << 21)) >> 22;
  return key;
}

Value make_value(const Floats& x) {
  const Block b = block_float(x);
  Value value{b.s, is(D::zero_value_exponent) ? 0 : -46};
  if (b.M == 0) return value;
  const int64_t most = is(D::value_border) ? 126 : 127;
  const int n = (b.M + 128) >> 8 <= most && !is(D::value_of_eight_bits) ? 8 : 9;
  for (int64_t& q : value.q) q = (q + (is(D::value_is_cut) ? 0 : 1 << (n - 1))) >> n;
  value.v = b.e - 15 + n;
  return value;
}

std::int64_t alibi_bias(std::int64_t slope, std::int64_t distance) {
  const int64_t fall = (slope * distance + (is(D::alibi_is_cut) ? 0 : 1 << 11)) >> 12;
  return is(D::alibi_has_no_end) ? -fall : -std::min<int64_t>(fall, 1 << 23);
}

std::size_t relative_distance(std::int64_t ahead, std::int64_t n_distances, bool two_way) {
  if (is(D::relative_looks_back)) ahead = -ahead;
  if (!two_way) return static_cast<std::size_t>(std::max<int64_t>(0, std::min<int64_t>(ahead, n_distances - 1)));
  const int64_t half = (n_distances - 1) / 2;
  return static_cast<std::size_t>(std::max(-half, std::min(ahead, half)) + half);
}

// ---- 2.8 ----------------------------------------------------------------------------------------------------------
Sums::Sums(std::size_t value_dim) : numerators(value_dim, 0.0f) {
  reference = is(D::merge_begins_at_zero) ? 0 : -(1 << 24);
}

namespace {

struct Slope {
  int64_t ref = 0, g = 0, n = 0, z = 0;
  float best = 0.0f;
};

void set_reference(Slope& s, float r) {
  s.best = r;
  s.ref = is(D::reference_is_floor) ? static_cast<int64_t>(std::floor(r)) + 1 : static_cast<int64_t>(std::ceil(r));
  const float rest = (to_float(s.ref) - r) * 1024.0f;
  s.z = (is(D::start_is_cut) ? static_cast<int64_t>(rest) : round_even(rest)) +
        (is(D::start_has_no_half_step) ? 0 : 2) + 1024;
}

Slope slope_of(int64_t U, float f) {
  const float y = f * power(25);
  float r = 0.0f;
  Slope s;
  const bool flat = is(D::flat_takes_the_border) ? !(y > kSmall)
                    : is(D::flat_has_no_border)  ? !(y > 0.0f)
                                                 : !(y >= kSmall);
  if (!flat) {
    const float limit = power(is(D::reference_is_not_limited) ? 22 : 20);
    r = std::max(-limit, std::min(limit, to_float(U) * f));
    int x = 129;
    int64_t mantissa = 1 << 23;
    if (!std::isinf(y)) mantissa = static_cast<int64_t>(std::ldexp(std::frexp(y, &x), 24));
    s.n = 15 - x;
    s.g = (mantissa + (is(D::slope_is_cut) ? 0 : 256)) >> 9;
    if (s.g > 32767) s.g = 32767;
    if (s.n < 0 && !is(D::steep_slope_is_kept)) s.g = 32767;
    s.n = std::max<int64_t>(0, std::min<int64_t>(s.n, 31));
  }
  set_reference(s, r);
  return s;
}

// What lies `depth` below the reference, Q10, weighs this.
int64_t weight_at(int64_t t) {
  const int64_t w = std::min<int64_t>(t >> 10, 31);
  const int64_t T = power_weight(((t + (is(D::power_index_is_rounded) ? 2 : 0)) >> 2) & 255);
  return (2 * T + (is(D::weight_is_cut) ? 0 : int64_t{1} << (w - 1))) >> w;
}

int64_t weight_of(int64_t distance, const Slope& s) {
  const int64_t d = std::min<int64_t>(distance >> s.n, 32767);
  return weight_at(((d * s.g + (is(D::distance_is_cut) ? 0 : 1 << 14)) >> 15) + s.z);
}

// e_j of a key with a bias.
int64_t distance_of(int64_t distance, const Slope& s) {
  const int64_t most = is(D::biased_distance_is_short) ? 32767 : (1 << 24) - 1;
  return (std::min(distance >> s.n, most) * s.g + (is(D::biased_distance_is_cut) ? 0 : 1 << 14)) >> 15;
}

float merge_factor(int64_t e) {
  const int64_t end = is(D::merge_ends_at_29) ? -29 : is(D::merge_ends_at_31) ? -31 : -30;
  return e < end ? 0.0f : power(static_cast<int>(e));
}

}  // namespace

void attend_block(Sums& sums, const Activation& query, const Cache& cache, std::size_t first, std::size_t last,
                  float attention_scale, const Sight& sight) {
  const std::size_t from = is(D::hidden_keys_are_weighed) ? first : std::max(first, sight.from);
  int K = std::numeric_limits<int>::min(), V = K;
  for (std::size_t k = is(D::maxima_of_all_blocks) ? 0 : first; k < last; ++k) {
    if (k >= from || !is(D::window_moves_key_maximum)) K = std::max(K, cache.keys[k].k);
    if (k >= from || !is(D::window_moves_value_maximum)) V = std::max(V, cache.values[k].v);
  }
  Integers u(last - first);
  int64_t U = std::numeric_limits<int64_t>::min();
  for (std::size_t k = first; k < last; ++k) {
    const Key& key = cache.keys[k];
    int64_t dot = 0;
    for (std::size_t d = 0; d < key.q.size(); ++d) dot += query.q[d] * key.q[d];
    const int n = std::max(0, std::min(K - key.k, 31));
    u[k - first] = is(D::scores_round_to_zero) ? dot * key.m / (int64_t{1} << n) : (dot * key.m) >> n;
    if (k >= from || is(D::hidden_key_is_best)) U = std::max(U, u[k - first]);
  }
  float factor = query.scale * (attention_scale * kLog2E);
  if (is(D::score_factor_order)) factor = (query.scale * attention_scale) * kLog2E;
  if (is(D::log2e_is_longer))
    factor = static_cast<float>(static_cast<double>(query.scale) * attention_scale * static_cast<double>(kLog2E));
  Slope slope = slope_of(U, factor * power(K));
  Integers t(last - first);  // how far each key lies below the best one without a bias, Q10
  int64_t B = std::numeric_limits<int64_t>::max();
  const bool biased = !sight.biases.empty();
  for (std::size_t k = from; k < last && biased; ++k) {
    const int64_t bias = sight.biases[k];
    t[k - first] = distance_of(U - u[k - first], slope) - (is(D::score_bias_is_subtracted) ? -bias : bias);
    B = std::min(B, t[k - first]);
  }
  if (biased && !is(D::score_bias_moves_no_reference)) {
    const float limit = power(is(D::biased_reference_is_not_limited) ? 22 : 20);
    set_reference(slope, std::max(-limit, std::min(limit, slope.best - to_float(B) * power(-10))));
  }
  int64_t denominator = 0;
  Integers N(sums.numerators.size(), 0);
  for (std::size_t k = from; k < last; ++k) {
    const int64_t e =
        biased ? weight_at(std::min<int64_t>(t[k - first] - B, 32767) + slope.z) : weight_of(U - u[k - first], slope);
    const int n = std::max(0, std::min(V - cache.values[k].v, 31));
    const int64_t p = (e + (is(D::fold_is_rounded) && n > 0 ? int64_t{1} << (n - 1) : 0)) >> n;
    denominator += is(D::denominator_is_folded) ? p : e;
    for (std::size_t d = 0; d < N.size(); ++d) N[d] += p * cache.values[k].q[d];
  }
  const int64_t R = is(D::merge_keeps_reference) ? slope.ref : std::max(sums.reference, slope.ref);
  const float a = merge_factor(sums.reference - R), c = merge_factor(slope.ref - R);
  const float scale = c * power(V);
  sums.denominator = sums.denominator * a + to_float(denominator) * c;
  for (std::size_t d = 0; d < N.size(); ++d) {
    const float kept = sums.numerators[d] * a;
    sums.numerators[d] = snap(kept + to_float(N[d]) * scale);
  }
  sums.reference = R;
}

std::vector<std::pair<std::size_t, std::size_t>> blocks_of(std::size_t length) {
  const std::size_t block = is(D::blocks_of_32) ? 32 : 64,
                    front = is(D::blocks_from_first_visible) ? length % block : 0;
  std::vector<std::pair<std::size_t, std::size_t>> blocks;
  if (front) blocks.push_back({0, front});
  for (std::size_t first = front; first < length; first += block)
    blocks.push_back({first, std::min(first + block, length)});
  if (is(D::blocks_are_reversed)) std::reverse(blocks.begin(), blocks.end());
  return blocks;
}

Floats finish(const Sums& sums) {
  Floats out(sums.numerators.size());
  const float inverse = 1.0f / sums.denominator;
  for (std::size_t d = 0; d < out.size(); ++d)
    out[d] = is(D::head_is_divided) ? sums.numerators[d] / sums.denominator : sums.numerators[d] * inverse;
  return out;
}

// ---- 2.9 ----------------------------------------------------------------------------------------------------------
namespace {

// What product() gives without the bias.
float row_product(const Matrix& m, const Activation& a, int64_t row) {
  const std::int8_t* w = m.weights.data() + row * m.cols;
  const int64_t group = m.group ? m.group : m.cols, groups = (m.cols + group - 1) / group;
  int64_t acc = 0;
  float of_floats = 0.0f;
  for (int64_t first = 0, g = 0; first < m.cols; first += group, ++g) {
    int64_t sum = 0;
    for (int64_t c = first; c < std::min(first + group, m.cols); ++c) sum += a.q[static_cast<std::size_t>(c)] * w[c];
    if (m.group && !is(D::multipliers_are_left_out)) sum *= m.multipliers[static_cast<std::size_t>(row * groups + g)];
    if (m.group && !is(D::group_powers_are_left_out)) sum *= int64_t{1} << a.p[static_cast<std::size_t>(first)];
    acc += sum;
    of_floats += to_float(sum);
  }
  if (is(D::long_sums_wrap)) acc = static_cast<std::int32_t>(static_cast<std::uint32_t>(acc));
  const float sum = is(D::groups_are_added_as_floats) ? of_floats : to_float(acc),
              scale = m.scales[static_cast<std::size_t>(row)];
  float y = is(D::product_order) ? (sum * scale) * a.scale : sum * (scale * a.scale);
  if (is(D::product_in_double)) y = static_cast<float>(static_cast<double>(sum) * scale * a.scale);
  if (is(D::product_bias_is_fused) && !m.bias.empty())
    return std::fma(sum, scale * a.scale, m.bias[static_cast<std::size_t>(row)]);
  return is(D::zero_loses_its_sign) && y == 0.0f ? 0.0f : y;
}

bool biased(const Matrix& m) { return !m.bias.empty() && !is(D::bias_is_left_out) && !is(D::product_bias_is_fused); }

}  // namespace

Floats product(const Matrix& m, const Activation& a) {
  Floats y(static_cast<std::size_t>(m.rows));
  for (std::size_t r = 0; r < y.size(); ++r) {
    y[r] = row_product(m, a, static_cast<int64_t>(r));
    if (biased(m)) y[r] = y[r] + m.bias[r];
  }
  return y;
}

void add_product(Floats& x, const Matrix& m, const Activation& a) {
  if (is(D::bias_comes_before_residual) && biased(m)) {
    for (std::size_t r = 0; r < x.size(); ++r) x[r] = (x[r] + m.bias[r]) + row_product(m, a, static_cast<int64_t>(r));
    return;
  }
  const Floats y = product(m, a);
  for (std::size_t r = 0; r < x.size(); ++r) x[r] = x[r] + y[r];
}

Floats embedding(const Matrix& m, std::size_t row) {
  const std::size_t cols = static_cast<std::size_t>(m.cols), group = static_cast<std::size_t>(m.group);
  Floats x(cols);
  for (std::size_t c = 0; c < cols; ++c) {
    int64_t w = m.weights[row * cols + c];
    if (group && !is(D::embedding_without_multiplier))
      w *= m.multipliers[row * ((cols + group - 1) / group) + c / group];
    x[c] = to_float(w) * m.scales[row];
  }
  return x;
}

}  // namespace spec
