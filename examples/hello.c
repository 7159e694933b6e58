// SPDX-License-Identifier: Apache-2.0
// hello.c: hello.cpp in C99: a model tells a story from memory whose size was known before it was asked for.
#include "require.h"

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
  require_session(&session, &model, &plan, kernels, argv[1]);
  const uint32_t vocab_size = heed_model_vocab_size(&model);
  const size_t scratch_bytes = HEED_SAMPLER_SCRATCH_BYTES(vocab_size);
  const heed_sampler_config sampling = {.temperature = 0.8f, .top_p = 0.9f, .seed = 1};
  require(heed_sampler_create(&sampler, &sampling, vocab_size, kernels, aligned_memory(scratch_bytes), scratch_bytes));

  static const char text[] = "Once upon a time";
  uint32_t n_prompt = 0;
  const heed_token* prompt = require_tokens(&n_prompt, &tokenizer, text, sizeof text - 1, HEED_ADD_BOS);
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
