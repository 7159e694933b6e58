// SPDX-License-Identifier: Apache-2.0
// thread_pool_test.cpp: every part of every job runs once, whatever the threads do.
#include "platform/linux/thread_pool.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cfenv>
#include <memory>
#include <numeric>
#include <vector>

namespace heed {
namespace {

// Runs `count` parts and says how often each ran.
std::vector<int> run(const Parallel& parallel, std::uint32_t count) {
  std::vector<int> times(count, 0);  // no two threads write the same one, unless the pool is wrong
  for_each_part(parallel, count, [&](std::uint32_t i) { ++times[i]; });
  return times;
}

TEST_CASE("every part runs once") {
  const std::uint32_t threads = GENERATE(1u, 2u, 3u, 8u, 64u);
  const auto pool = std::make_unique<ThreadPool>();
  REQUIRE(pool->start(threads));
  REQUIRE(pool->threads() == threads);
  const Parallel parallel = pool->parallel();
  // Fewer parts than threads, as many, many more, and more than the 16 bits of a share's field.
  for (const std::uint32_t count : {0u, 1u, 2u, 3u, 63u, 64u, 65u, 1000u, 65535u, 65536u, 200000u})
    CHECK(run(parallel, count) == std::vector<int>(count, 1));
}

TEST_CASE("jobs follow each other, sleep between them or not") {
  const auto pool = std::make_unique<ThreadPool>();
  REQUIRE(pool->start(3));
  const Parallel parallel = pool->parallel();
  for (std::uint32_t job = 0; job < 20000; ++job) {
    std::uint64_t sums[5] = {};
    for_each_part(parallel, 5, [&](std::uint32_t i) { sums[i] = std::uint64_t{job} * 5 + i; });
    REQUIRE(std::accumulate(sums, sums + 5, std::uint64_t{0}) == std::uint64_t{job} * 25 + 10);
  }
  for (int job = 0; job < 20; ++job) {
    usleep(2000);  // the workers are asleep by then
    REQUIRE(run(parallel, 7) == std::vector<int>(7, 1));
  }
}

TEST_CASE("a pool starts once and may end without a job") {
  const auto pool = std::make_unique<ThreadPool>();
  CHECK(pool->threads() == 1);
  CHECK(pool->parallel().run == nullptr);
  CHECK(pool->start(2));
  CHECK_FALSE(pool->start(2));
}

TEST_CASE("no worker inherits another rounding mode") {
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    const auto pool = std::make_unique<ThreadPool>();
    REQUIRE(std::fesetround(mode) == 0);
    const bool started = pool->start(3);
    std::fesetround(FE_TONEAREST);
    CHECK_FALSE(started);
    CHECK(pool->threads() == 1);
    CHECK(pool->start(3));
    std::vector<int> modes(6, -1);
    for_each_part(pool->parallel(), 6, [&](std::uint32_t i) { modes[i] = std::fegetround(); });
    CHECK(modes == std::vector<int>(6, FE_TONEAREST));
  }
}

}  // namespace
}  // namespace heed
