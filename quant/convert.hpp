// SPDX-License-Identifier: Apache-2.0
// convert.hpp: from the files that people have to the bytes of an image, in one call.
#pragma once
#include <optional>
#include <string>

#include "quant/quantize.hpp"

namespace heed::quant {

// Which form the value maps of an image have: the cheaper one (value_map_cost.hpp), or a given one.
enum class ValueMapChoice : std::uint8_t { cheaper, factors, undivided };

struct ConvertOptions {
  std::optional<Layout> layout;  // empty = an image's own, of a float model packed
  QuantizeOptions quantize;   // not for a .heed source, which keeps its numbers
  ReadOptions read;           // the same
  std::uint32_t context = 0;  // positions, at most the model's; 0 = the model's
  std::uint32_t source_context = 0;  // the same of the first of two stacks
  std::string name;           // empty = the source file's name without its extension
  std::string licence;        // as an SPDX expression; empty = not said
  std::string source_tokenizer;  // of the first of two stacks, as `tokenizer` of `convert`
  std::string calibration;    // safetensors file with a tensor `inputs` for the first stack (SPEC.md 7.5); empty = none
  ValueMapChoice value_map = ValueMapChoice::cheaper;
  Parallel parallel;          // threads to use; never changes a byte
};

struct ConvertReport {
  std::string format;          // of the source: "llama2.c version 0", "heed", "GGUF llama", "Hugging Face GPT2LMHeadModel"
  std::uint64_t source_bytes = 0, image_bytes = 0, parameters = 0;
  ModelConfig config;
  Layout layout = Layout::row;
  double rope_theta = kUsualTheta;
  bool requantised = false;    // false for a .heed source: `quantize` is empty then
  QuantizeReport quantize;
  std::vector<std::string> value_maps;  // the form of each stack's, and why; one line each
  Metadata metadata;           // as written
};

// Reads a float model. Today's formats: llama2.c versions 0 and 1, GGUF in one file or several (the first is named),
// Hugging Face folders (readers/family.hpp lists the families), and safetensors with a description.
Error read_model(FloatModel& model, const std::string& path, const ReadOptions& options = {});

// Refuses an output that would replace what `convert` reads: the source, other parts of it, its description, a tokenizer,
// the calibration, or a file of a source folder that is no image; links of either kind included. An image may replace itself, unless its
// context becomes shorter.
Error check_output(const std::string& output, const std::string& source, const std::string& tokenizer,
                   const ConvertOptions& options);

// Converts `source` (what read_model takes, or an image for another layout) with the vocabulary in `tokenizer` (empty =
// the description's; without one, or "none", an image without tokenizer) to an image that `open` and `verify` accept. The same inputs give the same bytes on
// every host. `kernels` is any table.
Error convert(ImageBytes& image, ConvertReport& report, const std::string& source, const std::string& tokenizer,
              const ConvertOptions& options, const Kernels& kernels);

// The same to a file, which is replaced when all of the image has been written and checked (OutputFile); the image never
// stands in memory.
Error convert_file(const std::string& output, ConvertReport& report, const std::string& source,
                   const std::string& tokenizer, const ConvertOptions& options, const Kernels& kernels);

// An image with the same numbers in another layout: everything but the weights' order and the checksums is kept.
Error relayout(ImageBytes& image, const Model& model, Layout layout, const Kernels& kernels);

}  // namespace heed::quant
