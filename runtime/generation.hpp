// SPDX-License-Identifier: Apache-2.0
// generation.hpp: how a text begins, which tokens are never picked, and what ends it (SPEC.md 3.3), from an image.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/span.hpp"
#include "runtime/status.hpp"
#include "runtime/token.hpp"

namespace heed {

// A checked view of an image's generation section, which must outlive it; without such a section BOS and EOS say it all.
class Generation {
 public:
  // The tokens in front of those of a prompt's text: the image's, or without any BOS if there is one. A view of the image or
  // of this object.
  Span<const Token> first() const { return n_first_ ? Span<const Token>(tokens_, n_first_) : Span<const Token>(&bos_, has_bos()); }
  // Tokens that are never picked, for Sampler::pick; they may stand in a prompt.
  Span<const Token> suppressed() const { return {tokens_ + n_first_, n_suppressed_}; }
  // Whether a text is complete with this token, which was picked: one of the image's endings, or without any EOS, or BOS,
  // which begins another text. It counts as generated, has its place in the digest, and is neither printed nor fed back.
  bool ends_text(Token token) const;
  // What a text that is known ends with: the first of the image's endings, or without any EOS, else BOS; kNoToken if there
  // is none.
  Token ending() const {
    return n_endings_ ? tokens_[n_first_ + n_suppressed_] : eos_ != kNoToken ? eos_ : bos_;
  }

 private:
  friend Status open(Generation&, Span<const std::uint8_t>, std::uint32_t, Token, Token);
  std::size_t has_bos() const { return bos_ != kNoToken ? 1 : 0; }

  const Token* tokens_ = nullptr;  // [n_first, n_suppressed, n_endings], one list behind the other
  std::uint32_t n_first_ = 0, n_suppressed_ = 0, n_endings_ = 0;
  Token bos_ = kNoToken, eos_ = kNoToken;
};

// `section`: Model::generation(), aligned to 4, possibly empty; vocab_size: of the main stack; bos and eos: the
// tokenizer's, kNoToken where there is none. Afterwards every token of the section is one of the vocabulary. Fails with
// misaligned or bad_section: not three counts and as many tokens as they say, or a token outside the vocabulary.
Status open(Generation& generation, Span<const std::uint8_t> section, std::uint32_t vocab_size, Token bos = kNoToken,
            Token eos = kNoToken);

}  // namespace heed
