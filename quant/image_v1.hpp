// SPDX-License-Identifier: Apache-2.0
// image_v1.hpp: images of version 1, which the runtime refuses, as a source.
#pragma once
#include "quant/error.hpp"
#include "quant/image_writer.hpp"

namespace heed::quant {

// Whether these are the first bytes of one.
bool is_image_v1(Span<const std::uint8_t> bytes);

// The same model as an image of version 2: every weight, scale and bias, the layout, tokenizer and metadata are kept.
// Refuses an image that version 1 did not allow; values are checked when the result is opened. `bytes` need no alignment.
Error upgrade_image_v1(ImageBytes& image, Span<const std::uint8_t> bytes, const Kernels& kernels);

}  // namespace heed::quant
