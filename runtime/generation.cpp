// SPDX-License-Identifier: Apache-2.0
// generation.cpp: reading an image's generation section. Rule numbers are those of SPEC.md, part 5.
#include "runtime/one_rounding.hpp"

#include "runtime/generation.hpp"

#include <cstring>

namespace heed {

Status open(Generation& generation, Span<const std::uint8_t> section, std::uint32_t vocab_size, Token bos, Token eos) {
  Generation g;
  g.bos_ = bos;
  g.eos_ = eos;
  if (!section.empty()) {
    if (reinterpret_cast<std::uintptr_t>(section.data()) % alignof(Token)) return Status::misaligned;
    std::uint32_t counts[3];
    if (section.size() < sizeof counts || section.size() % sizeof(Token)) return Status::bad_section;  // G1
    std::memcpy(counts, section.data(), sizeof counts);
    const std::size_t n_tokens = (section.size() - sizeof counts) / sizeof(Token);
    if (std::uint64_t{counts[0]} + counts[1] + counts[2] != n_tokens) return Status::bad_section;  // G1
    // The image is aligned and little-endian, and used in place.
    g.tokens_ = reinterpret_cast<const Token*>(section.data() + sizeof counts);
    for (std::size_t i = 0; i < n_tokens; ++i)
      if (static_cast<std::uint32_t>(g.tokens_[i]) >= vocab_size) return Status::bad_section;  // G2
    g.n_first_ = counts[0];
    g.n_suppressed_ = counts[1];
    g.n_endings_ = counts[2];
  }
  generation = g;
  return Status::ok;
}

bool Generation::ends_text(Token token) const {
  if (!n_endings_) return token != kNoToken && (token == eos_ || token == bos_);
  const Token* const endings = tokens_ + n_first_ + n_suppressed_;
  for (std::uint32_t i = 0; i < n_endings_; ++i)
    if (endings[i] == token) return true;
  return false;
}

}  // namespace heed
