// SPDX-License-Identifier: Apache-2.0
// output.hpp: how commands print numbers, and JSON where a program reads them.
#pragma once
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace heed::tool {

// Keys keep the order in which they were written.
using Json = nlohmann::ordered_json;

void print_json(const Json& json);

// 260032 -> "260,032"
std::string grouped(std::uint64_t n);
// 1 -> "1 thread", 2 -> "2 threads"
std::string counted(std::uint64_t n, const char* what);
// 0x1a2b -> "00001a2b"
std::string hex8(std::uint32_t n);
// Three significant digits and a unit: 12.3 G
std::string engineering(double x);

// null when there is no such number.
inline Json number_or_null(double x) { return x > 0.0 ? Json(x) : Json(nullptr); }

// One word of a shell's command, as a path that is printed in one; quoted where it has to be.
std::string shell_word(const std::string& text);

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace heed::tool
