// SPDX-License-Identifier: Apache-2.0
// sampler.cpp: temperature, top-k, top-p and one draw, in integers (SPEC.md, sampler).
#include "runtime/one_rounding.hpp"

#include "runtime/sampler.hpp"

#include "runtime/numerics.hpp"

namespace heed {
namespace {

constexpr float kSmallestTemperature = 9.5367431640625e-7f;  // 2^-20: its inverse is far from overflow
constexpr std::uint32_t kOne = 1u << 24;                     // 1 as a fraction of 24 bits

// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Every seed is as good.
std::uint64_t next_random(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15u;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// floor((fraction * total + bias) / 2^24) without a product beyond 64 bits; fraction <= 2^24, bias < 2^24.
std::uint64_t share(std::uint32_t fraction, std::uint64_t total, std::uint32_t bias) {
  const std::uint32_t low = static_cast<std::uint32_t>(total) & (kOne - 1);
  return (total >> 24) * fraction + ((std::uint64_t{low} * fraction + bias) >> 24);
}

// A beginning of the order "larger weight first, then lower id": everything above `weight`, and the first `ties` of
// those that equal it.
struct Kept {
  std::uint32_t weight, ties;
  std::uint64_t total;
};

// The shortest beginning with `count` weights, or whose sum reaches `sum`; everything if there is none.
// Finds the last weight digit by digit (64 buckets, four passes), so that nothing is sorted.
Kept keep(const std::uint32_t* weights, std::uint32_t n, std::uint32_t count, std::uint64_t sum) {
  Kept kept{0, 0, 0};
  std::uint32_t kept_count = 0, equal = 0;
  for (int shift = 18; shift >= 0; shift -= 6) {
    std::uint32_t counts[64] = {};
    std::uint64_t sums[64] = {};
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::uint32_t digits = weights[i] >> shift;
      if (digits >> 6 != kept.weight) continue;
      ++counts[digits & 63u];
      sums[digits & 63u] += weights[i];
    }
    std::uint32_t digit = 63;
    for (; digit > 0; --digit) {
      if (kept_count + counts[digit] >= count || kept.total + sums[digit] >= sum) break;
      kept_count += counts[digit];
      kept.total += sums[digit];
    }
    kept.weight = kept.weight << 6 | digit;
    equal = counts[digit];
  }
  for (; kept.ties < equal && kept_count < count && kept.total < sum; ++kept.ties) {
    ++kept_count;
    kept.total += kept.weight;
  }
  return kept;
}

}  // namespace

Status create(Sampler& sampler, const SamplerConfig& config, std::uint32_t vocab_size, const Kernels& kernels,
              Span<std::byte> scratch) {
  // Written so that a NaN fails.
  if (!(config.temperature >= 0.0f && config.temperature <= 100.0f) || config.top_p != config.top_p ||
      vocab_size == 0) {
    return Status::bad_argument;
  }
  Sampler s;
  s.kernels_ = &kernels;
  s.vocab_size_ = vocab_size;
  s.state_ = config.seed;
  // What is not built is refused before its range is looked at: the checks cost a firmware nothing then.
  if (!kBuiltFeatures.repeat_penalty && bits_of(config.repeat_penalty) != bits_of(1.0f)) return Status::feature_not_built;
  if (!kBuiltFeatures.min_p && bits_of(config.min_p) << 1) return Status::feature_not_built;
  const bool penalty = kBuiltFeatures.repeat_penalty && config.repeat_penalty != 1.0f;
  if (penalty &&
      (!(config.repeat_penalty >= 0.01f && config.repeat_penalty <= 100.0f) || config.repeat_last == 0))
    return Status::bad_argument;
  if (kBuiltFeatures.min_p && config.min_p != 0.0f) {
    if (!(config.min_p >= 0.0f && config.min_p <= 1.0f)) return Status::bad_argument;
    // ceil of the fraction in 2^-24, of 2^22.
    s.min_weight_ = (static_cast<std::uint32_t>(config.min_p * static_cast<float>(kOne)) + 3) >> 2;
  }
  const bool warm = config.temperature >= kSmallestTemperature;
  if (warm && !kBuiltFeatures.sampling) return Status::feature_not_built;
  if (warm || penalty) {
    const std::size_t words = scratch.size() / sizeof(std::uint32_t);
    if (words < vocab_size || (penalty && words - vocab_size < config.repeat_last)) return Status::bad_argument;
    if (reinterpret_cast<std::uintptr_t>(scratch.data()) % alignof(std::uint32_t)) return Status::misaligned;
    if (!float_mode_is_default()) return Status::rounding_mode;
    s.weights_ = reinterpret_cast<std::uint32_t*>(scratch.data());
  }
  if (penalty) {
    s.repeat_penalty_ = config.repeat_penalty;
    s.history_size_ = config.repeat_last;
    s.history_ = reinterpret_cast<Token*>(s.weights_ + vocab_size);
    for (std::uint32_t i = 0; i < s.history_size_; ++i) s.history_[i] = kNoToken;
  }
  if (warm) {
    s.inverse_temperature_ = 1.0f / config.temperature;
    if (config.top_k < vocab_size) s.top_k_ = config.top_k;
    if (config.top_p > 0.0f && config.top_p < 1.0f) {
      s.top_p_ = static_cast<std::uint32_t>(config.top_p * static_cast<float>(kOne));
      if (s.top_p_ == 0) s.top_p_ = 1;
    }
  }
  sampler = s;
  return Status::ok;
}

void Sampler::remember(Token token) {
  history_[history_next_] = token;
  if (++history_next_ == history_size_) history_next_ = 0;
}

Status Sampler::accept(Span<const Token> tokens) {
  if (!remembers()) return Status::ok;
  for (const Token token : tokens)
    if (static_cast<std::uint32_t>(token) >= vocab_size_) return Status::bad_token;
  for (const Token token : tokens) remember(token);
  return Status::ok;
}

// Where the weights will be.
float* Sampler::copied(const float* logits) {
  auto* copy = reinterpret_cast<float*>(weights_);
  for (std::uint32_t i = 0; i < vocab_size_; ++i) copy[i] = logits[i];
  return copy;
}

// What is penalised is computed from the logits themselves, so that a token that was seen twice is penalised once. `snap`
// keeps CPUs that flush denormals and others at one answer.
float* Sampler::penalised(const float* logits) {
  float* const copy = copied(logits);
  for (std::uint32_t i = 0; i < history_size_; ++i) {
    if (history_[i] == kNoToken) continue;
    const float logit = logits[history_[i]];
    copy[history_[i]] = snap(logit > 0.0f ? logit / repeat_penalty_ : logit * repeat_penalty_);
  }
  return copy;
}

Status Sampler::ready(Span<const float> logits) const {
  if (logits.size() != vocab_size_ || vocab_size_ == 0) return Status::bad_argument;
  return (draws() || remembers()) && !float_mode_is_default() ? Status::rounding_mode : Status::ok;
}

Status Sampler::pick(Token& token, Span<const float> logits) {
  if (const Status s = ready(logits); s != Status::ok) return s;
  return choose(token, remembers() ? penalised(logits.data()) : logits.data());
}

Status Sampler::pick(Token& token, Span<const float> logits, Span<const Token> suppressed) {
  if (const Status s = ready(logits); s != Status::ok) return s;
  for (const Token t : suppressed)
    if (static_cast<std::uint32_t>(t) >= vocab_size_) return Status::bad_token;
  if (draws() || remembers()) {
    float* const l = remembers() ? penalised(logits.data()) : copied(logits.data());
    for (const Token t : suppressed) l[t] = float_of(0x7FC00000);
    return choose(token, l);
  }
  // Without scratch: the largest of all is seldom suppressed; where it is, the others are looked at one by one.
  const float* const l = logits.data();
  const auto may_pick = [&](std::uint32_t i) {
    if (l[i] != l[i]) return false;
    for (const Token t : suppressed)
      if (static_cast<std::uint32_t>(t) == i) return false;
    return true;
  };
  std::uint32_t best = kernels_->argmax(l, vocab_size_);
  if (!may_pick(best)) {
    for (best = 0; best < vocab_size_ && !may_pick(best);) ++best;
    if (best == vocab_size_) return Status::bad_argument;
    for (std::uint32_t i = best + 1; i < vocab_size_; ++i)
      if (l[i] > l[best] && may_pick(i)) best = i;
  }
  token = static_cast<Token>(best);
  return Status::ok;
}

// `l`: the logits, or a copy of them as penalty and suppression leave them.
Status Sampler::choose(Token& token, const float* l) {
  std::uint32_t best = kernels_->argmax(l, vocab_size_);
  // argmax takes a NaN for minus infinity, and may return one when nothing is larger than that.
  if (l[best] != l[best]) {
    for (best = 0; best < vocab_size_ && l[best] != l[best];) ++best;
    if (best == vocab_size_) return Status::bad_argument;
  }
  if (draws()) best = draw(l, best);
  token = static_cast<Token>(best);
  if (remembers()) remember(token);
  return Status::ok;
}

// One of the tokens by chance; `best` is the largest logit's.
std::uint32_t Sampler::draw(const float* logits, std::uint32_t best) {
  const std::uint32_t* w = weights_;
  kernels_->sample_weights(weights_, logits, vocab_size_, logits[best], inverse_temperature_);
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  Kept kept{0, vocab_size_, 0};
  if (top_k_) {
    kept = keep(w, vocab_size_, top_k_, kAll);
  } else {
    for (std::uint32_t i = 0; i < vocab_size_; ++i) kept.total += w[i];
  }
  // The sum S with S / total >= top_p is S >= ceil(top_p * total).
  if (top_p_) kept = keep(w, vocab_size_, top_k_ ? top_k_ : vocab_size_, share(top_p_, kept.total, kOne - 1));
  if (kBuiltFeatures.min_p && min_weight_ > kept.weight) {
    kept = {min_weight_ - 1, 0, 0};
    for (std::uint32_t i = 0; i < vocab_size_; ++i)
      if (w[i] > kept.weight) kept.total += w[i];
  }

  const auto uniform = static_cast<std::uint32_t>(next_random(state_) >> 40);
  const std::uint64_t threshold = share(uniform, kept.total, 0);
  std::uint64_t reached = 0;
  for (std::uint32_t i = 0; i < vocab_size_; ++i) {
    if (w[i] < kept.weight) continue;
    if (w[i] == kept.weight) {
      if (kept.ties == 0) continue;
      --kept.ties;
    }
    reached += w[i];
    if (reached > threshold) return i;
  }
  return best;  // without a positive weight (an infinite logit) nothing exceeds the threshold
}

}  // namespace heed
