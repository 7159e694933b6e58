// SPDX-License-Identifier: Apache-2.0
// evaluate.cpp: firmware that writes the logits at every position of a text to a host file, so that the host can compute
// the loss of what the board computed. -append "TEXT_FILE LOGITS_FILE": f32 [positions, vocab_size] behind the token
// ids, s32, and their number, s32.
#include "platform/baremetal/semihosting.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

namespace io = heed::semihosting;
extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace {

constexpr std::uint32_t kMaxTextBytes = 1024;
alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[256 * 1024];
alignas(4) std::byte g_scratch[heed::Tokenizer::scratch_bytes(kMaxTextBytes)];
heed::Token g_tokens[heed::Tokenizer::max_tokens(kMaxTextBytes)];
char g_text[kMaxTextBytes];

void require(bool ok, const char* what) {
  if (ok) return;
  io::put_text(what);
  io::put_text(" failed\n");
  io::exit(1);
}

}  // namespace

int main() {
  static char line[512];
  char* words[4];
  require(io::command_line(words, 4, line, sizeof line) == 3, "command line");
  const int in = io::open(words[1], io::FileMode::read);
  require(in >= 0, "open text");
  const std::size_t bytes = io::read(g_text, in, sizeof g_text);

  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Tokenizer tokenizer;
  heed::Plan plan;
  heed::Session session;
  const auto image_bytes = static_cast<std::size_t>(heed_model_image_end - heed_model_image);
  require(heed::open(model, {heed_model_image, image_bytes}, kernels) == heed::Status::ok, "open");
  require(heed::open(tokenizer, model.tokenizer(), model.config().main().vocab_size) == heed::Status::ok, "tokenizer");
  require(heed::make_plan(plan, model.config(), kernels.traits) == heed::Status::ok, "plan");
  require(heed::create(session, model, plan, kernels, g_arena) == heed::Status::ok, "create");
  std::uint32_t n = 0;
  require(tokenizer.encode(n, {g_text, bytes}, {}, g_tokens, g_scratch) == heed::Status::ok, "encode");

  int out = io::open(words[2], io::FileMode::write);
  require(out >= 0, "open logits");
  const auto count = static_cast<std::int32_t>(n);
  require(io::write(out, &count, sizeof count) == sizeof count, "write");
  require(io::write(out, g_tokens, n * sizeof g_tokens[0]) == n * sizeof g_tokens[0], "write");
  const heed::LogitsSink sink{[](void* context, std::uint32_t, heed::Span<const float> logits) {
                                const std::size_t size = logits.size() * sizeof(float);
                                require(io::write(*static_cast<int*>(context), logits.data(), size) == size, "write");
                              },
                              &out};
  require(session.evaluate({g_tokens, n}, sink) == heed::Status::ok, "evaluate");
  io::put_text("evaluated ");
  io::put_decimal(n);
  io::put_text(" positions\n");
  return io::close(out) ? 0 : 1;
}
