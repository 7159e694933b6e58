// SPDX-License-Identifier: Apache-2.0
// board_cases.cpp: firmware that runs the models of `differential --write` and compares the logits at each position, or
// the rows that encode gives, with the oracle's, in random chunks and calls. -append "FILE"
#include "tests/differential/board_cases.hpp"

#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"
#include "tests/support/random.hpp"

namespace io = heed::semihosting;
using namespace heed;

namespace {

using differential::kBoardArenaBytes;
using differential::kBoardFloats;
using differential::kBoardImageBytes;
using differential::kBoardInputs;

alignas(64) std::uint8_t g_image[kBoardImageBytes];
alignas(64) std::byte g_arena[kBoardArenaBytes];
Token g_tokens[kBoardInputs];
std::uint8_t g_types[kBoardInputs];
float g_vectors[kBoardFloats];
std::uint32_t g_wanted[kBoardInputs + 8];  // class vectors have rows too
std::uint32_t g_compared, g_different, g_seed;

void require(bool ok, const char* what) {
  if (ok) return;
  io::put_text(what);
  io::put_text(" failed in the case of seed ");
  io::put_decimal(g_seed);
  io::put_text("\n");
  io::exit(1);
}

void compare(std::uint32_t wanted, Span<const float> logits) {
  const std::uint32_t crc = best_kernels().crc32c(0, logits.data(), logits.size() * sizeof(float));
  ++g_compared;
  if (crc == wanted) return;
  if (++g_different > 10) return;
  io::put_text("DIFFERS: the case of seed ");
  io::put_decimal(g_seed);
  io::put_text("\n");
}

std::uint32_t word(int file) {
  std::uint32_t w = 0;
  require(io::read(&w, file, sizeof w) == sizeof w, "read");
  return w;
}

Sequence read_inputs(int file) {
  const std::uint32_t n = word(file), width = word(file), types = word(file);
  require(n <= kBoardInputs && types <= n && n * width <= kBoardFloats, "inputs");
  const std::uint32_t tokens = width ? 0 : n, floats = n * width;
  require(io::read(g_tokens, file, 4 * tokens) == 4 * tokens, "tokens");
  for (std::uint32_t i = 0; i < types; ++i) g_types[i] = static_cast<std::uint8_t>(word(file));
  require(io::read(g_vectors, file, 4 * floats) == 4 * floats, "vectors");
  return {{g_tokens, tokens}, {g_types, types}, {g_vectors, floats}};
}

void compare_next(void* context, std::uint32_t, Span<const float> row) {
  compare(*(*static_cast<const std::uint32_t**>(context))++, row);
}

void run_stretch(Session& session, std::uint32_t n, test::Random& random) {
  for (std::uint32_t done = 0; done < n;) {
    Span<const float> logits;
    std::uint32_t take = 1 + random.below(n - done);
    const std::uint32_t how = random.below(3);
    if (how == 0) {
      require(session.prefill(logits, {g_tokens + done, take}) == Status::ok, "prefill");
      compare(g_wanted[done + take - 1], logits);
    } else if (how == 1) {
      take = 1;
      require(session.step(logits, g_tokens[done]) == Status::ok, "step");
      compare(g_wanted[done], logits);
    } else {
      const std::uint32_t* wanted = g_wanted + done;
      require(session.evaluate({g_tokens + done, take}, {compare_next, &wanted}) == Status::ok, "evaluate");
    }
    done += take;
  }
}

// False at the end of the file.
bool run_case(int file) {
  std::uint32_t magic = 0;
  if (io::read(&magic, file, sizeof magic) != sizeof magic) return false;
  require(magic == differential::kBoardMagic, "magic");
  g_seed = word(file);
  const std::uint32_t image_bytes = word(file);
  Limits limits;
  limits.max_seq = word(file);
  limits.source_seq = word(file);
  const std::uint32_t stretches = word(file);
  require(image_bytes <= sizeof g_image && io::read(g_image, file, image_bytes) == image_bytes, "image");
  const Kernels& kernels = best_kernels();
  test::Random random(g_seed);
  Model model;
  Plan plan;
  Session session;
  require(open(model, {g_image, image_bytes}, kernels) == Status::ok, "open");
  limits.chunk = random.below(5);
  require(make_plan(plan, model.config(), kernels.traits, limits) == Status::ok, "plan");
  require(plan.arena_bytes <= sizeof g_arena, "arena");
  require(create(session, model, plan, kernels, {g_arena, static_cast<std::size_t>(plan.arena_bytes)}) == Status::ok,
          "create");
  for (std::uint32_t s = 0; s < stretches; ++s) {
    const std::uint32_t position = word(file);
    if (word(file)) require(session.set_source(read_inputs(file)) == Status::ok, "source");
    const Sequence inputs = read_inputs(file);
    const std::uint32_t rows = word(file);
    require(rows <= sizeof g_wanted / 4 && io::read(g_wanted, file, 4 * rows) == 4 * rows, "rows");
    if (model.config().main().use == Use::encode) {
      const std::uint32_t* wanted = g_wanted;
      require(session.encode(inputs, {compare_next, &wanted}) == Status::ok, "encode");
      continue;
    }
    if (position != session.position()) require(session.rewind(position) == Status::ok, "rewind");
    run_stretch(session, rows, random);
  }
  return true;
}

}  // namespace

int main() {
  static char line[512];
  char* words[4];
  require(io::command_line(words, 4, line, sizeof line) == 2, "command line");
  const int file = io::open(words[1], io::FileMode::read);
  require(file >= 0, "open the cases");
  std::uint32_t cases = 0;
  while (run_case(file)) ++cases;
  io::put_decimal(cases);
  io::put_text(" models, ");
  io::put_decimal(g_compared);
  io::put_text(" positions compared, ");
  io::put_decimal(g_different);
  io::put_text(" differ\n");
  return cases != 0 && g_compared != 0 && g_different == 0 ? 0 : 1;
}
