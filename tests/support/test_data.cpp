// SPDX-License-Identifier: Apache-2.0
// test_data.cpp: HEED_TEST_DATA and HEED_REQUIRE_DATA.
#include "tests/support/test_data.hpp"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace heed::test {

int& skipped_count() {
  static int count = 0;
  return count;
}

void skip(const std::string& why) {
  ++skipped_count();
  std::printf("skipped: %s\n", why.c_str());
}

std::string data_path(const std::string& name) {
  const char* folder = std::getenv("HEED_TEST_DATA");
  const std::string path = folder ? std::string(folder) + "/" + name : std::string();
  std::FILE* file = folder ? std::fopen(path.c_str(), "rb") : nullptr;
  if (file) {
    std::fclose(file);
    return path;
  }
  const char* require = std::getenv("HEED_REQUIRE_DATA");
  if (require && std::string(require) == "1")
    throw std::runtime_error("HEED_REQUIRE_DATA=1, and no " + name + " in HEED_TEST_DATA");
  skip(name + " needs HEED_TEST_DATA");
  return {};
}

}  // namespace heed::test
