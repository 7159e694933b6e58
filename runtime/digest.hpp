// SPDX-License-Identifier: Apache-2.0
// digest.hpp: one number for a whole run, equal on every target when the answer is (SPEC.md 3.3,
// 3.4).
#pragma once
#include "runtime/bits.hpp"
#include "runtime/kernels.hpp"
#include "runtime/span.hpp"
#include "runtime/token.hpp"

namespace heed {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the digest reads floats where they lie");

// CRC-32C over each generated token's id and the logits that the sampler saw. Keep it out of timed regions.
class Digest {
 public:
  // `logits` are those that `token` was picked from.
  void add(const Kernels& kernels, Token token, Span<const float> logits) {
    crc_ = kernels.crc32c(crc_, &token, sizeof token);
    crc_ = kernels.crc32c(crc_, logits.data(), logits.size() * sizeof(float));
    for (float logit : logits) nan_ |= (bits_of(logit) & 0x7FFFFFFFu) > 0x7F800000u;
  }
  // Of a model that encodes: a row that came out, and its position; 0 for the one row of a pooled sequence (SPEC.md 3.4).
  void add_row(const Kernels& kernels, std::uint32_t position, Span<const float> row) {
    add(kernels, static_cast<Token>(position), row);
  }
  std::uint32_t value() const { return crc_; }
  // A run that met a NaN has no digest worth comparing; programs treat it as an error.
  bool saw_nan() const { return nan_; }

 private:
  std::uint32_t crc_ = 0;
  bool nan_ = false;
};

}  // namespace heed
