// SPDX-License-Identifier: Apache-2.0
// fuzz_llama2c.cpp: any bytes as a llama2.c checkpoint: refused with one sentence, or quantised to an image that opens.
// Input: u8 whose low bits choose layout and groups, the file.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "quant/quantize.hpp"
#include "quant/readers/llama2c.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heed;
  using namespace heed::quant;
  if (size < 1) return 0;
  FloatModel model;
  if (const Error error = read_llama2c(model, {data + 1, size - 1})) {
    require(error.sentence().find('\n') == std::string::npos);
    return 0;
  }
  // What it costs grows with positions and layers, which take no bytes in a file.
  if (model.config.main().max_seq > 32) model.config.main().max_seq = 32;
  const auto layout = static_cast<Layout>(data[0] & 3);
  static constexpr std::uint32_t kGroups[4] = {0, 32, 64, 256};
  QuantizeOptions options;
  if (data[0] & 16) options.group = kGroups[(data[0] >> 2) & 3];
  options.key_offset = (data[0] & 32) == 0;
  options.run_whole = (data[0] & 64) != 0;
  QuantizedModel result;
  QuantizeReport report;
  if (const Error error = quantize_model(result, report, model, layout, options, kernels_portable)) {
    require(error.sentence().find('\n') == std::string::npos);
    return 0;
  }
  ImageBytes image;
  write_image(image, result.config, *result.tensors, {}, {}, kernels_portable);
  Model opened;
  require(open(opened, {image.data(), image.size()}, kernels_portable) == Status::ok);
  require(verify(opened, kernels_portable) == Status::ok);
  return 0;
}
