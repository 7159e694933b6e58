/* SPDX-License-Identifier: Apache-2.0 */
/* layer_header_run.h: what layer_header_test.cpp asks of layer_header_run.c. */
#ifndef HEED_TESTS_LAYER_HEADER_RUN_H
#define HEED_TESTS_LAYER_HEADER_RUN_H

#include "runtime/heed.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The constants of headers in C, with and without groups. */
struct c_layers {
  const heed_tensor *input, *query, *gate, *up, *down, *output;
  const float* final_gain;
  const uint32_t* rotary_phases;
  size_t final_gain_bytes, rotary_phases_bytes;
};
void layers_in_c(struct c_layers* layers, int grouped);

/* The gated feed-forward layer of x [d_model] with SiLU, then the output matrix: logits [rows of the output]. `arena`
   [arena_bytes] is used by one after the other. The first status that is not ok. */
heed_status run_layers_in_c(float* logits, const float* x, int grouped, void* arena, size_t arena_bytes);

#ifdef __cplusplus
}
#endif

#endif
