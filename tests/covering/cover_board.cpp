// SPDX-License-Identifier: Apache-2.0
// cover_board.cpp: firmware that runs the models of a file of cases, each in exactly the planned memory, and prints their
// digests, which must be those of the file. -append "FILE [CHUNK]", without CHUNK as the table likes it
#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "tests/covering/covered.hpp"

namespace io = heed::semihosting;
using namespace heed;
using test::CoveredModel;
using test::CoverHeader;

namespace {

constexpr std::size_t kGuard = 256;
alignas(64) std::uint8_t g_record[test::kCoverBoardRecordBytes];
alignas(64) std::byte g_memory[test::kCoverBoardArenaBytes];

std::byte guard(std::size_t i) { return static_cast<std::byte>(0xA5 ^ (i * 29)); }

// Null, or what is wrong.
const char* run(std::uint32_t& digest, CoveredModel& model, const Limits& limits) {
  if (const char* wrong = model.open(limits)) return wrong;
  // Aligned to what the plan says and to nothing more.
  const std::size_t begin = kGuard + model.plan().arena_align, bytes = static_cast<std::size_t>(model.plan().arena_bytes);
  if (begin + model.plan().arena_bytes + kGuard > sizeof g_memory) return "the arena does not fit this program";
  for (std::size_t i = 0; i < sizeof g_memory; ++i) g_memory[i] = guard(i);
  if (const char* wrong = model.create({g_memory + begin, bytes})) return wrong;
  if (const char* wrong = model.run(digest)) return wrong;
  for (std::size_t i = 0; i < sizeof g_memory; ++i)
    if ((i < begin || i >= begin + bytes) && g_memory[i] != guard(i)) return "memory beside the arena was written";
  return digest == model.header().digest ? nullptr : "the digest differs";
}

// False at the end of the file, and where it is none.
bool read_record(int file) {
  constexpr std::uint32_t kFirst = sizeof(CoverHeader);
  const CoverHeader& header = *reinterpret_cast<const CoverHeader*>(g_record);
  if (io::read(g_record, file, kFirst) != kFirst) return false;
  if (header.magic == test::kCoverMagic && header.record_bytes > kFirst && header.record_bytes <= sizeof g_record &&
      io::read(g_record + kFirst, file, header.record_bytes - kFirst) == header.record_bytes - kFirst)
    return true;
  io::put_text("the file is damaged, or a record of it is too large\n");
  io::exit(1);
}

}  // namespace

int main() {
  static char line[512];
  char* words[4];
  const int n = io::command_line(words, 4, line, sizeof line);
  const int file = n >= 2 ? io::open(words[1], io::FileMode::read) : -1;
  if (file < 0) return io::put_text("no file of cases\n"), 2;
  Limits limits;
  for (const char* digit = n >= 3 ? words[2] : ""; *digit; ++digit)
    limits.chunk = 10 * limits.chunk + static_cast<std::uint32_t>(*digit - '0');
  std::uint32_t models = 0, wrong = 0;
  while (read_record(file)) {
    CoveredModel model(g_record, best_kernels());
    std::uint32_t digest = 0;
    const char* found = run(digest, model, limits);
    ++models;
    io::put_text(model.header().name);
    io::put_text(" ");
    io::put_hex(digest);
    if (found) {
      ++wrong;
      io::put_text(" WRONG: ");
      io::put_text(found);
    }
    io::put_text("\n");
  }
  io::put_decimal(models);
  io::put_text(" models on ");
  io::put_text(best_kernels().traits.name);
  io::put_text(", ");
  io::put_decimal(wrong);
  io::put_text(" wrong\n");
  return models != 0 && wrong == 0 ? 0 : 1;
}
