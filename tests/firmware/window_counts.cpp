// SPDX-License-Identifier: Apache-2.0
// window_counts.cpp: firmware that steps through a text to the last of the given positions, in a session that keeps them all or
// what its windows see; the steps at these positions are regions for the plugin of tests/icount. -append "IMAGE POSITION..."
// Prints the planned bytes and the digest of all logits (SPEC.md 3.4).
#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"
#include "tests/icount/icount_mark.hpp"

namespace io = heed::semihosting;
using namespace heed;

namespace {

constexpr int kMaxPositions = 16;
alignas(64) std::uint8_t g_image[1024 * 1024];
alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[2 * 1024 * 1024];

void require(bool ok, const char* what) {
  if (ok) return;
  io::put_text(what);
  io::put_text(" failed\n");
  io::exit(1);
}

void put(const char* name, std::uint64_t value) {
  io::put_text(name);
  io::put_text(" ");
  io::put_decimal64(value);
  io::put_text("\n");
}

std::uint32_t number(const char* digits) {
  std::uint32_t n = 0;
  for (; *digits; ++digits) n = 10 * n + static_cast<std::uint32_t>(*digits - '0');
  return n;
}

}  // namespace

int main() {
  static char line[512];
  char* words[2 + kMaxPositions];
  const int n_words = io::command_line(words, 2 + kMaxPositions, line, sizeof line);
  require(n_words >= 3, "command line");
  const int file = io::open(words[1], io::FileMode::read);
  require(file >= 0, "open image file");
  const std::size_t image_bytes = io::read(g_image, file, sizeof g_image);

  const Kernels& kernels = best_kernels();
  Model model;
  Plan plan;
  Session session;
  const std::uint32_t last = number(words[n_words - 1]);
  require(open(model, {g_image, image_bytes}, kernels) == Status::ok, "open");
  require(make_plan(plan, model.config(), kernels.traits, {last + 1, 1, 0, 0}) == Status::ok, "plan");
  require(create(session, model, plan, kernels, g_arena) == Status::ok, "create");
  put("cache bytes", plan.cache.bytes);
  put("arena bytes", plan.arena_bytes);
  Digest digest;
  int next = 2;
  for (std::uint32_t position = 0; position <= last; ++position) {
    const auto token = static_cast<Token>((position * 7919u + position / 64) % model.config().main().vocab_size);
    Span<const float> logits;
    Status status = Status::ok;
    if (position == number(words[next])) {
      ++next;
      icount::start_region();
      status = session.step(logits, token);
      icount::stop_region();
    } else {
      status = session.step(logits, token);
    }
    require(status == Status::ok, "step");
    digest.add_row(kernels, position, logits);
  }
  require(next == n_words && !digest.saw_nan(), "a position, or the numbers of a step");
  io::put_text("digest ");
  io::put_hex(digest.value());
  io::put_text("\n");
  return 0;
}
