/* SPDX-License-Identifier: Apache-2.0 */
/* c_header_run.c: a whole run through heed.h, compiled as C99 with every warning an error. */
#include "tests/runtime/c_header_run.h"

#include <string.h>

static void append(struct c_run* run, const char* bytes, uint32_t n) {
  if (run->text_bytes + n > sizeof run->text) return;
  memcpy(run->text + run->text_bytes, bytes, n);
  run->text_bytes += n;
}

heed_status run_through_c(struct c_run* run, const void* image, size_t image_bytes, const struct c_memory* memory) {
  const heed_kernels* kernels = heed_find_kernels(run->kernels);
  heed_model model;
  heed_plan plan;
  heed_session session;
  heed_tokenizer tokenizer;
  heed_sampler sampler;
  heed_decoder decoder;
  heed_digest digest;
  heed_status status;
  if ((status = heed_model_open(&model, image, image_bytes, kernels)) != HEED_OK) return status;
  if ((status = heed_model_verify(&model, kernels)) != HEED_OK) return status;
  if ((status = heed_tokenizer_open(&tokenizer, &model)) != HEED_OK) return status;
  if ((status = heed_plan_make(&plan, &model, kernels, NULL)) != HEED_OK) return status;
  run->arena_bytes = heed_plan_arena_bytes(&plan);
  if ((status = heed_session_create(&session, &model, &plan, kernels, memory->arena, memory->arena_bytes)) != HEED_OK)
    return status;
  heed_sampler_config config = {0};
  config.temperature = run->temperature;
  config.top_p = run->top_p;
  config.top_k = run->top_k;
  config.seed = run->seed;
  const uint32_t vocab_size = heed_model_vocab_size(&model);
  if ((status = heed_sampler_create(&sampler, &config, vocab_size, kernels, memory->scratch, memory->scratch_bytes)) !=
      HEED_OK)
    return status;

  static const char prompt_text[] = "a banana";
  heed_token prompt[HEED_MAX_TOKENS(sizeof prompt_text)];
  uint32_t n_prompt = 0;
  status = heed_tokenizer_encode(&tokenizer, &n_prompt, prompt, sizeof prompt / sizeof prompt[0], prompt_text,
                                 sizeof prompt_text - 1, HEED_ADD_BOS, memory->scratch, memory->scratch_bytes);
  if (status != HEED_OK) return status;
  const float* logits = NULL;
  if ((status = heed_session_prefill(&session, &logits, prompt, n_prompt)) != HEED_OK) return status;
  heed_decoder_begin(&decoder, prompt[n_prompt - 1]);
  heed_digest_begin(&digest);
  for (run->n_tokens = 0; run->n_tokens < run->max_tokens;) {
    heed_token token;
    if ((status = heed_sampler_pick(&sampler, &token, logits)) != HEED_OK) return status;
    heed_digest_add(&digest, token, logits, vocab_size, kernels);
    ++run->n_tokens;
    char piece[HEED_DECODE_BYTES];
    uint32_t n = 0;
    if ((status = heed_decoder_push(&decoder, &n, piece, sizeof piece, &tokenizer, token)) != HEED_OK) return status;
    append(run, piece, n);
    if (heed_session_position(&session) == heed_session_max_seq(&session)) break;
    if ((status = heed_session_step(&session, &logits, token)) != HEED_OK) return status;
  }
  char rest[3];
  append(run, rest, heed_decoder_flush(&decoder, rest));
  run->digest = heed_digest_value(&digest);
  return heed_digest_saw_nan(&digest) ? HEED_BAD_VALUE : HEED_OK;
}

struct digested {
  heed_digest digest;
  const heed_kernels* kernels;
  uint32_t n;
};

static void digest_output(void* context, uint32_t position, const float* output, uint32_t output_width) {
  struct digested* to = context;
  heed_digest_add(&to->digest, (heed_token)position, output, output_width, to->kernels);
  ++to->n;
}

