// SPDX-License-Identifier: Apache-2.0
// catch_main.cpp: main() of every test program that uses Catch2; says at the end how much was skipped.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include "tests/support/catch.hpp"
#include "tests/support/test_data.hpp"

int main(int argc, char* argv[]) {
  const int result = Catch::Session().run(argc, argv);
  if (heed::test::skipped_count() != 0) std::printf("skipped: %d\n", heed::test::skipped_count());
  return result;
}
