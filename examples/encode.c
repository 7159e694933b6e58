// SPDX-License-Identifier: Apache-2.0
// encode.c: an encoder in C99: a text or a file of feature vectors in; its class or its embedding out, or one of these for each
// position, whatever the model gives.
#include <string.h>

#include "require.h"

struct printer {
  const heed_model* model;
  const heed_kernels* kernels;
  int classes;  // the outputs are logits, of which the largest is of interest
  heed_digest digest;
};

// One line for one output.
static void print_output(void* context, uint32_t position, const float* output, uint32_t output_width) {
  struct printer* p = context;
  heed_digest_add(&p->digest, (heed_token)position, output, output_width, p->kernels);
  if (!p->classes) {
    for (uint32_t i = 0; i < output_width; ++i) printf(i ? " %.9g" : "%.9g", (double)output[i]);
    putchar('\n');
    return;
  }
  uint32_t best = 0;
  for (uint32_t i = 1; i < output_width; ++i)
    if (output[i] > output[best]) best = i;
  size_t name_bytes = 0;
  const char* name = heed_model_class_name(p->model, &name_bytes, best);
  if (name)
    printf("%.*s\n", (int)name_bytes, name);
  else
    printf("class %lu\n", (unsigned long)best);
}

int main(int argc, char** argv) {
  const int from_file = argc == 4 && strcmp(argv[2], "--vectors") == 0;
  if (argc != 3 && !from_file) {
    fputs("usage: encode_c MODEL.heed TEXT\n       encode_c MODEL.heed --vectors FILE (of floats)\n", stderr);
    return 2;
  }
  size_t image_bytes = 0;
  const void* image = read_file(argv[1], &image_bytes);

  const heed_kernels* kernels = heed_best_kernels();
  heed_model model;
  heed_stack stack;
  heed_plan plan;
  heed_session session;
  require(heed_model_open(&model, image, image_bytes, kernels));
  require(heed_model_stack(&model, &stack, heed_model_n_stacks(&model) - 1));
  if (heed_model_n_stacks(&model) != 1 || stack.use != HEED_USE_ENCODE ||
      from_file != (stack.input != HEED_INPUT_TOKENS)) {
    fprintf(stderr, "encode: %s is no encoder of %s\n", argv[1], from_file ? "vectors" : "texts");
    return 1;
  }
  require(heed_plan_make(&plan, &model, kernels, NULL));
  require_session(&session, &model, &plan, kernels, argv[1]);

  heed_sequence input = {0};
  if (from_file) {
    size_t bytes = 0;
    input.vectors = read_file(argv[3], &bytes);  // [n_vectors, input_width]
    input.n_vectors = bytes / sizeof(float) / stack.input_width;
    if (bytes == 0 || bytes % (sizeof(float) * stack.input_width) != 0 || memcmp(input.vectors, "\x93NUMPY", bytes < 6 ? bytes : 6) == 0) {
      fprintf(stderr, "encode: %s is no file of rows of %u floats\n", argv[3], (unsigned)stack.input_width);
      return 1;
    }
  } else {
    heed_tokenizer tokenizer;
    uint32_t n_tokens = 0;
    require(heed_tokenizer_open(&tokenizer, &model));
    input.tokens = require_tokens(&n_tokens, &tokenizer, argv[2], strlen(argv[2]), HEED_ADD_BOS | HEED_ADD_EOS);
    input.n_tokens = n_tokens;
  }
  struct printer printer = {&model, kernels, stack.output == HEED_OUTPUT_LOGITS, {{0}}};
  if (stack.pooled) {
    const float* output = NULL;  // [output_width], valid until the next call
    require(heed_session_encode(&session, &output, &input));
    print_output(&printer, 0, output, stack.output_width);
  } else {
    require(heed_session_encode_each(&session, &input, print_output, &printer));
  }
  fprintf(stderr, "digest %08lx\n", (unsigned long)heed_digest_value(&printer.digest));  // the same on every CPU
  return 0;
}
