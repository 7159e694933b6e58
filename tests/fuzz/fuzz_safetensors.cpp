// SPDX-License-Identifier: Apache-2.0
// fuzz_safetensors.cpp: any bytes as a Hugging Face folder of the GPT-2 family: refused with one sentence, or quantised
// to an image that opens; and its tensors as a header of layers. Input: u16 length of config.json, config.json, model.safetensors.
#include <cstdint>
#include <cstdlib>

#include "quant/layer_header.hpp"
#include "quant/quantize.hpp"
#include "quant/readers/huggingface.hpp"
#include "quant/readers/safetensors.hpp"

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heed;
  using namespace heed::quant;
  if (size < 2) return 0;
  const Span<const std::uint8_t> input{data + 2, size - 2};
  const std::size_t wanted = data[0] | std::size_t{data[1]} << 8, split = wanted < input.size() ? wanted : input.size();
  SafeTensors tensors;
  if (refused(tensors.open(input.subspan(split, input.size() - split)))) return 0;
  for (const SafeTensor& t : tensors.tensors()) {
    std::vector<float> x;
    if (!refused(read_floats(x, t))) require(x.size() == t.elements);
    require(tensors.find(t.name) == &t);
  }
  std::string header;
  LayerReport layers;
  LayerHeaderOptions options;
  options.name = "fuzz";
  options.group = wanted % 2 ? 32 : 0;
  if (!refused(make_layer_header(header, layers, tensors, options))) {
    require(layers.bytes > 0);
    for (const char c : header) require((static_cast<unsigned char>(c) >= 32 && c != 127) || c == '\n');  // names of tensors stay in their comments
    for (std::size_t at = header.find("// "); at != std::string::npos; at = header.find("// ", header.find('\n', at)))
      require(header[header.find('\n', at) - 1] != '\\');
  }
  FloatModel model;
  if (refused(read_huggingface(model, input.subspan(0, split), input.subspan(split, input.size() - split)))) return 0;
  QuantizedModel result;
  QuantizeReport report;
  if (refused(quantize_model(result, report, model, Layout::row, {std::nullopt, true, true, false}, kernels_portable))) return 0;
  ImageBytes image;
  write_image(image, result.config, *result.tensors, {}, {}, kernels_portable);
  Model opened;
  require(open(opened, {image.data(), image.size()}, kernels_portable) == Status::ok);
  require(verify(opened, kernels_portable) == Status::ok);
  return 0;
}
