// SPDX-License-Identifier: Apache-2.0
// check.hpp: TEST_CASE, CHECK and REQUIRE for every target: Catch2 where there is an OS, and on bare metal a stand-in
// that reports over semihosting and whose main() fails the emulator's exit status.
#pragma once

#if !defined(__ARM_ARCH_PROFILE) || __ARM_ARCH_PROFILE != 'M'
#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_test_macros.hpp>
#else
#include <catch2/catch.hpp>
#endif
#else

#include <initializer_list>  // as Catch2's header does

#include "platform/baremetal/semihosting.hpp"

namespace heed::check {

struct TestCase {
  const char* name;
  void (*run)();
  TestCase* next = nullptr;
  TestCase(const char* case_name, void (*body)()) : name(case_name), run(body) {
    TestCase** at = &first();
    while (*at) at = &(*at)->next;
    *at = this;
  }
  static TestCase*& first() {
    static TestCase* list = nullptr;
    return list;
  }
};

inline unsigned failed_checks = 0;

// Prints the first failures of a run only: a broken kernel fails thousands of times.
inline bool check(bool ok, const char* text, const char* file, int line) {
  if (ok) return true;
  if (++failed_checks > 20) return false;
  semihosting::put_text(file);
  semihosting::put_text(":");
  semihosting::put_decimal(static_cast<std::uint32_t>(line));
  semihosting::put_text(": FAILED: ");
  semihosting::put_text(text);
  semihosting::put_text("\n");
  return false;
}

inline int run_all() {
  std::uint32_t passed = 0, failed = 0;
  for (TestCase* test = TestCase::first(); test; test = test->next) {
    const unsigned before = failed_checks;
    test->run();
    const bool ok = failed_checks == before;
    ++(ok ? passed : failed);
    if (!ok) semihosting::put_text("in test case: "), semihosting::put_text(test->name), semihosting::put_text("\n");
  }
  semihosting::put_decimal(passed);
  semihosting::put_text(" passed, ");
  semihosting::put_decimal(failed);
  semihosting::put_text(" failed\n");
  return failed == 0 && passed != 0 ? 0 : 1;
}

}  // namespace heed::check

// Weak, so that several test files may be linked into one program.
__attribute__((weak)) int main() { return heed::check::run_all(); }

#define HEED_CHECK_JOIN2(a, b) a##b
#define HEED_CHECK_JOIN(a, b) HEED_CHECK_JOIN2(a, b)
#define HEED_CHECK_CASE(function, name) \
  static void function();               \
  static ::heed::check::TestCase HEED_CHECK_JOIN(function, _case)(name, function); \
  static void function()
// The second argument of Catch2, tags, is accepted and ignored.
#define HEED_CHECK_FIRST(first, ...) first
#define TEST_CASE(...) HEED_CHECK_CASE(HEED_CHECK_JOIN(heed_test_, __LINE__), HEED_CHECK_FIRST(__VA_ARGS__, ""))
#define CHECK(...) \
  static_cast<void>(::heed::check::check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__))
#define CHECK_FALSE(...) CHECK(!(__VA_ARGS__))
// Leaves the function it is in, which therefore returns void.
#define REQUIRE(...)                                                                                               \
  do {                                                                                                             \
    if (!::heed::check::check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)) return;            \
  } while (false)

#endif
