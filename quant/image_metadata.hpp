// SPDX-License-Identifier: Apache-2.0
// image_metadata.hpp: what an image says about where it comes from and how it was quantised (SPEC.md 1.3).
#pragma once
#include <string>

#include "quant/quantize.hpp"

namespace heed::quant {

struct MetadataOptions {
  std::string source;   // path of what was read
  std::string name;     // empty = the model's, or the source file's without its extension
  std::string licence;  // empty = the model's, if it says one
};

// `config` is the image's. Reads the files of the model once, for their checksum.
Metadata describe_model(const FloatModel& model, const QuantizeReport& report, const ModelConfig& config,
                        const MetadataOptions& options, const Kernels& kernels);

// The weights' error, which is known last; the text keeps its length.
void set_weight_error(Metadata& metadata, double error);

// The lines of a metadata section.
Metadata parse_metadata(Span<const std::uint8_t> section);

}  // namespace heed::quant
