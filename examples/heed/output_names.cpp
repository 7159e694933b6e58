// SPDX-License-Identifier: Apache-2.0
// output_names.cpp: the image's class names, or pieces of the tokenizer.
#include "examples/heed/output_names.hpp"

#include "examples/heed/refusal.hpp"

namespace heed::tool {

OutputNames::OutputNames(const LoadedModel& loaded) : model_(loaded.model) {
  const StackConfig& c = model_.config().main();
  const bool are_tokens = c.input == Input::tokens && c.output == Output::logits && c.n_outputs == c.vocab_size;
  if (are_tokens && model_.classes().empty() && !model_.tokenizer().empty()) tokenizer_ = tokenizer_of(loaded);
}

std::string OutputNames::operator[](std::uint32_t output) const {
  if (tokenizer_) return piece_of(*tokenizer_, static_cast<Token>(output));
  const Span<const char> name = model_.class_name(output);
  return name.empty() ? std::to_string(output) : one_line({name.data(), name.size()});
}

std::string piece_of(const Tokenizer& tokenizer, Token token) {
  Span<const char> bytes;
  // Behind no token in particular, so that a space in front stays.
  const Token before = token == 0 ? 1 : 0;
  require(tokenizer.decode(bytes, before, token), "output");
  return one_line({bytes.data(), bytes.size()});
}

}  // namespace heed::tool
