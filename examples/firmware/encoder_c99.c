// SPDX-License-Identifier: Apache-2.0
// encoder_c99.c: firmware in C99 that says what a sequence of feature vectors is: an encoder in flash, everything else in .bss, no
// heap, nothing but heed.h. encoder.cpp is the same in C++.
#include "semihosting.h"

// The bytes of the model, aligned to 64; model.cpp puts them into flash.
extern const uint8_t heed_model_image[], heed_model_image_end[];

#ifndef HEED_ARENA_BYTES
#define HEED_ARENA_BYTES (256 * 1024)
#endif
#ifndef HEED_ENCODER_VECTORS
#define HEED_ENCODER_VECTORS 40
#endif
#ifndef HEED_ENCODER_WIDTH
#define HEED_ENCODER_WIDTH 128
#endif
enum { kVectors = HEED_ENCODER_VECTORS, kMaxWidth = HEED_ENCODER_WIDTH };

static uint8_t arena[HEED_ARENA_BYTES] __attribute__((aligned(64), section(".heed_arena")));
static float vectors[kVectors * kMaxWidth];

static heed_model model;
static heed_stack stack;
static heed_plan plan;
static heed_session session;
static heed_digest digest;

// A sensor has others.
static void read_sensor(float* out, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) out[i] = (float)((int32_t)(i * 37 % 101) - 50) / 32.0f;
}

int main(void) {
  const heed_kernels* kernels = heed_best_kernels();
  const size_t image_bytes = (size_t)(heed_model_image_end - heed_model_image);
  require(heed_model_open(&model, heed_model_image, image_bytes, kernels), "open");
  require(heed_model_stack(&model, &stack, 0), "stack");
  if (stack.input == HEED_INPUT_TOKENS || stack.input_width > kMaxWidth || !stack.pooled)
    require(HEED_BAD_CONFIG, "model");
  require(heed_plan_make(&plan, &model, kernels, NULL), "plan");
  require(heed_session_create(&session, &model, &plan, kernels, arena, sizeof arena), "create");

  read_sensor(vectors, kVectors * stack.input_width);
  heed_sequence input = {0};
  input.vectors = vectors;
  input.n_vectors = kVectors;
  const float* output = NULL;  // [output_width], valid until the next call
  require(heed_session_encode(&session, &output, &input), "encode");
  heed_digest_add(&digest, 0, output, stack.output_width, kernels);

  uint32_t best = 0;
  for (uint32_t i = 1; i < stack.output_width; ++i)
    if (output[i] > output[best]) best = i;
  size_t name_bytes = 0;
  const char* name = heed_model_class_name(&model, &name_bytes, best);
  put_text("kernels ");
  put_text(heed_kernels_name(kernels));
  put_text("\nclass ");
  put_bytes(name, (uint32_t)name_bytes);
  put_decimal(" ", best);
  put_hex("digest ", heed_digest_value(&digest));
  put_decimal("arena bytes ", (uint32_t)heed_plan_arena_bytes(&plan));
  return heed_digest_saw_nan(&digest);
}
