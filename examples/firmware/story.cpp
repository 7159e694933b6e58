// SPDX-License-Identifier: Apache-2.0
// story.cpp: firmware that tells a story: the model in flash, everything else in one block of .bss, no heap.
//
// Words of the command line (QEMU's -append): -n TOKENS, -t TEMPERATURE in hundredths, -s SEED, -p PROMPT to the end.
#include "platform/baremetal/semihosting.hpp"
#include "platform/baremetal/stack_paint.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

namespace io = heed::semihosting;

// The bytes of the model; model.cpp puts them into flash.
extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace {

// What a board may say otherwise; CMakeLists.txt has the defaults of those that are emulated.
#ifndef HEED_ARENA_BYTES
#define HEED_ARENA_BYTES (256 * 1024)
#endif
#ifndef HEED_ARENA_SECTION
#define HEED_ARENA_SECTION ".heed_arena"
#endif
#ifndef HEED_MAX_PROMPT_BYTES
#define HEED_MAX_PROMPT_BYTES 1024
#endif
#ifndef HEED_MAX_VOCAB_SIZE
#define HEED_MAX_VOCAB_SIZE 4096
#endif
constexpr std::uint32_t kMaxPromptBytes = HEED_MAX_PROMPT_BYTES, kMaxPromptTokens = kMaxPromptBytes / 2;
constexpr std::uint32_t kMaxVocabSize = HEED_MAX_VOCAB_SIZE;

alignas(64) __attribute__((section(HEED_ARENA_SECTION))) std::byte g_arena[HEED_ARENA_BYTES];
// The tokenizer works before the first token, the sampler after it, so they share one scratch.
union Scratch {
  std::uint32_t words[kMaxVocabSize];
  std::byte encode[heed::Tokenizer::scratch_bytes(kMaxPromptBytes)];
} g_scratch;
heed::Token g_prompt[kMaxPromptTokens];

struct Arguments {
  std::uint32_t n_tokens = 200, hundredths = 0, seed = 1;
  const char* prompt = "";
  std::uint32_t prompt_bytes = 0;
};

// The line after the kernel's file name, read where it lies.
void read_arguments(Arguments& a, char* line, std::uint32_t bytes) {
  const std::uint32_t block[2] = {reinterpret_cast<std::uintptr_t>(line), bytes};
  if (io::call(io::Operation::command_line, block) != 0) return;
  const char* at = line;
  while (*at && *at != ' ') ++at;
  for (; *at; ++at) {
    if (at[0] != '-' || at[1] == '\0') continue;
    const char option = at[1];
    at += 2;
    while (*at == ' ') ++at;
    if (option == 'p') {
      a.prompt = at;
      while (at[a.prompt_bytes]) ++a.prompt_bytes;
      return;
    }
    std::uint32_t n = 0;
    for (; *at >= '0' && *at <= '9'; ++at) n = n * 10 + static_cast<std::uint32_t>(*at - '0');
    (option == 'n' ? a.n_tokens : option == 't' ? a.hundredths : a.seed) = n;
    --at;
  }
}

void require(heed::Status status, const char* what) {
  if (status == heed::Status::ok) return;
  io::put_text(what);
  // The number in runtime/status.hpp; the words would cost 700 bytes of flash.
  io::put_text(" refused, status ");
  io::put_decimal(static_cast<std::uint32_t>(status));
  io::put_text("\n");
  io::exit(1);
}

void put_number(const char* name, std::uint32_t value) {
  io::put_text(name);
  io::put_decimal(value);
  io::put_text("\n");
}

// Text in pieces of a few bytes, because semihosting wants a terminating zero.
void put_bytes(const char* bytes, std::uint32_t n) {
  char text[33];
  for (std::uint32_t at = 0; at < n;) {
    std::uint32_t k = 0;
    while (k < 32 && at < n) text[k++] = bytes[at++];
    text[k] = '\0';
    io::put_text(text);
  }
}

}  // namespace

int main() {
  heed::stack_paint::paint();
  static char line[kMaxPromptBytes];
  Arguments arguments;
  read_arguments(arguments, line, sizeof line);

  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Session session;
  heed::Plan plan;
  heed::Tokenizer tokenizer;
  heed::Sampler sampler;
  const auto image_bytes = static_cast<std::size_t>(heed_model_image_end - heed_model_image);
  require(heed::open(model, {heed_model_image, image_bytes}, kernels), "open");
  require(heed::open(tokenizer, model.tokenizer(), model.config().main().vocab_size), "tokenizer");
  heed::Limits limits;
#ifdef HEED_MAX_SEQ
  limits.max_seq = model.config().main().max_seq < HEED_MAX_SEQ ? model.config().main().max_seq : HEED_MAX_SEQ;
#endif
  require(heed::make_plan(plan, model.config(), kernels.traits, limits), "plan");
  require(heed::create(session, model, plan, kernels, g_arena), "create");
  heed::SamplerConfig sampling;
  sampling.temperature = static_cast<float>(arguments.hundredths) / 100.0f;
  sampling.seed = arguments.seed;
  require(heed::create(sampler, sampling, model.config().main().vocab_size, kernels,
                       {reinterpret_cast<std::byte*>(g_scratch.words), sizeof g_scratch.words}),
          "sampler");

  std::uint32_t n_prompt = 0;
  require(tokenizer.encode(n_prompt, {arguments.prompt, arguments.prompt_bytes}, {}, g_prompt, g_scratch.encode),
          "prompt");
  heed::Span<const float> logits;
  require(session.prefill(logits, {g_prompt, n_prompt}), "prefill");
  put_bytes(arguments.prompt, arguments.prompt_bytes);

  heed::StreamDecoder decoder(g_prompt[n_prompt - 1]);
  heed::Digest digest;
  std::uint32_t generated = 0;
  while (generated < arguments.n_tokens) {
    heed::Token token = heed::kNoToken;
    require(sampler.pick(token, logits), "pick");
    digest.add(kernels, token, logits);
    ++generated;
    if (tokenizer.ends_text(token)) break;
    char text[3 * 256];
    std::uint32_t n = 0;
    require(decoder.push(n, tokenizer, token, text), "decode");
    put_bytes(text, n);
    if (generated == arguments.n_tokens || session.position() == session.max_seq()) break;
    require(session.step(logits, token), "step");
  }

  io::put_text("\n\nkernels ");
  io::put_text(kernels.traits.name);
  put_number("\ntokens ", generated);
  io::put_text("digest ");
  io::put_hex(digest.value());
  put_number("\nimage bytes ", static_cast<std::uint32_t>(image_bytes));
  put_number("arena bytes ", static_cast<std::uint32_t>(plan.arena_bytes));
  put_number("stack peak bytes ", static_cast<std::uint32_t>(heed::stack_paint::peak_bytes()));
  return digest.saw_nan() ? 1 : 0;
}
