// SPDX-License-Identifier: Apache-2.0
// output_names.hpp: what a model's outputs are called.
#pragma once
#include <optional>
#include <string>

#include "examples/heed/host_session.hpp"

namespace heed::tool {

// The classes of the image; without them tokens of the vocabulary, where the outputs are tokens; otherwise numbers.
class OutputNames {
 public:
  // `loaded` must outlive it.
  explicit OutputNames(const LoadedModel& loaded);

  // Whether outputs have names, rather than numbers alone.
  bool known() const { return !model_.classes().empty() || tokenizer_; }
  // One line of text, without control characters.
  std::string operator[](std::uint32_t output) const;

 private:
  const Model& model_;
  std::optional<Tokenizer> tokenizer_;
};

// What a token stands for, as one line.
std::string piece_of(const Tokenizer& tokenizer, Token token);

}  // namespace heed::tool
