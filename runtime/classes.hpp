// SPDX-License-Identifier: Apache-2.0
// classes.hpp: the names of a model's outputs, from an image's section of them (SPEC.md 1.7). It is checked when a program asks,
// not by `open` of the image; one that does not ask carries no code for it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/span.hpp"
#include "runtime/status.hpp"

namespace heed {

// Whether a section of class names has n_outputs lines, none of them empty. Fails with bad_section.
Status check_classes(Span<const std::uint8_t> section, std::uint32_t n_outputs);
// The name of one output, UTF-8 without a final zero, a view into the section; empty if there is none. Takes time in
// proportion to `index`.
Span<const char> class_name(Span<const std::uint8_t> section, std::uint32_t index);

}  // namespace heed
