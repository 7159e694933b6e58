// SPDX-License-Identifier: Apache-2.0
// sections.hpp: what an image's optional sections say about using the model (SPEC.md 1.6 and 1.7). Each is checked when it is
// opened, not by `open` of the image; a program that asks for none of them carries no code for them.
#pragma once
#include "runtime/model.hpp"
#include "runtime/token.hpp"

namespace heed {

// Tokens with a role in generated texts; views into the section, which must outlive them.
struct Generation {
  Span<const Token> first;       // a generated text begins with these, in this order
  Span<const Token> suppressed;  // never picked
  Span<const Token> endings;     // each ends a text
};
// No such section gives three empty lists: BOS begins a text, EOS and BOS end it. Fails with misaligned (not to 4, which a
// section of an opened image is) or bad_section; `generation` is empty then.
Status open(Generation& generation, Span<const std::uint8_t> section, std::uint32_t vocab_size);

// Whether a section of class names has n_outputs lines, none of them empty. Fails with bad_section.
Status check_classes(Span<const std::uint8_t> section, std::uint32_t n_outputs);
// The name of one output, UTF-8 without a final zero, a view into the section; empty if there is none. Takes time in
// proportion to `index`.
Span<const std::uint8_t> class_name(Span<const std::uint8_t> section, std::uint32_t index);

}  // namespace heed
