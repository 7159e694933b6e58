// SPDX-License-Identifier: Apache-2.0
// output_names.cpp: lines of the section `classes`, or pieces of the tokenizer.
#include "examples/heed/output_names.hpp"

#include "examples/heed/output.hpp"
#include "examples/heed/refusal.hpp"

namespace heed::tool {

OutputNames::OutputNames(const LoadedModel& loaded) {
  const StackConfig& c = loaded.model.config().main();
  const Span<const std::uint8_t> section = loaded.model.classes();
  if (!section.empty()) {
    std::string name;
    for (std::size_t i = 0; i <= section.size(); ++i) {
      if (i < section.size() && section[i] != '\n') {
        name += static_cast<char>(section[i]);
        continue;
      }
      if (i < section.size() || !name.empty()) names_.push_back(one_line(name));  // the last line may have no end
      name.clear();
    }
    if (names_.size() != c.n_outputs)
      refuse(loaded.path, "it has " + counted(names_.size(), "class name") + " for " + counted(c.n_outputs, "output"));
    return;
  }
  if (c.input == Input::tokens && c.output == Output::logits && c.n_outputs == c.vocab_size &&
      !loaded.model.tokenizer().empty())
    tokenizer_ = tokenizer_of(loaded);
}

std::string OutputNames::operator[](std::uint32_t output) const {
  if (!names_.empty()) return names_[output];
  if (tokenizer_) return piece_of(*tokenizer_, static_cast<Token>(output));
  return std::to_string(output);
}

std::string piece_of(const Tokenizer& tokenizer, Token token) {
  Span<const char> bytes;
  // Behind no token in particular, so that a space in front stays.
  const Token before = token == 0 ? 1 : 0;
  require(tokenizer.decode(bytes, before, token), "output");
  return one_line({bytes.data(), bytes.size()});
}

}  // namespace heed::tool
