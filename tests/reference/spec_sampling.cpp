// SPDX-License-Identifier: Apache-2.0
// spec_sampling.cpp: what stands behind the logits: SPEC.md 2.10, the weights of 3.2, the digest of 3.3, and CRC-32C.
#include <cmath>
#include <cstring>

#include "tests/reference/spec_oracle.hpp"

namespace spec {
namespace {

using D = Deviation;

bool is(D d) { return broken == d; }

std::uint32_t bits(float x) {
  std::uint32_t b;
  std::memcpy(&b, &x, 4);
  return b;
}

}  // namespace

float exponential(float x) {
  if (is(D::exp_of_nan_is_one) && x != x) x = 0.0f;
  if (!is(D::exp_has_no_low_end) || x != x) x = x > -87.0f ? x : -87.0f;
  const float high = is(D::exp_high_end) ? 87.0f : 88.0f;
  x = x < high ? x : high;
  float t = x * 1.44269504f;
  if (is(D::exp_rounds_down)) t = std::floor(t);
  t = t + 12582912.0f;
  const float n = t - 12582912.0f;
  float r = x - n * 0.693359375f;
  const float rest = n * -2.12194440e-4f;
  r = is(D::exp_is_reduced_once) ? x - n * 0.69314718056f : r - rest;
  const auto step = [r](float q, float c) {
    if (is(D::exp_is_fused)) return std::fma(q, r, c);
    const float product = q * r;
    return product + c;
  };
  float q = step(0.008312501013278961f, 0.041890330612659454f);
  q = step(q, 0.16667115688323975f);
  q = step(q, 0.499992311000824f);
  const float z = r * r;
  q = is(D::exp_square_is_last) ? (q * r) * r : q * z;
  q = is(D::exp_adds_one_first) ? (q + 1.0f) + r : (q + r) + 1.0f;
  const std::uint32_t result = bits(q) + (bits(t) << 23);
  float y;
  std::memcpy(&y, &result, 4);
  return y;
}

std::uint32_t sample_weight(float logit, float largest_logit, float inverse_temperature) {
  const float difference = logit - largest_logit;
  const float scaled = exponential(difference * inverse_temperature) * 4194304.0f;
  return bits(scaled + 8388608.0f) & 0x7FFFFF;
}

std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t bytes) {
  static const std::vector<std::uint32_t> table = [] {
    std::vector<std::uint32_t> t(256);
    for (std::uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = (t[i] >> 1) ^ (t[i] & 1 ? 0x82F63B78u : 0u);
    }
    return t;
  }();
  const auto* p = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (std::size_t i = 0; i < bytes; ++i) crc = (crc >> 8) ^ table[(crc ^ p[i]) & 255];
  return ~crc;
}

std::uint32_t digest(const std::vector<std::int32_t>& text, std::size_t prompt, const std::vector<Floats>& logits) {
  std::uint32_t crc = 0;
  for (std::size_t i = is(D::digest_with_prompt) ? 1 : prompt; i < text.size(); ++i) {
    const Floats& l = logits[is(D::digest_of_next_logits) ? i : i - 1];
    if (!is(D::digest_without_ids) && !is(D::digest_ids_last)) crc = crc32c(crc, &text[i], 4);
    crc = crc32c(crc, l.data(), 4 * l.size());
    if (is(D::digest_ids_last)) crc = crc32c(crc, &text[i], 4);
  }
  return crc;
}

}  // namespace spec
