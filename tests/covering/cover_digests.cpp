// SPDX-License-Identifier: Apache-2.0
// cover_digests.cpp: the models of a file of cases on every table that runs here and reads their layout, in chunks of 1, 7, 64
// and all positions, with one to three threads, each in exactly the planned memory, some in three blocks: one digest.
//
//   cover_digests FILE [--few]    --few: each chunk with one number of threads only, and each model in two of the chunks
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "platform/linux/map_file.hpp"
#include "platform/linux/thread_pool.hpp"
#include "platform/select.hpp"
#include "tests/covering/covered.hpp"
#include "tests/support/arena.hpp"

namespace {

using namespace heed;
using test::CoveredModel;
using test::CoverHeader;

struct Way {
  std::uint32_t chunk, threads, score_rows;
};
constexpr std::uint32_t kAll = 4096;
constexpr Way kWays[] = {{1, 1, 1}, {7, 2, 3}, {64, 3, 64}, {kAll, 1, 2},  // those of --few
                         {1, 2, 5}, {1, 3, 1}, {7, 1, 1}, {7, 3, 8}, {64, 1, 1}, {64, 2, 7}, {kAll, 2, kAll}, {kAll, 3, 1}};
constexpr std::size_t kFewWays = 4;

// Empty, or what is wrong.
std::string run(const std::uint8_t* record, const Kernels& kernels, const Way& way, const Parallel& parallel) {
  CoveredModel model(record, kernels);
  if (const char* wrong = model.open({0, way.chunk, 0, way.score_rows})) return wrong;
  const Plan& plan = model.plan();
  const auto guarded = [&](std::uint64_t bytes) { return std::make_unique<test::GuardedArena>(bytes, plan.arena_align); };
  std::vector<std::unique_ptr<test::GuardedArena>> blocks;
  if (way.threads == 2) {  // a block for each region
    for (int r = 0; r < kRegionCount; ++r) blocks.push_back(guarded(plan.region(static_cast<Region>(r)).bytes));
    if (const char* wrong = model.create({blocks[0]->span(), blocks[1]->span(), blocks[2]->span()})) return wrong;
  } else {
    blocks.push_back(guarded(plan.arena_bytes));
    if (const char* wrong = model.create(blocks[0]->span())) return wrong;
  }
  if (way.threads > 1) model.session().set_parallel(parallel);
  std::uint32_t digest = 0;
  if (const char* wrong = model.run(digest)) return wrong;
  for (const auto& block : blocks)
    if (!block->intact()) return "memory beside the planned one was written";
  return digest == model.header().digest ? "" : "the digest differs";
}

struct Counts {
  std::uint32_t runs = 0, wrong = 0;
};

}  // namespace

int main(int argc, char** argv) {
  MappedFile file;
  if (argc < 2 || file.open(argv[1])) return std::fprintf(stderr, "usage: cover_digests FILE [--few]\n"), 2;
  const bool few = argc > 2 && !std::strcmp(argv[2], "--few");
  const std::size_t n_ways = few ? kFewWays : sizeof kWays / sizeof kWays[0];
  ThreadPool pools[4];
  Parallel parallel[4];
  for (std::uint32_t threads = 2; threads <= 3; ++threads) {
    if (!pools[threads].start(threads)) return std::fprintf(stderr, "cover_digests: no threads\n"), 2;
    parallel[threads] = pools[threads].parallel();
    parallel[threads].threshold = 0;  // splits everything
  }
  std::vector<Counts> counts(all_kernels().size());
  std::uint32_t models = 0, wrong = 0;
  for (std::size_t at = 0; at + sizeof(CoverHeader) <= file.bytes().size();) {
    const std::uint8_t* record = file.bytes().data() + at;
    const CoverHeader& header = *reinterpret_cast<const CoverHeader*>(record);
    ++models;
    for (std::size_t t = 0; t < all_kernels().size(); ++t) {
      const Kernels& kernels = *all_kernels()[t];
      if (!is_runnable(kernels)) continue;
      for (std::size_t w = 0; w < n_ways; ++w) {
        if (few && (w + models) % 2 != 0) continue;
        const Way& way = kWays[w];
        const std::string found = run(record, kernels, way, parallel[way.threads < 2 ? 2 : way.threads]);
        ++counts[t].runs;
        if (found.empty()) continue;
        ++counts[t].wrong;
        if (++wrong <= 20)
          std::printf("model %s on %s, chunk %u, %u threads, %u rows: %s\n", header.name, kernels.traits.name, way.chunk,
                      way.threads, way.score_rows, found.c_str());
      }
    }
    at += header.record_bytes;
  }
  std::uint32_t tables = 0;
  for (std::size_t t = 0; t < counts.size(); ++t) {
    if (counts[t].runs == 0) continue;
    ++tables;
    std::printf("%s: %u runs of %u models, %u wrong\n", all_kernels()[t]->traits.name, counts[t].runs, models, counts[t].wrong);
  }
  return models != 0 && tables != 0 && wrong == 0 ? 0 : 1;
}
