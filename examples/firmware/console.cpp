// SPDX-License-Identifier: Apache-2.0
// console.cpp: firmware that talks over the board's serial port: reads a prompt byte by byte, tells its story, and asks
// again, for ever. Whatever comes in, a line that cannot be used gives one message and the next prompt.
#include "platform/baremetal/uart.hpp"
#include "platform/port.hpp"
#include "platform/select.hpp"
#include "runtime/runtime.hpp"

// The bytes of the model; model.cpp puts them into flash.
extern "C" const std::uint8_t heed_model_image[];
extern "C" const std::uint8_t heed_model_image_end[];

namespace {

#ifndef HEED_ARENA_BYTES
#define HEED_ARENA_BYTES (256 * 1024)
#endif
#ifndef HEED_MAX_VOCAB_SIZE
#define HEED_MAX_VOCAB_SIZE 4096
#endif
#ifndef HEED_STORY_TOKENS
#define HEED_STORY_TOKENS 100
#endif
constexpr std::uint32_t kMaxLine = 200, kMaxPromptTokens = kMaxLine + 3, kMaxVocabSize = HEED_MAX_VOCAB_SIZE;
constexpr float kTemperature = 0.8f;

alignas(64) __attribute__((section(".heed_arena"))) std::byte g_arena[HEED_ARENA_BYTES];
// The tokenizer works before the first token, the sampler after it, so they share one scratch.
union Scratch {
  std::uint32_t words[kMaxVocabSize];
  std::byte encode[heed::Tokenizer::scratch_bytes(kMaxLine)];
} g_scratch;
heed::Token g_prompt[kMaxPromptTokens];
char g_line[kMaxLine];

void put(const char* text) { heed::port::log(text, __builtin_strlen(text)); }

void put_decimal(std::uint32_t value) {
  char text[10];
  std::uint32_t at = sizeof text;
  do text[--at] = static_cast<char>('0' + value % 10);
  while (value /= 10);
  heed::port::log(text + at, sizeof text - at);
}

void put_hex(std::uint32_t value) {
  char text[8];
  for (int i = 0; i < 8; ++i) text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
  heed::port::log(text, sizeof text);
}

// Bytes of the character that begins at text[0], 0 if it is not one of UTF-8 as Unicode defines it: no surrogates,
// nothing above 10FFFF, no longer form than necessary.
std::uint32_t character_bytes(const char* text, std::uint32_t left) {
  const auto byte = [&](std::uint32_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return 1;
  const std::uint32_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || n > left) return 0;
  for (std::uint32_t i = 1; i < n; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  const std::uint32_t second = byte(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
      (lead == 0xF4 && second > 0x8F))
    return 0;
  return n;
}

// A line, or why it is none. It ends with CR, LF or both; until then everything is read, however long.
struct Line {
  std::uint32_t bytes = 0;
  const char* refusal = nullptr;
};

Line read_line() {
  static bool after_return = false;
  Line line;
  for (;;) {
    const std::uint8_t c = heed::uart::get();
    const bool is_second = c == '\n' && after_return;
    after_return = c == '\r';
    if (is_second) continue;
    if (c == '\r' || c == '\n') break;
    if (c == 0x08 || c == 0x7F) {  // backspace takes a whole character
      while (line.bytes && (g_line[--line.bytes] & 0xC0) == 0x80) {
      }
      continue;
    }
    if (c < 0x20)
      line.refusal = "a control character";
    else if (line.bytes == kMaxLine)
      line.refusal = line.refusal ? line.refusal : "longer than 200 bytes";
    else
      g_line[line.bytes++] = static_cast<char>(c);
  }
  if (line.refusal) return line;
  for (std::uint32_t at = 0, n; at < line.bytes; at += n) {
    n = character_bytes(g_line + at, line.bytes - at);
    if (n == 0) {
      line.refusal = "not UTF-8";
      break;
    }
  }
  return line;
}

struct Story {
  const heed::Kernels& kernels;
  heed::Session& session;
  const heed::Tokenizer& tokenizer;
  heed::Sampler sampler;
};

void refuse(const char* why) {
  put("refused: ");
  put(why);
  put("\r\n");
}

// What the status says, or nothing and true.
bool is_ok(heed::Status status) {
  if (status == heed::Status::ok) return true;
  refuse(heed::to_string(status));
  return false;
}

void tell(Story& story, std::uint32_t line_bytes, std::uint32_t seed) {
  const heed::Kernels& kernels = story.kernels;
  heed::Session& session = story.session;
  const std::uint32_t began = heed::port::ticks();
  std::uint32_t n_prompt = 0;
  if (!is_ok(story.tokenizer.encode(n_prompt, {g_line, line_bytes}, {}, g_prompt, g_scratch.encode))) return;
  heed::SamplerConfig sampling;
  sampling.temperature = kTemperature;
  sampling.seed = seed;
  heed::Span<const float> logits;
  if (!is_ok(heed::create(story.sampler, sampling, session.model().config().main().vocab_size, kernels,
                          {reinterpret_cast<std::byte*>(g_scratch.words), sizeof g_scratch.words})) ||
      !is_ok(session.rewind(0)) || !is_ok(session.prefill(logits, {g_prompt, n_prompt})))
    return;
  heed::port::log(g_line, line_bytes);
  heed::StreamDecoder decoder(g_prompt[n_prompt - 1]);
  heed::Digest digest;
  std::uint32_t generated = 0;
  while (generated < HEED_STORY_TOKENS) {
    heed::Token token = heed::kNoToken;
    if (!is_ok(story.sampler.pick(token, logits))) return;
    digest.add(kernels, token, logits);
    ++generated;
    char text[3 * 256];
    std::uint32_t n = 0;
    if (story.tokenizer.ends_text(token)) break;
    if (!is_ok(decoder.push(n, story.tokenizer, token, text))) return;
    heed::port::log(text, n);
    heed::port::ticks();  // often enough for a clock of 24 bits
    if (session.position() == session.max_seq() || !is_ok(session.step(logits, token))) break;
  }
  put("\r\n[seed ");
  put_decimal(seed);
  put(", ");
  put_decimal(generated);
  put(" tokens, digest ");
  put_hex(digest.value());
  put(", ");
  put_decimal((heed::port::ticks() - began) / 1000);
  put(" thousand ticks]\r\n");
}

}  // namespace

int main() {
  const heed::Kernels& kernels = heed::best_kernels();
  heed::Model model;
  heed::Plan plan;
  heed::Session session;
  heed::Tokenizer tokenizer;
  heed::Limits limits;
  const auto image_bytes = static_cast<std::size_t>(heed_model_image_end - heed_model_image);
  put("heed on ");
  put(kernels.traits.name);
  put("\r\n");
  bool fits = is_ok(heed::open(model, {heed_model_image, image_bytes}, kernels)) &&
              is_ok(heed::open(tokenizer, model.tokenizer(), model.config().main().vocab_size));
#ifdef HEED_MAX_SEQ
  limits.max_seq = model.config().main().max_seq < HEED_MAX_SEQ ? model.config().main().max_seq : HEED_MAX_SEQ;
#endif
  fits = fits && is_ok(heed::make_plan(plan, model.config(), kernels.traits, limits)) &&
         is_ok(heed::create(session, model, plan, kernels, g_arena)) &&
         (model.config().main().vocab_size <= kMaxVocabSize || is_ok(heed::Status::no_room));
  if (!fits) return 1;
  Story story{kernels, session, tokenizer, {}};
  for (std::uint32_t seed = 1;;) {
    put("> ");
    const Line line = read_line();
    if (line.refusal)
      refuse(line.refusal);
    else
      tell(story, line.bytes, seed++);
  }
}
