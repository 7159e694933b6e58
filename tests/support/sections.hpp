// SPDX-License-Identifier: Apache-2.0
// sections.hpp: an image with other sections beside its tensors.
#pragma once
#include "quant/image_writer.hpp"
#include "runtime/generation.hpp"

namespace heed::test {

// `image` with these sections in the place of its own of the same kinds; an empty one takes a section away.
quant::ImageBytes with_sections(const quant::ImageBytes& image, const std::vector<quant::OptionalSection>& sections);

// The bytes of a generation section.
std::vector<std::uint8_t> generation_section(const std::vector<Token>& first, const std::vector<Token>& suppressed,
                                             const std::vector<Token>& endings);

}  // namespace heed::test
