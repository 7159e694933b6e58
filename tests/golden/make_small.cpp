// SPDX-License-Identifier: Apache-2.0
// make_small.cpp: writes the second golden image, for each layout that firmware carries.
// `make_small row|pair|block64 tests/golden/small.heed`
#include <cstdio>
#include <cstring>

#include "tests/golden/small.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

int main(int argc, char** argv) {
  static constexpr struct {
    const char* name;
    heed::Layout layout;
  } kLayouts[] = {{"row", heed::Layout::row}, {"pair", heed::Layout::pair}, {"block64", heed::Layout::block64}};
  for (const auto& l : kLayouts) {
    if (argc != 3 || std::strcmp(argv[1], l.name) != 0) continue;
    const heed::quant::ImageBytes image = heed::golden::small_image(l.layout, heed::kernels_portable);
    const heed::quant::Error error = image.empty() ? heed::quant::Error("the vocabulary is refused")
                                                   : heed::quant::write_file(argv[2], {image.data(), image.size()});
    if (!error) return 0;
    std::fprintf(stderr, "make_small: %s\n", error.sentence().c_str());
    return 1;
  }
  std::fprintf(stderr, "usage: make_small row|pair|block64 FILE.heed\n");
  return 2;
}
