// SPDX-License-Identifier: Apache-2.0
// hello.c: hello.cpp in C99: a model tells a story from memory whose size was known before it was asked for.
#include <stdio.h>
#include <stdlib.h>

#include <heed/heed.h>

static void require(heed_status status) {
  if (status == HEED_OK) return;
  fprintf(stderr, "heed: %s\n", heed_status_text(status));
  exit(1);
}

// `bytes` of memory aligned to 64, for as long as the program runs.
static void* aligned_memory(size_t bytes) {
  uint8_t* memory = malloc(bytes + 64);
  if (!memory) {
    fprintf(stderr, "hello: no memory for %lu bytes\n", (unsigned long)bytes);
    exit(1);
  }
  return memory + (64 - (uintptr_t)memory % 64);
}

// The whole file, aligned as an image must be. (A program with mmap has it without reading.)
static const void* read_file(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  long length = -1;
  if (file && fseek(file, 0, SEEK_END) == 0) length = ftell(file);
  void* memory = length > 0 ? aligned_memory((size_t)length) : NULL;
  if (!memory || fseek(file, 0, SEEK_SET) != 0 || fread(memory, 1, (size_t)length, file) != (size_t)length) {
    fprintf(stderr, "hello: cannot read %s\n", path);
    exit(1);
  }
  fclose(file);
  *bytes = (size_t)length;
  return memory;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fputs("usage: hello_c MODEL.heed\n", stderr);
    return 2;
  }
  size_t image_bytes = 0;
  const void* image = read_file(argv[1], &image_bytes);

  const heed_kernels* kernels = heed_best_kernels();  // one table, chosen once
  heed_model model;
  heed_plan plan;
  heed_session session;
  heed_tokenizer tokenizer;
  heed_sampler sampler;
  require(heed_model_open(&model, image, image_bytes, kernels));  // nothing is believed before it is checked
  require(heed_tokenizer_open(&tokenizer, &model));
  require(heed_plan_make(&plan, &model, kernels, NULL));  // integer arithmetic, no memory touched
  const size_t arena_bytes = (size_t)heed_plan_arena_bytes(&plan);
  void* arena = aligned_memory(arena_bytes);
  const heed_status created = heed_session_create(&session, &model, &plan, kernels, arena, arena_bytes);
  if (created == HEED_LAYOUT_UNSUPPORTED) {  // made for other kernels than this CPU's
    fprintf(stderr,
            "hello: laid out for another CPU; `heed quantize %s --layout packed -o packed.heed` makes one "
            "for this\n",
            argv[1]);
    return 1;
  }
  require(created);
  const uint32_t vocab_size = heed_model_vocab_size(&model);
  const size_t scratch_bytes = HEED_SAMPLER_SCRATCH_BYTES(vocab_size);
  const heed_sampler_config sampling = {.temperature = 0.8f, .top_p = 0.9f, .seed = 1};
  require(heed_sampler_create(&sampler, &sampling, vocab_size, kernels, aligned_memory(scratch_bytes), scratch_bytes));

  static const char text[] = "Once upon a time";
  heed_token prompt[HEED_MAX_TOKENS(sizeof text)];
  uint32_t n_prompt = 0, encode_scratch[HEED_ENCODE_SCRATCH_BYTES(sizeof text) / 4];
  require(heed_tokenizer_encode(&tokenizer, &n_prompt, prompt, HEED_MAX_TOKENS(sizeof text), text, sizeof text - 1,
                                HEED_ADD_BOS, encode_scratch, sizeof encode_scratch));
  const float* logits = NULL;  // [vocab_size], valid until the next step
  require(heed_session_prefill(&session, &logits, prompt, n_prompt));
  fputs(text, stdout);
  heed_decoder decoder;
  heed_decoder_begin(&decoder, prompt[n_prompt - 1]);
  for (int i = 0; i < 200; ++i) {
    heed_token token;
    require(heed_sampler_pick(&sampler, &token, logits));
    if (heed_tokenizer_ends_text(&tokenizer, token)) break;
    char piece[HEED_DECODE_BYTES];
    uint32_t n = 0;
    require(heed_decoder_push(&decoder, &n, piece, sizeof piece, &tokenizer, token));
    fwrite(piece, 1, n, stdout);
    require(heed_session_step(&session, &logits, token));  // HEED_CONTEXT_FULL at the end
  }
  putchar('\n');
  return 0;
}
