// SPDX-License-Identifier: Apache-2.0
// translate.c: an encoder-decoder in C99: a source text in, the text that the model makes of it out, token by token, always the
// likeliest.
#include <string.h>

#include "require.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    fputs("usage: translate_c MODEL.heed TEXT\n", stderr);
    return 2;
  }
  size_t image_bytes = 0;
  const void* image = read_file(argv[1], &image_bytes);

  const heed_kernels* kernels = heed_best_kernels();
  heed_model model;
  heed_stack stack;
  heed_plan plan;
  heed_session session;
  heed_tokenizer reader, writer;  // of the source's tokens and of those that come out
  heed_generation generation;
  heed_sampler sampler;
  require(heed_model_open(&model, image, image_bytes, kernels));
  const uint32_t n_stacks = heed_model_n_stacks(&model);
  require(heed_model_stack(&model, &stack, n_stacks - 1));
  if (n_stacks != 2 || stack.use != HEED_USE_GENERATE) {
    fprintf(stderr, "translate: %s does not write a text from another one\n", argv[1]);
    return 1;
  }
  require(heed_tokenizer_open_source(&reader, &model));
  require(heed_tokenizer_open(&writer, &model));
  require(heed_generation_open(&generation, &model, &writer));
  require(heed_plan_make(&plan, &model, kernels, NULL));
  require_session(&session, &model, &plan, kernels, argv[1]);
  require(heed_sampler_create(&sampler, NULL, stack.vocab_size, kernels, NULL, 0));  // takes the largest logit

  // The source is encoded once; each step reads what was kept of it.
  uint32_t n_source = 0;
  const heed_token* tokens = require_tokens(&n_source, &reader, argv[2], strlen(argv[2]), HEED_ADD_BOS | HEED_ADD_EOS);
  const heed_sequence source = {.tokens = tokens, .n_tokens = n_source};
  require(heed_session_set_source(&session, &source));

  uint32_t n_first = 0, n_suppressed = 0;
  const heed_token* first = heed_generation_first(&generation, &n_first);
  const heed_token* suppressed = heed_generation_suppressed(&generation, &n_suppressed);
  if (!n_first) {
    fprintf(stderr, "translate: %s does not say how a text begins\n", argv[1]);
    return 1;
  }
  const float* logits = NULL;  // [vocab_size], valid until the next step
  require(heed_session_prefill(&session, &logits, first, n_first));
  heed_decoder decoder;
  heed_digest digest;
  heed_decoder_begin(&decoder, HEED_NO_TOKEN);
  heed_digest_begin(&digest);
  char piece[HEED_DECODE_BYTES];
  for (;;) {
    heed_token token;
    require(heed_sampler_pick_except(&sampler, &token, logits, suppressed, n_suppressed));
    heed_digest_add(&digest, token, logits, stack.vocab_size, kernels);
    if (heed_generation_ends_text(&generation, token)) break;
    uint32_t n = 0;
    require(heed_decoder_push(&decoder, &n, piece, sizeof piece, &writer, token));
    fwrite(piece, 1, n, stdout);
    if (heed_session_position(&session) == heed_session_max_seq(&session)) break;
    require(heed_session_step(&session, &logits, token));
  }
  fwrite(piece, 1, heed_decoder_flush(&decoder, piece), stdout);
  putchar('\n');
  fprintf(stderr, "digest %08lx\n", (unsigned long)heed_digest_value(&digest));  // the same on every CPU
  return 0;
}
