// SPDX-License-Identifier: Apache-2.0
// generation.hpp: which tokens begin a generated text, which are never picked, which end it: the image's generation
// section, or BOS and EOS of the vocabulary where it has none (SPEC.md 3.3).
#pragma once
#include <string>
#include <vector>

#include "examples/heed/host_session.hpp"

namespace heed::tool {

class Generation {
 public:
  // Refuses a section that contradicts itself or names tokens that the model does not have.
  Generation(const LoadedModel& loaded, const Tokenizer& tokenizer);

  // Tokens in front of a prompt's own: BOS, if there is one, unless the image says others.
  const std::vector<Token>& first() const { return first_; }
  const std::vector<Token>& suppressed() const { return suppressed_; }
  // What ends a text; a text that is scored as a whole ends with the first of them.
  const std::vector<Token>& endings() const { return endings_; }
  bool ends_text(Token token) const;
  // The logits that a token is picked from: those of suppressed tokens are NaN, which no sampler picks. Valid until the
  // next call.
  Span<const float> allowed(Span<const float> logits);

 private:
  std::vector<Token> first_, suppressed_, endings_;
  std::vector<float> allowed_;
};

}  // namespace heed::tool
