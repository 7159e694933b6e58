/* SPDX-License-Identifier: Apache-2.0 */
/* c_header_run.h: what c_header_test.cpp asks of c_header_run.c. */
#ifndef HEED_TESTS_C_HEADER_RUN_H
#define HEED_TESTS_C_HEADER_RUN_H

#include "runtime/heed.h"

#ifdef __cplusplus
extern "C" {
#endif

struct c_memory {
  void *arena, *scratch;
  size_t arena_bytes, scratch_bytes;
};

struct c_run {
  const char* kernels; /* in: a name */
  float temperature, top_p;
  uint32_t top_k, max_tokens;
  uint64_t seed;
  uint64_t arena_bytes; /* out */
  uint32_t n_tokens, digest;
  size_t text_bytes;
  char text[4096];
};

/* open, verify, plan, create, then "a banana" and max_tokens more. The first status that is not ok. */
heed_status run_through_c(struct c_run* run, const void* image, size_t image_bytes, const struct c_memory* memory);

/* An encoder: all of `input` in, the outputs of all positions into the digest, each with its position. */
struct c_encoding {
  const char* kernels; /* in */
  uint32_t chunk;
  uint64_t arena_bytes; /* out */
  uint32_t n_outputs, output_width, digest;
};
heed_status encode_through_c(struct c_encoding* run, const void* image, size_t image_bytes, const heed_sequence* input,
                             const struct c_memory* memory);

/* An encoder-decoder: the text of the source in, at most max_tokens more out, as c_run has them; greedily or not. */
heed_status translate_through_c(struct c_run* run, const void* image, size_t image_bytes, const char* source_text,
                                const struct c_memory* memory);

/* The same calls with any number at all, which C converts without a word. */
const char* text_of_number(int status);
uint64_t region_bytes_of_number(const heed_plan* plan, int region);

#ifdef __cplusplus
}
#endif

#endif
