// SPDX-License-Identifier: Apache-2.0
// tokenizers.hpp: the tokenizer sections of an image, from the vocabularies that somebody names.
#pragma once
#include <string>
#include <vector>

#include "quant/source.hpp"

namespace heed::quant {

// The tokenizers of both stacks; an empty section where there is none. Where only the source reads tokens, `tokenizer` is
// for those.
struct Tokenizers {
  std::vector<std::uint8_t> main, source;
};

// `tokenizer` and `source_tokenizer` are a form of characters.hpp or a path of a llama2.c vocabulary, or empty. Sets the model's
// bos and eos to the vocabulary's, where its generation does not say others.
Error build_tokenizers(Tokenizers& sections, FloatModel& model, const std::string& tokenizer,
                       const std::string& source_tokenizer);

}  // namespace heed::quant
