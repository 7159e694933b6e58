// SPDX-License-Identifier: Apache-2.0
// make_stacks.cpp: writes the golden images of stacks.hpp, for each layout that firmware carries.
// `make_stacks two|frames row|pair|block64 FILE.heed`
#include <cstdio>
#include <cstring>

#include "tests/golden/stacks.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

int main(int argc, char** argv) {
  static constexpr struct {
    const char* name;
    heed::Layout layout;
  } kLayouts[] = {{"row", heed::Layout::row}, {"pair", heed::Layout::pair}, {"block64", heed::Layout::block64}};
  const bool two = argc == 4 && std::strcmp(argv[1], "two") == 0, frames = argc == 4 && std::strcmp(argv[1], "frames") == 0;
  for (const auto& l : kLayouts) {
    if (!(two || frames) || std::strcmp(argv[2], l.name) != 0) continue;
    const heed::quant::ImageBytes image = two ? heed::golden::two_image(l.layout, heed::kernels_portable)
                                              : heed::golden::frames_image(l.layout, heed::kernels_portable);
    const heed::quant::Error error = image.empty() ? heed::quant::Error("the vocabulary is refused")
                                                   : heed::quant::write_file(argv[3], {image.data(), image.size()});
    if (!error) return 0;
    std::fprintf(stderr, "make_stacks: %s\n", error.sentence().c_str());
    return 1;
  }
  std::fprintf(stderr, "usage: make_stacks two|frames row|pair|block64 FILE.heed\n");
  return 2;
}
