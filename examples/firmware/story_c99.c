// SPDX-License-Identifier: Apache-2.0
// story_c99.c: the story firmware in C99, with nothing but heed.h: model in flash, everything else in .bss, no heap.
//
// Words of the command line (QEMU's -append): -n TOKENS, -t TEMPERATURE in hundredths, -s SEED, -p PROMPT to the end.
#include "semihosting.h"

// The bytes of the model, aligned to 64; model.cpp puts them into flash.
extern const uint8_t heed_model_image[], heed_model_image_end[];

#ifndef HEED_ARENA_BYTES
#define HEED_ARENA_BYTES (256 * 1024)
#endif
#ifndef HEED_MAX_PROMPT_BYTES
#define HEED_MAX_PROMPT_BYTES 1024
#endif
#ifndef HEED_MAX_VOCAB_SIZE
#define HEED_MAX_VOCAB_SIZE 4096
#endif
enum {
  kMaxPromptBytes = HEED_MAX_PROMPT_BYTES,
  kMaxPromptTokens = kMaxPromptBytes / 2,
  kMaxVocabSize = HEED_MAX_VOCAB_SIZE
};

static uint8_t arena[HEED_ARENA_BYTES] __attribute__((aligned(64), section(".heed_arena")));
// The tokenizer works before the first token, the sampler after it, so they share one scratch.
static union {
  uint32_t sample[HEED_SAMPLER_SCRATCH_BYTES(kMaxVocabSize) / 4];
  uint32_t encode[HEED_ENCODE_SCRATCH_BYTES(kMaxPromptBytes) / 4];
} scratch;
static heed_token prompt[kMaxPromptTokens];
static char line[kMaxPromptBytes];

static heed_model model;
static heed_plan plan;
static heed_session session;
static heed_sampler sampler;
static heed_tokenizer tokenizer;
static heed_decoder decoder;
static heed_digest digest;

// ---- The story -----------------------------------------------------------------------------------------------------

struct arguments {
  uint32_t n_tokens, hundredths, seed;
  const char* prompt;
  uint32_t prompt_bytes;
};

// The line after the kernel's file name, read where it lies.
static void read_arguments(struct arguments* a) {
  const uintptr_t block[2] = {(uintptr_t)line, sizeof line};
  if (call(kCommandLine, block) != 0) return;
  const char* at = line;
  while (*at && *at != ' ') ++at;
  for (; *at; ++at) {
    if (at[0] != '-' || at[1] == '\0') continue;
    const char option = at[1];
    at += 2;
    while (*at == ' ') ++at;
    if (option == 'p') {
      a->prompt = at;
      while (at[a->prompt_bytes]) ++a->prompt_bytes;
      return;
    }
    uint32_t n = 0;
    for (; *at >= '0' && *at <= '9'; ++at) n = n * 10 + (uint32_t)(*at - '0');
    *(option == 'n' ? &a->n_tokens : option == 't' ? &a->hundredths : &a->seed) = n;
    --at;
  }
}

int main(void) {
  struct arguments arguments = {200, 0, 1, "", 0};
  read_arguments(&arguments);

  const heed_kernels* kernels = heed_best_kernels();
  const size_t image_bytes = (size_t)(heed_model_image_end - heed_model_image);
  require(heed_model_open(&model, heed_model_image, image_bytes, kernels), "open");
  require(heed_tokenizer_open(&tokenizer, &model), "tokenizer");
  heed_limits limits = {0};
#ifdef HEED_MAX_SEQ
  limits.max_seq = heed_model_max_seq(&model) < HEED_MAX_SEQ ? 0 : HEED_MAX_SEQ;
#endif
  require(heed_plan_make(&plan, &model, kernels, &limits), "plan");
  require(heed_session_create(&session, &model, &plan, kernels, arena, sizeof arena), "create");
  heed_sampler_config sampling = {0};
  sampling.temperature = (float)arguments.hundredths / 100.0f;
  sampling.seed = arguments.seed;
  const uint32_t vocab_size = heed_model_vocab_size(&model);
  require(heed_sampler_create(&sampler, &sampling, vocab_size, kernels, scratch.sample, sizeof scratch.sample),
          "sampler");

  uint32_t n_prompt = 0;
  require(heed_tokenizer_encode(&tokenizer, &n_prompt, prompt, kMaxPromptTokens, arguments.prompt,
                                arguments.prompt_bytes, HEED_ADD_BOS, scratch.encode, sizeof scratch.encode),
          "prompt");
  const float* logits = NULL;  // [vocab_size], valid until the next step
  require(heed_session_prefill(&session, &logits, prompt, n_prompt), "prefill");
  put_bytes(arguments.prompt, arguments.prompt_bytes);

  heed_decoder_begin(&decoder, prompt[n_prompt - 1]);
  uint32_t generated = 0;
  while (generated < arguments.n_tokens) {
    heed_token token;
    require(heed_sampler_pick(&sampler, &token, logits), "pick");
    heed_digest_add(&digest, token, logits, vocab_size, kernels);
    ++generated;
    if (heed_tokenizer_ends_text(&tokenizer, token)) break;
    char text[HEED_DECODE_BYTES];
    uint32_t n;
    require(heed_decoder_push(&decoder, &n, text, sizeof text, &tokenizer, token), "decode");
    put_bytes(text, n);
    if (generated == arguments.n_tokens || heed_session_position(&session) == heed_session_max_seq(&session)) break;
    require(heed_session_step(&session, &logits, token), "step");
  }

  put_text("\n\nkernels ");
  put_text(heed_kernels_name(kernels));
  put_decimal("\ntokens ", generated);
  put_hex("digest ", heed_digest_value(&digest));
  put_decimal("image bytes ", (uint32_t)image_bytes);
  put_decimal("arena bytes ", (uint32_t)heed_plan_arena_bytes(&plan));
  return heed_digest_saw_nan(&digest);
}
