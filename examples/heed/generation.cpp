// SPDX-License-Identifier: Apache-2.0
// generation.cpp: three lists of tokens, u32 lengths first.
#include "examples/heed/generation.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "examples/heed/refusal.hpp"

namespace heed::tool {

Generation::Generation(const LoadedModel& loaded, const Tokenizer& tokenizer) {
  const Span<const std::uint8_t> section = loaded.model.section(SectionKind::generation);
  if (!section.empty()) {
    const std::uint32_t vocab_size = loaded.model.config().main().vocab_size;
    const auto word = [&](std::size_t i) {
      std::uint32_t value;
      std::memcpy(&value, section.data() + 4 * i, sizeof value);
      return value;
    };
    const std::size_t words = section.size() / 4;
    std::vector<Token>* const lists[] = {&first_, &suppressed_, &endings_};
    std::size_t at = 3, lengths = 3;
    for (std::size_t i = 0; i < 3 && words >= 3; ++i) lengths += word(i);
    if (section.size() % 4 || words < 3 || lengths != words)
      refuse(loaded.path, "the lists of its generation section do not fill the section");
    for (std::size_t i = 0; i < 3; ++i)
      for (std::uint32_t n = word(i); n > 0; --n, ++at) {
        if (word(at) >= vocab_size)
          refuse(loaded.path, "its generation section names token " + std::to_string(word(at)) + " of a vocabulary of " +
                                  std::to_string(vocab_size));
        lists[i]->push_back(static_cast<Token>(word(at)));
      }
  }
  if (first_.empty() && tokenizer.bos() != kNoToken) first_.push_back(tokenizer.bos());
  if (endings_.empty())
    for (const Token token : {tokenizer.eos(), tokenizer.bos()})
      if (token != kNoToken) endings_.push_back(token);
}

bool Generation::ends_text(Token token) const { return std::find(endings_.begin(), endings_.end(), token) != endings_.end(); }

Span<const float> Generation::allowed(Span<const float> logits) {
  if (suppressed_.empty()) return logits;
  allowed_.assign(logits.begin(), logits.end());
  for (const Token token : suppressed_) allowed_[static_cast<std::size_t>(token)] = std::numeric_limits<float>::quiet_NaN();
  return allowed_;
}

}  // namespace heed::tool
