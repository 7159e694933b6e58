// SPDX-License-Identifier: Apache-2.0
// fuzz_description.cpp: any bytes as a description and its safetensors file: refused with one sentence, or quantised to an
// image that opens, with either form of its value maps. Input: u16 length of the JSON, the JSON, the safetensors file.
#include <cstdint>
#include <cstdlib>

#include "quant/quantize.hpp"
#include "quant/readers/description.hpp"
#include "quant/value_map.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// One line, whatever names the file has.
bool refused(const heed::quant::Error& error) {
  require(error.sentence().find('\n') == std::string::npos);
  return static_cast<bool>(error);
}

void quantise(const heed::quant::FloatModel& model) {
  using namespace heed;
  using namespace heed::quant;
  QuantizedModel result;
  QuantizeReport report;
  if (refused(quantize_model(result, report, model, Layout::row, {std::nullopt, true, true, false}, kernels_portable))) return;
  ImageBytes image;
  write_image(image, result.config, *result.tensors, {}, {}, kernels_portable);
  Model opened;
  require(open(opened, {image.data(), image.size()}, kernels_portable) == Status::ok);
  require(verify(opened, kernels_portable) == Status::ok);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heed;
  using namespace heed::quant;
  if (size < 2) return 0;
  const Span<const std::uint8_t> input{data + 2, size - 2};
  const std::size_t wanted = data[0] | std::size_t{data[1]} << 8, split = wanted < input.size() ? wanted : input.size();
  FloatModel model;
  if (refused(read_description(model, input.subspan(0, split), input.subspan(split, input.size() - split)))) return 0;
  quantise(model);
  bool changed = false;
  for (std::uint32_t stack = 0; stack < model.config.n_stacks; ++stack) {
    if (!why_not_undivided(model.config.stacks[stack]).empty()) continue;
    make_undivided(model, stack);
    changed = true;
  }
  if (changed && !refused(check(model))) quantise(model);
  return 0;
}