heed_status encode_through_c(struct c_encoding* run, const void* image, size_t image_bytes, const heed_sequence* input,
                             const struct c_memory* memory) {
  const heed_kernels* kernels = heed_find_kernels(run->kernels);
  heed_model model;
  heed_plan plan;
  heed_session session;
  heed_stack stack;
  heed_status status;
  if ((status = heed_model_open(&model, image, image_bytes, kernels)) != HEED_OK) return status;
  if ((status = heed_model_stack(&model, &stack, heed_model_n_stacks(&model) - 1)) != HEED_OK) return status;
  if (stack.use != HEED_USE_ENCODE) return HEED_BAD_CONFIG;
  run->output_width = stack.output_width;
  const heed_limits limits = {.chunk = run->chunk};
  if ((status = heed_plan_make(&plan, &model, kernels, &limits)) != HEED_OK) return status;
  run->arena_bytes = heed_plan_arena_bytes(&plan);
  if ((status = heed_session_create(&session, &model, &plan, kernels, memory->arena, memory->arena_bytes)) != HEED_OK)
    return status;
  struct digested to = {.kernels = kernels};
  if ((status = heed_session_encode_each(&session, input, digest_output, &to)) != HEED_OK) return status;
  run->n_outputs = to.n;
  run->digest = heed_digest_value(&to.digest);
  if (!stack.pooled) return HEED_OK;
  /* The same by the other call. */
  const float* output = NULL;
  heed_digest again = {{0}};
  if ((status = heed_session_encode(&session, &output, input)) != HEED_OK) return status;
  heed_digest_add(&again, 0, output, stack.output_width, kernels);
  return heed_digest_value(&again) == run->digest ? HEED_OK : HEED_BAD_VALUE;
}

heed_status translate_through_c(struct c_run* run, const void* image, size_t image_bytes, const char* source_text,
                                const struct c_memory* memory) {
  const heed_kernels* kernels = heed_find_kernels(run->kernels);
  heed_model model;
  heed_plan plan;
  heed_session session;
  heed_tokenizer reader, writer;
  heed_generation generation;
  heed_sampler sampler;
  heed_decoder decoder;
  heed_digest digest;
  heed_status status;
  if ((status = heed_model_open(&model, image, image_bytes, kernels)) != HEED_OK) return status;
  if ((status = heed_tokenizer_open_source(&reader, &model)) != HEED_OK) return status;
  if ((status = heed_tokenizer_open(&writer, &model)) != HEED_OK) return status;
  if ((status = heed_generation_open(&generation, &model, &writer)) != HEED_OK) return status;
  if ((status = heed_plan_make(&plan, &model, kernels, NULL)) != HEED_OK) return status;
  run->arena_bytes = heed_plan_arena_bytes(&plan);
  if ((status = heed_session_create(&session, &model, &plan, kernels, memory->arena, memory->arena_bytes)) != HEED_OK)
    return status;
  const heed_sampler_config config = {.temperature = run->temperature, .seed = run->seed};
  const uint32_t vocab_size = heed_model_vocab_size(&model);
  if ((status = heed_sampler_create(&sampler, &config, vocab_size, kernels, memory->scratch, memory->scratch_bytes)) !=
      HEED_OK)
    return status;

  heed_token tokens[64];
  uint32_t n_source = 0, n_first = 0, n_suppressed = 0;
  status = heed_tokenizer_encode(&reader, &n_source, tokens, sizeof tokens / sizeof tokens[0], source_text,
                                 strlen(source_text), HEED_ADD_BOS | HEED_ADD_EOS, memory->scratch,
                                 memory->scratch_bytes);
  if (status != HEED_OK) return status;
  const heed_sequence source = {.tokens = tokens, .n_tokens = n_source};
  if ((status = heed_session_set_source(&session, &source)) != HEED_OK) return status;
  const heed_token* first = heed_generation_first(&generation, &n_first);
  const heed_token* suppressed = heed_generation_suppressed(&generation, &n_suppressed);
  const float* logits = NULL;
  if ((status = heed_session_prefill(&session, &logits, first, n_first)) != HEED_OK) return status;
  heed_decoder_begin(&decoder, HEED_NO_TOKEN);
  heed_digest_begin(&digest);
  for (run->n_tokens = 0; run->n_tokens < run->max_tokens;) {
    heed_token token;
    if ((status = heed_sampler_pick_except(&sampler, &token, logits, suppressed, n_suppressed)) != HEED_OK)
      return status;
    heed_digest_add(&digest, token, logits, vocab_size, kernels);
    ++run->n_tokens;
    if (heed_generation_ends_text(&generation, token)) break;
    char piece[HEED_DECODE_BYTES];
    uint32_t n = 0;
    if ((status = heed_decoder_push(&decoder, &n, piece, sizeof piece, &writer, token)) != HEED_OK) return status;
    append(run, piece, n);
    if (heed_session_position(&session) == heed_session_max_seq(&session)) break;
    if ((status = heed_session_step(&session, &logits, token)) != HEED_OK) return status;
  }
  char rest[3];
  append(run, rest, heed_decoder_flush(&decoder, rest));
  run->digest = heed_digest_value(&digest);
  return heed_digest_saw_nan(&digest) ? HEED_BAD_VALUE : HEED_OK;
}

const char* text_of_number(int status) { return heed_status_text(status); }
uint64_t region_bytes_of_number(const heed_plan* plan, int region) { return heed_plan_region_bytes(plan, region); }
