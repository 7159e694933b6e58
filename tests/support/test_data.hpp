// SPDX-License-Identifier: Apache-2.0
// test_data.hpp: the folder of real models and texts that a test may use, and what happens where it is absent.
#pragma once
#include <string>

namespace heed::test {

// Path of a file below HEED_TEST_DATA. Empty, and counted and printed as skipped, where the folder or the file is
// absent; with HEED_REQUIRE_DATA=1 the test fails instead.
std::string data_path(const std::string& name);

// Prints why something was not tested, and counts it. For what does not depend on data: no such CPU, no such OS.
void skip(const std::string& why);

int& skipped_count();

}  // namespace heed::test
