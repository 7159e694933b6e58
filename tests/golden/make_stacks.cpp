// SPDX-License-Identifier: Apache-2.0
// make_stacks.cpp: writes the golden images of stacks.hpp. `make_stacks two|frames FILE.heed`
#include <cstdio>
#include <cstring>

#include "tests/golden/stacks.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

int main(int argc, char** argv) {
  const bool two = argc == 3 && std::strcmp(argv[1], "two") == 0;
  if (!two && (argc != 3 || std::strcmp(argv[1], "frames") != 0))
    return std::fprintf(stderr, "usage: make_stacks two|frames FILE.heed\n"), 2;
  const heed::quant::ImageBytes image = two ? heed::golden::two_image(heed::Layout::row, heed::kernels_portable)
                                            : heed::golden::frames_image(heed::Layout::row, heed::kernels_portable);
  const heed::quant::Error error = image.empty() ? heed::quant::Error("the vocabulary is refused")
                                                 : heed::quant::write_file(argv[2], {image.data(), image.size()});
  if (!error) return 0;
  std::fprintf(stderr, "make_stacks: %s\n", error.sentence().c_str());
  return 1;
}
