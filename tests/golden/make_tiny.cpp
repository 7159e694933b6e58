// SPDX-License-Identifier: Apache-2.0
// make_tiny.cpp: writes the golden image. `make_tiny tests/golden/tiny.heed`
#include <cstdio>

#include "tests/golden/tiny.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_tiny FILE.heed\n");
    return 2;
  }
  const heed::quant::ImageBytes image = heed::golden::tiny_image(heed::Layout::row, heed::kernels_portable);
  const heed::quant::Error error = image.empty() ? heed::quant::Error("the quantiser refuses the tiny model")
                                                 : heed::quant::write_file(argv[1], {image.data(), image.size()});
  if (!error) return 0;
  std::fprintf(stderr, "make_tiny: %s\n", error.sentence().c_str());
  return 1;
}
