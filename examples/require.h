/* SPDX-License-Identifier: Apache-2.0 */
/* require.h: what the small examples in C share: going on or saying why not, memory, and a file read into it. */
#ifndef HEED_EXAMPLES_REQUIRE_H
#define HEED_EXAMPLES_REQUIRE_H

#include <stdio.h>
#include <stdlib.h>

#include <heed/heed.h>

static inline void require(heed_status status) {
  if (status == HEED_OK) return;
  fprintf(stderr, "heed: %s\n", heed_status_text(status));
  exit(1);
}

/* `bytes` of memory aligned to 64, for as long as the program runs. Each block begins with the address of the one before, so
   that a leak checker finds them all. */
static inline void* aligned_memory(size_t bytes) {
  static void* newest;
  void** memory = malloc(bytes + 128);
  if (!memory) {
    fprintf(stderr, "heed: no memory for %lu bytes\n", (unsigned long)bytes);
    exit(1);
  }
  *memory = newest;
  newest = memory;
  return (uint8_t*)memory + (128 - (uintptr_t)memory % 64);
}

/* The whole file, aligned as an image must be. (A program with mmap has it without reading.) */
static inline const void* read_file(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  long length = -1;
  if (file && fseek(file, 0, SEEK_END) == 0) length = ftell(file);
  void* memory = length > 0 ? aligned_memory((size_t)length) : NULL;
  if (!memory || fseek(file, 0, SEEK_SET) != 0 || fread(memory, 1, (size_t)length, file) != (size_t)length) {
    fprintf(stderr, "heed: cannot read %s\n", path);
    exit(1);
  }
  fclose(file);
  *bytes = (size_t)length;
  return memory;
}

/* The last moment anything can be too small. An image that was made for other kernels than this CPU's is found out here. */
static inline void require_session(heed_session* session, const heed_model* model, const heed_plan* plan,
                                   const heed_kernels* kernels, const char* path) {
  const size_t arena_bytes = (size_t)heed_plan_arena_bytes(plan);
  const heed_status created =
      heed_session_create(session, model, plan, kernels, aligned_memory(arena_bytes), arena_bytes);
  if (created == HEED_LAYOUT_UNSUPPORTED) {
    fprintf(stderr,
            "heed: laid out for another CPU; `heed quantize %s --layout packed -o packed.heed` makes one for this\n",
            path);
    exit(1);
  }
  require(created);
}

/* The tokens of a text, for as long as the program runs. */
static inline const heed_token* require_tokens(uint32_t* n_tokens, const heed_tokenizer* tokenizer, const char* text,
                                               size_t text_bytes, uint32_t flags) {
  const size_t grown = text_bytes * heed_tokenizer_growth(tokenizer);
  const size_t room = HEED_MAX_TOKENS(grown), scratch_bytes = HEED_ENCODE_SCRATCH_BYTES(grown);
  heed_token* tokens = aligned_memory(room * sizeof *tokens);
  require(heed_tokenizer_encode(tokenizer, n_tokens, tokens, room, text, text_bytes, flags,
                                aligned_memory(scratch_bytes), scratch_bytes));
  return tokens;
}

#endif
